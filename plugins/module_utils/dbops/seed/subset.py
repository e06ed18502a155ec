# SPDX-License-Identifier: GPL-3.0-or-later
"""An anonymised subset of a restored backup: choose, follow the keys, mask, load, prove that no original survived."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Optional

from ..errors import BadInput, Corrupt, NotFound, Refused
from ..pg.connection import Connection, connected
from ..pg.osuser import cluster_identity
from ..progress import Progress, Step
from ..schema import between
from ..settings import Settings
from . import guard, record
from .load import numbers_go_on, prepare
from .masks import Masker, check_value, leaves
from .run import locked, transaction
from .subset_rules import Column, Rules
from .subset_source import Subset, look
from .survivors import Originals

SHORTEST_KEY = 32  # bytes
_COLUMN_NAMES = """
    select attname::text as name from pg_attribute
    where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped
"""
_READ_ONLY = "begin isolation level repeatable read, read only"


@dataclass(frozen=True)
class Source:
    """Where the restored backup is: a database of the same server, or of another one on this host or elsewhere."""

    database: str
    host: str = ""
    unix_socket: str = ""
    port: int = 0

    def settings(self, settings: Settings) -> Settings:
        changes: dict[str, Any] = {}
        if self.host or self.unix_socket:
            changes = {"login_host": self.host, "login_unix_socket": self.unix_socket}
        if self.port:
            changes["login_port"] = self.port
        return replace(settings, connection=replace(settings.connection, **changes))


def take(
    settings: Settings,
    rules: Rules,
    progress: Progress,
    *,
    source: Source,
    database: str,
    roots: int,
    key_file: str,
    allow: Optional[str] = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Copy `roots` rows of the rules' root table, and all that belongs to them, masked, into an empty schema.

    One transaction: a value that survived, or anything else that fails, leaves the target as it was. The source is
    only read. Corrupt names the columns in which originals were found, never the originals.
    """
    between("roots", roots, 1, 10_000_000)
    key = read_key(key_file)
    there = source.settings(settings)
    identity = cluster_identity(settings.host.os_user, settings.host.data_directory)
    reading = connected(there.connection, identity, database=source.database)
    with reading as original, connected(settings.connection, identity, database=database) as target:
        origin = _made_ready(original, target, allow)
        known = record.Loaded(f"subset {rules.name}", _digest(rules, key), roots, origin, complete=True)
        if _is_there(target, known, database):
            return {"changed": False, "rows": {}, "msg": f"{roots} {rules.roots.table} of {origin} are there."}
        progress.report(Step("subset: choose and follow the keys"))
        it = look(original, rules)
        _refuse_what_does_not_fit(target, it)
        it.choose(original, roots, key)
        rows = {table: len(it.places[table]) for table in it.ordered if it.places[table]}
        about = {"changed": True, "rows": rows, "roots": roots, "source": origin}
        what = f"{sum(rows.values())} rows of {len(rows)} tables from {origin} into {database!r}"
        if dry_run:
            return {**about, "msg": f"Would copy {what}."}
        originals, places = _originals(original, it, progress)
        with transaction(target):
            _copy_all(original, target, it, Masker(key, originals), progress)
            progress.report(Step("subset: look for originals"))
            checked = _prove(target, it, originals, places)
            record.write(target, known)
    msg = f"Copied {what}; none of {len(originals)} original values is in the {checked} different ones there."
    return {**about, "originals": len(originals), "checked": checked, "msg": msg}


def _made_ready(original: Connection, target: Connection, allow: Optional[str]) -> str:
    """Lock the target, refuse one that matters, and let the source be read as it is now; its name."""
    prepare(target)
    prepare(original)
    locked(target)
    guard.refuse_production(guard.impression(target), allow)
    origin = _origin(original, target)
    original.run(_READ_ONLY)
    return origin


def _is_there(target: Connection, known: record.Loaded, database: str) -> bool:
    """Whether this very subset is in the target already; refuses another one."""
    loaded = record.read(target)
    if loaded is not None and loaded != known:
        raise Refused(f"{loaded} is loaded in {database!r}.", hint="Use an empty database, or reset that one.")
    return loaded is not None


