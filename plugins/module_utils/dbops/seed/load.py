# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of a plan, made by the server itself: in one transaction, or in marked steps that several workers take."""

from __future__ import annotations

from collections.abc import Collection

from ..errors import Refused
from ..pg.connection import Connection
from ..pg.fingerprint import of_tables
from ..progress import Progress, Step
from . import deferred, steps
from .functions import SCHEMA, literal
from .plan import Plan
from .profile import Profile
from .statement import finish_scratch, run
from .work import work_off

_SETTINGS = "set jit = off; set timezone = 'UTC'; set synchronous_commit = off; set work_mem = '64MB'"
_SEQUENCES = """
    select attname as column, pg_get_serial_sequence(attrelid::regclass::text, attname) as sequence
    from pg_attribute
    where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped and atttypid in (20, 21, 23)
      and pg_get_serial_sequence(attrelid::regclass::text, attname) is not null
"""
_INDEXING = "set maintenance_work_mem = '256MB'"
_ONE_PROCESS_EACH = "set max_parallel_workers_per_gather = 0; set max_parallel_maintenance_workers = 0"


def prepare(server: Connection) -> None:
    """What each connection needs: the profile's functions by their bare names, and no surprise from settings."""
    server.run(_SETTINGS)
    server.run(f"select set_config('search_path', current_setting('search_path') || ', {SCHEMA}', false)")


def make_functions(server: Connection, plan: Plan) -> None:
    for statement in plan.functions():
        server.run(statement)


def finish(server: Connection, plan: Plan) -> None:
    """The last statements: numbers go on, what follows from the rows is made, and what only the load needed goes."""
    set_sequences(server, plan)
    run_after(server, plan.profile)
    for part in plan.profile.parts:
        if part.table is None:
            server.run(f"drop table {SCHEMA}.{part.name}")
    rows = server.rows(
        "select oid::regprocedure::text as name from pg_proc where pronamespace = %s::regnamespace", (SCHEMA,)
    )
    for row in rows:
        server.run(f"drop function {row['name']}")


def run_after(server: Connection, profile: Profile) -> None:
    """What follows from the rows, when they have come or gone."""
    for statement in profile.after:
        server.run(statement)


def at_once(server: Connection, plan: Plan, progress: Progress) -> None:
    """Every part on one connection, in the caller's transaction."""
    for part in plan.profile.parts:
        progress.report(Step(f"seed {part.name}"))
        if part.table is None:
            run(server, part, plan.create_scratch(part))
        for chunk in plan.chunks(part):
            run(server, part, plan.insert(part, chunk))
        if part.table is None:
            finish_scratch(server, part)


def in_steps(servers: list[Connection], plan: Plan, progress: Progress) -> None:
    """Every part, a chunk a transaction that leaves its mark. Called again after a kill, it goes on where that ended.

    Indexes and foreign keys are put aside first and come back last; the catalog is proven to be the same.
    """
    first, tables = servers[0], plan.profile.tables()
    before = _begin_or_go_on(first, tables)
    progress.report(Step("seed: put indexes and keys aside"))
    first.run("begin")
    deferred.put_aside(first, tables)
    first.run("commit")
    for server in servers:
        server.run(_INDEXING if len(servers) == 1 else f"{_INDEXING}; {_ONE_PROCESS_EACH}")
    jobs = steps.of_parts(first, plan) + steps.of_definitions(first, plan)
    work_off(servers, jobs, lambda what, done, whole: progress.report(Step(f"seed: {what}", done, whole)))
    if of_tables(first, tables).sha256 != before:
        raise Refused(
            "The catalog is not what it was before the load.",
            hint="Compare indexes and foreign keys with a fresh migration; then reset and seed again.",
        )
    first.run(f"drop table {SCHEMA}.deferred, {SCHEMA}.marks, {SCHEMA}.before")


def set_sequences(server: Connection, plan: Plan) -> None:
    for part in plan.profile.parts:
        if part.table is not None:
            numbers_go_on(server, part.table, part.columns)


def numbers_go_on(server: Connection, table: str, columns: Collection[str]) -> None:
    """Let the numbers that the server gives out in these columns go on after those that are there."""
    for row in server.rows(_SEQUENCES, (table,)):
        if row["column"] in columns:
            server.run(
                f"select setval('{row['sequence']}', greatest(max(\"{row['column']}\"), "
                f"(select last_value from {row['sequence']}))) from {table} having count(*) > 0"
            )


def _begin_or_go_on(server: Connection, tables: list[str]) -> str:
    """The fingerprint from before anything was put aside, also when that was in a run that was killed.

    It stands in a table that a crash of the server empties, as it does the scratch tables, which are unlogged too.
    """
    server.run(f"create table if not exists {SCHEMA}.marks (part text, low bigint, primary key (part, low))")
    if server.value("select to_regclass(%s)", (f"{SCHEMA}.before",)) is None:
        fingerprint = of_tables(server, tables).sha256
        server.run(f"create unlogged table {SCHEMA}.before as select {literal(fingerprint)} as fingerprint")
        return fingerprint
    known = server.rows(f"select fingerprint from {SCHEMA}.before")
    if not known:
        raise Refused(
            "The server crashed since this load began, and what the load was made from is gone.",
            hint="Reset, and seed again.",
        )
    return str(known[0]["fingerprint"])
