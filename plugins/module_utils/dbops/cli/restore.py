# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops restore`, `dbops rollback` and `dbops validate`."""

from __future__ import annotations

import argparse
import os
from typing import Any, Optional

from ..errors import BadInput
from ..progress import duration
from ..restore import logical, physical, rollback
from ..restore.target import ACTIONS, KINDS, Target, parse
from ..restore.validate import validate as validate_physical
from ..settings import METHODS
from ..settings_environment import old_target
from .door import Answer, Door
from .words import clean, plural, size

_PHYSICAL = ("target", "in_place", "tablespace", "tablespace_root", "verify", "stop", "start", "start_options",
             "config_directory", "time", "lsn", "xid", "name", "immediate", "latest", "exclusive", "timeline", "action",
             "side", "port", "socket_directory")  # fmt: skip
_LOGICAL = ("file", "database", "existing", "disconnect", "jobs", "globals", "no_owner", "no_privileges",
            "no_tablespaces", "allow_errors")  # fmt: skip


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "restore",
        parents=[common],
        help="get a cluster or a database back",
        description="Restore a backup: the named one, the newest before a time, or the newest. What is in the way is "
        "moved aside, never removed, and only with --confirm.",
    )
    _which(parser)
    parser.add_argument("--plan", action="store_true", help="check everything, say what would be done, do nothing")
    parser.add_argument("--confirm", metavar="CLUSTER", help="needed where something that exists is replaced")
    _physical_options(parser.add_argument_group("a physical backup"))
    _recovery_options(
        parser.add_argument_group(
            "point-in-time recovery",
            "Without a target the backup comes back as it was, and no archived WAL is replayed. With one the right "
            "backup is chosen and replay is followed to its end; what the archive cannot reach is refused beforehand.",
        )
    )
    _logical_options(parser.add_argument_group("a logical backup, or a dump file"))
    parser.set_defaults(verb=restore)

    parser = verbs.add_parser("rollback", parents=[common], help="put back what a restore in place moved aside")
    parser.add_argument("--target", metavar="DIR", help="default: the cluster's data directory")
    parser.add_argument("--stop", action="store_true", help="stop the server that runs there")
    parser.add_argument("--start", action="store_true", help="start the old one afterwards")
    parser.add_argument("--start-options", default="", metavar="OPTIONS", help="for pg_ctl -o")
    parser.add_argument("--plan", action="store_true", help="say what would be done, do nothing")
    parser.add_argument("--confirm", metavar="CLUSTER", help="needed, as this replaces what was restored")
    parser.set_defaults(verb=roll_back)

    parser = verbs.add_parser("validate", parents=[common], help="read a backup to its last byte, and change nothing")
    _which(parser)
    parser.add_argument("--file", metavar="FILE", help="a dump file instead of a backup")
    parser.set_defaults(verb=validate)


def restore(door: Door) -> Answer:
    if _method(door) == "physical":
        _refuse_foreign(door, _LOGICAL, "physical")
        return _restore_physical(door)
    _refuse_foreign(door, _PHYSICAL, "logical")
    return _restore_logical(door)


def roll_back(door: Door) -> Answer:
    args = door.args
    settings = door.settings()
    plan = rollback.plan(
        settings, target=args.target, stop=args.stop, start=args.start, start_options=args.start_options
    )
    if args.plan:
        return _told(plan.preview())
    door.require_confirmation(settings, f"{plan.target} would be replaced by what was moved aside")
    return _told(rollback.run(plan))


def validate(door: Door) -> Answer:
    args = door.args
    settings = door.settings()
    if _method(door) == "logical":
        request = logical.Request(
            label=args.label, before=args.before, file=args.file, validate_only=True, repository=args.repository
        )
        return _told(logical.run(logical.plan(settings, request), door.progress))
    data = validate_physical(
        settings, progress=door.progress, label=args.label, before=args.before, repository=args.repository
    )
    found = data["validation"]
    size_text = f"{plural(len(found['objects']), 'file')}, {size(found['stored_bytes'])}"
    return Answer(data, f"{clean(data['msg'])}\n  {size_text}, chain: {clean(' < '.join(found['chain']))}")


