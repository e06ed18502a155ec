# SPDX-License-Identifier: GPL-3.0-or-later
"""golang-migrate's state table: one row, (version, dirty), or none; written with its statements.

Source: golang-migrate 4, database/postgres/postgres.go. Version -1 stands for "nothing applied" and is a row only
while dirty, after the down of the first migration failed.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import Corrupt, Refused
from ..pg.connection import Connection
from ..settings_migrations import MigrationSettings

NOTHING = -1


@dataclass(frozen=True)
class State:
    """`version` is -1 when nothing is applied."""

    version: int
    dirty: bool

    def __str__(self) -> str:
        shown = "nothing" if self.version == NOTHING else str(self.version)
        return f"{shown} (dirty)" if self.dirty else shown


@dataclass(frozen=True)
class StateTable:
    schema: str
    name: str

    @property
    def quoted(self) -> str:
        return f"{quote(self.schema)}.{quote(self.name)}"


def quote(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def locate(session: Connection, settings: MigrationSettings) -> StateTable:
    schema = settings.schema or session.value("select current_schema()")
    if not schema:
        raise Refused(
            "The search path of this connection names no schema that exists.",
            hint="Set migrations.schema, or create the schema first.",
        )
    return StateTable(str(schema), settings.table)


def exists(session: Connection, table: StateTable) -> bool:
    query = "select exists (select from information_schema.tables where table_schema = %s and table_name = %s)"
    return bool(session.value(query, (table.schema, table.name)))


def read(session: Connection, table: StateTable) -> State:
    """What the table says; a table that is missing or empty says "nothing"."""
    if not exists(session, table):
        return State(NOTHING, dirty=False)
    rows = session.rows(f"select version, dirty from {table.quoted}")
    if len(rows) > 1:
        raise Corrupt(
            f"{table.quoted} has {len(rows)} rows, and one is the most it may have.",
            hint="Another tool wrote it. Find out which version is right, then: dbops migrate force VERSION.",
        )
    return State(int(rows[0]["version"]), bool(rows[0]["dirty"])) if rows else State(NOTHING, dirty=False)


def ensure(session: Connection, table: StateTable) -> None:
    """Make the table if it is missing; one that is there is not touched, so a reader needs no more than SELECT."""
    if not exists(session, table):
        session.run(
            f"create table if not exists {table.quoted} (version bigint not null primary key, dirty boolean not null)"
        )


def write(session: Connection, table: StateTable, version: int, *, dirty: bool) -> None:
    """As golang-migrate: truncate and insert in one transaction; -1 and clean is an empty table."""
    session.send(statements_for(table, version, dirty=dirty))


def statements_for(table: StateTable, version: int, *, dirty: bool) -> str:
    insert = ""
    if version >= 0 or (version == NOTHING and dirty):
        insert = f"; insert into {table.quoted} (version, dirty) values ({version}, {str(dirty).lower()})"
    return f"truncate {table.quoted}{insert}"
