# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking once at everything the checks need. Nothing of it changes; what cannot be seen becomes a fact of its own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any, Optional

from .. import __version__, installed
from ..backup.attempt import last
from ..errors import DbopsError, MissingLibrary, NoKey, NotFound
from ..notify.state import counts
from ..progress import Silent
from ..repo import layout
from ..repo.coverage import Window, window_of
from ..repo.info import Chains
from ..repo.proofs import dated
from ..repo.record import BackupRecord, from_iso
from ..repo.repository import Catalog
from ..repo.repository import Repository as Opened
from ..restore.validate import validate
from ..settings import RepositorySettings, Settings
from .facts import Backup, Facts, Probe, Reach, Repository, Wal
from .server import Seen, look
from .since import window_policy_since

_SMALL = 8 << 20  # a probe reads no more than this


def gather(settings: Settings, *, deep: bool = False, now: Optional[datetime] = None) -> Facts:
    """`deep` reads the newest physical backup of each repository to its last byte."""
    seen = look(settings)
    moment = now or datetime.now(timezone.utc)
    return Facts(
        cluster=settings.cluster,
        seen=moment,
        policy=settings.health,
        methods=_methods(settings),
        databases=settings.backup.databases,
        repositories=tuple(_repository(settings, item, seen, deep=deep) for item in settings.repositories),
        server=seen.server,
        server_error=seen.error,
        agent_version=installed.version(),
        tool_version=__version__,
        canary=settings.canary,
        window_since=window_policy_since(settings, moment),
        attempts=tuple(filter(None, (last(settings, method) for method in _methods(settings)))),
        notifications=_notifications(settings),
    )


def _methods(settings: Settings) -> tuple[str, ...]:
    return settings.health.methods or (settings.backup.method,)


def _notifications(settings: Settings) -> dict[tuple[str, str], int]:
    """Of the channels that are configured, 0 included: an increase needs something before it."""
    known = counts(settings.state_path)
    names = [channel.name for channel in settings.notifications.channels]
    return {(name, result): known.get((name, result), 0) for name in names for result in ("sent", "failed")}


def _repository(settings: Settings, item: RepositorySettings, seen: Seen, *, deep: bool) -> Repository:
    begun = time.monotonic()
    try:
        opened = Opened(item, settings.cluster, encryption=settings.encryption, cache=settings.state_path)
        proofs = list(opened.proofs())
        catalog = opened.catalog(proofs)
        sizes = {found.key: found.size_bytes for found in opened.store.list(layout.backups(settings.cluster))}
        free = opened.store.free_bytes()
    except DbopsError as error:
        ok = None if isinstance(error, MissingLibrary) else False  # a host that cannot ask knows nothing of it
        return Repository(item.name, item.required, (Probe("list", ok, error.message, time.monotonic() - begun),))
    words = f"{len(catalog.entries)} backups are listed."
    probes = [Probe("list", True, words, time.monotonic() - begun), *_read(opened, catalog)]
    if deep:
        probes += _deep(settings, opened, catalog)
    wal, problem = _wal(opened, catalog, seen)
    return Repository(
        name=item.name,
        required=item.required,
        probes=tuple(probes),
        backups=tuple(_backups(catalog, sizes, dated(proofs), settings.cluster)),
        unreadable=tuple(sorted(catalog.unreadable.items())),
        unfinished=catalog.unfinished,
        free_bytes=free,
        total_bytes=shutil.disk_usage(item.path).total if item.type == "local" else None,
        wal=wal,
        wal_error=problem,
    )


def _backups(
    catalog: Catalog, sizes: dict[str, int], proofs: Sequence[dict[str, Any]], cluster: str
) -> Iterable[Backup]:
    chains = Chains(catalog)
    newest = {proof["label"]: proof for proof in proofs}
    measured = {proof["label"]: proof["rpo"]["seconds"] for proof in proofs if proof.get("rpo")}
    estimated = {
        proof["label"]: proof["rto_estimate"]["seconds"]
        for proof in proofs
        if proof.get("verdict") == "pass" and proof.get("rto_estimate")
    }
    for entry in catalog.entries:
        record = entry.record
        proof = newest.get(record.label, {})
        yield Backup(
            label=record.label,
            method=record.method,
            type=record.type,
            databases=record.databases,
            started=record.started,
            stopped=record.stopped,
            stored_bytes=record.stored_bytes,
            database_bytes=record.database_bytes,
            postgres_version=record.postgres_version,
            encrypted=any(item.encryption for item in record.objects),
            system_identifier=record.system_identifier,
            broken_chain=chains.of(record.label)[1],
            damaged=tuple(_damage(record, sizes, cluster)),
            proven_level=entry.proven_level,
            proven_at=entry.proven_at,
            last_verdict=proof.get("verdict"),
            last_verified_at=from_iso(proof["finished"]) if proof else None,
            last_words=_first_words(proof),
            held=entry.held is not None,
            rto_s=estimated.get(record.label),
            rpo_s=measured.get(record.label),
        )


