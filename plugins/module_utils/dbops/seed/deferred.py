# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes and foreign keys that a big load does without, and gets back exactly as they were.

Their definitions stand in the database before they are dropped, in the same transaction: whoever comes after a load
that was killed finds there what is missing. Primary keys and unique constraints stay, for foreign keys rest on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ..pg.connection import Connection
from ..pg.fingerprint import of_tables
from .functions import SCHEMA, literal

_CREATE = f"""
    create table if not exists {SCHEMA}.deferred (
        place int primary key, kind text not null, name text not null, restore text not null, validate text
    )
"""
# Indexes that carry no constraint, and nothing that CREATE INDEX would not bring back. Of partitions only the parent's.
_INDEXES = """
    select c.oid::regclass::text as name, pg_get_indexdef(i.indexrelid) as definition,
           obj_description(c.oid, 'pg_class') as comment, false as foreign_key, null as of_table,
           c.relkind = 'I' as partitioned
    from pg_index i join pg_class c on c.oid = i.indexrelid
    where i.indrelid = any(%s::regclass[]::oid[]) and i.indisvalid
      and not i.indisclustered and not i.indisreplident and not i.indisprimary
      and not exists (select from pg_constraint where conindid = i.indexrelid)
      and not exists (select from pg_attribute where attrelid = c.oid and attstattarget > 0)
      and not exists (select from pg_inherits where inhrelid = c.oid)
"""
_FOREIGN_KEYS = """
    select quote_ident(k.conname) as name, pg_get_constraintdef(k.oid) as definition,
           obj_description(k.oid, 'pg_constraint') as comment, true as foreign_key,
           k.conrelid::regclass::text as of_table,
           t.relkind = 'p' or f.relkind = 'p' as partitioned
    from pg_constraint k join pg_class t on t.oid = k.conrelid join pg_class f on f.oid = k.confrelid
    where k.contype = 'f' and k.conrelid = any(%s::regclass[]::oid[]) and k.conparentid = 0 and k.convalidated
"""


@dataclass(frozen=True)
class Definition:
    kind: str
    name: str
    drop: str
    restore: str
    validate: Optional[str] = None


def put_aside(server: Connection, tables: Sequence[str]) -> int:
    """Drop them, in the caller's transaction, with their definitions kept. How many there were.

    The tables are still empty, so that each one is dropped and brought back for trial first: what does not come back
    the same (a partition's index with a name of its own, say) stays where it is.
    """
    server.run(_CREATE)
    if server.value(f"select count(*) from {SCHEMA}.deferred"):
        return 0  # a load that was killed has put them aside already
    before = of_tables(server, tables).sha256
    found = [it for it in _candidates(server, tables) if _comes_back(server, it, tables, before)]
    for place, it in enumerate(found):
        server.run(it.drop)
        server.run(
            f"insert into {SCHEMA}.deferred values (%s, %s, %s, %s, %s)",
            (place, it.kind, it.name, it.restore, it.validate),
        )
    return len(found)


def _candidates(server: Connection, tables: Sequence[str]) -> list[Definition]:
    rows = server.rows(_FOREIGN_KEYS + " union all " + _INDEXES, (list(tables), list(tables)))
    return [_foreign_key(row) if row["foreign_key"] else _index(row) for row in rows]


def _index(row: dict[str, Any]) -> Definition:
    restore = row["definition"].replace(" ON ONLY ", " ON ", 1) if row["partitioned"] else row["definition"]
    return Definition(
        "index", row["name"], f"drop index {row['name']}", _commented(restore, f"index {row['name']}", row)
    )


def _foreign_key(row: dict[str, Any]) -> Definition:
    table, name = row["of_table"], row["name"]
    restore, validate = f"alter table {table} add constraint {name} {row['definition']}", None
    if not row["partitioned"]:  # with a short lock first, and the rows looked at under a lesser one
        restore, validate = f"{restore} not valid", f"alter table {table} validate constraint {name}"
    restore = _commented(restore, f"constraint {name} on {table}", row)
    return Definition("foreign key", name, f"alter table {table} drop constraint {name}", restore, validate)


def _commented(restore: str, what: str, row: dict[str, Any]) -> str:
    return f"{restore}; comment on {what} is {literal(row['comment'])}" if row["comment"] else restore


def _comes_back(server: Connection, it: Definition, tables: Sequence[str], before: str) -> bool:
    server.run("savepoint trial")
    for statement in (it.drop, it.restore, it.validate):
        if statement:
            server.run(statement)
    same = of_tables(server, tables).sha256 == before
    server.run("rollback to savepoint trial")
    return same


def waiting(server: Connection, kind: str) -> list[int]:
    """Places in the list of those that are not back yet."""
    if server.value(f"select to_regclass('{SCHEMA}.deferred')") is None:
        return []
    rows = server.rows(f"select place from {SCHEMA}.deferred where kind = %s order by place", (kind,))
    return [row["place"] for row in rows]


def bring_back(server: Connection, place: int) -> None:
    """One of them; it is back and off the list in one step."""
    row = server.row(f"select restore, validate from {SCHEMA}.deferred where place = %s", (place,))
    server.run("begin")
    server.run(row["restore"])
    if row["validate"]:
        server.run(row["validate"])
    server.run(f"delete from {SCHEMA}.deferred where place = %s", (place,))
    server.run("commit")
