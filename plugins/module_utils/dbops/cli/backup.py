# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops backup`."""

from __future__ import annotations

import argparse
from typing import Any

from ..backup import take
from ..progress import duration
from ..schema import duration_s
from ..settings import CODECS, DUMP_FORMATS, METHODS
from .door import Answer, Door, given
from .words import clean, size


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "backup",
        parents=[common],
        help="take a backup",
        description="Take a backup; what is not said, the settings say.",
    )
    parser.add_argument("--method", choices=METHODS)
    parser.add_argument("--type", choices=("full", "incremental"), help="physical: what it rests on")
    parser.add_argument("--max-age", metavar="AGE", help="do nothing if a backup younger than 24h, 14d, ... exists")
    parser.add_argument("--force", action="store_true", help="whatever --max-age says")
    parser.add_argument("--database", action="append", metavar="NAME", help="logical: this one; may be repeated")
    parser.add_argument("--dump-format", choices=DUMP_FORMATS)
    parser.add_argument("--jobs", type=int, metavar="N", help="logical, directory format: tables at a time")
    parser.add_argument("--include-table", action="append", metavar="PATTERN", help="logical: only these")
    parser.add_argument("--exclude-table", action="append", metavar="PATTERN", help="logical: not these")
    parser.add_argument("--no-globals", action="store_true", help="logical: without roles and tablespaces")
    parser.add_argument("--codec", choices=CODECS)
    parser.add_argument("--level", type=int, metavar="N")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--max-rate", type=int, metavar="KIB", help="physical: KiB per second from the server, at most")
    parser.add_argument("--reason", default="", help="why; it is recorded")
    parser.add_argument("--plan", action="store_true", help="say what would be done, and do nothing")
    parser.set_defaults(verb=run)


def run(door: Door) -> Answer:
    args = door.args
    settings = door.settings(
        backup=given(
            databases=args.database,
            dump_format=args.dump_format,
            jobs=args.jobs,
            include_tables=args.include_table,
            exclude_tables=args.exclude_table,
            globals=False if args.no_globals else None,
            max_rate_kib_s=args.max_rate,
        ),
        compression=given(codec=args.codec, level=args.level, threads=args.threads),
    )
    request = take.Request(
        method=args.method,
        type=args.type,
        max_age_s=None if args.max_age is None else duration_s(args.max_age, "--max-age"),
        force=args.force,
        repository=args.repository,
        reason=args.reason,
    )
    plan = take.plan(settings, request)
    if args.plan or not plan.needed:
        data = plan.preview()
        return Answer(data, _plan_text(data))
    data = take.run(plan, door.progress)
    return Answer(data, _taken_text(data["backup"]))


def _plan_text(data: dict[str, Any]) -> str:
    plan = data["plan"]
    lines = [clean(data["msg"])]
    if plan["needed"]:
        lines.append(f"  to read: {size(plan['estimated_bytes'])}, free there: {size(plan['free_bytes'])}")
        if plan["parent"]:
            lines.append(f"  rests on: {clean(plan['parent'])}")
        if plan["databases"]:
            lines.append(f"  databases: {clean(', '.join(plan['databases']))}")
    return "\n".join(lines)


def _taken_text(backup: dict[str, Any]) -> str:
    text = (
        f"{clean(backup['label'])}: {backup['method']} {backup['type']} backup of {clean(backup['cluster'])}, "
        f"{size(backup['stored_bytes'])} stored"
    )
    if backup["database_bytes"]:
        text += f" of {size(backup['database_bytes'])}"
    return f"{text} ({backup['codec']}), in {duration(backup['duration_s'])}."
