# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops repo rekey`: what is stored, encrypted for those who are to read it now."""

from __future__ import annotations

import argparse
from typing import Any

from ..repo import rekey
from .door import Answer, Door
from .words import clean, plural, size


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "rekey",
        parents=[common],
        help="encrypt what is stored for the recipients of the settings",
        description="Say what is not encrypted for the recipients that the settings name; with --apply, encrypt it "
        "anew. The old private key has to be on this host. Interrupted, it is simply run again.",
    )
    parser.add_argument("--apply", action="store_true", help="do it; without it, only the plan is shown")
    parser.set_defaults(verb=run)


def run(door: Door) -> Answer:
    plan = rekey.plan(door.settings(), door.args.repository)
    data = rekey.run(plan, door.progress) if door.args.apply else plan.preview()
    told = data["rekey"]
    lines = [clean(data["msg"]), f"  for: {clean(', '.join(told['keys']))} ({told['encryption']})"]
    if plan.needed:
        lines.append(f"  {plural(told['wal_files'], 'WAL file')}, {size(told['stored_bytes'])} in all")
        lines += [f"  {clean(label)}" for label in told["backups"]]
    if plan.needed and not door.args.apply:
        lines.append("To do it: dbops repo rekey --apply")
    return Answer(data, "\n".join(lines))
