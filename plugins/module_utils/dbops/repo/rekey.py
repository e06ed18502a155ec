# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypting what is stored anew: for other recipients, after a key was replaced, or because it never was encrypted.

A backup's objects are never changed. They are written once more into `rekeyed-<n>/` beside them, with a record of
their own; then one conditional put, `rekeyed/<label>-<n>.json`, makes that record the backup's, and only after that
the old objects go. Killed at any point, the backup is whole under one record or the other, and the next run goes on
with the first backup or WAL file that is not as it should be.

A WAL file is replaced by itself in one step: same name, same plain content, checked against its stamp beforehand.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Optional

from ..codec.ciphers import SUFFIXES, Cipher, cipher
from ..codec.codecs import codec_named
from ..codec.stamp import STAMP_READ, stamp_encrypted, stamped, stamped_keys
from ..codec.stream import Outgoing, Shape, Tally, incoming
from ..errors import BadInput, Busy, Corrupt, DbopsError, NotFound
from ..pg.walfile import Kind
from ..progress import Meter, Progress
from ..settings import Settings
from ..store import AlreadyThere
from . import layout
from .archive import ArchivedFile, WalArchive
from .readable import check_backups, check_wal
from .record import BackupRecord, StoredObject, iso, to_json
from .repository import Repository, open_repository


@dataclass(frozen=True)
class RekeyPlan:
    """`leftovers` are objects that no record names any more: of an earlier generation, or of a killed run."""

    repository: Repository
    cipher: Cipher
    keys: tuple[str, ...]
    backups: tuple[BackupRecord, ...]
    wal: tuple[tuple[WalArchive, ArchivedFile], ...]
    leftovers: tuple[str, ...]

    @property
    def needed(self) -> bool:
        return bool(self.backups or self.wal or self.leftovers)

    @property
    def stored_bytes(self) -> int:
        return sum(item.stored_bytes for item in self.backups) + sum(item.stored_bytes for _archive, item in self.wal)

    def preview(self) -> dict[str, Any]:
        what = f"{len(self.backups)} backups and {len(self.wal)} WAL files"
        msg = f"Would encrypt {what} anew." if self.needed else "Everything is encrypted for the present recipients."
        return {"changed": self.needed, "msg": msg, "rekey": self.describe(), "warnings": []}

    def describe(self) -> dict[str, Any]:
        return {
            "repository": self.repository.name,
            "encryption": self.cipher.name,
            "keys": list(self.keys),
            "backups": [record.label for record in self.backups],
            "wal_files": len(self.wal),
            "leftovers": len(self.leftovers),
            "stored_bytes": self.stored_bytes,
        }


def plan(settings: Settings, repository: Optional[str] = None) -> RekeyPlan:
    """What is not encrypted as the settings say. NoKey, before anything is written, when some of it cannot be read."""
    chosen = cipher(settings.encryption)
    if chosen is None:
        raise BadInput(
            "encryption.method is none: everything would be stored in the clear.",
            hint="Set encryption.method and the recipients that the objects are to be for.",
        )
    source = open_repository(settings, repository)
    keys = chosen.key_ids()
    catalog = source.catalog()
    wanted = (chosen.name, keys)
    backups = [
        entry.record
        for entry in reversed(catalog.entries)
        if any((item.encryption, item.keys) != wanted for item in entry.record.objects)
    ]
    wal = list(_old_wal(source, wanted))
    check_backups(source, backups)
    check_wal(source, [item.key for _archive, item in wal])
    leftovers = [key for entry in catalog.entries for key in _leftovers(source, entry.record)]
    return RekeyPlan(source, chosen, keys, tuple(backups), tuple(wal), tuple(leftovers))


def run(plan: RekeyPlan, progress: Progress) -> dict[str, Any]:
    """Do it, the oldest first. What is done stays done when it is stopped."""
    if not plan.needed:
        return plan.preview()
    meter = Meter(progress, "rekey", total_bytes=plan.stored_bytes)
    with plan.repository.backing_up():
        for record in plan.backups:
            _rekey_backup(plan, record.label, meter)
        for archive, item in plan.wal:
            _rekey_wal(plan, archive, item)
            meter.add(item.stored_bytes)
    meter.finish()
    removed, warnings = _remove_leftovers(plan)
    msg = f"Encrypted {len(plan.backups)} backups and {len(plan.wal)} WAL files anew; removed {removed} old objects."
    return {"changed": True, "msg": msg, "rekey": {**plan.describe(), "removed": removed}, "warnings": warnings}


# -- backups


def _rekey_backup(plan: RekeyPlan, label: str, meter: Meter) -> None:
    repository = plan.repository
    record = repository.read_record(label)  # as it is now that we hold the lock
    generation = _next_generation(repository, label)
    objects = tuple(_rekey_object(plan, label, item, generation, meter) for item in record.objects)
    content = to_json(replace(record, objects=objects))
    repository.store.put(layout.record(repository.cluster, label, generation), [content], if_absent=True)
    note = {"label": label, "generation": generation, "at": iso(datetime.now(timezone.utc)), "by": getpass.getuser()}
    key = layout.rekeyed(repository.cluster, label, generation)
    repository.store.put(key, [(json.dumps(note, indent=1) + "\n").encode()], if_absent=True)


