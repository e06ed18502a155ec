# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes, unique constraints and foreign keys that a big load does without, and gets back exactly as they were.

Their definitions stand in the database before they are dropped, in the same transaction: whoever comes after a load
that was killed finds there what is missing. Primary keys stay, for what is loaded later is joined by them, and so do
unique constraints that a foreign key rests on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ..errors import DbopsError
from ..pg.connection import Connection
from ..pg.fingerprint import of_tables
from .functions import SCHEMA, literal

INDEX, UNIQUE, FOREIGN_KEY = "index", "unique", "foreign key"  # in the order in which they come back
_CREATE = f"""
    create table if not exists {SCHEMA}.deferred (
        place int primary key, kind text not null, name text not null, of_table text not null,
        restore text, validate text
    )
"""
# Indexes that carry no constraint, and nothing that CREATE INDEX would not bring back. Of partitions only the parent's.
_INDEXES = f"""
    select '{INDEX}' as kind, c.oid::regclass::text as name, pg_get_indexdef(i.indexrelid) as definition,
           obj_description(c.oid, 'pg_class') as comment, i.indrelid::regclass::text as of_table,
           c.relkind = 'I' as partitioned
    from pg_index i join pg_class c on c.oid = i.indexrelid
    where i.indrelid = any(%s::regclass[]::oid[]) and i.indisvalid
      and not i.indisclustered and not i.indisreplident and not i.indisprimary
      and not exists (select from pg_constraint where conindid = i.indexrelid)
      and not exists (select from pg_attribute where attrelid = c.oid and attstattarget > 0)
      and not exists (select from pg_inherits where inhrelid = c.oid)
"""
_UNIQUE = f"""
    select '{UNIQUE}', quote_ident(k.conname), pg_get_constraintdef(k.oid), obj_description(k.oid, 'pg_constraint'),
           k.conrelid::regclass::text, false
    from pg_constraint k join pg_index i on i.indexrelid = k.conindid
    where k.contype = 'u' and k.conrelid = any(%s::regclass[]::oid[]) and k.conparentid = 0
      and not i.indisclustered and not i.indisreplident
      and not exists (select from pg_constraint f where f.contype = 'f' and f.conindid = k.conindid)
"""
_FOREIGN_KEYS = f"""
    select '{FOREIGN_KEY}', quote_ident(k.conname), pg_get_constraintdef(k.oid),
           obj_description(k.oid, 'pg_constraint'), k.conrelid::regclass::text, t.relkind = 'p' or f.relkind = 'p'
    from pg_constraint k join pg_class t on t.oid = k.conrelid join pg_class f on f.oid = k.confrelid
    where k.contype = 'f' and k.conrelid = any(%s::regclass[]::oid[]) and k.conparentid = 0 and k.convalidated
"""


@dataclass(frozen=True)
class Definition:
    kind: str
    name: str
    of_table: str
    drop: str
    restore: str
    validate: Optional[str] = None


@dataclass(frozen=True)
class Waiting:
    """One that is not back yet."""

    place: int
    kind: str
    of_table: str


def put_aside(server: Connection, tables: Sequence[str]) -> None:
    """Drop them, in the caller's transaction, with their definitions kept.

    The tables are still empty, so that all are dropped and brought back for trial first. Should one not come back the
    same (a partition's index with a name of its own, say), each is tried alone, and that one stays where it is.
    """
    server.run(_CREATE)
    if server.value(f"select count(*) from {SCHEMA}.deferred"):
        return  # a load that was killed has put them aside already
    before = of_tables(server, tables).sha256
    found = _candidates(server, tables)
    if not _come_back(server, found, tables, before):
        found = [it for it in found if _come_back(server, [it], tables, before)]
    for it in reversed(found):
        server.run(it.drop)
    for place, it in enumerate(found):
        server.run(
            f"insert into {SCHEMA}.deferred values (%s, %s, %s, %s, %s, %s)",
            (place, it.kind, it.name, it.of_table, it.restore, it.validate),
        )


