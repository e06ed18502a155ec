# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops expire`, `dbops hold`, `dbops release`: what may go, and what may not."""

from __future__ import annotations

import argparse
import socket
from datetime import datetime
from typing import Any

from ..pg.osuser import current_identity
from ..progress import duration
from ..repo import expire_all, holds
from ..repo.record import from_iso
from .door import Answer, Door, given
from .words import clean, plural, size, table

_RULES = ("keep_last", "keep_within", "daily", "weekly", "monthly", "yearly", "min_redundancy")


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "expire",
        parents=[common],
        help="say which backups the policy would delete; with --apply, delete them",
        description="Say what the retention policy would delete, and why; with --apply, do it. Rules given here "
        "replace those of the settings, so that a new policy can be tried first.",
    )
    parser.add_argument("--apply", action="store_true", help="delete; without it, only the plan is shown")
    parser.add_argument("--keep-within", metavar="AGE", help="every restore point of the last 14d, 4w, ...")
    for rule in _RULES:
        if rule != "keep_within":
            parser.add_argument(f"--{rule.replace('_', '-')}", type=int, metavar="N")
    parser.set_defaults(verb=run)

    parser = verbs.add_parser("hold", parents=[common], help="keep a backup, whatever the policy says")
    parser.add_argument("label", metavar="LABEL")
    parser.add_argument("--reason", required=True, help="why; whoever finds the disk full will want to know")
    parser.set_defaults(verb=hold)

    parser = verbs.add_parser("release", parents=[common], help="let the policy decide about a held backup again")
    parser.add_argument("label", metavar="LABEL")
    parser.set_defaults(verb=release)


def run(door: Door) -> Answer:
    args = door.args
    rules = given(**{rule: getattr(args, rule) for rule in _RULES})
    plans = expire_all.plan(door.settings(), repository=args.repository, rules=rules)
    if not args.apply:
        data = plans.preview()
        text = _texts(data, "Would delete")
        return Answer(data, text + ("\nTo do it: dbops expire --apply" if plans.needed else ""))
    data = expire_all.apply(plans, door.progress)
    return Answer(data, _texts(data, "Deleted"))


def hold(door: Door) -> Answer:
    by = f"{current_identity().name}@{socket.gethostname()}"
    data = holds.hold(door.settings(), door.args.label, reason=door.args.reason, by=by, repository=door.args.repository)
    return Answer(data, clean(data["msg"]))


def release(door: Door) -> Answer:
    data = holds.release(door.settings(), door.args.label, repository=door.args.repository)
    return Answer(data, clean(data["msg"]))


def _texts(data: dict[str, Any], verb: str) -> str:
    plans = data["repositories"]
    if len(plans) == 1:
        return _text(plans[0], verb)
    return "\n\n".join(f"Repository {clean(plan['repository'])}:\n{_text(plan, verb)}" for plan in plans)


def _text(plan: dict[str, Any], verb: str) -> str:
    now = from_iso(plan["planned_at"])
    rows = [
        [
            "keep" if item["keep"] else "DELETE",
            item["label"],
            item["type"] or "?",
            _age(item, now),
            size(item["stored_bytes"]),
            "; ".join(item["reasons"]),
        ]
        for item in plan["backups"]
    ]
    lines = (
        [table(("FATE", "BACKUP", "TYPE", "AGE", "STORED", "WHY"), rows, right=("AGE", "STORED")), ""] if rows else []
    )
    for item in plan["unfinished"]:
        lines.append(f"unfinished: {clean(item['label'])}, {size(item['stored_bytes'])}")
    for system in plan["wal"]:
        for run in system["ranges"]:
            fate = "keep" if run["keep"] else "DELETE"
            wal = f"{run['first']} to {run['last']}, {plural(run['segments'], 'segment')}"
            lines.append(f"WAL: {fate} {wal}: {clean(run['reason'])}")
    gone = plan.get("deleted", plan["delete"])
    remains = plan.get("cleaned", plan["unfinished"])
    what = f"{plural(len(gone), 'backup')} of {len(rows)}"
    if remains:
        what += f" and the remains of {len(remains)} unfinished"
    segments = plan.get("deleted_segments", sum(system["delete_segments"] for system in plan["wal"]))
    if segments:
        what += f" and {plural(segments, 'segment')} of WAL"
    something = gone or remains or segments
    lines.append(f"{verb} {what}: {size(plan['freed_bytes'])}." if something else "Nothing to delete.")
    return "\n".join(lines)


def _age(item: dict[str, Any], now: datetime) -> str:
    return duration((now - from_iso(item["stopped"])).total_seconds()) if item["stopped"] else "?"
