# SPDX-License-Identifier: GPL-3.0-or-later
"""A load in steps as jobs, each with what it has to wait for: what several workers take in turn.

A part waits for the parts that its SQL names, and for those that it says it needs; the server's own order is kept where
a foreign key could not be put aside, and around a table whose triggers may write anywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from ..pg.connection import Connection
from . import deferred
from .deferred import FOREIGN_KEY, Waiting
from .functions import SCHEMA
from .plan import Plan
from .profile import Part
from .statement import finish_scratch, run
from .work import Job

_MADE, _READY = -1, -2  # marks of a scratch table: it is there, it can be read
_BYTES_OF_KEY = 16
_KEYS = "announce foreign keys"
_TRIGGERED = """
    select distinct tgrelid::regclass::text as name from pg_trigger
    where tgrelid = any(%s::regclass[]::oid[]) and not tgisinternal and tgtype & 4 > 0 and tgenabled <> 'D'
"""
_REFERENCES = """
    select conrelid::regclass::text as child, confrelid::regclass::text as parent
    from pg_constraint where contype = 'f' and conrelid = any(%s::regclass[]::oid[]) and conrelid <> confrelid
"""


def of_parts(server: Connection, plan: Plan) -> list[Job]:
    """What is still to be made, in the profile's order."""
    marked: dict[str, set[int]] = {}
    for row in server.rows(f"select part, low from {SCHEMA}.marks"):
        marked.setdefault(row["part"], set()).add(row["low"])
    jobs: list[Job] = []
    needs = _needs(server, plan)
    for part in plan.profile.parts:
        after = frozenset(f"{name}: ready" for name in needs[part.name])
        seen = marked.get(part.name, set())
        jobs += _of_table(plan, part, seen, after) if part.table else _of_scratch(plan, part, seen, after)
    return jobs


def _of_table(plan: Plan, part: Part, marked: set[int], after: frozenset[str]) -> list[Job]:
    jobs = _chunks(plan, part, marked, after)
    done = frozenset({part.name})  # it is read by others when it is analyzed
    return [
        *jobs,
        Job(f"{part.name}: ready", lambda server: server.run(f"analyze {part.table}"), done, part.table, True),
    ]


def _of_scratch(plan: Plan, part: Part, marked: set[int], after: frozenset[str]) -> list[Job]:
    made = f"{part.name}: made"

    def create(server: Connection) -> None:
        server.run("begin")
        server.run(f"drop table if exists {SCHEMA}.{part.name}")
        run(server, part, plan.create_scratch(part))
        _mark(server, part, _MADE)
        server.run("commit")

    def finish(server: Connection) -> None:
        server.run("begin")
        finish_scratch(server, part)
        _mark(server, part, _READY)
        server.run("commit")

    return [
        *([] if _MADE in marked else [Job(made, create, after)]),
        *_chunks(plan, part, marked, after | {made}),
        *([] if _READY in marked else [Job(f"{part.name}: ready", finish, frozenset({part.name}))]),
    ]


def _chunks(plan: Plan, part: Part, marked: set[int], after: frozenset[str]) -> list[Job]:
    def make(server: Connection, chunk: tuple[int, int]) -> None:
        server.run("begin")
        run(server, part, plan.insert(part, chunk))
        _mark(server, part, chunk[0])
        server.run("commit")

    chunks = plan.chunks(part)
    weight = plan.estimated_bytes()[part.name] // max(1, len(chunks))  # a count of 0 has no chunks
    return [
        Job(part.name, functools.partial(make, chunk=chunk), after, weight=weight)
        for chunk in chunks
        if chunk[0] not in marked
    ]


def _mark(server: Connection, part: Part, low: int) -> None:
    server.run(f"insert into {SCHEMA}.marks values (%s, %s)", (part.name, low))


def _needs(server: Connection, plan: Plan) -> dict[str, set[str]]:
    """For each part the names of those before it that have to be ready first."""
    profile = plan.profile
    tables = profile.tables()
    shown = {name: server.value("select %s::regclass::text", (name,)) for name in tables}
    triggered = {row["name"] for row in server.rows(_TRIGGERED, (tables,))}
    parents: dict[str, set[str]] = {}
    for row in server.rows(_REFERENCES, (tables,)):
        parents.setdefault(row["child"], set()).add(row["parent"])
    needs: dict[str, set[str]] = {}
    for place, part in enumerate(profile.parts):
        earlier = profile.parts[:place]
        own = shown.get(part.table or "", "")
        needs[part.name] = {*part.needs} | {
            it.name
            for it in earlier
            if part.reads(it)
            or own in triggered
            or shown.get(it.table or "", "") in triggered
            or shown.get(it.table or "") in parents.get(own, ())
        }
    return needs


def of_definitions(server: Connection, plan: Plan) -> list[Job]:
    """What was put aside, big tables first: indexes as soon as their table is filled, foreign keys when all are."""
    rows = {}
    for table in plan.profile.tables():
        parts = [part for part in plan.profile.parts if part.table == table]
        known = server.value("select %s::regclass::text", (table,))
        rows[known] = sum(plan.range_of(part) for part in parts), frozenset(f"{part.name}: ready" for part in parts)
    waiting = sorted(deferred.waiting(server), key=lambda it: -rows[it.of_table][0])
    keys = [it.place for it in waiting if it.kind == FOREIGN_KEY]
    filled = frozenset(group for _size, groups in rows.values() for group in groups)
    return [
        Job(_KEYS, functools.partial(_announce, places=keys), filled),
        *(_back(it, *rows[it.of_table]) for it in waiting),
    ]


def _back(it: Waiting, rows: int, filled: frozenset[str]) -> Job:
    weight = rows * _BYTES_OF_KEY
    if it.kind == FOREIGN_KEY:
        run_it = functools.partial(deferred.validate, place=it.place)
        return Job(f"validate keys of {it.of_table}", run_it, frozenset({_KEYS}), it.of_table, True, weight)
    run_it = functools.partial(deferred.bring_back, place=it.place)
    return Job(f"index {it.of_table}", run_it, filled, it.of_table, False, weight)


def _announce(server: Connection, places: Iterable[int]) -> None:
    for place in places:
        deferred.announce(server, place)
