# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops adopt`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..restore import adopt
from ..settings import default_file
from ..wal import setup
from ..wal.scripts import running_lib_path
from .door import Answer, Door
from .words import clean


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "adopt",
        parents=[common],
        help="turn a side instance into this cluster",
        description="Lift the isolation of the side instance in this cluster's data directory, have it archive as this "
        "cluster, and start it. Under the name of the cluster that it was recovered from it takes that one's place; "
        "under another name it is a cluster of its own.",
    )
    parser.add_argument("--port", type=int, metavar="N", help="another port than the configuration says")
    parser.add_argument("--python", default=sys.executable, metavar="FILE", help="the interpreter for archiving")
    parser.add_argument("--take-over", action="store_true", help="replace the archive_command of another tool")
    parser.add_argument("--no-start", action="store_true", help="leave it stopped, for a service manager to start")
    parser.add_argument("--start-options", default="", metavar="OPTIONS", help="for pg_ctl -o")
    parser.add_argument("--plan", action="store_true", help="check everything, say what would be done, do nothing")
    parser.add_argument("--confirm", metavar="CLUSTER", help="needed, as the world can reach it afterwards")
    parser.set_defaults(verb=run)


def run(door: Door) -> Answer:
    args = door.args
    settings = door.settings()
    config = args.config or default_file(settings.cluster)
    request = adopt.Request(
        port=args.port,
        start=not args.no_start,
        start_options=args.start_options,
        archiving=setup.Request(
            take_over=args.take_over, python=args.python, lib_path=running_lib_path(), config=config
        ),
    )
    plan = adopt.plan(settings, request)
    if args.plan:
        data = plan.preview()
    else:
        door.require_confirmation(settings, f"The side instance in {plan.data_directory} would become a cluster")
        data = adopt.run(plan)
    told = data["adopt"]
    lines = [f"  {name} = {clean(value)}" for name, value in told["runs_with"].items()]
    origin = f"  recovered from {clean(told['original'])}, system {told['system_identifier']}; it runs with:"
    return Answer(data, "\n".join([clean(data["msg"]), origin, *lines]))