def _restore_physical(door: Door) -> Answer:
    args = door.args
    settings = door.settings()
    request = physical.Request(
        label=args.label,
        before=args.before,
        repository=args.repository,
        target=args.target,
        in_place=args.in_place,
        tablespace_map=_pairs(args.tablespace, "--tablespace"),
        tablespace_root=args.tablespace_root,
        verify=args.verify,
        stop=args.stop,
        start=args.start,
        start_options=args.start_options or "",
        config_directory=args.config_directory,
        recovery=_target(args) or _old_target(door),
        side=args.side,
        port=args.port,
        socket_directory=args.socket_directory,
    )
    plan = physical.plan(settings, request)
    if args.plan:
        data = plan.preview()
        sizes = f"\n  to read: {size(data['restore']['stored_bytes'])}, to write: {size(plan.needed_bytes)}"
        return Answer(data, "\n".join([clean(data["msg"]) + sizes, *_route_lines(data["restore"]["recovery"])]))
    aside = [item.path for item in (plan.data, *plan.tablespaces.values()) if item.occupied]
    if aside:
        door.require_confirmation(settings, f"{', '.join(aside)} would be moved aside for {plan.record.label}")
    data = physical.run(plan, door.progress)
    done = data["restore"]
    lines = [clean(data["msg"])]
    if done.get("moved_aside"):
        lines.append(f"  the old directory: {clean(done['moved_aside'])} (dbops rollback puts it back)")
    lines += _recovery_lines(done["recovery"])
    phases = ", ".join(f"{name[:-2].replace('_', ' ')} {duration(spent)}" for name, spent in done["phases"].items())
    lines.append(f"  {size(done['stored_bytes'])} read, {size(done['restored_bytes'])} written; {phases}")
    return Answer(data, "\n".join(lines))


def _restore_logical(door: Door) -> Answer:
    args = door.args
    settings = door.settings()
    request = logical.Request(
        label=args.label,
        before=args.before,
        file=args.file,
        databases=_databases(args.database, args.file),
        existing=args.existing or "refuse",
        disconnect=args.disconnect,
        jobs=args.jobs or 1,
        globals=args.globals,
        no_owner=args.no_owner,
        no_privileges=args.no_privileges,
        no_tablespaces=args.no_tablespaces,
        allow_errors=args.allow_errors,
        repository=args.repository,
    )
    plan = logical.plan(settings, request)
    if args.plan:
        return _told(plan.preview())
    replaced = [item.target for item in plan.items if item.replaces]
    if replaced:
        door.require_confirmation(settings, f"{', '.join(map(repr, replaced))} would be moved aside for {plan.origin}")
    return _told(logical.run(plan, door.progress))


def _told(data: dict[str, Any]) -> Answer:
    lines = [clean(data["msg"])]
    for item in data.get("databases", ()):
        aside = f", the old one is now {clean(repr(item['moved_aside']))}" if item.get("moved_aside") else ""
        rows = "" if item.get("rows") is None else f", {plural(item['rows'], 'row')} in {item['tables']} tables"
        sizes = f"{clean(item['format'])}, {size(item['stored_bytes'])}{rows}{aside}"
        lines.append(f"  {clean(repr(item['source']))} to {clean(repr(item['target']))}: {sizes}")
    return Answer(data, "\n".join(lines))


