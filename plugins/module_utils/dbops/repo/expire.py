# SPDX-License-Identifier: GPL-3.0-or-later
"""Expiry: `plan` shows what the policy would delete and why, `apply` deletes that and never more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any, Optional

from ..errors import DbopsError, Refused
from ..progress import Meter, Progress
from ..settings import RetentionSettings, Settings
from . import layout, retention
from .expire_wal import WalExpiry, decide_wal, unlocked
from .immutability import locked_until, period
from .record import BackupRecord, iso
from .repository import Catalog, Entry, Repository, open_repository


@dataclass(frozen=True)
class Line:
    """One backup's fate. `entry` is None where its record cannot be read."""

    label: str
    keep: bool
    reasons: tuple[str, ...]
    entry: Optional[Entry] = None

    @property
    def stored_bytes(self) -> int:
        return self.entry.record.stored_bytes if self.entry else 0

    def as_dict(self) -> dict[str, Any]:
        record = self.entry.record if self.entry else None
        return {
            "label": self.label,
            "keep": self.keep,
            "reasons": list(self.reasons),
            "method": record.method if record else None,
            "type": record.type if record else None,
            "parent": record.parent if record else None,
            "databases": list(record.databases) if record else [],
            "started": iso(record.started) if record else None,
            "stopped": iso(record.stopped) if record else None,
            "stored_bytes": record.stored_bytes if record else None,
            "held": self.entry.held if self.entry else None,
        }


@dataclass(frozen=True)
class ExpirePlan:
    """Every listed backup, newest first, and the remains of killed runs. Nothing has been deleted."""

    settings: Settings
    repository: Repository
    now: datetime
    lines: tuple[Line, ...]
    delete_order: tuple[str, ...]  # children before their parents
    unfinished: dict[str, int]  # label → bytes; the remains of killed runs, or a backup that is running
    remaining: tuple[retention.Remaining, ...]
    window_start: Optional[datetime]
    warnings: tuple[str, ...]
    wal: tuple[WalExpiry, ...] = ()

    @property
    def needed(self) -> bool:
        return bool(self.delete_order or self.unfinished or any(item.delete for item in self.wal))

    @property
    def freed_bytes(self) -> int:
        return sum(line.stored_bytes for line in self.lines if not line.keep)

    def preview(self) -> dict[str, Any]:
        return {
            "changed": self.needed,
            "msg": f"Would delete {_summary(self.delete_order, self.freed_bytes, self.unfinished)}"
            f"{_of_wal(sum(len(item.delete) for item in self.wal))}.",
            "expire": self.as_dict(),
            "warnings": list(self.warnings),
        }

    def as_dict(self) -> dict[str, Any]:
        return {
            "cluster": self.settings.cluster,
            "repository": self.repository.name,
            "policy": asdict(_rules(self.settings, self.repository)),
            "planned_at": iso(self.now),
            "window_start": iso(self.window_start) if self.window_start else None,
            "backups": [line.as_dict() for line in self.lines],
            "delete": list(self.delete_order),
            "freed_bytes": self.freed_bytes,
            "wal": [item.as_dict() for item in self.wal],
            "unfinished": [{"label": label, "stored_bytes": size} for label, size in self.unfinished.items()],
            "remaining": [
                {**asdict(left), "oldest": iso(left.oldest), "newest": iso(left.newest), "labels": list(left.labels)}
                for left in self.remaining
            ],
        }


def plan(settings: Settings, *, repository: Optional[str] = None, now: Optional[datetime] = None) -> ExpirePlan:
    """Decide about every backup of the cluster; a listing that fails raises, and then nothing is decided."""
    return _decide(settings, open_repository(settings, repository), now or datetime.now(timezone.utc))


def apply(plan: ExpirePlan, progress: Progress, *, now: Optional[datetime] = None) -> dict[str, Any]:
    """Delete what was shown, as far as it is still to be deleted; Refused if by now more would go.

    A child goes before its parent, a record before its data: whenever this ends, and however, what is listed is
    whole. What a killed run leaves half deleted is no longer listed, and the next run removes it.
    """
    for warning in plan.warnings:
        progress.warn(warning)
    repository = plan.repository
    if not plan.needed:
        return {**plan.preview(), "msg": "Nothing to delete."}
    with repository.expiring():
        fresh = _decide(plan.settings, repository, now or datetime.now(timezone.utc))
        _refuse_more(plan, fresh)
        shown = {*plan.delete_order, *plan.unfinished}
        remains = [label for label in fresh.unfinished if label in shown]
        deleted, freed = _remove(repository, remains, fresh, progress)
        # only what was shown and is still to go: in between the window has moved on
        segments = [
            key
            for item in fresh.wal
            for key in item.keys(only={key for shown_item in plan.wal for key in shown_item.delete})
        ]
        for key in segments:
            repository.store.delete(key)
    return {
        "changed": bool(remains or deleted or segments),
        "msg": f"Deleted {_summary(deleted, freed, remains)}{_of_wal(len(segments))}.",
        "expire": {
            **fresh.as_dict(),
            "deleted": deleted,
            "cleaned": remains,
            "freed_bytes": freed,
            "deleted_segments": len(segments),
        },
        "warnings": list(fresh.warnings),
    }


def _remove(repository: Repository, remains: list[str], fresh: ExpirePlan, progress: Progress) -> tuple[list[str], int]:
    deleted: list[str] = []
    total = fresh.freed_bytes + sum(fresh.unfinished[label] for label in remains)
    meter = Meter(progress, "expire", total_bytes=total)
    try:
        for label in remains:
            meter.add(repository.clean([label]))
        for label in fresh.delete_order:
            meter.add(repository.remove(label))
            deleted.append(label)
    except DbopsError:
        if deleted:
            progress.warn(f"Deleted before it failed: {', '.join(deleted)}.")
        raise
    meter.finish()
    return deleted, meter.done_bytes


