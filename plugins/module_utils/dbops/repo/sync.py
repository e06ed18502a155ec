# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing repositories up to date from one another: backups, WAL, proofs, holds. Copies, never changes or deletes.

Every object is copied as it lies there and is verified by its hash on the way, with a conditional put, a backup's
record last. So a run that was interrupted is simply run again, and what is there already is read and compared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Optional

from ..codec.stream import Side, Tally
from ..errors import BadInput, Corrupt, DbopsError, NotFound, Refused
from ..progress import Meter, Progress
from ..settings import Settings
from ..store import AlreadyThere
from . import layout
from .archive import ArchivedFile, WalArchive
from .expire_wal import decide_wal
from .record import BackupRecord, StoredObject
from .repository import Catalog, Repository, open_repository
from .several import records_of
from .standing import Wanted, wanted


@dataclass(frozen=True)
class SyncPlan:
    """What one repository would get from another. Nothing has been copied; parents stand before their children."""

    source: Repository
    target: Repository
    backups: tuple[BackupRecord, ...]
    wal: tuple[tuple[str, ArchivedFile], ...]  # with the system's identifier
    small: tuple[str, ...]  # keys of proofs, holds, restore points and adoptions

    @property
    def needed(self) -> bool:
        return bool(self.backups or self.wal or self.small)

    @property
    def stored_bytes(self) -> int:
        return sum(record.stored_bytes for record in self.backups) + sum(
            item.stored_bytes for _system, item in self.wal
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "from": self.source.name,
            "to": self.target.name,
            "backups": [record.label for record in self.backups],
            "wal_files": len(self.wal),
            "small_objects": len(self.small),
            "stored_bytes": self.stored_bytes,
        }


@dataclass(frozen=True)
class SyncPlans:
    plans: tuple[SyncPlan, ...]
    warnings: tuple[str, ...]

    @property
    def needed(self) -> bool:
        return any(plan.needed for plan in self.plans)

    def preview(self) -> dict[str, Any]:
        return {
            "changed": self.needed,
            "msg": _summary("Would copy", [plan.as_dict() for plan in self.plans]),
            "sync": [plan.as_dict() for plan in self.plans],
            "warnings": list(self.warnings),
        }


def plan(
    settings: Settings,
    *,
    source: Optional[str] = None,
    target: Optional[str] = None,
    with_wal: bool = True,
    now: Optional[datetime] = None,
) -> SyncPlans:
    """What each repository lacks of the others, in their order; with `source` and `target` only of, or for, that one.

    A repository that cannot be read is a warning when it is optional or only a source, and else an error.
    """
    if len(settings.repositories) < 2:
        raise BadInput(
            f"Cluster {settings.cluster!r} has fewer than two repositories.", hint="Add one under `repositories`."
        )
    if source is not None and source == target:
        raise BadInput(f"{source!r} cannot be copied to itself.", hint="Name another repository.")
    sources = [settings.repository(source)] if source else list(settings.repositories)
    targets = [settings.repository(target)] if target else list(settings.repositories)
    moment = now or datetime.now(timezone.utc)
    warnings: list[str] = []
    read: dict[str, tuple[Repository, Catalog]] = {}
    for item in {item.name: item for item in (*targets, *sources)}.values():
        one = open_repository(settings, item.name)
        try:
            read[item.name] = one, one.catalog()
        except DbopsError as exc:
            if item.name == target or (item.required and target is None):
                raise
            warnings.append(f"Repository {item.name!r} is left out: {exc}")
    plans = []
    for into in (item.name for item in targets if item.name in read):
        given: set[str] = set()
        for other in (item.name for item in sources if item.name in read and item.name != into):
            planned = _plan_one(settings, read[other], read[into], given, moment, with_wal=with_wal)
            warnings.extend(_differences(read[other], read[into]))
            given.update(_keys(planned))
            plans.append(planned)
    return SyncPlans(tuple(plans), tuple(dict.fromkeys(warnings)))


