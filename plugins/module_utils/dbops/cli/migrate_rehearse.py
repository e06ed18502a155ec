# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops migrate rehearse`: the pending files on a restored backup, with traffic beside them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, Optional

from ..migrate.finding import Budgets, in_words
from ..migrate.trace import LEVELS
from ..progress import duration
from ..rehearsal import run as rehearsal
from ..settings import Settings
from .door import Answer, Door
from .migrate_test import add_reports, findings_text, write_reports
from .words import clean, size, table


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backup", metavar="LABEL", help="default: the newest physical one that a restore has proven")
    parser.add_argument(
        "--target", default="end", metavar="TARGET", help="end of the archived WAL, backup alone, or an instant"
    )
    parser.add_argument("--scratch-path", metavar="DIR", help="where to restore; default: <state_path>/verify")
    parser.add_argument("--max-seconds", type=float, metavar="S", help="a budget for one file")
    parser.add_argument(
        "--max-exclusive", type=float, metavar="S", help="a budget for one file's ACCESS EXCLUSIVE lock"
    )
    parser.add_argument("--no-rollback", action="store_true", help="do not go back again")
    parser.add_argument("--rows", action="store_true", help="compare all values before and after; reads all data twice")
    parser.add_argument("--plan", action="store_true", help="say what would be restored, and do nothing")
    parser.add_argument("--verbose", action="store_true", help="every statement, with its locks")
    add_reports(parser)


def run(door: Door, settings: Settings) -> Answer:
    args = door.args
    request = rehearsal.Request(
        backup=args.backup,
        target=args.target,
        repository=args.repository,
        scratch_path=args.scratch_path,
        budgets=Budgets(args.max_seconds, args.max_exclusive),
        rollback=not args.no_rollback,
        rows=args.rows,
    )
    data = rehearsal.rehearse(settings, request, door.progress, dry_run=args.plan)
    found = data["rehearsal"]
    if found is None:
        return Answer(data, clean(data["msg"]))
    cases = [str(item["version"]) for item in found["files"]]
    extra = write_reports(args, found["findings"], found["directory"], "rehearsal on a backup", cases)
    text = "\n".join(_lines(found, verbose=args.verbose))
    return Answer(data, f"{extra}{text}\n{clean(data['msg'])}", code=0 if found["passed"] else 1)


def _lines(found: dict[str, Any], *, verbose: bool) -> Iterator[str]:
    rows = []
    for item in found["files"]:
        strongest = max(item["locks"].values(), key=LEVELS.index, default="")
        waited = [item["waited"].get(kind, {}).get("longest_s") for kind in ("read", "write")]
        rows.append(
            [
                item["file"] or f"{item['version']} (no file)",
                duration(item["duration_s"]),
                in_words(strongest) if strongest else "",
                duration(item["exclusive_s"]) if item["exclusive_s"] else "",
                *(_milliseconds(seconds) for seconds in waited),
                size(item["wal_bytes"]),
                size(item["size_peak"] - item["size_before"]),
                ", ".join(item["rewritten"]),
            ]
        )
        if verbose:
            rows += [_statement(one) for one in item["statements"]]
    heading = ("FILE", "TOOK", "STRONGEST LOCK", "EXCLUSIVE", "READER", "WRITER", "WAL", "MORE DISK", "REWRITES")
    if rows:
        yield table(heading, rows, right=("TOOK", "EXCLUSIVE", "READER", "WRITER", "WAL", "MORE DISK"))
        yield ""
    yield from findings_text(found["findings"])


def _statement(one: dict[str, Any]) -> list[str]:
    locks = ", ".join(f"{in_words(mode)} on {name}" for name, mode in one["locks"].items())
    text, rewritten = f"  {one['line']}: {one['statement'][:60]}", ", ".join(one["rewritten"])
    return [text, duration(one["duration_s"]), locks, "", "", "", size(one["wal_bytes"]), "", rewritten]


def _milliseconds(seconds: Optional[float]) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"
