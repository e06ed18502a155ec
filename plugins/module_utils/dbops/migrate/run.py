# SPDX-License-Identifier: GPL-3.0-or-later
"""Running migrations: look, plan, check every file before the first is sent, run, say what is true afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ..errors import BadInput, DbopsError, Refused
from ..pg.connection import Connection, ScriptFailed, connected, located
from ..pg.fingerprint import changed_lines
from ..pg.osuser import cluster_identity
from ..progress import Progress
from ..progress import Step as Shown
from ..settings import Settings
from . import lock, state
from .apply import Applied, Applier, Step
from .files import UP, Migration, Migrations, load
from .history import ASSUMED, FORCED, History, as_plain, known_versions, last_seen
from .plan import Known, Request, edited, out_of_order, pending, steps
from .shape import Script, Shape, copies_from_client
from .snapshot import take
from .state import NOTHING, State, StateTable


@dataclass(frozen=True)
class Look:
    """The database and the directory, as they are."""

    migrations: Migrations
    database: str
    table: StateTable
    state: State
    known: Known
    entries: list[Any]

    def as_dict(self) -> dict[str, Any]:
        late = out_of_order(self.migrations, self.state, self.known)
        return {
            "database": self.database,
            "directory": self.migrations.directory,
            "version": None if self.state.version == NOTHING else self.state.version,
            "dirty": self.state.dirty,
            "pending": [_named(item.version, item.name) for item in pending(self.migrations, self.state)],
            "out_of_order": [_named(item.version, item.name) for item in late],
            "edited": edited(self.migrations, self.known),
            "missing_down": [item.version for item in self.migrations.all if item.down is None],
            "unknown_version": self.state.version not in (NOTHING, *self.migrations.versions),
            "migrations": [
                self._one(item, applied=item.version <= self.state.version and item not in late)
                for item in self.migrations.all
            ],
        }

    def _one(self, item: Migration, *, applied: bool) -> dict[str, Any]:
        """With who ran it and when, unless it was taken back since."""
        ran = [entry for entry in self.entries if entry.version == item.version and entry.direction == "up"]
        known = as_plain(ran[-1]) if ran and applied else {}
        told = {name: known.get(name) for name in ("began", "duration_s", "done_by", "outcome")}
        return {"version": item.version, "name": item.name, "applied": applied, **told}


@dataclass
class Run:
    look: Look
    steps: list[Step]
    done: list[Applied] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    schema: Optional[tuple[list[str], list[str]]] = None  # what differs, before and after
    after: Optional[State] = None


@contextlib.contextmanager
def session_of(settings: Settings) -> Iterator[Connection]:
    """A session in the database that is migrated."""
    identity = cluster_identity(settings.host.os_user, settings.host.data_directory)
    connection = located(settings.connection, settings.host.data_directory)
    database = settings.migrations.database or connection.login_db
    with connected(connection, identity, database=database) as session:
        yield session


def look(session: Connection, settings: Settings) -> Look:
    """Read only. Works for a role that may do no more than SELECT."""
    migrations = load(settings.migrations.path)
    table = state.locate(session, settings.migrations)
    entries = History(session, table).entries() if settings.migrations.history else []
    before = {version: migrations.before(version) for version in migrations.versions}
    return Look(
        migrations=migrations,
        database=str(session.value("select current_database()")),
        table=table,
        state=state.read(session, table),
        known=Known(known_versions(entries), last_seen(entries, before)),
        entries=entries,
    )


def status(settings: Settings) -> dict[str, Any]:
    with session_of(settings) as session:
        found = look(session, settings)
    data = found.as_dict()
    return {
        "changed": False,
        "msg": f"{found.database} is at {found.state}; {len(data['pending'])} pending.",
        "migrations": data,
    }


def preview(settings: Settings, request: Request) -> dict[str, Any]:
    """What `run` would do, with every file read and checked; nothing is locked or written."""
    with session_of(settings) as session:
        found = look(session, settings)
    planned = steps(found.migrations, found.state, found.known, request)
    checked(planned)
    return _result(Run(found, planned), would=True)


def run(settings: Settings, request: Request, progress: Progress) -> dict[str, Any]:
    """Do it. MigrationFailed names file, line and column, and what is true afterwards."""
    with session_of(settings) as session:
        found = look(session, settings)
        # A dirty state may be that of a run that is at work: that shows once we hold the lock.
        if not found.state.dirty and not steps(found.migrations, found.state, found.known, request):
            return _result(Run(found, []), would=False)
        _refuse_read_only(session)
        with lock.held(session, found.table, found.database, wait_s=settings.migrations.wait_s):
            found = look(session, settings)  # somebody may have run while we waited
            planned = steps(found.migrations, found.state, found.known, request)
            return _result(_all(session, settings, Run(found, planned), progress), would=False)


def force(settings: Settings, version: int, progress: Progress) -> dict[str, Any]:
    """Write the version, clean, and run nothing. -1 is "nothing applied"."""
    if version < NOTHING:
        raise BadInput(f"{version} is no version.", hint="Give a migration's number, or -1 for nothing applied.")
    with session_of(settings) as session:
        found = look(session, settings)
        if version != NOTHING:
            found.migrations.at(version)
        before = found.state
        if before == State(version, dirty=False):
            return {
                "changed": False,
                "msg": f"{found.database} is at {before} already.",
                "migrations": _states(found, before),
            }
        with lock.held(session, found.table, found.database, wait_s=settings.migrations.wait_s), explained():
            state.ensure(session, found.table)
            state.write(session, found.table, version, dirty=False)
            _note_forced(session, settings, found, version, progress)
    after = State(version, dirty=False)
    return {
        "changed": True,
        "msg": f"Forced {found.database} from {before} to {after}; no file was run.",
        "migrations": _states(found, after),
    }


def checked(planned: Sequence[Step]) -> list[tuple[Step, Script]]:
    """Every file read and refused now if it could not work, so that none stops half-way for a reason that was there."""
    scripts = [(step, step.file.script() if step.file else Script("", (), Shape.EMPTY)) for step in planned]
    for step, script in scripts:
        if script.shape is Shape.IMPOSSIBLE:
            raise BadInput(
                f"{step.name} holds a statement that cannot run in a transaction, in company.",
                hint="Give it a file of its own; or, for this runner alone, begin it with: -- dbops: no-transaction",
            )
        if any(copies_from_client(item) for item in script.statements):
            raise BadInput(f"{step.name} wants to COPY from stdin.", hint="Write INSERT, or load the data beside it.")
        meta = next((item for item in script.statements if item.tokens[0].text == "\\"), None)
        if meta is not None:
            raise BadInput(
                f"{step.name} holds a command of psql's: {meta.text.splitlines()[0]}",
                hint="Only SQL reaches the server.",
            )
    return scripts


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """A state table that we may not write, in words."""
    try:
        yield
    except ScriptFailed as exc:
        if exc.sqlstate == "42501":
            raise Refused(
                f"This role may not write the state: {exc.message}",
                hint="Run as the owner of the state table: truncating it needs that, or the TRUNCATE privilege.",
            ) from exc
        raise


def _all(session: Connection, settings: Settings, current: Run, progress: Progress) -> Run:
    scripts = checked(current.steps)
    found = current.look
    with explained():
        state.ensure(session, found.table)
    history = _history(session, settings, found, progress)
    before = take(session, found.table)
    applier = Applier(session, found.table, settings.migrations, history, progress, latest=before)
    for number, (step, script) in enumerate(scripts, 1):
        progress.report(Shown(f"{number}/{len(scripts)} {step.name}"))
        if step.file is None:
            progress.warn(f"Version {step.version} has no {step.direction} file: only the state moves.")
        with explained():
            current.done.append(applier.apply(step, script))
    after = applier.latest if history is not None and applier.latest else take(session, found.table)
    current.schema = changed_lines(before, after)
    current.after = state.read(session, found.table)
    return current


def _history(session: Connection, settings: Settings, found: Look, progress: Progress) -> Optional[History]:
    """The side table, told what other tools applied since it last looked."""
    if not settings.migrations.history:
        return None
    history = History(session, found.table)
    try:
        warning = history.ensure()
    except DbopsError as exc:
        warning = str(exc)
    if warning:
        progress.warn(warning)
        return None
    for item in found.migrations.all:
        seen = found.known.last_seen if found.known.last_seen is not None else NOTHING
        if seen < item.version <= found.state.version and item.version not in found.known.versions:
            history.note(item.version, UP, item.name, ASSUMED, checksum=item.up.checksum() if item.up else None)
    return history


def _note_forced(session: Connection, settings: Settings, found: Look, version: int, progress: Progress) -> None:
    if not settings.migrations.history:
        return
    history = History(session, found.table)
    warning = history.ensure()
    if warning:
        progress.warn(warning)
        return
    history.note(version, "", "", FORCED)
    for item in found.migrations.all:
        if item.version > version and item.version in found.known.versions:
            history.note(item.version, "down", item.name, ASSUMED)
        if item.version <= version and item.version not in found.known.versions:
            history.note(item.version, UP, item.name, ASSUMED, checksum=item.up.checksum() if item.up else None)


def _refuse_read_only(session: Connection) -> None:
    if session.value("select pg_is_in_recovery()"):
        raise Refused("This server is a standby: nothing can be written here.", hint="Migrate the primary.")


def _result(current: Run, *, would: bool) -> dict[str, Any]:
    found, count = current.look, len(current.steps)
    after = current.after or (State(current.steps[-1].target, dirty=False) if current.steps else found.state)
    if not count:
        msg = f"{found.database} is at {found.state}: nothing to run."
    elif would:
        msg = f"Would run {count} of {found.database}'s migrations, from {found.state} to {after}."
    else:
        msg = f"Ran {count} of {found.database}'s migrations, from {found.state} to {after}."
    data = _states(found, after)
    data["steps"] = [
        {"version": step.version, "direction": step.direction, "file": step.file.basename if step.file else None}
        for step in current.steps
    ]
    data["applied"] = [item.as_dict() for item in current.done]
    if current.schema is not None:
        data["schema_before"], data["schema_after"] = current.schema
    return {"changed": bool(count), "msg": msg, "migrations": data, "warnings": current.warnings}


def _states(found: Look, after: State) -> dict[str, Any]:
    def shown(which: State) -> dict[str, Any]:
        return {"version": None if which.version == NOTHING else which.version, "dirty": which.dirty}

    return {
        "database": found.database,
        "directory": found.migrations.directory,
        "before": shown(found.state),
        "after": shown(after),
    }


def _named(version: int, name: str) -> dict[str, Any]:
    return {"version": version, "name": name}
