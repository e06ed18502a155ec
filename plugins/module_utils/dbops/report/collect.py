# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at a cluster for the report: the answers of check, info, expire and verify, put side by side. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Optional

from .. import __version__
from ..errors import DbopsError
from ..health.check import check
from ..health.checks import exposure_s, wants_archiving
from ..health.facts import Backup as SeenBackup
from ..health.facts import Facts, Wal
from ..health.facts import Repository as Seen
from ..health.finding import Finding as SeenFinding
from ..health.finding import ordered, worst
from ..health.render import sentence
from ..repo import expire, prices
from ..repo.coverage import Window, windows
from ..repo.immutability import locked_until
from ..repo.proofs import dated
from ..repo.record import from_iso
from ..repo.repository import Catalog
from ..repo.repository import Repository as Opened
from ..repo.restore_points import read_points
from ..repo.usage import usage
from ..restore.window_ends import ends_of
from ..settings import RepositorySettings, Settings
from .model import (
    SCHEMA,
    Backup,
    Cluster,
    Cost,
    Finding,
    Point,
    Rates,
    Reach,
    Report,
    Repository,
    Span,
    Tail,
    Verification,
)
from .reach import Ends, Place, reaches, spans
from .targets import targets

LISTED = 1000  # backups of a repository, the newest; the sums are over all of them
_LOCKS = 40  # backups to ask the store about: each is a request


def collect(settings: Settings, *, now: Optional[datetime] = None) -> Report:
    """A report of one cluster. What could not be read says so in its place; only bad settings raise."""
    moment = now or datetime.now(timezone.utc)
    _data, facts, findings = check(settings, now=moment)
    repositories = tuple(
        _repository(settings, item, seen, facts) for item, seen in zip(settings.repositories, facts.repositories)
    )
    return Report(SCHEMA, moment, __version__, (_cluster(facts, findings, repositories),))


def _cluster(facts: Facts, findings: Sequence[SeenFinding], repositories: tuple[Repository, ...]) -> Cluster:
    server = facts.server
    return Cluster(
        name=facts.cluster,
        seen=facts.seen,
        severity=worst(findings).value,
        sentence=sentence(facts.cluster, findings),
        postgres_version=server.version if server else None,
        database_bytes=server.database_bytes if server else None,
        in_recovery=server.in_recovery if server else None,
        targets=targets(facts, repositories),
        findings=tuple(
            Finding(item.check, item.subject, item.severity.value, item.message, item.hint)
            for item in ordered(findings)
        ),
        repositories=repositories,
    )


def _repository(settings: Settings, item: RepositorySettings, seen: Seen, facts: Facts) -> Repository:
    empty = Repository(item.name, item.type, item.location, item.required)
    if not seen.reached:
        return replace(empty, error=seen.probes[0].message if seen.probes else "It was not looked at.")
    try:
        opened = Opened(item, settings.cluster, encryption=settings.encryption, cache=settings.state_path)
        proofs = list(opened.proofs())
        return _looked_at(settings, opened, opened.catalog(proofs), dated(proofs), seen, facts, empty)
    except DbopsError as error:
        return replace(empty, error=error.message)


def _looked_at(
    settings: Settings,
    opened: Opened,
    catalog: Catalog,
    proofs: Sequence[Mapping[str, Any]],
    seen: Seen,
    facts: Facts,
    empty: Repository,
) -> Repository:
    decided = _retention(settings, opened.name, facts.seen)
    found = windows(opened, catalog)
    told: dict[str, Ends] = {}
    told.update({window.system_identifier: ends_of(settings)(opened, catalog, window) for window in found})
    records = {entry.record.label: entry.record for entry in catalog.entries}
    verifications = tuple(
        sorted((_verification(proof) for proof in proofs), key=lambda one: one.finished, reverse=True)
    )
    rates = rates_of(verifications)
    tail = _tail(facts, seen.wal)
    current = facts.server.system_identifier if facts.server else None
    place = Place(settings.cluster, opened.name)
    drawn: list[Span] = []
    reached: list[Reach] = []
    for window in found:
        until = (tail.since or facts.seen) if tail and window.system_identifier == current else None
        drawn += spans(window, told[window.system_identifier], until)
        reached += reaches(place, window, records, told[window.system_identifier], rates, until)
    backups = _backups(opened, catalog, seen.backups, decided)
    return replace(
        empty,
        backups=tuple(backups[:LISTED]),
        left_out=max(0, len(backups) - LISTED),
        spans=tuple(sorted(drawn, key=lambda span: (span.start, span.timeline))),
        reaches=tuple(sorted(reached, key=lambda one: one.start, reverse=True)),
        tail=tail,
        points=tuple(_points(opened, found)),
        verifications=verifications[:LISTED],
        policy=decided.get("policy", ""),
        window_start=decided.get("window_start"),
        retention_error=decided.get("error", ""),
        wal_segments=sum(len(window.segments.present) for window in found),
        wal_bytes=sum(window.stored_bytes for window in found),
        backup_bytes=sum(backup.stored_bytes for backup in seen.backups),
        free_bytes=seen.free_bytes,
        total_bytes=seen.total_bytes,
        unreadable=tuple(f"{label}: {why}" for label, why in seen.unreadable),
        cost=_cost(settings, opened, facts.seen),
    )


