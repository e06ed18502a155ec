# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops migrate`: up, down, goto, force, version, status, create, doctor; lint, test and rehearse lie beside it."""

from __future__ import annotations

import argparse
import functools
from datetime import datetime, timezone
from typing import Any, Optional

from ..errors import BadInput, NotFound
from ..migrate import create, doctor, rehearse, run
from ..migrate.plan import Request
from ..progress import duration
from ..settings import Settings
from . import migrate_lint, migrate_rehearse, migrate_test
from .door import Answer, Door, given
from .words import clean, plural, size, table


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "migrate",
        parents=[common],
        help="run a database's migrations, or say what a half-run one did",
        description="Run golang-migrate's files with golang-migrate's state, so that either tool can go on where the "
        "other one stopped. Every file is checked before the first is sent.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, parser_class=type(parser))
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS, parents=[common])
    group = shared.add_argument_group("which migrations, which database")
    group.add_argument("--path", metavar="DIR", help="their directory; default: migrations.path of the settings")
    group.add_argument("--database", metavar="NAME", help="default: migrations.database, else connection.login_db")
    group.add_argument("--table", metavar="NAME", help="the state table; default: schema_migrations")
    running = argparse.ArgumentParser(add_help=False, parents=[shared], argument_default=argparse.SUPPRESS)
    group = running.add_argument_group("how")
    group.add_argument("--plan", action="store_true", help="say what would run, having read every file; run nothing")
    group.add_argument("--wait", type=int, metavar="SECONDS", help="for another runner to finish; default 15")
    group.add_argument("--lock-timeout", type=int, metavar="MS", help="for one statement's locks; default 2000")
    group.add_argument("--out-of-order", action="store_true", help="apply files numbered below the current version too")
    group.add_argument("--accept-edited", action="store_true", help="go on though an applied file was edited")
    group.add_argument("--without-down", action="store_true", help="where a down is missing, move the state alone")
    _actions(actions, shared, running)


def _actions(actions: Any, shared: argparse.ArgumentParser, running: argparse.ArgumentParser) -> None:
    def action(name: str, verb: Any, help_text: str, parent: argparse.ArgumentParser = shared) -> Any:
        made = actions.add_parser(name, parents=[parent], help=help_text, description=help_text)
        made.set_defaults(verb=verb, path=None, database=None, table=None, plan=False, wait=None, lock_timeout=None)
        made.set_defaults(out_of_order=False, accept_edited=False, without_down=False)
        return made

    action("up", up, "apply the pending files, or the next N", running).add_argument("count", nargs="?", metavar="N")
    action("down", down, "go back by N files, or all of them", running).add_argument("count", metavar="N|all")
    action("goto", goto, "apply or go back until the version is V", running).add_argument(
        "version", type=int, metavar="V"
    )
    action("force", force, "write the version V, clean, and run nothing").add_argument("version", type=int, metavar="V")
    action("version", version, "the version, on stdout; exit code 3 when nothing is applied")
    action("status", status, "every migration, and whether it is applied")
    made = action("create", new, "a new pair of files")
    made.add_argument("name", metavar="NAME")
    made.add_argument("--timestamp", action="store_true", help="number it by the time (UTC) and not by the last file")
    made = action("doctor", diagnose, "what is true of a dirty database: rolled back, applied or partial")
    made.add_argument("--repair", action="store_true", help="force the version that it found to be right")
    made.add_argument(
        "--scratch", action="store_true", help="without a history, compare with the files on a scratch server"
    )
    migrate_lint.add(action("lint", lint, "names, files and pairs, without a server"))
    migrate_test.add(action("test", test, "rehearse every file up, down and up again, away from the database"))
    migrate_rehearse.add(action("rehearse", on_backup, "the pending files on a restored backup: how long, which locks"))


def up(door: Door) -> Answer:
    return _run(door, Request("up", count=_count(door.args.count), **_how(door)))


def down(door: Door) -> Answer:
    return _run(door, Request("down", count=_count(door.args.count), **_how(door)))


def goto(door: Door) -> Answer:
    return _run(door, Request("goto", version=door.args.version, **_how(door)))


def force(door: Door) -> Answer:
    data = run.force(settings_of(door), door.args.version, door.progress)
    return Answer(data, clean(data["msg"]))