def _candidates(server: Connection, tables: Sequence[str]) -> list[Definition]:
    """In the order in which they come back; dropped in the opposite one."""
    rows = server.rows(" union all ".join((_INDEXES, _UNIQUE, _FOREIGN_KEYS)), (list(tables),) * 3)
    made = {INDEX: _index, UNIQUE: _unique, FOREIGN_KEY: _foreign_key}
    return [make(row) for kind, make in made.items() for row in rows if row["kind"] == kind]


def _index(row: dict[str, Any]) -> Definition:
    restore = row["definition"].replace(" ON ONLY ", " ON ", 1) if row["partitioned"] else row["definition"]
    name = row["name"]
    return Definition(INDEX, name, row["of_table"], f"drop index {name}", _commented(restore, f"index {name}", row))


def _unique(row: dict[str, Any]) -> Definition:
    return _constraint(row, "", None)


def _foreign_key(row: dict[str, Any]) -> Definition:
    if row["partitioned"]:
        return _constraint(row, "", None)
    # With a short lock first, and the rows looked at under a lesser one.
    return _constraint(row, " not valid", f"alter table {row['of_table']} validate constraint {row['name']}")


def _constraint(row: dict[str, Any], how: str, validate: Optional[str]) -> Definition:
    table, name = row["of_table"], row["name"]
    restore = f"alter table {table} add constraint {name} {row['definition']}{how}"
    drop = f"alter table {table} drop constraint {name}"
    return Definition(
        row["kind"], name, table, drop, _commented(restore, f"constraint {name} on {table}", row), validate
    )


def _commented(restore: str, what: str, row: dict[str, Any]) -> str:
    return f"{restore}; comment on {what} is {literal(row['comment'])}" if row["comment"] else restore


def _come_back(server: Connection, those: Sequence[Definition], tables: Sequence[str], before: str) -> bool:
    server.run("savepoint trial")
    try:
        for it in reversed(those):
            server.run(it.drop)
        for it in those:
            server.run(it.restore)
            if it.validate:
                server.run(it.validate)
        return of_tables(server, tables).sha256 == before
    except DbopsError:  # something else rests on it: it stays
        return False
    finally:
        server.run("rollback to savepoint trial")


def waiting(server: Connection) -> list[Waiting]:
    """Those that are not back yet, in the order in which they may come."""
    if server.value(f"select to_regclass('{SCHEMA}.deferred')") is None:
        return []
    rows = server.rows(f"select place, kind, of_table from {SCHEMA}.deferred order by place")
    return [Waiting(**row) for row in rows]


def bring_back(server: Connection, place: int) -> None:
    """One of them, where it can be had in one step: it is back and off the list."""
    row = server.row(f"select restore from {SCHEMA}.deferred where place = %s", (place,))
    server.run("begin")
    server.run(row["restore"])
    server.run(f"delete from {SCHEMA}.deferred where place = %s", (place,))
    server.run("commit")


def announce(server: Connection, place: int) -> None:
    """A foreign key is there, for new rows; it stays on the list until `validate` has looked at the old ones."""
    row = server.row(f"select restore, validate from {SCHEMA}.deferred where place = %s", (place,))
    if row["validate"] is None:
        bring_back(server, place)
    elif row["restore"] is not None:
        server.run("begin")
        server.run(row["restore"])
        server.run(f"update {SCHEMA}.deferred set restore = null where place = %s", (place,))
        server.run("commit")


def validate(server: Connection, place: int) -> None:
    rows = server.rows(f"select validate from {SCHEMA}.deferred where place = %s", (place,))
    for row in rows:  # none where announcing it was enough
        server.run("begin")
        server.run(row["validate"])
        server.run(f"delete from {SCHEMA}.deferred where place = %s", (place,))
        server.run("commit")


def bring_all_back(server: Connection) -> None:
    """One after the other, in the caller's transaction."""
    if server.value(f"select to_regclass('{SCHEMA}.deferred')") is None:
        return
    for row in server.rows(f"select restore, validate from {SCHEMA}.deferred order by place"):
        for statement in (row["restore"], row["validate"]):  # restore is null where a key has been announced already
            if statement:
                server.run(statement)
