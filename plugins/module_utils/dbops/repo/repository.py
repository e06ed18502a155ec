# SPDX-License-Identifier: GPL-3.0-or-later
"""One cluster's repository: its catalog, and its objects as verified streams."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Callable, Optional

from ..codec.stream import Outgoing, Shape, incoming
from ..errors import Corrupt, NotFound, Refused
from ..settings import RepositorySettings, Settings
from ..store import AlreadyThere, Store, open_store
from . import layout
from .record import BackupRecord, StoredObject, from_iso, from_json, iso, to_json


@dataclass(frozen=True)
class Entry:
    """One line of the catalog: a backup and what is known about it besides its record."""

    record: BackupRecord
    held: Optional[str] = None  # the reason of a hold
    proven_level: Optional[str] = None  # None: unverified
    proven_at: Optional[datetime] = None


@dataclass(frozen=True)
class Catalog:
    """Newest first. `unfinished` are the labels of killed or running backups; `unreadable` says why, by label."""

    entries: tuple[Entry, ...]
    unfinished: tuple[str, ...]
    unreadable: dict[str, str]

    def entry(self, label: str) -> Entry:
        for item in self.entries:
            if item.record.label == label:
                return item
        if label in self.unreadable:
            raise Corrupt(self.unreadable[label], hint="Take it from another repository, or restore another backup.")
        known = ", ".join(item.record.label for item in self.entries[:5]) or "none"
        raise NotFound(f"There is no backup {label!r}.", hint=f"Newest ones: {known}. See dbops info.")

    def chain(self, label: str) -> list[BackupRecord]:
        """The backup with all it rests on, the full one first."""
        records = {item.record.label: item.record for item in self.entries}
        chain = [self.entry(label).record]
        while chain[0].parent is not None:
            parent = records.get(chain[0].parent)
            if parent is None or parent in chain:
                raise Corrupt(
                    f"Backup {label} rests on {chain[0].parent}, which is not in the repository.",
                    hint="Restore an older chain (dbops info), and find out who removed it.",
                )
            chain.insert(0, parent)
        return chain


class Repository:
    def __init__(self, settings: RepositorySettings, cluster: str, store: Optional[Store] = None) -> None:
        self.settings = settings
        self.name = settings.name
        self.cluster = cluster
        self.store = store or open_store(settings)

    # -- reading

    def catalog(self) -> Catalog:
        """Everything that is listed as a backup. A listing that fails raises: half a catalog would mislead."""
        held = self._by_label(layout.holds(self.cluster))
        proven = self._proofs()
        entries: list[Entry] = []
        unfinished: list[str] = []
        unreadable: dict[str, str] = {}
        for label in self.store.children(layout.backups(self.cluster)):
            if not layout.is_label(label):
                continue  # a stray directory: not ours, and never a backup
            try:
                record = self.read_record(label)
            except NotFound:
                unfinished.append(label)
                continue
            except (Corrupt, Refused) as exc:
                unreadable[label] = str(exc)
                continue
            proof = proven.get(label, {})
            entries.append(
                Entry(record, held.get(label, {}).get("reason"), proof.get("level"), _moment(proof.get("finished")))
            )
        entries.sort(key=lambda item: (item.record.started, item.record.label), reverse=True)
        return Catalog(tuple(entries), tuple(unfinished), unreadable)

    def read_record(self, label: str) -> BackupRecord:
        key = layout.record(self.cluster, label)
        record = from_json(self._read(key), where=f"{key} in repository {self.name!r}")
        if record.label != label:
            raise Corrupt(f"{key} is the record of {record.label!r}.", hint="Somebody copied it: take the original.")
        return record

    def read_object(
        self, label: str, item: StoredObject, *, on_bytes: Optional[Callable[[int], None]] = None
    ) -> Iterator[bytes]:
        """Plain chunks of one object, checked on both sides; Corrupt names it, NotFound says that it is gone."""
        key = layout.backup(self.cluster, label) + item.name
        try:
            chunks = self.store.get(key)
        except NotFound as exc:
            raise Corrupt(
                f"Object {key} of repository {self.name!r} is missing.",
                hint="Restore another backup, or this one from another repository.",
            ) from exc
        return incoming(
            chunks,
            name=f"{key} in repository {self.name!r}",
            codec=item.codec,
            stored=item.stored,
            plain=item.plain,
            on_bytes=on_bytes,
        )

    # -- writing

    def put_object(
        self,
        label: str,
        name: str,
        chunks: Iterable[bytes],
        shape: Shape,
        *,
        kind: str,
        compressed_by_server: bool = False,
        on_bytes: Optional[Callable[[int], None]] = None,
        **belongs_to: Any,
    ) -> StoredObject:
        """Store one object of a backup that is not visible yet. `name` comes without the codec's suffix.

        With `compressed_by_server` the chunks already have the shape; they pass through as they are.
        """
        stored_name = name + shape.suffix
        passing = Outgoing(chunks, Shape("none") if compressed_by_server else shape, on_bytes=on_bytes)
        self.store.put(layout.backup(self.cluster, label) + stored_name, passing, if_absent=True)
        return StoredObject(
            name=stored_name,
            kind=kind,
            codec=shape.codec,
            stored=passing.stored,
            plain=None if compressed_by_server else passing.plain,
            **belongs_to,
        )

    def publish(self, record: BackupRecord) -> None:
        """The last step of every backup: from here on it exists."""
        self.store.put(layout.record(self.cluster, record.label), [to_json(record)], if_absent=True)

    def hold(self, label: str, *, reason: str, by: str, now: datetime) -> None:
        self.read_record(label)
        content = json.dumps({"label": label, "reason": reason, "by": by, "since": iso(now)}, indent=1) + "\n"
        with contextlib.suppress(AlreadyThere):
            self.store.put(layout.hold(self.cluster, label), [content.encode()], if_absent=True)

    def release(self, label: str) -> None:
        self.store.delete(layout.hold(self.cluster, label))

    def remove(self, label: str) -> int:
        """Make a backup cease to exist, then drop its data; returns the bytes freed. The caller holds both locks.

        The record goes first: if we die between the two, what is left counts as unfinished and the next run's
        `clean` removes it, and at no time does a listed backup lack data.
        """
        freed = 0
        self.store.delete(layout.record(self.cluster, label))
        for item in list(self.store.list(layout.backup(self.cluster, label))):
            self.store.delete(item.key)
            freed += item.size_bytes
        self.store.delete(layout.hold(self.cluster, label))
        return freed

    def clean(self, labels: Iterable[str]) -> int:
        """Remove the remains of killed runs; the caller holds the backup lock, so none of them is running."""
        freed = 0
        for label in labels:
            self.store.sweep(layout.backup(self.cluster, label))
            for item in list(self.store.list(layout.backup(self.cluster, label))):
                self.store.delete(item.key)
                freed += item.size_bytes
        return freed

    # -- locks: a backup excludes backups, expiry excludes everybody who reads or writes

    @contextlib.contextmanager
    def backing_up(self) -> Iterator[None]:
        with self.store.lock(f"{self.cluster}/backup"), self.store.lock(f"{self.cluster}/content", shared=True):
            yield

    @contextlib.contextmanager
    def expiring(self) -> Iterator[None]:
        with self.store.lock(f"{self.cluster}/backup"), self.store.lock(f"{self.cluster}/content"):
            yield

    @contextlib.contextmanager
    def restoring(self) -> Iterator[None]:
        with self.store.lock(f"{self.cluster}/content", shared=True):
            yield

    # -- below: how

    def _read(self, key: str) -> bytes:
        return b"".join(self.store.get(key))

    def _by_label(self, prefix: str) -> dict[str, dict[str, Any]]:
        found = {}
        for item in self.store.list(prefix):
            label = item.key[len(prefix) :].rsplit(".json", 1)[0]
            found[label] = _object_of(self._read(item.key), item.key)
        return found

    def _proofs(self) -> dict[str, dict[str, Any]]:
        """The newest passed proof of each backup, by label."""
        prefix = layout.proofs(self.cluster)
        newest: dict[str, dict[str, Any]] = {}
        for item in self.store.list(prefix):  # by key, so the newest of a label comes last
            label = item.key[len(prefix) :].split("/", 1)[0]
            proof = _object_of(self._read(item.key), item.key)
            if proof.get("verdict") == "pass":
                newest[label] = proof
        return newest


def open_repository(settings: Settings, name: Optional[str] = None) -> Repository:
    return Repository(settings.repository(name), settings.cluster)


def _object_of(raw: bytes, key: str) -> dict[str, Any]:
    try:
        data = json.loads(raw)
        if isinstance(data, dict):
            return data
        raise ValueError("not an object")
    except ValueError as exc:
        raise Corrupt(f"{key} cannot be read: {exc}.", hint="Look at it, and restore it from another copy.") from exc


def _moment(text: Optional[str]) -> Optional[datetime]:
    return from_iso(text) if text else None
