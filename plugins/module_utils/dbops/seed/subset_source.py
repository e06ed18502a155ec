# SPDX-License-Identifier: GPL-3.0-or-later
"""The database that a subset is taken of: its tables and columns, the rows that were chosen, and how each is masked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Optional

from ..errors import BadInput, NotFound
from ..pg.connection import Connection
from . import closure
from .closure import ForeignKey, Place
from .functions import SCHEMA
from .masks import Masker, order_under
from .subset_rules import Column, Rules, check_against

Row = dict[str, Optional[str]]  # every value as text
_TABLES = """
    select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = relnamespace
    where relkind in ('r', 'p') and not relispartition
      and nspname !~ '^pg_' and nspname not in ('information_schema', %s)
      and not exists (select from pg_depend d
                      where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    order by 1
"""
_COLUMNS = """
    select attname::text as name, attnotnull as required, attgenerated <> '' as generated,
           coalesce(element.typname, base.typname)::text as type, coalesce(element.typtype, base.typtype) = 'e' as enum,
           element.oid is not null as "array"
    from pg_attribute join pg_type t on t.oid = atttypid
    join pg_type base on base.oid = case t.typtype when 'd' then t.typbasetype else t.oid end
    left join pg_type element on element.oid = base.typelem and base.typcategory = 'A'
    where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum
"""
_KEY = """
    select attname::text as name from pg_index join pg_attribute on attrelid = indrelid and attnum = any(indkey)
    where indrelid = %s::regclass and indisprimary order by attnum
"""


@dataclass
class Subset:
    rules: Rules
    ordered: list[str]  # tables, parents first
    columns: dict[str, list[Column]]
    keys: list[ForeignKey]
    cut: dict[str, set[str]]  # columns that refer to a table that is skipped, and become null
    places: dict[str, set[Place]] = field(default_factory=dict)

    def choose(self, server: Connection, roots: int, key: bytes) -> None:
        """The roots, as good as by lot and the same for the same key; and all that belongs to them."""
        table, where = self.rules.roots.table, self.rules.roots.where
        names = [f't."{row["name"]}"::text' for row in server.rows(_KEY, (table,))] or ["t::text"]
        told = f"concat_ws('|', {', '.join(names)})"
        rows = server.rows(
            f"select tableoid::regclass::text as it, ctid::text as at, {told} as told from {table} t where {where}"
        )
        if len(rows) < roots:
            raise BadInput(
                f"{roots} {table} are asked for, and the source has {len(rows)} of them ({where}).",
                hint="Ask for fewer.",
            )
        order = order_under(key)
        chosen = sorted(rows, key=lambda row: order(row["told"]))[:roots]
        self.places = closure.of_roots(
            server,
            {table: [(row["it"], row["at"]) for row in chosen]},
            self.keys,
            tables=self.ordered,
            follow=self.rules.follow,
        )

    def rows(self, server: Connection, table: str) -> Iterator[Row]:
        """The chosen rows, in the order of their places, so that equal choices give equal copies."""
        columns = ", ".join(f'"{column.name}"::text' for column in self.columns[table])
        by_table: dict[str, list[str]] = {}
        for partition, ctid in sorted(self.places[table]):
            by_table.setdefault(partition, []).append(ctid)
        for partition, ctids in by_table.items():
            for start in range(0, len(ctids), closure.BATCH):
                batch = ctids[start : start + closure.BATCH]
                yield from server.rows(
                    f"select {columns} from {partition} where ctid = any(%s::tid[]) order by ctid", (batch,)
                )

    def hides(self, table: str, column: Column) -> bool:
        """Whether the column's values are originals: they must not be found in the copy."""
        rule = self.rules.of(table, column.name)
        return rule.keep is None if rule else column.type == "uuid" and not column.reference

    def searched(self, table: str, column: Column) -> bool:
        """Whether the copy's column is searched for originals: it can hold text, or keys."""
        return (column.open or column.type == "uuid") and not column.reference

    def masked(self, table: str, row: Row, masker: Masker) -> Row:
        done: Row = {}
        for column in self.columns[table]:
            value = row[column.name]
            if value is not None and column.name in self.cut.get(table, ()):
                value = None
            done[column.name] = None if value is None else self._masked(table, column, value, masker)
        for latitude, longitude in self.rules.places.get(table, ()):
            at = row[latitude], row[longitude]
            if at[0] is not None and at[1] is not None:
                done[latitude], done[longitude] = masker.place(at[0], at[1], self.rules.radius_m)
        return done

    def _masked(self, table: str, column: Column, value: str, masker: Masker) -> Optional[str]:
        rule = self.rules.of(table, column.name)
        if rule is None:
            return masker.mask("uuid", value) if self.hides(table, column) else value
        if rule.mask is not None:
            return masker.mask(rule.mask, value, rule.keep_first)
        return value if rule.keep is not None else rule.set


def look(server: Connection, rules: Rules) -> Subset:
    """The source's tables against the rules: refuses what is not there, and what nobody said how to mask."""
    known = [row["name"] for row in server.rows(_TABLES, (SCHEMA,))]
    missing = sorted({rules.roots.table, *rules.reference, *rules.follow, *rules.skip, *rules.places} - set(known))
    if missing:
        raise NotFound(
            f"Rules {rules.name!r} name {', '.join(missing)}; the source has no such table.", hint="Mend it."
        )
    copied = [table for table in known if table not in (*rules.reference, *rules.skip)]
    keys = closure.foreign_keys(server)
    inner = [key for key in keys if key.child in copied]
    columns: dict[str, list[Column]] = {}
    cut: dict[str, set[str]] = {}
    for table in copied:
        referring = {
            name for key in inner if key.child == table and key.parent in rules.reference for name in key.columns
        }
        lost = {name for key in inner if key.child == table and key.parent in rules.skip for name in key.columns}
        columns[table] = []
        for row in server.rows(_COLUMNS, (table,)):
            if row["required"] and row["name"] in lost:
                raise BadInput(
                    f"{table}.{row['name']} refers to a table that is skipped, and must not be null.",
                    hint=f"Skip {table} too, or neither.",
                )
            columns[table].append(
                Column(row["name"], row["type"], row["enum"], row["generated"], row["name"] in referring, row["array"])
            )
        cut[table] = lost
    check_against(rules, columns)
    return Subset(rules, closure.in_order(copied, keys), columns, keys, cut)