def _cost(settings: Settings, opened: Opened, now: datetime) -> Optional[Cost]:
    """What `dbops repo usage` says. A directory has no price: its segments need not all be listed for one."""
    if opened.settings.type == "local":
        return None
    table = prices.load(None)
    (found,) = usage(settings, table, repository=opened.name, now=now)["repositories"]
    month = found["cost_month"]
    return Cost(month["total"], table.currency, table.source) if month else None


def _tail(facts: Facts, wal: Optional[Wal]) -> Optional[Tail]:
    """None where nobody archives, or nobody can tell."""
    if wal is None or not wants_archiving(facts, wal):
        return None
    exposure = exposure_s(facts, wal)
    if exposure is None:
        return None
    return Tail(wal.unarchived_since, wal.unarchived_bytes or 0, exposure)


def _retention(settings: Settings, repository: str, now: datetime) -> dict[str, Any]:
    """What the next expiry would do, or why nobody can say: a listing that failed decides nothing."""
    try:
        plan = expire.plan(settings, repository=repository, now=now)
    except DbopsError as error:
        return {"error": str(error)}
    rules = settings.retention_of(settings.repository(repository))
    return {
        "policy": str(expire.policy_of(rules)),
        "window_start": plan.window_start,
        "lines": {line.label: (line.keep, line.reasons) for line in plan.lines},
    }


def _backups(opened: Opened, catalog: Catalog, seen: Sequence[SeenBackup], decided: Mapping[str, Any]) -> list[Backup]:
    """Newest first."""
    held = {entry.record.label: entry for entry in catalog.entries}
    lines = decided.get("lines", {})
    locks = opened.settings.lock is not None
    found = []
    for number, one in enumerate(seen):
        entry = held.get(one.label)
        keep, reasons = lines.get(one.label, (None, ()))
        locked = locked_until(opened.store, opened.cluster, one.label) if locks and number < _LOCKS else None
        found.append(
            Backup(
                label=one.label,
                method=one.method,
                type=one.type,
                started=one.started,
                stopped=one.stopped,
                stored_bytes=one.stored_bytes,
                database_bytes=one.database_bytes,
                parent=entry.record.parent if entry else None,
                databases=one.databases,
                postgres_version=one.postgres_version,
                encrypted=one.encrypted,
                problem=one.broken_chain or "; ".join(one.damaged[:3]),
                proven_level=one.proven_level,
                proven_at=one.proven_at,
                last_verdict=one.last_verdict,
                held=entry.held if entry else None,
                locked_until=locked,
                keep=keep,
                reasons=tuple(reasons),
            )
        )
    return found


def _points(opened: Opened, found: Iterable[Window]) -> list[Point]:
    points = [point for window in found for point in read_points(opened, window.system_identifier)]
    described = [point.describe() for point in sorted(points, key=lambda one: one.time, reverse=True)]
    return [Point(str(one["name"]), from_iso(one["time"]), str(one["lsn"])) for one in described]


def _verification(proof: Mapping[str, Any]) -> Verification:
    """A proof as its writer left it; what is of another type than it should be is left out."""
    estimate = proof.get("rto_estimate")
    estimate = estimate if isinstance(estimate, Mapping) else {}
    phases = proof.get("phases")
    phases = phases if isinstance(phases, Mapping) else {}
    checks = [one for one in proof.get("checks") or () if isinstance(one, Mapping)]
    bad = next((one for one in checks if one.get("verdict") == proof.get("verdict") != "pass"), {})
    total = phases.get("total_s")
    return Verification(
        label=str(proof["label"]),
        finished=from_iso(proof["finished"]),
        verdict=str(proof.get("verdict")),
        level=str(proof["level"]) if proof.get("level") else None,
        target=str(proof.get("target") or ""),
        total_s=float(total) if isinstance(total, (int, float)) else None,
        restored_bytes=_whole(proof.get("restored_bytes")),
        copy_bytes_per_s=_whole(estimate.get("copy_bytes_per_s")),
        replay_segments_per_s=_replay_rate(proof.get("recovery"), phases),
        checks=len(checks),
        words=f"{bad.get('name')}: {bad.get('message')}" if bad else "",
        rpo_s=_seconds(proof.get("rpo")),
    )


def _replay_rate(recovery: Any, phases: Mapping[str, Any]) -> Optional[float]:
    segments = recovery.get("wal_segments") if isinstance(recovery, Mapping) else None
    seconds = phases.get("recovery_s")
    if not isinstance(segments, int) or not isinstance(seconds, (int, float)) or segments <= 0 or seconds <= 0:
        return None
    return round(segments / seconds, 3)


def _seconds(measured: Any) -> Optional[float]:
    seconds = measured.get("seconds") if isinstance(measured, Mapping) else None
    return float(seconds) if isinstance(seconds, (int, float)) else None


def _whole(value: Any) -> Optional[int]:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def rates_of(verifications: Sequence[Verification]) -> Optional[Rates]:
    """Of the newest restore that passed and was measured. Newest first, as they come."""
    for one in verifications:
        if one.verdict == "pass" and one.copy_bytes_per_s:
            return Rates(one.copy_bytes_per_s, one.replay_segments_per_s, one.label, one.finished)
    return None