def version(door: Door) -> Answer:
    data = run.status(settings_of(door))
    found = data["migrations"]
    if found["version"] is None and not found["dirty"]:
        raise NotFound(f"No migration is applied in {found['database']}.", hint="dbops migrate up applies them.")
    shown = -1 if found["version"] is None else found["version"]
    return Answer(data, f"{shown}{' (dirty)' if found['dirty'] else ''}")


def status(door: Door) -> Answer:
    data = run.status(settings_of(door))
    found = data["migrations"]
    rows = [
        [
            str(item["version"]),
            item["name"],
            _state(item, found),
            (item["began"] or "")[:19],
            duration(item["duration_s"]) if item["duration_s"] is not None else "",
            item["done_by"] or "",
        ]
        for item in found["migrations"]
    ]
    lines = [table(("VERSION", "NAME", "STATE", "SINCE", "TOOK", "BY"), rows, right=("VERSION", "TOOK")), ""]
    lines += [
        f"below the current version, never applied: {item['version']} {item['name']}" for item in found["out_of_order"]
    ]
    lines += [f"edited after it was applied: {name}" for name in found["edited"]]
    if found["dirty"]:
        lines.append("dirty: dbops migrate doctor says what is true")
    return Answer(data, "\n".join([*lines, clean(data["msg"])]))


def _state(item: dict[str, Any], found: dict[str, Any]) -> str:
    if found["dirty"] and item["version"] == found["version"]:
        return "dirty"
    return "applied" if item["applied"] else "pending"


def new(door: Door) -> Answer:
    settings = settings_of(door)
    stamp = datetime.now(timezone.utc) if door.args.timestamp else None
    data = create.create(settings.migrations.path, door.args.name, timestamp=stamp)
    return Answer(data, "\n".join(data["files"]))


def diagnose(door: Door) -> Answer:
    settings = settings_of(door)
    rebuild = functools.partial(rehearse.schemas_at, settings) if door.args.scratch else None
    if door.args.repair:
        data = doctor.repair(settings, door.progress, rebuild=rebuild)
    else:
        data = doctor.diagnose(settings, rebuild=rebuild)
    lines = [clean(data["msg"]), *(f"  {clean(line)}" for line in data["doctor"]["differences"])]
    return Answer(data, "\n".join(lines))


def test(door: Door) -> Answer:
    return migrate_test.run(door, settings_of(door))


def on_backup(door: Door) -> Answer:
    return migrate_rehearse.run(door, settings_of(door))


def lint(door: Door) -> Answer:
    return migrate_lint.run(door, settings_of(door))


def settings_of(door: Door) -> Settings:
    args = door.args
    wanted = given(path=args.path, database=args.database, table=args.table, wait_s=args.wait)
    return door.settings(migrations={**wanted, **given(lock_timeout_ms=args.lock_timeout)})


def _run(door: Door, request: Request) -> Answer:
    settings = settings_of(door)
    data = run.preview(settings, request) if door.args.plan else run.run(settings, request, door.progress)
    return Answer(data, _text(data["migrations"], data["msg"], planned=door.args.plan))


def _how(door: Door) -> dict[str, bool]:
    return {name: getattr(door.args, name) for name in ("out_of_order", "accept_edited", "without_down")}


def _count(word: Optional[str]) -> Optional[int]:
    if word in (None, "all"):
        return None
    if not str(word).isdigit():
        raise BadInput(f"{word!r} is no number of migrations.", hint="Give a number, or all.")
    return int(str(word))


def _text(found: dict[str, Any], msg: str, *, planned: bool) -> str:
    steps = found["steps"] if planned else found["applied"]
    rows = []
    for item in steps:
        row = [item["direction"], item["file"] or f"{item['version']} (no file)"]
        if not planned:
            row += [duration(item["duration_s"]), size(item["wal_bytes"]), str(item["attempts"])]
        rows.append(row)
    headings = ("WAY", "FILE") if planned else ("WAY", "FILE", "TOOK", "WAL", "ATTEMPTS")
    lines = [table(headings, rows, right=("TOOK", "WAL", "ATTEMPTS")), ""] if rows else []
    for item in steps if not planned else ():
        lines += [f"{item['file']}: {clean(notice)}" for notice in item["notices"]]
    total = sum(len(item["notices"]) for item in found["applied"])
    return "\n".join([*lines, clean(msg) + (f" {plural(total, 'notice')}." if total else "")])
