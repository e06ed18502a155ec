# SPDX-License-Identifier: GPL-3.0-or-later
"""A physical backup, restored and rolled forward in a scratch, and then looked at.

`climb` reads from the lowest rung up: every stored byte → the WAL's list → unpacked, pg_verifybackup → started, target
reached → structure → content → the operator's assertions → at last, stopped, the page checksums.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Optional

from ..errors import Corrupt, DbopsError, ToolFailed
from ..pg import control
from ..pg.canary import database_of
from ..pg.tools import Tools, find_tools
from ..progress import Progress
from ..repo.record import iso
from ..restore import physical
from ..restore.select import moment
from .content import Content, inventory_of
from .live import compared
from .plan import VerifyPlan
from .scratch import Scratch
from .structure import amcheck, page_checksums, read_everything
from .verdict import Finding, Ladder, Verdict, failed, of_error, passed

_READ_BY_RESTORE = ("base", "tablespace", "manifest", "wal")


def tools_of(plan: VerifyPlan) -> Tools:
    major = plan.record.postgres_version_num // 10000
    return find_tools(major, plan.identity, bin_dir=plan.settings.host.bin_dir)


def climb(plan: VerifyPlan, scratch: Scratch, ladder: Ladder, facts: dict[str, Any], progress: Progress) -> None:
    """Everything that was asked for, as far up as it holds."""
    phases: dict[str, float] = facts["phases"]
    with ladder.timed(phases, "read_s"):
        if not ladder.check("bytes", "what lies beside the data", lambda: _read_the_rest(plan)):
            return
    if plan.wal is not None:
        ladder.add("wal", "no segment is missing", plan.wal)
    if plan.wal_breaks_off:
        return
    restored = _restore(plan, scratch, ladder, progress)
    if restored is None:
        return
    facts["restore"] = restored
    phases.update(restored["phases"])
    tools = tools_of(plan)
    if plan.recovery is None:
        scratch.isolate(tools)
        with ladder.timed(phases, "recovery_s"):
            if not ladder.check("restore", "the server starts", lambda: _start(plan, scratch, tools)):
                return
    else:
        ladder.add("restore", "the target is reached", _reached(plan, restored["recovery"]))
        if ladder.checks[-1].verdict is not Verdict.PASS:
            return
    superuser = _superuser(scratch, ladder)
    if superuser is None:
        return
    with ladder.timed(phases, "checks_s"):
        look(plan, scratch, ladder, tools, superuser, facts, structure=True)
        if plan.request.asks("structure") and not plan.request.keep:
            ladder.check("structure", "page checksums", lambda: page_checksums(tools, scratch.data))


def look(
    plan: VerifyPlan,
    scratch: Scratch,
    ladder: Ladder,
    tools: Tools,
    superuser: str,
    facts: dict[str, Any],
    *,
    structure: bool,
) -> None:
    """What a running scratch instance can be asked, dumps and physical backups alike."""
    noted = inventory_of(plan.repository, plan.record)
    content = Content(scratch, superuser, noted, as_noted=plan.at_the_backups_end)
    if plan.request.asks("content"):  # before amcheck adds itself to every database
        ladder.check("content", "extensions", content.extensions)
        if "live" in facts:
            ladder.check("content", "rows as on the primary", lambda: compared(scratch, superuser, facts["live"]))
        if plan.settings.canary.enabled:
            _look_for_the_canary(plan, content, ladder, facts)
    if plan.request.asks("structure") and structure:
        ladder.check("structure", "heaps and indexes", lambda: amcheck(tools, scratch, superuser))
        ladder.check(
            "structure", "every row reads", lambda: read_everything(tools, scratch, superuser, content.databases)
        )
    if plan.request.asks("content"):
        for name, check in (
            ("roles", content.roles),
            ("collations", content.collations),
            ("rows", content.rows),
            ("constraints", content.constraints),
            ("sequences", content.sequences),
        ):
            ladder.check("content", name, check)
    if plan.request.asks("assertions"):
        for assertion in plan.settings.verify.assertions:
            ladder.check("assertions", assertion.name, lambda item=assertion: content.assertion(item))  # type: ignore[misc]


def _look_for_the_canary(plan: VerifyPlan, content: Content, ladder: Ladder, facts: dict[str, Any]) -> None:
    """Its age at the end of everything is the RPO, measured: what would be gone had the cluster been lost just now."""
    target = plan.recovery.time if plan.recovery and plan.recovery.kind == "time" else None
    begun: datetime = facts["begun"]
    ladder.check("content", "canary", lambda: content.canary(database_of(plan.settings), begun, not_after=target))
    details = ladder.checks[-1].details
    if plan.request.target == "end" and "age_s" in details:
        facts["rpo"] = {"seconds": details["age_s"], "canary_at": details["at"], "measured_at": iso(begun)}


def _read_the_rest(plan: VerifyPlan) -> Finding:
    """The objects that a restore does not need; it reads all others itself, and checks them as it does."""
    count = 0
    for record in plan.chain:
        for item in record.objects:
            if item.kind not in _READ_BY_RESTORE:
                for _chunk in plan.repository.read_object(record.label, item):
                    pass
                count += 1
    return passed(f"What lies beside the data is what was stored ({count} of {count}).")


def _restore(plan: VerifyPlan, scratch: Scratch, ladder: Ladder, progress: Progress) -> Optional[dict[str, Any]]:
    """The result of the restore; None when it failed, and then the level that it failed at has the verdict."""
    try:
        wanted = physical.plan(scratch.settings, restore_request(plan, scratch))
        found = physical.run(wanted, progress)["restore"]
    except DbopsError as error:
        level, name = _where(error)
        ladder.add(level, name, of_error(error))
        return None
    ladder.add("bytes", "every stored object", passed("Every object of the chain is what was stored."))
    ladder.add("manifest", "pg_verifybackup", passed("Every file is as PostgreSQL's own manifest lists it."))
    return dict(found)


def restore_request(plan: VerifyPlan, scratch: Scratch) -> physical.Request:
    """The backup into the scratch, as a side instance where it is rolled forward."""
    return physical.Request(
        label=plan.record.label,
        repository=plan.request.repository,
        target=scratch.data,
        tablespace_root=scratch.tablespaces,
        verify=True,
        recovery=plan.recovery,
        side=plan.recovery is not None,
        port=scratch.port if plan.recovery else None,
        socket_directory=scratch.sockets if plan.recovery else None,
    )


def _where(error: DbopsError) -> tuple[str, str]:
    if isinstance(error, Corrupt):
        return "bytes", "every stored object"
    if isinstance(error, ToolFailed) and error.message.startswith(("pg_verifybackup", "pg_combinebackup")):
        return "manifest", error.message.split(" ", 1)[0]
    return "restore", "it is restored and recovered"


def _start(plan: VerifyPlan, scratch: Scratch, tools: Tools) -> Finding:
    control.start(tools, scratch.data)
    where = scratch.connection(scratch.settings.connection.login_user)
    version = control.check_answers(tools, scratch.data, where, plan.record.system_identifier)
    return passed(f"PostgreSQL {version} starts from the backup alone and is consistent.", version=version)


def _reached(plan: VerifyPlan, recovery: dict[str, Any]) -> Finding:
    details = {name: recovery.get(name) for name in ("target", "replayed_lsn", "last_transaction", "timeline")}
    details.update(wal_segments=recovery["wal_segments"], wal_bytes=recovery["wal_bytes"])
    if not recovery["target_reached"]:
        return failed(f"Replay ended at {recovery['replayed_lsn']} and did not meet its target.", "", **details)
    expected, last = recovery["expected_last_commit"], recovery["last_transaction"]
    if plan.recovery and plan.recovery.kind == "latest" and expected and last and moment(last) < moment(expected):
        return failed(
            f"The archive's last commit is of {expected}, and replay ended at {last}.",
            "Look for a damaged segment: dbops wal info.",
            **details,
        )
    return passed(
        f"Recovered to {recovery['target']}: {json.dumps(recovery['wal_segments'])} segments replayed, the last "
        f"transaction is of {last or 'before the backup'}.",
        **details,
    )


def _superuser(scratch: Scratch, ladder: Ladder) -> Optional[str]:
    try:
        return scratch.superuser()
    except DbopsError as error:
        ladder.add("restore", "somebody can log in", of_error(error))
        return None
