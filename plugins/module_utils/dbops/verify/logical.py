# SPDX-License-Identifier: GPL-3.0-or-later
"""A dump, loaded into an empty server that exists for that alone: globals first, then each database, rows compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import Corrupt, DbopsError
from ..pg import control
from ..pg.connection import Connection
from ..pg.tools import Tools
from ..progress import Progress
from ..repo.record import BackupRecord
from ..restore import logical
from .physical import look, tools_of
from .plan import VerifyPlan
from .scratch import Scratch
from .verdict import Finding, Ladder, of_error, passed

_SUPERUSER = "postgres"


def climb(plan: VerifyPlan, scratch: Scratch, ladder: Ladder, facts: dict[str, Any], progress: Progress) -> None:
    phases: dict[str, float] = facts["phases"]
    with ladder.timed(phases, "read_s"):
        if not ladder.check("bytes", "what lies beside the dumps", lambda: _read_the_rest(plan)):
            return
    tools = tools_of(plan)
    with ladder.timed(phases, "start_s"):
        if not ladder.check("restore", "an empty server to load into", lambda: _empty_server(scratch, tools)):
            return
    with ladder.timed(phases, "load_s"):
        loaded = _load(plan, scratch, ladder, progress)
    if loaded:
        with ladder.timed(phases, "checks_s"):
            look(plan, scratch, ladder, tools, _SUPERUSER, facts, structure=False)


def _read_the_rest(plan: VerifyPlan) -> Finding:
    for item in plan.record.objects:
        if item.kind != "database":
            for _chunk in plan.repository.read_object(plan.record.label, item):
                pass
    return passed("Globals, counts and inventory are what was stored.")


def _empty_server(scratch: Scratch, tools: Tools) -> Finding:
    words = ["-D", scratch.data, "-U", _SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
    tools.run("initdb", words)
    scratch.isolate(tools)
    control.start(tools, scratch.data, options="-c fsync=off -c full_page_writes=off")
    return passed(f"An empty PostgreSQL {tools.major} runs.")


def _load(plan: VerifyPlan, scratch: Scratch, ladder: Ladder, progress: Progress) -> bool:
    """By the very code that restores for good, so that its verdict is the restore's."""
    record = plan.record
    settings = replace(
        scratch.settings,
        connection=scratch.connection(_SUPERUSER),
        host=replace(scratch.settings.host, data_directory=scratch.data),
    )
    with_roles = bool(record.of_kind("globals"))
    request = logical.Request(
        label=record.label,
        repository=plan.request.repository,
        globals=with_roles,
        jobs=plan.settings.verify.jobs if _is_directory(record) else 1,
        no_owner=not with_roles,
        no_privileges=not with_roles,
        no_tablespaces=True,
    )
    try:
        with scratch.session(_SUPERUSER) as session:
            _make_way(session, record)
        result = logical.run(logical.plan(settings, request), progress)
    except DbopsError as error:
        name = "every row is back" if isinstance(error, Corrupt) and "all rows" in error.message else "the dumps load"
        level = "content" if name.startswith("every row") else "restore"
        if level == "content":
            ladder.add("restore", "the dumps load", passed("Globals and databases load."))
        ladder.add(level, name, of_error(error))
        return False
    ladder.add("bytes", "every stored object", passed("Every dump is what was stored."))
    ladder.add(
        "restore",
        "the dumps load",
        passed(
            f"{'Globals and ' if with_roles else ''}{len(result['databases'])} databases load.",
            databases=[item["target"] for item in result["databases"]],
        ),
    )
    ladder.add("content", "every row is back", _compared(result))
    return True


def _make_way(session: Connection, record: BackupRecord) -> None:
    """initdb made a `postgres` of its own; where the dump brings one, it takes that place."""
    if "postgres" in record.databases:
        session.run("drop database postgres")


def _compared(result: dict[str, Any]) -> Finding:
    counted = [item for item in result["databases"] if item["tables_compared"] is not None]
    if len(counted) < len(result["databases"]):
        missing = [item["target"] for item in result["databases"] if item["tables_compared"] is None]
        return passed(f"Nobody had counted the rows of {', '.join(missing)}, so those were not compared.")
    tables = sum(item["tables_compared"] for item in counted)
    rows = sum(item["rows"] or 0 for item in counted)
    return passed(f"{tables} tables hold the {rows} rows that were counted in the dumps' snapshots.", rows=rows)


def _is_directory(record: BackupRecord) -> bool:
    return any(item.dump_format == "directory" for item in record.of_kind("database"))