def run(plans: SyncPlans, progress: Progress) -> dict[str, Any]:
    """Copy what was planned. What fails is left out, and when all the rest is copied, the first failure is raised."""
    for warning in plans.warnings:
        progress.warn(warning)
    done = []
    errors: list[DbopsError] = []
    for planned in plans.plans:
        if planned.needed:
            done.append(_Run(planned, progress, errors).result())
    if errors:
        first = errors[0]
        first.message = f"{_summary('Copied', done)} {len(errors)} could not be copied; the first: {first.message}"
        raise first
    return {
        "changed": any(item["backups"] or item["wal_files"] or item["small_objects"] for item in done),
        "msg": _summary("Copied", done),
        "sync": done,
        "warnings": list(plans.warnings),
    }


def _summary(verb: str, items: Iterable[dict[str, Any]]) -> str:
    told = [
        f"{_counted(len(item['backups']), 'backup')} and {_counted(item['wal_files'], 'WAL file')} "
        f"({item['stored_bytes']} bytes) from {item['from']} to {item['to']}"
        for item in items
        if item["backups"] or item["wal_files"] or item["small_objects"]
    ]
    return f"{verb} {', '.join(told)}." if told else "Every repository has what it should have."


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


# -- plan: how


def _plan_one(
    settings: Settings,
    source: tuple[Repository, Catalog],
    target: tuple[Repository, Catalog],
    given: Collection[str],
    now: datetime,
    *,
    with_wal: bool,
) -> SyncPlan:
    """`given` are keys that another source gives already."""
    (there, theirs), (here, mine) = source, target
    decided = wanted(settings, here.settings, mine, theirs, now)
    records = records_of(theirs)
    labels = [label for label in decided.lacks if layout.record(here.cluster, label) not in given]
    wal = _wanted_wal(source, here, decided, given) if with_wal else ()
    kept = decided.keeps | set(mine.unreadable)
    small = [key for key in _missing_small(there, here, kept) if key not in given]
    return SyncPlan(there, here, tuple(records[label] for label in labels), tuple(wal), tuple(small))


def _wanted_wal(
    source: tuple[Repository, Catalog], here: Repository, decided: Wanted, given: Collection[str]
) -> Iterator[tuple[str, ArchivedFile]]:
    """What is missing here, without what this one's own rules would take for expired."""
    there, theirs = source
    expired = {
        key
        for expiry in decide_wal(there, theirs, decided.keeps, decided.window_start, has_rules=decided.has_rules)
        for key in expiry.delete
    }
    for system in list(there.store.children(layout.wal(there.cluster))):
        for item in _missing_wal(WalArchive(there, system), WalArchive(here, system)):
            if item.key not in expired and item.key not in given:
                yield system, item


def _missing_wal(source: WalArchive, target: WalArchive) -> Iterator[ArchivedFile]:
    present = {item.name.text for item in target.files()}
    for item in source.files():
        if item.name.text not in present:
            yield item


def _missing_small(source: Repository, target: Repository, labels: Collection[str]) -> Iterator[str]:
    cluster = source.cluster
    for prefix in (layout.adoptions(cluster), layout.restore_points(cluster)):
        yield from _missing(source, target, prefix)
    for prefix in (layout.holds(cluster), layout.proofs(cluster)):
        for key in _missing(source, target, prefix):
            if key[len(prefix) :].split("/")[0].rsplit(".json", 1)[0] in labels:
                yield key


def _missing(source: Repository, target: Repository, prefix: str) -> Iterator[str]:
    present = {item.key for item in target.store.list(prefix)}
    for item in source.store.list(prefix):
        if item.key not in present:
            yield item.key


def _differences(source: tuple[Repository, Catalog], target: tuple[Repository, Catalog]) -> Iterator[str]:
    mine = records_of(target[1])
    for label, record in records_of(source[1]).items():
        if label in mine and mine[label] != record:
            names = sorted([source[0].name, target[0].name])
            yield f"Backup {label} is not the same in {names[0]} and {names[1]}: find out which one is right."


def _keys(planned: SyncPlan) -> Iterator[str]:
    for record in planned.backups:
        yield layout.record(planned.target.cluster, record.label)
    for _system, item in planned.wal:
        yield item.key
    yield from planned.small


# -- run: how