def _which(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("label", nargs="?", metavar="LABEL", help="default: the newest")
    parser.add_argument("--before", metavar="TIME", help="the newest that was complete by then: 2026-11-22T13:05:00Z")
    parser.add_argument("--method", choices=METHODS, help="default: the label's own, else physical")


def _physical_options(group: Any) -> None:
    group.add_argument("--target", metavar="DIR", help="default: the cluster's data directory")
    group.add_argument("--in-place", action="store_true", help="move what is there aside")
    group.add_argument("--tablespace", action="append", metavar="NAME=DIR", help="where one goes; may be repeated")
    group.add_argument("--tablespace-root", metavar="DIR", help="all of them below this directory")
    group.add_argument("--verify", action="store_true", help="check every file against the backup's manifest")
    group.add_argument("--stop", action="store_true", help="stop the server that runs in the target")
    group.add_argument("--start", action="store_true", help="start it, and see that it answers")
    group.add_argument("--start-options", metavar="OPTIONS", help="for pg_ctl -o")
    group.add_argument("--config-directory", metavar="DIR", help="unpack the saved configuration files below it")


def _recovery_options(group: Any) -> None:
    group.add_argument("--time", metavar="TIME", help="with its offset: 2026-11-22T13:05:00Z")
    group.add_argument("--lsn", metavar="LSN", help="such as 16/B374D848")
    group.add_argument("--xid", metavar="ID", help="the end of this transaction")
    group.add_argument("--name", metavar="NAME", help="a restore point")
    group.add_argument("--immediate", action="store_true", help="as soon as the backup is consistent")
    group.add_argument("--latest", action="store_true", help="everything that is archived")
    group.add_argument("--exclusive", action="store_true", help="stop just before a time, LSN or transaction")
    group.add_argument("--timeline", metavar="N", help="latest (the default), current or a number")
    group.add_argument("--action", choices=ACTIONS, help="at the target; default: promote")
    group.add_argument("--side", action="store_true", help="as an isolated server of its own, in an empty --target")
    group.add_argument("--port", type=int, metavar="N", help="the side instance's; default: the cluster's")
    group.add_argument("--socket-directory", metavar="DIR", help="the side instance's; default: within its data")


def _target(args: argparse.Namespace) -> Optional[Target]:
    """None when no target was asked for: the backup alone."""
    given = {kind: getattr(args, kind) for kind in KINDS}
    if any(value not in (None, False) for value in given.values()):
        return parse(
            given,
            inclusive=not args.exclusive,
            timeline=args.timeline or "latest",
            action=args.action or "promote",
        )
    for name in ("exclusive", "timeline", "action"):
        if getattr(args, name):
            raise BadInput(f"--{name} means nothing without a target.", hint="Give --time, --lsn, --latest or another.")
    return None


def _old_target(door: Door) -> Optional[Target]:
    """From PITR_TARGET_..., as older scripts took it; said aloud, since a profile may still set it."""
    given, said = old_target(os.environ)
    if not given:
        return None
    door.progress.warn(f"The target is the environment's: {', '.join(said)}. An option goes before it.")
    how = {name: given.pop(name) for name in ("timeline", "action", "inclusive") if name in given}
    return parse(given, **{"timeline": "latest", "action": "promote", **how})


def _route_lines(route: Optional[dict[str, Any]]) -> list[str]:
    if route is None:
        return []
    wal = f"{plural(route['wal_segments'], 'segment')} of WAL, {size(route['wal_bytes'])}"
    expected = f"last commit {route['expected_last_commit'] or 'not known'}"
    return [
        f"  to {clean(route['target'])}: from {route['base']} along timeline {route['timeline']}, {wal}",
        f"  expected: {expected}, in about {duration(route['estimated_seconds'])}",
    ]


def _recovery_lines(recovery: Optional[dict[str, Any]]) -> list[str]:
    if recovery is None:
        return []
    met = "reached" if recovery["target_reached"] else "NOT REACHED"
    until = f"replayed to {recovery['replayed_lsn'] or '-'}, last transaction {recovery['last_transaction'] or '-'}"
    lines = [f"  {clean(recovery['target'])}: {met}, {recovery['state']}; {until}"]
    if recovery["mode"] == "side":
        lines.append(f"  psql -h {clean(recovery['socket_directory'])} -p {recovery['port']}")
    return lines


def _logical_options(group: Any) -> None:
    group.add_argument("--file", metavar="FILE", help="a dump that anyone made: .dump, .sql, .sql.gz, .sql.zst")
    group.add_argument("--database", action="append", metavar="NAME[=NEW]", help="only this one; may be repeated")
    group.add_argument("--existing", choices=("refuse", "replace"), help="what to do with a database that exists")
    group.add_argument("--disconnect", action="store_true", help="end the sessions in a database that is replaced")
    group.add_argument("--jobs", type=int, metavar="N", help="tables at a time")
    group.add_argument("--globals", action="store_true", help="roles and their memberships too")
    group.add_argument("--no-owner", action="store_true")
    group.add_argument("--no-privileges", action="store_true")
    group.add_argument("--no-tablespaces", action="store_true")
    group.add_argument("--allow-errors", action="store_true", help="go on after an error of the dump's statements")


def _method(door: Door) -> str:
    args = door.args
    if args.method:
        return str(args.method)
    return "logical" if args.file or (args.label or "").endswith("-dump") else "physical"


def _refuse_foreign(door: Door, names: tuple[str, ...], method: str) -> None:
    for name in names:
        if getattr(door.args, name) not in (None, False):
            raise BadInput(
                f"--{name.replace('_', '-')} means nothing for a {method} restore.",
                hint="Leave it out, or say which backup with a label or --method.",
            )


def _pairs(texts: Optional[list[str]], option: str) -> dict[str, str]:
    pairs = {}
    for text in texts or ():
        name, separator, value = text.partition("=")
        if not (name and separator and value):
            raise BadInput(f"{option} {text!r} is not NAME=DIR.", hint=f"Write for instance {option} fast=/mnt/fast.")
        pairs[name] = value
    return pairs


def _databases(texts: Optional[list[str]], file: Optional[str]) -> dict[str, str]:
    """`ride`, `ride=ride_copy`; a name with = in it is told with both sides."""
    found = {}
    for text in texts or ():
        name, separator, target = text.partition("=")
        found[name] = target if separator else name
    if file and len(found) == 1:
        return {"": next(iter(found.values()))}
    return found
