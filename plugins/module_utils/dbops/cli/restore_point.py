# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops restore-point`."""

from __future__ import annotations

import argparse
import getpass
from typing import Any

from ..wal.restore_point import create
from .door import Answer, Door
from .words import clean


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "restore-point",
        parents=[common],
        help="name this moment, to restore to it",
        description="Make a named restore point and wait until its WAL can be read from every required repository. "
        "`dbops restore --name NAME` goes there.",
    )
    parser.add_argument("name", metavar="NAME", help="1 to 63 bytes, not used before")
    parser.add_argument(
        "--wait", type=int, default=60, metavar="SECONDS", help="for its WAL to be archived; default 60"
    )
    parser.set_defaults(verb=run)


def run(door: Door) -> Answer:
    args = door.args
    data = create(door.settings(), args.name, wait_s=args.wait, by=getpass.getuser())
    return Answer(data, clean(data["msg"]))