def _decide(settings: Settings, repository: Repository, now: datetime) -> ExpirePlan:
    catalog = repository.catalog()
    held = repository.held()
    policy = policy_of(_rules(settings, repository))
    decided = retention.plan(candidates(catalog), policy, now)
    locked = _locked(repository, decided.delete_order)
    if locked:
        decided = retention.plan(candidates(catalog, locked), policy, now)
    entries = {entry.record.label: entry for entry in catalog.entries}
    lines = [Line(item.label, item.keep, item.reasons, entries[item.label]) for item in decided.decisions]
    for label, why in catalog.unreadable.items():
        lines.append(Line(label, True, (f"kept, and its chain with it: {why}",)))
    lines.sort(key=lambda line: layout.label_time(line.label), reverse=True)  # stable: what is decided stays in order
    return ExpirePlan(
        settings=settings,
        repository=repository,
        now=now,
        lines=tuple(lines),
        delete_order=decided.delete_order,
        unfinished={label: repository.stored_bytes(label) for label in catalog.unfinished if label not in held},
        remaining=decided.remaining,
        window_start=decided.window_start,
        warnings=tuple(_warnings(catalog, held)),
        wal=unlocked(
            repository,
            decide_wal(
                repository,
                catalog,
                {line.label for line in lines if line.keep},
                decided.window_start,
                has_rules=policy.has_rules,
            ),
            lasting=period(repository.settings, _rules(settings, repository)),
            now=now,
        ),
    )


def _rules(settings: Settings, repository: Repository) -> RetentionSettings:
    return settings.retention_of(repository.settings)


def policy_of(rules: RetentionSettings) -> retention.Policy:
    numbers = asdict(rules)
    del numbers["keep_within"]
    return retention.Policy(keep_within_s=rules.keep_within_s(), **numbers)


def _locked(repository: Repository, labels: Iterable[str]) -> dict[str, str]:
    """Why the store itself would not let these go, by label. They are skipped, and so is what they rest on."""
    if repository.settings.lock is None:
        return {}
    ends = {label: locked_until(repository.store, repository.cluster, label) for label in labels}
    return {label: f"locked until {iso(until)} by the repository itself" for label, until in ends.items() if until}


def candidates(catalog: Catalog, locked: Optional[Mapping[str, str]] = None) -> list[retention.Candidate]:
    """The readable ones. An unreadable one's children then miss their parent in the listing, and stay for that."""
    pinned = _pinned(catalog)
    return [
        retention.Candidate(
            label=entry.record.label,
            method=entry.record.method,
            type=entry.record.type,
            parent=entry.record.parent,
            start_time=entry.record.started,
            stop_time=entry.record.stopped,
            system_identifier=entry.record.system_identifier,
            databases=entry.record.databases,
            held=entry.held,
            proven=entry.proven_level is not None,
            pinned=(*pinned.get(entry.record.label, ()), *_one(locked, entry.record.label)),
        )
        for entry in catalog.entries
    ]


def _one(locked: Optional[Mapping[str, str]], label: str) -> Iterable[str]:
    return (locked[label],) if locked and label in locked else ()


def _pinned(catalog: Catalog) -> dict[str, list[str]]:
    """What unreadable incrementals may rest on, as nobody can read which: back to the last full one, per system."""
    physical = [entry.record for entry in catalog.entries if entry.record.method == "physical"]
    physical.sort(key=lambda record: record.label, reverse=True)
    found: dict[str, list[str]] = {}
    for label in catalog.unreadable:
        if label.endswith(f"-{layout.KINDS['incremental']}"):
            for record in _back_to_full(label, physical):
                found.setdefault(record.label, []).append(f"{label} may need it, and its record cannot be read")
    return found


def _back_to_full(label: str, physical: Iterable[BackupRecord]) -> Iterable[BackupRecord]:
    reached: set[str] = set()
    for record in physical:
        if record.label[:16] <= label[:16] and record.system_identifier not in reached:
            if record.type == "full":
                reached.add(record.system_identifier)
            yield record


def _refuse_more(shown: ExpirePlan, fresh: ExpirePlan) -> None:
    more = [label for label in fresh.delete_order if label not in shown.delete_order]
    if more:
        raise Refused(
            f"Nothing is deleted: the repository has changed, and {', '.join(more)} would now go too.",
            hint="Look at the new plan (dbops expire), then apply that one.",
        )


def _warnings(catalog: Catalog, held: Iterable[str]) -> Iterable[str]:
    for label, why in sorted(catalog.unreadable.items()):
        yield f"Backup {label} cannot be read, so its chain is kept: {why}"
    for label in sorted(set(catalog.unfinished) & set(held)):
        yield f"{label} is held, but has no record: it is left alone. Look at it, then release it (dbops release)."


def _summary(labels: Iterable[str], freed_bytes: int, unfinished: Iterable[str]) -> str:
    backups, remains = len(list(labels)), len(list(unfinished))
    text = f"{backups} backup{'' if backups == 1 else 's'} ({freed_bytes} bytes)"
    if remains:
        text += f" and the remains of {remains} unfinished one{'' if remains == 1 else 's'}"
    return text


def _of_wal(segments: int) -> str:
    return f", and {segments} WAL segment{'' if segments == 1 else 's'}" if segments else ""
