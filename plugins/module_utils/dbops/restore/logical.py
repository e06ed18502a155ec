# SPDX-License-Identifier: GPL-3.0-or-later
"""A logical restore: databases from a dump, new ones or in the place of others. `plan` looks, `run` acts.

`run` reads from top to bottom: safety backup of what is replaced → globals → each database under a temporary name,
its rows compared with those that were dumped → settings and rights → all names at once, the old ones moved aside.
Whatever fails before the last step leaves every database as it was.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any, Optional

from ..backup import take
from ..errors import Corrupt
from ..pg.connection import connected
from ..pg.databases import Database, read_databases
from ..pg.server import Server
from ..pg.tables import Counts, Table, count_rows, differences, dumped_tables, steady_session
from ..progress import Meter, Progress
from .load import Loader
from .logical_plan import Item, Request, RestorePlan, globals_preview, plan
from .roles import apply
from .swap import Maintenance, finish, swap, temporary_database

__all__ = ["Request", "RestorePlan", "plan", "run"]


def run(plan: RestorePlan, progress: Progress) -> dict[str, Any]:
    """Do what was planned. It raises with every database as it was, or returns with all of them restored."""
    for warning in plan.warnings:
        progress.warn(warning)
    with plan.repository.restoring() if plan.repository else contextlib.nullcontext():
        if plan.request.validate_only:
            return _validated(plan, progress)
        return _restored(plan, progress)


def _restored(plan: RestorePlan, progress: Progress) -> dict[str, Any]:
    server = plan.reached()
    maintenance = Maintenance.beside(server, [item.target for item in plan.items], _there(server))
    safety = _safety_backup(plan, progress)
    if plan.globals is not None:
        with maintenance.session() as session:
            apply(session, plan.globals)
    roles = maintenance.roles()
    warnings = list(plan.warnings)
    compared: dict[str, Optional[int]] = {}
    with contextlib.ExitStack() as unless_all_succeed:
        for item in plan.items:
            compared[item.target] = _restore_one(plan, item, maintenance, progress, unless_all_succeed, warnings)
        for item in plan.items:
            rights = not plan.request.no_privileges
            finish(maintenance, item.made_like(), item.temporary, with_owner=rights, roles=roles)
        swap(
            maintenance,
            {item.target: item.temporary for item in plan.items},
            {item.target: item.aside for item in plan.items if item.aside is not None},
            disconnect=plan.request.disconnect,
        )
    return {
        "changed": True,
        "msg": f"Restored {', '.join(item.target for item in plan.items)} from {plan.origin}.",
        "backup": plan.record.label if plan.record else None,
        "file": plan.request.file,
        "databases": [{**item.preview(), "tables_compared": compared[item.target]} for item in plan.items],
        "safety_backup": safety,
        "globals": globals_preview(plan.globals),
        "warnings": warnings,
    }


def _restore_one(
    plan: RestorePlan,
    item: Item,
    maintenance: Maintenance,
    progress: Progress,
    unless_all_succeed: contextlib.ExitStack,
    warnings: list[str],
) -> Optional[int]:
    """Fill and check the temporary database; how many tables were compared, None when nobody counted them."""
    request = plan.request
    like = item.made_like()
    if request.no_tablespaces:
        like = replace(like, tablespace="pg_default")
    unless_all_succeed.enter_context(
        temporary_database(maintenance, like, item.temporary, progress, with_owner=not request.no_owner)
    )
    server = maintenance.server
    loader = Loader(server.tools, server.connection, plan.settings.state_path)
    meter = Meter(progress, f"restore {item.target}", total_bytes=item.source.stored_bytes)
    ignored = loader.load(item.source, item.temporary, request.how, meter.add)
    meter.finish()
    warnings.extend(f"{item.target}: {line}" for line in ignored)
    if item.rows is None:
        warnings.append(f"The rows of {item.target!r} were not compared: {item.source.name} says nothing of them.")
        return None
    tables, found = _rows_of(server, item.temporary)
    wrong = differences(item.rows, tables, found)
    if wrong and not request.allow_errors:
        raise Corrupt(
            f"{item.source.name} did not bring back all rows of {item.name!r}: {'; '.join(wrong[:10])}"
            f"{f'; and {len(wrong) - 10} tables more' if len(wrong) > 10 else ''}.",
            hint="Restore another backup. Nothing was changed; with allow_errors it is restored as it is.",
        )
    warnings.extend(f"{item.target}: {line}" for line in wrong)
    return len(item.rows)


def _rows_of(server: Server, database: str) -> tuple[list[Table], Counts]:
    with connected(server.connection, server.identity, database=database) as session:
        steady_session(session)
        session.run("begin isolation level repeatable read read only")
        tables = dumped_tables(session)
        return tables, count_rows(session, tables)


def _safety_backup(plan: RestorePlan, progress: Progress) -> Optional[str]:
    """A dump of every database that is about to be replaced, published before anything is touched; its label."""
    replaced = tuple(item.target for item in plan.items if item.replaces)
    if not replaced:
        return None
    backup = replace(
        plan.settings.backup,
        databases=replaced,
        dump_format="custom",
        include_tables=(),
        exclude_tables=(),
        row_counts=True,
        type="full",
    )
    request = take.Request(
        method="logical", force=True, repository=plan.request.repository, reason="safety before restore"
    )
    result = take.run(take.plan(replace(plan.settings, backup=backup), request), progress)
    return str(result["backup"]["label"])


def _validated(plan: RestorePlan, progress: Progress) -> dict[str, Any]:
    """Every byte of what was asked for, read, unpacked, hash-checked, and understood by PostgreSQL's own program."""
    loader = Loader(plan.tools, plan.settings.connection, plan.settings.state_path)
    if plan.repository is not None and plan.record is not None:
        for stored in plan.record.objects:
            if stored.kind != "database":
                for _chunk in plan.repository.read_object(plan.record.label, stored):
                    pass
    for item in plan.items:
        meter = Meter(progress, f"check {item.name}", total_bytes=item.source.stored_bytes)
        loader.read_through(item.source, meter.add)
        meter.finish()
    return {
        **plan.preview(),
        "msg": f"{plan.origin} reads well: {', '.join(item.name for item in plan.items)}.",
    }


def _there(server: Server) -> dict[str, Database]:
    with connected(server.connection, server.identity) as session:
        return read_databases(session)