def _damage(record: BackupRecord, sizes: dict[str, int], cluster: str) -> Iterable[str]:
    """Only what a listing tells: bits that flipped are found by `deep`, by scrubbing and by verifications."""
    for item in record.objects:
        size = sizes.get(layout.stored_object(cluster, record.label, item.name, item.generation))
        if size is None:
            yield f"{item.name} is missing"
        elif size != item.stored.size_bytes:
            yield f"{item.name} has {size} bytes of {item.stored.size_bytes}"


def _first_words(proof: dict[str, Any]) -> str:
    for check in proof.get("checks", ()):
        if check.get("verdict") == proof.get("verdict") and check.get("verdict") != "pass":
            return f"{check.get('name')}: {check.get('message')}"
    return ""


# -- probes


def _read(opened: Opened, catalog: Catalog) -> Iterable[Probe]:
    """Reading is proven by reading: the newest backup's smallest object, decrypted and held against its hashes."""
    if not catalog.entries:
        return
    record = catalog.entries[0].record
    objects = sorted(record.objects, key=lambda item: item.stored.size_bytes)
    if not objects:
        return
    item = objects[0]
    begun = time.monotonic()
    operation = "decrypt" if item.encryption else "read"
    try:
        if item.stored.size_bytes <= _SMALL:
            for _chunk in opened.read_object(record.label, item):
                pass
        else:
            key = layout.backup(opened.cluster, record.label) + item.name
            for _chunk in opened.store.get(key, length=1 << 16):
                pass
            operation = "read"
    except NoKey as error:  # a host that only writes rightly has no private key
        yield Probe("read", True, f"{item.name} of {record.label} can be had.", time.monotonic() - begun)
        yield Probe("decrypt", None, error.message, time.monotonic() - begun)
        return
    except DbopsError as error:
        yield Probe(operation, False, error.message, time.monotonic() - begun)
        return
    seconds = time.monotonic() - begun
    yield Probe("read", True, f"{item.name} of {record.label} is what was stored.", seconds)
    if operation == "decrypt":
        yield Probe("decrypt", True, f"{item.name} of {record.label} can be decrypted.", seconds)


def _deep(settings: Settings, opened: Opened, catalog: Catalog) -> Iterable[Probe]:
    newest = next((entry.record for entry in catalog.entries if entry.record.method == "physical"), None)
    begun = time.monotonic()
    try:
        if newest is not None:
            validate(settings, progress=Silent(), label=newest.label, repository=opened.name)
        for entry in catalog.entries[:1]:
            if entry.record.method == "logical":
                newest = entry.record
                for item in newest.objects:
                    for _chunk in opened.read_object(newest.label, item):
                        pass
    except NoKey as error:
        yield Probe("deep", None, error.message, time.monotonic() - begun)
    except DbopsError as error:
        yield Probe("deep", False, error.message, time.monotonic() - begun)
    else:
        if newest is not None:
            words = f"{newest.label} is what was stored, to the last byte."
            yield Probe("deep", True, words, time.monotonic() - begun)


# -- WAL


def _wal(opened: Opened, catalog: Catalog, seen: Seen) -> tuple[Optional[Wal], str]:
    system = seen.server.system_identifier if seen.server else _newest_system(catalog)
    if system is None:
        return None, ""
    try:
        window = window_of(opened, catalog, system)
    except NotFound:
        return None, ""
    except DbopsError as error:
        return None, error.message
    return _described(window, seen), ""


def _newest_system(catalog: Catalog) -> Optional[str]:
    physical = [entry.record for entry in catalog.entries if entry.record.method == "physical"]
    return physical[0].system_identifier if physical else None


def _described(window: Window, seen: Seen) -> Wal:
    size = window.segments.size
    last = window.segments.last_of_all()
    newest_end = None if last is None else (last + 1) * size
    line = next((item for item in reversed(window.lines) if item.intervals), None)
    waiting = seen.unarchived(newest_end)
    return Wal(
        segments=window.segments.count(),
        stored_bytes=window.stored_bytes,
        newest_end=newest_end,
        intervals=tuple(
            Reach(item.start_time, None, item.end, item.broken_by, item.bases)
            for item in (line.intervals if line else ())
        ),
        missing=window.segments.holes(),
        unarchived_bytes=waiting.length if waiting else None,
        unarchived_since=waiting.since if waiting else None,
        newest_archived_at=seen.last_archived_at,
    )
