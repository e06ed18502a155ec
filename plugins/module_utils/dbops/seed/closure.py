# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rows belong to a choice of rows: down to what hangs on them, and up to what all of those refer to.

Rows are told by their table (of a partitioned one, the partition) and ctid, which hold still in one snapshot.
"""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import BadInput
from ..pg.connection import Connection

Place = tuple[str, str]  # the table that the row is in, and its ctid
BATCH = 20_000
_FOREIGN_KEYS = """
    select k.conrelid::regclass::text as child, k.confrelid::regclass::text as parent,
           array(select attname::text from unnest(k.conkey) with ordinality c(number, place)
                 join pg_attribute on attrelid = k.conrelid and attnum = number order by place) as columns,
           array(select attname::text from unnest(k.confkey) with ordinality c(number, place)
                 join pg_attribute on attrelid = k.confrelid and attnum = number order by place) as parent_columns
    from pg_constraint k where k.contype = 'f' and k.conparentid = 0
    order by 1, 2, 3
"""


@dataclass(frozen=True)
class ForeignKey:
    child: str
    parent: str
    columns: tuple[str, ...]
    parent_columns: tuple[str, ...]

    @property
    def joined(self) -> str:
        """The condition between `c`, the child's row, and `p`, its parent's."""
        return " and ".join(f'c."{own}" = p."{other}"' for own, other in zip(self.columns, self.parent_columns))


def foreign_keys(server: Connection) -> list[ForeignKey]:
    return [
        ForeignKey(row["child"], row["parent"], tuple(row["columns"]), tuple(row["parent_columns"]))
        for row in server.rows(_FOREIGN_KEYS)
    ]


def in_order(tables: Iterable[str], keys: Iterable[ForeignKey]) -> list[str]:
    """Parents before their children; a table that refers to itself is no circle."""
    wanted = set(tables)
    graph: dict[str, list[str]] = {
        table: [] for table in sorted(wanted)
    }  # lists, for an order that is the same each time
    for key in keys:
        if key.child in wanted and key.parent in wanted and key.child != key.parent:
            graph[key.child].append(key.parent)
    try:
        return list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as exc:
        raise BadInput(
            f"These tables refer to each other in a circle: {', '.join(exc.args[1])}.", hint="Name one under `skip`."
        ) from exc


def of_roots(
    server: Connection,
    roots: Mapping[str, Sequence[Place]],
    keys: Sequence[ForeignKey],
    *,
    tables: Iterable[str],
    follow: Iterable[str],
) -> dict[str, set[Place]]:
    """The rows by table: the roots, what hangs on them, what all those refer to, and what follows each of them.

    Nothing is taken down again from a row that was only referred to (a ride's driver does not bring other riders'
    rides), except the tables that `follow`.
    """
    wanted, followers = set(tables), set(follow)
    inside = [key for key in keys if key.child in wanted and key.parent in wanted]
    found: dict[str, set[Place]] = {table: set() for table in wanted}

    def spread(fresh: dict[str, set[Place]], down: Sequence[ForeignKey], up: Sequence[ForeignKey]) -> None:
        while any(fresh.values()):
            reached: dict[str, set[Place]] = {table: set() for table in wanted}
            for table, rows in fresh.items():
                found[table] |= rows
            for key in down:
                reached[key.child] |= _joined(server, key, fresh.get(key.parent, set()), down=True)
            for key in up:
                reached[key.parent] |= _joined(server, key, fresh.get(key.child, set()), down=False)
            fresh = {table: rows - found[table] for table, rows in reached.items()}

    spread({table: set(rows) for table, rows in roots.items()}, inside, ())
    everything = {table: set(rows) for table, rows in found.items()}
    spread(everything, [key for key in inside if key.child in followers], inside)
    return found


def _joined(server: Connection, key: ForeignKey, rows: set[Place], *, down: bool) -> set[Place]:
    """The rows at the other end of a foreign key."""
    near, far = ("p", "c") if down else ("c", "p")
    names = {"p": key.parent, "c": key.child}
    reached: set[Place] = set()
    by_table: dict[str, list[str]] = {}
    for table, ctid in rows:
        by_table.setdefault(table, []).append(ctid)
    for table, ctids in by_table.items():
        for start in range(0, len(ctids), BATCH):
            for row in server.rows(
                f"select distinct {far}.tableoid::regclass::text as it, {far}.ctid::text as at "
                f"from {table} {near} join {names[far]} {far} on {key.joined} where {near}.ctid = any(%s::tid[])",
                (ctids[start : start + BATCH],),
            ):
                reached.add((row["it"], row["at"]))
    return reached