def read_key(path: str) -> bytes:
    """The key of the masks, from a file that nobody else can read."""
    try:
        with open(path, "rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            key = stream.read().strip()
    except FileNotFoundError as exc:
        raise NotFound(
            f"There is no key file {path}.", hint=f"Make one: (umask 077; openssl rand -hex 32 > {path})"
        ) from exc
    except OSError as exc:
        raise Refused(f"Cannot read the key file {path}: {exc.strerror}.", hint="It must be a file of yours.") from exc
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise Refused(f"The key file {path} is open to others.", hint=f"chmod 600 {path}")
    if len(key) < SHORTEST_KEY:
        raise BadInput(
            f"The key in {path} has {len(key)} bytes.", hint=f"At least {SHORTEST_KEY}: openssl rand -hex 32."
        )
    return key


def _digest(rules: Rules, key: bytes) -> str:
    return hashlib.sha256(f"{rules.digest()} {check_value(key)}".encode()).hexdigest()[:16]


def _origin(original: Connection, target: Connection) -> str:
    """The source's name: which cluster, which database. Refuses a database as its own source."""
    query = (
        "select system_identifier || '/' || current_database() as name, pg_postmaster_start_time()::text as started "
        "from pg_control_system()"
    )
    names = [server.row(query) for server in (original, target)]
    if names[0] == names[1]:
        raise BadInput("The source is the target.", hint="Give the anonymised copy a database of its own.")
    return str(names[0]["name"])


def _refuse_what_does_not_fit(target: Connection, it: Subset) -> None:
    for table in it.ordered:
        if target.value("select to_regclass(%s)", (table,)) is None:
            raise NotFound(f"The target has no table {table}.", hint="Apply the migrations of the source's version.")
        there = {row["name"] for row in target.rows(_COLUMN_NAMES, (table,))}
        missing = [column.name for column in it.columns[table] if column.name not in there]
        if missing:
            raise BadInput(
                f"The target's {table} has no column {', '.join(missing)}.",
                hint="Apply the migrations of the source's version.",
            )
    filled = [table for table in it.ordered if target.value(f"select exists (select from {table})")]
    if filled:
        raise Refused(
            f"These tables of the target hold rows: {', '.join(filled)}.", hint="Take an empty database for it."
        )


def _originals(server: Connection, it: Subset, progress: Progress) -> tuple[Originals, set[str]]:
    """What must not be seen in the target: of each masked column every value of every row that is copied."""
    progress.report(Step("subset: note the originals"))
    originals, places = Originals(), set()
    for table in it.ordered:
        masked = [column for column in it.columns[table] if it.hides(table, column)]
        for row in it.rows(server, table):
            for column in masked:
                value = row[column.name]
                if value is not None:
                    _note(originals, column, value)
            for latitude, longitude in it.rules.places.get(table, ()):
                at = row[latitude], row[longitude]
                if at[0] is not None and at[1] is not None:
                    places.add(_place(at[0], at[1]))
    return originals, places


def _note(originals: Originals, column: Column, value: str) -> None:
    if column.type in ("json", "jsonb") and not column.array:
        for text in leaves(value):
            originals.add(text)
    else:
        originals.add(value)


def _place(latitude: str, longitude: str) -> str:
    return f"{float(latitude):.6f} {float(longitude):.6f}"


def _copy_all(original: Connection, target: Connection, it: Subset, masker: Masker, progress: Progress) -> None:
    for table in it.ordered:
        if it.places[table]:
            progress.report(Step(f"subset: {table}"))
            _copy(original, target, it, table, masker)


def _copy(original: Connection, target: Connection, it: Subset, table: str, masker: Masker) -> None:
    columns = [column.name for column in it.columns[table] if not column.generated]

    def lines() -> Iterator[bytes]:
        for row in it.rows(original, table):
            masked = it.masked(table, row, masker)
            yield ("\t".join(_copied(masked[name]) for name in columns) + "\n").encode()

    names = ", ".join(f'"{name}"' for name in columns)
    target.copy_in(f"copy {table} ({names}) from stdin", lines())
    numbers_go_on(target, table, columns)


def _copied(value: Optional[str]) -> str:
    if value is None:
        return "\\N"
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _prove(target: Connection, it: Subset, originals: Originals, places: set[str]) -> int:
    """How many different values were looked at; Corrupt where one is an original, or a row is missing."""
    survived: list[str] = []
    looked_at = 0
    for table in it.ordered:
        if not it.places[table]:
            continue
        there = target.value(f"select count(*) from {table}")
        if there != len(it.places[table]):
            raise Corrupt(
                f"{table} has {there} rows of {len(it.places[table])}.", hint="Does a trigger of the target add some?"
            )
        for column in it.columns[table]:
            if not it.searched(table, column):
                continue
            values = target.rows(f'select distinct "{column.name}"::text as it from {table}')
            looked_at += len(values)
            found = sum(row["it"] is not None and originals.found_in(row["it"]) for row in values)
            if found:
                survived.append(f"{table}.{column.name} ({found})")
        for latitude, longitude in it.rules.places.get(table, ()):
            rows = target.rows(f'select distinct "{latitude}"::text as a, "{longitude}"::text as o from {table}')
            looked_at += len(rows)
            found = sum(None not in (row["a"], row["o"]) and _place(row["a"], row["o"]) in places for row in rows)
            if found:
                survived.append(f"{table}.{latitude}, {longitude} ({found})")
    if survived:
        raise Corrupt(
            f"Original values survived in {'; '.join(survived)}. Nothing was loaded.",
            hint="Give these columns a mask; a column that is kept must not repeat what others mask.",
        )
    return looked_at
