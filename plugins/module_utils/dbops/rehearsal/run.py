# SPDX-License-Identifier: GPL-3.0-or-later
"""Rehearse pending migrations on a restored backup, traffic beside them, and take them back again.

`rehearse` reads from top to bottom: restore aside → what is pending there → each up, traced → each down, traced → the
schema is what it was → everything removed. Neither the cluster nor the repository is changed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Optional

from ..migrate import ledger
from ..migrate.apply import Step as Planned
from ..migrate.files import DOWN, UP
from ..migrate.finding import ERROR, NOTE, WARNING, Budgets, Finding, sorted_findings
from ..migrate.objects import changes
from ..migrate.plan import Request as Wanted
from ..migrate.plan import steps
from ..migrate.run import Look, checked, look
from ..migrate.shape import Script
from ..migrate.snapshot import take
from ..pg.connection import Connection, connected
from ..pg.fingerprint import Fingerprint, Likeness, differences, likeness, told
from ..pg.osuser import current_identity
from ..progress import Progress, duration
from ..settings import Settings
from ..verify.plan import VerifyPlan
from .side import plan, reached, side_instance
from .walk import Connect, Walk
from .workload import Workload, targets, traffic


@dataclass(frozen=True)
class Request:
    """`backup` None: the newest proven one. `rows`: compare all values before and after; reads them twice."""

    backup: Optional[str] = None
    target: str = "end"
    repository: Optional[str] = None
    scratch_path: Optional[str] = None
    budgets: Budgets = field(default_factory=Budgets)
    rollback: bool = True
    rows: bool = False


def rehearse(settings: Settings, request: Request, progress: Progress, *, dry_run: bool = False) -> dict[str, Any]:
    """The whole report; `passed` is False with any error among its findings."""
    planned = plan(
        settings,
        backup=request.backup,
        target=request.target,
        repository=request.repository,
        scratch_path=request.scratch_path,
    )
    if dry_run:
        return _preview(settings, planned)
    began = time.monotonic()
    with side_instance(planned, progress) as (place, restored):
        superuser = place.superuser()  # asked before there are threads: it connects as the cluster's OS user
        database = settings.migrations.database or settings.connection.login_db
        ours, theirs = reached(place, settings), reached(place, settings, user=superuser)

        def as_runner() -> AbstractContextManager[Connection]:
            return connected(ours, current_identity(), database=database)

        def as_traffic() -> AbstractContextManager[Connection]:
            return connected(theirs, current_identity(), database=database)

        restored_s = time.monotonic() - began
        report = _on(settings, request, as_runner, as_traffic, progress)
    seconds = time.monotonic() - began
    found = report["rehearsal"]
    found.update(_about(settings, planned, restored), restored_s=round(restored_s, 1), seconds=round(seconds, 1))
    report["msg"] = f"{report['msg']} On {planned.record.label}, {duration(seconds)} in all."
    return report


def _on(
    settings: Settings, request: Request, as_runner: Connect, as_traffic: Connect, progress: Progress
) -> dict[str, Any]:
    with as_runner() as session:
        found = look(session, settings)
        planned = steps(found.migrations, found.state, found.known, Wanted("up"))
        scripts = checked(planned)
        work = Walk(session, as_runner, settings.migrations, request.budgets, progress)
        if not scripts:
            return _report(found, work, "not tried")
        before, rows = take(session, found.table), ledger.capture(session) if request.rows else None
        wanted = targets(session, sorted(_touched(scripts)))
        with traffic(as_traffic, wanted) as load:
            applied = work.through(scripts, found.migrations, load)
            back = _back(work, found, load) if applied and request.rollback else "not tried"
        work.findings += [Finding("traffic", NOTE, text) for text in dict.fromkeys(load.failures)]
        if back == "tried":
            back = _compared(work, found, before, rows)
        return _report(found, work, back)


def _back(work: Walk, found: Look, load: Workload) -> str:
    """The downs of what was applied, the newest first."""
    done = [found.migrations.at(item.version) for item in work.files]
    way_back: list[tuple[Planned, Script]] = []
    for item in sorted(done, key=lambda it: it.version, reverse=True):
        if item.down is None:
            text = f"Version {item.version} has no down file: the way back ends here."
            work.findings.append(Finding("could_not_verify", WARNING, text, item.version))
            return "could_not_verify"
        step = Planned(item.version, DOWN, found.migrations.before(item.version), item.down)
        way_back.append((step, item.down.script()))
    return "tried" if work.through(way_back, found.migrations, load) else "failed"


def _compared(work: Walk, found: Look, before: Fingerprint, rows: Optional[ledger.Ledger]) -> str:
    unlike = differences(before, take(work.session, found.table))
    verdict = likeness(unlike)
    if verdict is not Likeness.EQUAL:
        severity = ERROR if verdict is Likeness.DIFFERENT else WARNING
        text = "After the way back the schema is not what it was."
        work.findings.append(Finding("rollback", severity, text, details=tuple(told(unlike, "before", "now"))))
    if rows is not None:
        for loss in ledger.losses(rows, ledger.capture(work.session), exactly=True):
            work.findings.append(Finding("rows", ERROR, f"After the way back: {loss.what}: {loss.how}."))
    return verdict.value


def _touched(scripts: Sequence[tuple[Planned, Script]]) -> set[str]:
    """The tables that the files name."""
    found = set()
    for _step, script in scripts:
        for item in script.statements:
            for change in changes(item):
                found.add(change.table or (change.what[1] if change.what[0] == "table" else ""))
    return found - {""}


def _report(found: Look, work: Walk, rollback: str) -> dict[str, Any]:
    findings = sorted_findings(work.findings)
    errors = sum(item.severity == ERROR for item in findings)
    ups = [item for item in work.files if item.direction == UP]
    passed = not errors and rollback not in ("failed", "different")
    if not work.files:
        msg = f"{found.database} is at {found.state} there: nothing is pending."
    else:
        took = duration(sum(item.duration_s for item in ups))
        msg = f"{len(ups)} pending files {'passed' if passed else 'FAILED'}: they take {took}; way back: {rollback}."
    return {
        "changed": False,
        "msg": msg,
        "rehearsal": {
            "passed": passed,
            "database": found.database,
            "directory": found.migrations.directory,
            "version": found.state.version if found.state.version >= 0 else None,
            "files": [item.as_dict() for item in work.files],
            "rollback": rollback,
            "findings": [item.as_dict() for item in findings],
        },
    }


def _about(settings: Settings, planned: VerifyPlan, restored: dict[str, Any]) -> dict[str, Any]:
    return {
        "cluster": settings.cluster,
        "backup": planned.record.label,
        "repository": planned.repository.name,
        "target": "the backup's own end" if planned.recovery is None else str(planned.recovery),
        "postgres": planned.record.postgres_version_num // 10000,
        "restored_bytes": restored.get("restored_bytes"),
    }


def _preview(settings: Settings, planned: VerifyPlan) -> dict[str, Any]:
    about = _about(settings, planned, {})
    where = f"{about['backup']}, recovered to {about['target']}, below {planned.root}"
    return {
        "changed": False,
        "msg": f"Would rehearse what is pending in {settings.migrations.path} on {where}.",
        "rehearsal": None,
        "plan": {**about, "scratch_path": planned.root, "needed_bytes": planned.needed_bytes},
    }
