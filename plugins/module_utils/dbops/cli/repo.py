# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops repo`: what concerns the repositories themselves."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import DbopsError
from ..repo import sync
from ..repo.check import FAIL, check
from . import rekey, usage
from .door import Answer, Door
from .words import clean, size, table


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser("repo", parents=[common], help="the repositories themselves")
    inner = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    copy = inner.add_parser(
        "sync",
        parents=[common],
        help="copy to each repository what another one has: backups, WAL, proofs, holds",
        description="Bring the repositories up to date from one another. Every object is verified by its hash; what "
        "is there already is left alone, and nothing is deleted. Interrupted, it is simply run again.",
    )
    copy.add_argument("--from", dest="source", metavar="NAME", help="copy only what this one has")
    copy.add_argument("--to", dest="target", metavar="NAME", help="bring only this one up to date")
    copy.add_argument("--plan", action="store_true", help="say what would be copied, and copy nothing")
    copy.set_defaults(verb=run_sync)
    rekey.add(inner, common)
    usage.add(inner, common)
    probe = inner.add_parser(
        "check",
        parents=[common],
        help="what these credentials can do there: list, write, read, decrypt, and not delete",
        description="Probe every repository with a small object of its own. Exit code 1 when a probe failed; what "
        "could not be verified is said, and is no pass.",
    )
    probe.set_defaults(verb=run_check)


def run_sync(door: Door) -> Answer:
    args = door.args
    plans = sync.plan(door.settings(), source=args.source, target=args.target or args.repository)
    data = plans.preview() if args.plan or not plans.needed else sync.run(plans, door.progress)
    rows = [
        [item["from"], item["to"], str(len(item["backups"])), str(item["wal_files"]), size(item["stored_bytes"])]
        for item in data["sync"]
        if item["backups"] or item["wal_files"] or item["small_objects"]
    ]
    numbers = ("BACKUPS", "WAL FILES", "STORED")
    shown = ["", table(("FROM", "TO", *numbers), rows, right=numbers)] if rows else []
    return Answer(data, "\n".join([clean(data["msg"]), *shown]))


def run_check(door: Door) -> Answer:
    data = check(door.settings(), repository=door.args.repository)
    rows = [[item["repository"], item["probe"], item["verdict"], item["detail"]] for item in data["checks"]]
    lines = [table(("REPOSITORY", "PROBE", "VERDICT", "WHAT WAS SEEN"), rows), ""]
    lines += [
        f"{clean(item['repository'])}: {clean(item['probe'])}: {clean(item['advice'])}"
        for item in data["checks"]
        if item["advice"]
    ]
    if data["verdict"] == FAIL:
        raise DbopsError("\n".join([clean(data["msg"]), *lines]), hint="Mend what failed, then check again.")
    return Answer(data, "\n".join([*lines, clean(data["msg"])]))
