# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops seed`: load, verify, shift, reset, subset."""

from __future__ import annotations

import argparse
from typing import Any

from ..seed import profile, run, subset, subset_rules
from .door import Answer, Door
from .words import clean, size, table


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "seed",
        parents=[common],
        help="fill a database with invented rows that obey its domain",
        description="Make the rows of a profile, prove that they are what it promises, and take them out again. "
        "The same profile, seed and anchor give the same rows everywhere.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, parser_class=type(parser))
    shared = argparse.ArgumentParser(add_help=False, parents=[common])
    shared.add_argument("profile", metavar="FILE", help="the profile, YAML or JSON")
    group = shared.add_argument_group("which database")
    group.add_argument("--database", metavar="NAME", help="default: connection.login_db")
    group.add_argument("--allow", metavar="NAME", help="the database's name, if it looks like production and is meant")
    changing = argparse.ArgumentParser(add_help=False, parents=[shared])
    changing.add_argument("--plan", action="store_true", help="say what would be done, refusals included; do nothing")
    loading = argparse.ArgumentParser(add_help=False, parents=[changing])
    loading.add_argument("--scale", type=int, default=1, metavar="K", help="every count times K; default 1")
    loading.add_argument("--workers", type=int, metavar="N", help=f"sessions of a big load; default {run.WORKERS}")

    made = actions.add_parser("load", parents=[loading], help="load it, if it is not there")
    made.add_argument("--anchor", default="now", metavar="TIME", help="now, or when the rows' present is; default now")
    made.set_defaults(verb=load)
    made = actions.add_parser("shift", parents=[loading], help="the same rows with another present")
    made.add_argument("--anchor", required=True, metavar="TIME", help="where their present moves to; now is allowed")
    made.set_defaults(verb=shift)
    actions.add_parser("verify", parents=[shared], help="prove the loaded rows once more").set_defaults(verb=verify)
    actions.add_parser("reset", parents=[changing], help="delete the seeded rows, and no others").set_defaults(
        verb=reset
    )
    _add_subset(actions, common)


def _add_subset(actions: Any, common: argparse.ArgumentParser) -> None:
    made = actions.add_parser(
        "subset",
        parents=[common],
        help="copy an anonymised subset of a restored backup",
        description="Copy some people and all that belongs to them from a restored backup into an empty schema, every "
        "column masked by a rule, and prove that no original value is in the copy.",
    )
    made.add_argument("rules", metavar="RULES", help="how each column is masked, YAML or JSON")
    made.add_argument("--roots", type=int, required=True, metavar="N", help="how many people, of the rules' root table")
    made.add_argument("--key-file", required=True, metavar="PATH", help="the masks' key, readable by its owner only")
    made.add_argument("--plan", action="store_true", help="say what would be copied, refusals included; do nothing")
    group = made.add_argument_group("from which database")
    group.add_argument("--from-database", required=True, metavar="NAME", help="the restored backup's")
    group.add_argument("--from-host", default="", metavar="HOST", help="default: as the target's")
    group.add_argument("--from-socket", default="", metavar="DIR", help="default: as the target's")
    group.add_argument("--from-port", type=int, default=0, metavar="PORT", help="default: as the target's")
    group = made.add_argument_group("into which database")
    group.add_argument("--database", metavar="NAME", help="default: connection.login_db")
    group.add_argument("--allow", metavar="NAME", help="the database's name, if it looks like production and is meant")
    made.set_defaults(verb=take_subset)


def load(door: Door) -> Answer:
    args, settings = door.args, door.settings()
    wanted = profile.load(args.profile)
    how = {"database": _database(door), "scale": args.scale, "anchor": args.anchor, "allow": args.allow}
    if args.plan:
        data = run.preview(settings, wanted, **how)
    else:
        data = run.seed(settings, wanted, door.progress, workers=args.workers, **how)
    return Answer(data, _told(data))


def shift(door: Door) -> Answer:
    """Made anew and not moved, for the hours of the week are in the rows; their keys stay the same."""
    args = door.args
    data = run.shift(
        door.settings(),
        profile.load(args.profile),
        door.progress,
        database=_database(door),
        anchor=args.anchor,
        workers=args.workers,
        allow=args.allow,
        dry_run=args.plan,
    )
    return Answer(data, _told(data))


def verify(door: Door) -> Answer:
    data = run.verify(door.settings(), profile.load(door.args.profile), database=_database(door))
    return Answer(data, _told(data))


def reset(door: Door) -> Answer:
    args = door.args
    data = run.reset(
        door.settings(), profile.load(args.profile), database=_database(door), allow=args.allow, dry_run=args.plan
    )
    return Answer(data, _told(data))


def take_subset(door: Door) -> Answer:
    args = door.args
    data = subset.take(
        door.settings(),
        subset_rules.load(args.rules),
        door.progress,
        source=subset.Source(args.from_database, args.from_host, args.from_socket, args.from_port),
        database=_database(door),
        roots=args.roots,
        key_file=args.key_file,
        allow=args.allow,
        dry_run=args.plan,
    )
    return Answer(data, _told(data))


def _database(door: Door) -> str:
    return door.args.database or door.settings().connection.login_db


def _told(data: dict[str, Any]) -> str:
    rows = [[name, str(count)] for name, count in data["rows"].items() if count]
    lines = [table(("TABLE", "ROWS"), rows, right=("ROWS",)), ""] if rows else []
    if "estimated_bytes" in data:
        lines.append(f"estimated size: {size(data['estimated_bytes'])}")
    return "\n".join([*lines, clean(data["msg"])])
