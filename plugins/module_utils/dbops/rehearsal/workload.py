# SPDX-License-Identifier: GPL-3.0-or-later
"""A little traffic beside a migration, so that what its locks do to others is measured and not derived.

One reader and one writer go round the tables. The reader looks at one row; the writer changes one to what it is and
rolls back, so that the rows stay what they are. How long each had to wait is the answer.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Optional

from ..errors import DbopsError
from ..pg.connection import Connection, ScriptFailed

READ, WRITE = "read", "write"
_PAUSE_S = 0.002
_SETTLED_S = 30.0
# A column that may be set to itself: not generated, and no identity that refuses values.
_TARGETS = """
select c.oid::regclass::text as name, (
    select quote_ident(a.attname) from pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and a.attidentity <> 'a'
    order by a.attnum limit 1
) as column
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and not c.relispartition and n.nspname !~ '^pg_'
    and n.nspname not in ('information_schema', 'dbops_migrations')
    and (c.oid = any(%(named)s::regclass[]::oid[]) or %(named)s = '{}')
order by pg_total_relation_size(c.oid) desc limit 10
"""


@dataclass(frozen=True)
class Target:
    name: str
    column: Optional[str]


@dataclass(frozen=True)
class Operation:
    kind: str
    table: str
    began: float  # time.monotonic()
    ended: float

    @property
    def took_s(self) -> float:
        return self.ended - self.began


@dataclass
class Workload:
    """What was done so far. Each worker appends; nobody removes."""

    operations: list[Operation] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    rounds: dict[str, float] = field(default_factory=dict)  # by worker; without end for one that has left

    def between(self, began: float, ended: float) -> dict[str, Any]:
        """The operations that ran at some moment of the interval, those that were caught in a lock included."""
        caught = [it for it in list(self.operations) if it.began < ended and it.ended > began]
        return {kind: _summary([it for it in caught if it.kind == kind]) for kind in (READ, WRITE)}

    def settle(self) -> None:
        """Return when each worker has ended what it was at, so that nothing that waited is left out."""
        seen, until = dict(self.rounds), time.monotonic() + _SETTLED_S
        while any(self.rounds[kind] <= count < math.inf for kind, count in seen.items()) and time.monotonic() < until:
            time.sleep(_PAUSE_S)


def targets(session: Connection, named: Sequence[str]) -> list[Target]:
    """The tables among `named` that exist, the largest first; all, where none of them does. At most ten."""
    known = [name for name in named if session.value("select to_regclass(%s) is not null", (name,))]
    rows = session.rows(_TARGETS, {"named": "{" + ",".join(_array_item(name) for name in known) + "}"})
    return [Target(str(row["name"]), row["column"]) for row in rows]


@contextlib.contextmanager
def traffic(connect: Callable[[], AbstractContextManager[Connection]], wanted: Sequence[Target]) -> Iterator[Workload]:
    """Traffic on these tables for the time of the block; none where there is no table."""
    load, stop = Workload(), threading.Event()
    workers = [
        threading.Thread(target=_work, args=(connect, kind, list(wanted), load, stop), daemon=True)
        for kind in (READ, WRITE)
        if wanted
    ]
    for worker in workers:
        worker.start()
    until = time.monotonic() + _SETTLED_S
    while len(load.rounds) < len(workers) and time.monotonic() < until:  # a quick file must not end before they begin
        time.sleep(_PAUSE_S)
    try:
        yield load
    finally:
        stop.set()
        for worker in workers:
            worker.join(_SETTLED_S)


def _work(
    connect: Callable[[], AbstractContextManager[Connection]],
    kind: str,
    wanted: list[Target],
    load: Workload,
    stop: threading.Event,
) -> None:
    try:
        with connect() as session:
            while wanted and not stop.is_set():
                target = wanted.pop(0)
                began = time.monotonic()
                try:
                    session.send(_statement(kind, target))
                    wanted.append(target)  # a table that is gone, or has another shape now, is not asked again
                except ScriptFailed as exc:
                    session.abandon()
                    load.failures.append(f"{kind} of {target.name}: {exc.message}")
                load.operations.append(Operation(kind, target.name, began, time.monotonic()))
                load.rounds[kind] = load.rounds.get(kind, 0) + 1
                stop.wait(_PAUSE_S)
    except DbopsError as exc:
        load.failures.append(f"{kind}: {exc.message}")
    finally:
        load.rounds[kind] = math.inf


def _statement(kind: str, target: Target) -> str:
    if kind == READ or target.column is None:
        return f"select from {target.name} limit 1"
    row = f"ctid = (select ctid from {target.name} limit 1)"
    return f"begin; update {target.name} set {target.column} = {target.column} where {row}; rollback"


def _summary(found: Sequence[Operation]) -> dict[str, Any]:
    longest = max(found, key=lambda it: it.took_s, default=None)
    return {
        "count": len(found),
        "longest_s": round(longest.took_s, 4) if longest else None,
        "table": longest.table if longest else None,
    }


def _array_item(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
