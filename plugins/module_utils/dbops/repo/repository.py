# SPDX-License-Identifier: GPL-3.0-or-later
"""One cluster's repository: its catalog, and its objects as verified streams."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Callable, Optional, Union

from ..codec.ciphers import Cipher, cipher_named
from ..codec.stream import Outgoing, Shape, incoming
from ..errors import Corrupt, DbopsError, NotFound, Refused
from ..settings import RepositorySettings, Settings
from ..settings_encryption import EncryptionSettings
from ..store import AlreadyThere, Store, open_store
from . import layout
from .immutability import lock_new_objects
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
    def __init__(
        self,
        settings: RepositorySettings,
        cluster: str,
        store: Optional[Store] = None,
        encryption: Optional[EncryptionSettings] = None,
        cache: Optional[str] = None,
    ) -> None:
        """`cache`: a directory of this host for what was listed before; None: everything is listed each time."""
        self.settings = settings
        self.cache = cache
        self.encryption = encryption or EncryptionSettings()
        self.name = settings.name
        self.cluster = cluster
        self.store = store or open_store(settings)

    # -- reading

    def catalog(self, proofs: Optional[Iterable[Mapping[str, Any]]] = None) -> Catalog:
        """Everything that is listed as a backup. A listing that fails raises: half a catalog would mislead.

        `proofs`: what `proofs()` gave, where the caller has asked already; they are not read twice then.
        """
        held = self.held()
        proven = _proven(self.proofs() if proofs is None else proofs)
        entries: list[Entry] = []
        unfinished: list[str] = []
        unreadable: dict[str, str] = {}
        # a stray directory is not ours, and never a backup
        labels = [label for label in self.store.children(layout.backups(self.cluster)) if layout.is_label(label)]
        rekeyed = self._rekeyed_records()
        contents = self.store.read_many(layout.record(self.cluster, label) for label in labels)
        for label, (_key, content) in zip(labels, contents):
            if content is None:
                unfinished.append(label)
                continue
            try:
                record = self._record(label, rekeyed.get(label, content))
            except (Corrupt, Refused) as exc:
                unreadable[label] = str(exc)
                continue
            entries.append(Entry(record, held.get(label), *proven.get(label, (None, None))))
        entries.sort(key=lambda item: (item.record.started, item.record.label), reverse=True)
        return Catalog(tuple(entries), tuple(unfinished), unreadable)

    def unfinished(self) -> list[str]:
        """The labels that killed or running backups left, without reading any other record.

        A list may be behind: a record that it lacks is asked for by its name before its backup counts as unfinished.
        """
        prefix = layout.backups(self.cluster)
        keys: dict[str, set[str]] = {}
        for item in self.store.list(prefix):
            keys.setdefault(item.key[len(prefix) :].split("/", 1)[0], set()).add(item.key)
        records = {label: layout.record(self.cluster, label) for label in keys if layout.is_label(label)}
        doubtful = [label for label in sorted(records) if records[label] not in keys[label]]
        contents = self.store.read_many(records[label] for label in doubtful)
        return [label for label, (_key, content) in zip(doubtful, contents) if content is None]

    def read_record(self, label: str) -> BackupRecord:
        key = layout.record(self.cluster, layout.check_label(label))
        first = b"".join(self.store.get(key))
        return self._record(label, self._rekeyed_records(label).get(label, first))

    def _record(self, label: str, content: Union[bytes, DbopsError]) -> BackupRecord:
        if isinstance(content, DbopsError):
            raise content
        where = f"{layout.record(self.cluster, label)} in repository {self.name!r}"
        record = from_json(content, where=where)
        if record.label != label:
            raise Corrupt(f"{where} is the record of {record.label!r}.", hint="Somebody copied it: take the original.")
        return record

    def held(self) -> dict[str, str]:
        """Reasons by label. Whatever lies there holds, readable or not: the doubt is in favour of the backup."""
        prefix = layout.holds(self.cluster)
        found = {}
        for key, content in self.store.read_many([item.key for item in self.store.list(prefix)]):
            if content is not None:  # else released just now
                found[key[len(prefix) :].rsplit(".json", 1)[0]] = str(_object_of(content).get("reason", ""))
        return found

    def proofs(self, label: str = "") -> Iterator[dict[str, Any]]:
        """What can be read of them, each with its `label`; of one backup or all, the newest of each label last."""
        prefix = layout.proofs(self.cluster)
        keys = [item.key for item in self.store.list(prefix + (f"{label}/" if label else ""))]
        for key, content in self.store.read_many(keys):
            proof = {} if content is None else _object_of(content)
            if proof:
                yield {**proof, "label": key[len(prefix) :].split("/", 1)[0]}

    def stored_bytes(self, label: str) -> int:
        """What lies there under that label, whether it is listed or not."""
        return sum(item.size_bytes for item in self.store.list(layout.backup(self.cluster, label)))

    def read_object(
        self, label: str, item: StoredObject, *, on_bytes: Optional[Callable[[int], None]] = None
    ) -> Iterator[bytes]:
        """Plain chunks of one object, checked on both sides; Corrupt names it, NotFound says that it is gone."""
        key = layout.stored_object(self.cluster, label, item.name, item.generation)
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
            cipher=self.cipher_of(item.encryption),
            on_bytes=on_bytes,
        )

    def cipher_of(self, encryption: Optional[str]) -> Optional[Cipher]:
        """What reads objects of that method, with the keys that this host has."""
        return cipher_named(encryption, self.encryption) if encryption else None

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
        passing = Outgoing(chunks, replace(shape, codec="none") if compressed_by_server else shape, on_bytes=on_bytes)
        self.store.put(layout.backup(self.cluster, label) + stored_name, passing, if_absent=True)
        return StoredObject(
            name=stored_name,
            kind=kind,
            codec=shape.codec,
            encryption=shape.cipher.name if shape.cipher else None,
            keys=shape.cipher.keys_of(passing.head) if shape.cipher else (),
            stored=passing.stored,
            plain=None if compressed_by_server else passing.plain,
            **belongs_to,
        )

    def publish(self, record: BackupRecord) -> None:
        """The last step of every backup: from here on it exists."""
        self.store.put(layout.record(self.cluster, record.label), [to_json(record)], if_absent=True)

    def hold(self, label: str, *, reason: str, by: str, now: datetime) -> bool:
        """Keep this backup whatever the policy says; False when it was held already (that hold stays as it is).

        Under the lock of those who read: while an expiry is deleting what it decided on, this is Busy.
        """
        with self.restoring():
            self.read_record(label)
            content = json.dumps({"label": label, "reason": reason, "by": by, "since": iso(now)}, indent=1) + "\n"
            try:
                self.store.put(layout.hold(self.cluster, label), [content.encode()], if_absent=True)
            except AlreadyThere:
                return False
        return True

    def release(self, label: str) -> bool:
        """False when there was no hold."""
        key = layout.hold(self.cluster, layout.check_label(label))
        try:
            self.store.head(key)
        except NotFound:
            return False
        self.store.delete(key)
        return True

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
        self.store.sweep(layout.backup(self.cluster, label))
        self.store.delete(layout.hold(self.cluster, label))
        for key in self._rekeyed_markers(label):
            self.store.delete(key)
        return freed

    def clean(self, labels: Iterable[str]) -> int:
        """Remove the remains of killed runs; the caller holds the backup lock, so none of them is running.

        What is held stays even so: somebody wants it, and only its record is missing.
        """
        held = self.held()
        freed = sum(self.remove(label) for label in labels if label not in held)
        self.store.sweep(layout.backups(self.cluster))  # in an object store nothing else shows what was begun
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

    def _rekeyed_markers(self, label: str = "") -> dict[str, tuple[str, int]]:
        """Label and generation by key, of one backup or all of them."""
        prefix = layout.rekeyed_markers(self.cluster)
        found = {}
        for item in self.store.list(prefix + (f"{label}-" if label else "")):
            name, _dash, number = item.key[len(prefix) :].rpartition(".json")[0].rpartition("-")
            if layout.is_label(name) and number.isdigit():
                found[item.key] = (name, int(number))
        return found

    def _rekeyed_records(self, label: str = "") -> dict[str, Union[bytes, DbopsError]]:
        """What counts instead of the first record, by label; see rekey.py."""
        newest: dict[str, int] = {}
        for name, generation in self._rekeyed_markers(label).values():
            newest[name] = max(generation, newest.get(name, 0))
        keys = {layout.record(self.cluster, name, generation): name for name, generation in newest.items()}
        found: dict[str, Union[bytes, DbopsError]] = {}
        for key, content in self.store.read_many(list(keys)):
            missing = Corrupt(f"{key} in repository {self.name!r} is missing.", hint="Take it from another repository.")
            found[keys[key]] = missing if content is None else content
        return found


def open_repository(settings: Settings, name: Optional[str] = None) -> Repository:
    item = settings.repository(name)
    opened = Repository(item, settings.cluster, encryption=settings.encryption, cache=settings.state_path)
    lock_new_objects(opened.store, item, settings.retention_of(item), settings.cluster)
    return opened


def _proven(proofs: Iterable[Mapping[str, Any]]) -> dict[str, tuple[Optional[str], Optional[datetime]]]:
    """Level and time of each backup's newest passed proof, by label; one that lacks them proves nothing.

    A failure takes back what was proven before: the same bytes are bad now. A doubt does not.
    """
    newest: dict[str, tuple[Optional[str], Optional[datetime]]] = {}
    for proof in proofs:
        if proof.get("verdict") == "pass":
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                newest[proof["label"]] = str(proof["level"]), from_iso(proof["finished"])
        elif proof.get("verdict") == "fail":
            newest.pop(proof["label"], None)
    return newest


def _object_of(content: Union[bytes, DbopsError]) -> dict[str, Any]:
    """A small JSON object, empty when it is none; a store that cannot be read still raises."""
    if isinstance(content, DbopsError):
        if isinstance(content, (Corrupt, Refused)):
            return {}
        raise content
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
