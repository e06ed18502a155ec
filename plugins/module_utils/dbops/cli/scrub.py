# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops scrub`."""

from __future__ import annotations

import argparse
from typing import Any

from ..verify.scrub import scrub
from .door import Answer, Door, given
from .verify import CODES
from .words import clean


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "scrub",
        parents=[common],
        help="read a part of what is stored again, the longest unread first",
        description="Read stored objects again and compare them with their hashes. Run every night, it comes round to "
        "every byte within verify.scrub_days. Exit codes are those of dbops verify.",
    )
    parser.add_argument("--days", type=int, metavar="N", help="instead of verify.scrub_days; 1 reads everything")
    parser.add_argument("--bytes", type=int, metavar="N", help="instead of verify.scrub_bytes: the most to read")
    parser.set_defaults(verb=run)


def run(door: Door) -> Answer:
    args = door.args
    settings = door.settings(verify=given(scrub_days=args.days, scrub_bytes=args.bytes))
    data = scrub(settings, door.progress, repository=args.repository)
    found = data["scrub"]
    lines = [f"{item['verdict']}: {clean(item['message'])} next: {clean(item['hint'])}" for item in found["problems"]]
    if found["overdue"]:
        lines.append(f"{found['overdue']} of {found['objects']} objects were not read within the days.")
    return Answer(data, "\n".join([*lines, clean(data["msg"])]), CODES[found["verdict"]])