def _rekey_object(plan: RekeyPlan, label: str, item: StoredObject, generation: int, meter: Meter) -> StoredObject:
    """The compressed bytes as they are, under the new keys; read to the end, so their hash was right."""
    repository = plan.repository
    key = layout.stored_object(repository.cluster, label, item.name, item.generation)
    packed = incoming(
        repository.store.get(key),
        name=f"{key} in repository {repository.name!r}",
        codec="none",
        stored=item.stored,
        cipher=repository.cipher_of(item.encryption),
        on_bytes=meter.add,
    )
    name = _without_cipher(item.name) + plan.cipher.suffix
    passing = Outgoing(packed, Shape("none", cipher=plan.cipher))
    repository.store.put(layout.stored_object(repository.cluster, label, name, generation), passing, if_absent=True)
    return replace(
        item,
        name=name,
        stored=passing.stored,
        encryption=plan.cipher.name,
        keys=plan.cipher.keys_of(passing.head),
        generation=generation,
    )


def _next_generation(repository: Repository, label: str) -> int:
    """One that nobody has begun, so that nothing is written twice."""
    numbers = [0]
    for name in repository.store.children(layout.backup(repository.cluster, label)):
        prefix, _dash, number = name.partition("-")
        if prefix == "rekeyed" and number.isdigit():
            numbers.append(int(number))
    return max(numbers) + 1


def _leftovers(repository: Repository, record: BackupRecord) -> Iterator[str]:
    """Objects below the label that its record does not name. Records stay: they tell what was."""
    if all(item.generation == 0 for item in record.objects) and not _next_generation(repository, record.label) > 1:
        return
    named = {
        layout.stored_object(repository.cluster, record.label, item.name, item.generation) for item in record.objects
    }
    for item in repository.store.list(layout.backup(repository.cluster, record.label)):
        if item.key not in named and not item.key.endswith(f"/{layout.RECORD}"):
            yield item.key


def _remove_leftovers(plan: RekeyPlan) -> tuple[int, list[str]]:
    """Alone in the repository: a restore that began before may be reading the old objects."""
    repository = plan.repository
    removed, warnings = 0, []
    labels = {record.label for record in plan.backups} | {key.split("/")[2] for key in plan.leftovers}
    try:
        with repository.expiring():
            for label in sorted(labels):
                for key in list(_leftovers(repository, repository.read_record(label))):
                    repository.store.delete(key)
                    removed += 1
    except Busy as error:
        warnings.append(f"The old objects are still there: {error.message} Run the same again when it has ended.")
    except DbopsError as error:
        warnings.append(f"Old objects are still there, which the old keys open: {error.message} {error.hint}".rstrip())
    return removed, warnings


# -- WAL


def _old_wal(repository: Repository, wanted: tuple[str, tuple[str, ...]]) -> Iterator[tuple[WalArchive, ArchivedFile]]:
    for system in repository.store.children(layout.wal(repository.cluster)):
        archive = WalArchive(repository, system)
        for item in archive.files():
            if item.name.kind is Kind.HISTORY:
                continue
            if item.encryption != wanted[0] or stamped_keys(_head(repository, item.key)) != wanted[1]:
                yield archive, item


def _rekey_wal(plan: RekeyPlan, archive: WalArchive, item: ArchivedFile) -> None:
    repository = plan.repository
    try:
        stored = b"".join(repository.store.get(item.key))
    except NotFound:
        return  # expired meanwhile
    reader = repository.cipher_of(item.encryption)
    packed = stored if reader is None else b"".join(reader.decrypt([stored]))
    sha256 = stamped(stored[:STAMP_READ])
    plain = Tally()
    _drain(plain.watch(codec_named(item.codec).decompress([packed])))
    if sha256 is None or plain.side.sha256 != sha256:
        raise Corrupt(f"{item.key} in repository {repository.name!r} is damaged.", hint="Use another copy.")
    body = list(plan.cipher.encrypt([packed]))
    head = stamp_encrypted(plan.cipher, sha256, plan.cipher.keys_of(body[0]))
    key = archive.key(item.name, codec_named(item.codec).suffix + plan.cipher.suffix)
    try:
        repository.store.put(key, [head, *body], if_absent=key != item.key, relied_on=True)
    except AlreadyThere:
        if stamped(_head(repository, key)) != sha256:
            raise
    if key != item.key:
        repository.store.delete(item.key)


def _head(repository: Repository, key: str) -> bytes:
    return b"".join(repository.store.get(key, length=STAMP_READ))


def _without_cipher(name: str) -> str:
    for suffix in SUFFIXES.values():
        if name.endswith(suffix):
            return name[: -len(suffix)]
    return name


def _drain(chunks: Iterable[bytes]) -> None:
    for _chunk in chunks:
        pass