class _Run:
    def __init__(self, planned: SyncPlan, progress: Progress, errors: list[DbopsError]) -> None:
        self._plan = planned
        self._errors = errors
        name = f"copy to {planned.target.name}"
        self._meter = Meter(progress, name, total_bytes=planned.stored_bytes)
        self._failed: set[str] = set()

    def result(self) -> dict[str, Any]:
        source, target = self._plan.source, self._plan.target
        done = replace(self._plan, backups=(), wal=(), small=())
        with source.restoring(), target.restoring(), target.store.lock(layout.sync_lock(target.cluster)):
            done = replace(done, backups=tuple(record for record in self._plan.backups if self._backup(record)))
            done = replace(done, wal=tuple(item for item in self._plan.wal if self._did(self._wal, *item)))
            done = replace(done, small=tuple(key for key in self._plan.small if self._did(self._small, key)))
        self._meter.finish()
        return done.as_dict()

    def _did(self, copy: Any, *what: Any) -> bool:
        try:
            copy(*what)
        except NotFound:
            return False  # expired or released since the plan
        except DbopsError as exc:
            self._errors.append(exc)
            return False
        return True

    def _backup(self, record: BackupRecord) -> bool:
        if record.parent in self._failed or not self._did(self._copy_backup, record):
            self._failed.add(record.label)
            return False
        return True

    def _copy_backup(self, record: BackupRecord) -> None:
        source, target = self._plan.source, self._plan.target
        for item in record.objects:
            self._object(record, item)
        raw = b"".join(source.store.get(layout.record(source.cluster, record.label)))
        if source.read_record(record.label) != record:
            raise Refused(f"Backup {record.label} changed in {source.name!r}.", hint="Find out who did that.")
        generation = max((item.generation for item in record.objects), default=0)
        if generation:  # encrypted anew, see rekey.py: its own record is what counts
            for key in (layout.record, layout.rekeyed):
                self._small(key(target.cluster, record.label, generation))
        _put_small(target, layout.record(target.cluster, record.label), raw)

    def _object(self, record: BackupRecord, item: StoredObject) -> None:
        source, target = self._plan.source, self._plan.target
        key = layout.stored_object(target.cluster, record.label, item.name, item.generation)
        with contextlib.suppress(NotFound):
            target.store.head(key)
            self._compare(key, item)
            return
        try:
            chunks = source.store.get(key)
        except NotFound as exc:
            raise Corrupt(f"{key} is missing in repository {source.name!r}.", hint="Copy from another one.") from exc
        try:
            target.store.put(
                key, _checked(chunks, item.stored, f"{key} in {source.name!r}", self._meter), if_absent=True
            )
        except AlreadyThere:
            self._compare(key, item)

    def _compare(self, key: str, item: StoredObject) -> None:
        """What an earlier run, or the backup itself, has put there."""
        target = self._plan.target
        tally = Tally()
        for _chunk in tally.watch(target.store.get(key), self._meter.add):
            pass
        if tally.side != item.stored:
            raise Refused(
                f"{key} is in repository {target.name!r} already, with other content.",
                hint="It is what another run left; the next backup into that repository removes it, then sync again.",
            )

    def _wal(self, system: str, item: ArchivedFile) -> None:
        packed = WalArchive(self._plan.source, system).as_it_lies(item.name)
        WalArchive(self._plan.target, system).put_packed(packed)
        self._meter.add(packed.stored_bytes)

    def _small(self, key: str) -> None:
        _put_small(self._plan.target, key, b"".join(self._plan.source.store.get(key)))


def _checked(chunks: Iterable[bytes], stored: Side, where: str, meter: Meter) -> Iterator[bytes]:
    """The chunks; Corrupt at their end, while the put is still undecided, when they are not what was recorded."""
    tally = Tally()
    yield from tally.watch(chunks, meter.add)
    if tally.side != stored:
        raise Corrupt(
            f"{where} is not what was stored: sha256 {tally.side.sha256}, expected {stored.sha256}.",
            hint="Copy this backup from another repository, and keep the object for examination.",
        )


def _put_small(target: Repository, key: str, raw: bytes) -> None:
    try:
        target.store.put(key, [raw], if_absent=True)
    except AlreadyThere as exc:
        if b"".join(target.store.get(key)) != raw:
            raise Refused(
                f"{key} is in repository {target.name!r} already, with other content.",
                hint="Two systems write as one cluster: find out which one is right.",
            ) from exc
