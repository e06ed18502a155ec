# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops migrate lint`: the directory, the files and the pairs, without a server."""

from __future__ import annotations

import argparse

from ..errors import BadInput
from ..migrate import lint
from ..migrate.sizes import SMALL_ROWS
from ..settings import Settings
from .door import Answer, Door
from .migrate_test import add_reports, findings_text, write_reports
from .words import clean

_ENGINES = ("ours", "syntax", "squawk")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", action="append", choices=_ENGINES, help="only these; syntax needs pglast, squawk "
                        "squawk-cli; default: all three")  # fmt: skip
    parser.add_argument("--naming", action="store_true", help="the names of files alone")
    parser.add_argument("--since", metavar="GIT_REF", help="findings in files that differ from this commit, and edits")
    parser.add_argument("--baseline", metavar="FILE", help="findings that are known do not count")
    parser.add_argument("--write-baseline", action="store_true", help="put what is found now into --baseline")
    parser.add_argument("--row-counts", metavar="FILE", help="rows of production's tables, as JSON or as lines of "
                        "table|rows: how long a lock lasts is no matter for small ones")  # fmt: skip
    parser.add_argument(
        "--small-rows", type=int, default=SMALL_ROWS, metavar="N", help=f"up to how many; default {SMALL_ROWS}"
    )
    parser.add_argument("--severity", action="append", default=[], metavar="RULE=error|warning|note|off")
    parser.add_argument(
        "--postgres", default="15", metavar="MAJOR", help="the version that squawk has in mind; default 15"
    )
    add_reports(parser)


def run(door: Door, settings: Settings) -> Answer:
    args = door.args
    request = lint.Request(
        engines=tuple(args.engine or _ENGINES),
        naming_only=args.naming,
        since=args.since,
        baseline=None if args.write_baseline else args.baseline,
        severities=dict(lint.severity(*text.partition("=")[::2]) for text in args.severity),
        postgres=args.postgres,
        row_counts=args.row_counts,
        small_rows=args.small_rows,
    )
    if args.write_baseline and not args.baseline:
        raise BadInput("--write-baseline has no file to write.", hint="Name it: --baseline FILE.")
    data = lint.lint(settings.migrations.path, request)
    found = data["lint"]
    if args.write_baseline:
        lint.write_baseline(args.baseline, found["findings"])
        return Answer(
            data, f"{args.baseline} holds {len(found['findings'])} findings; from now on only new ones count."
        )
    extra = write_reports(args, found["findings"], found["directory"], "migration lint", found["files"])
    text = "\n".join([*findings_text(found["findings"]), clean(data["msg"])])
    return Answer(data, extra + text, code=0 if found["passed"] else 1)
