# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what a restore will read can be decrypted here, asked of the objects before anything is written."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from ..codec.ciphers import HEAD_BYTES
from ..codec.stamp import STAMP_READ, stamped_keys
from ..errors import Corrupt, NoKey, NotFound
from . import layout
from .archive import encryption_of
from .record import BackupRecord, StoredObject
from .repository import Repository

_AT_ONCE = 8


def check_backups(repository: Repository, records: Iterable[BackupRecord]) -> None:
    """NoKey, naming the object and its keys, unless the first bytes of every object of these backups can be opened."""
    for record in records:
        for item in record.objects:
            check_object(repository, record.label, item)


def check_object(repository: Repository, label: str, item: StoredObject) -> None:
    if item.encryption is None:
        return
    key = layout.stored_object(repository.cluster, label, item.name, item.generation)
    try:
        _open(repository, key, item.encryption)
    except NotFound as exc:
        raise Corrupt(
            f"Object {key} of repository {repository.name!r} is missing.",
            hint="Restore another backup, or this one from another repository.",
        ) from exc
    except NoKey as exc:
        whose = f" It was encrypted for {', '.join(item.keys)}." if item.keys else ""
        raise NoKey(f"{exc.message}{whose}", hint=exc.hint) from exc


def check_wal(repository: Repository, keys: Iterable[str]) -> bool:
    """The same for WAL files by their keys in the store: one of each group that has the same keys is opened.

    False when none of them is encrypted.
    """
    encrypted = [key for key in keys if encryption_of(key)]

    def head(key: str) -> tuple[str, ...]:
        return stamped_keys(b"".join(repository.store.get(key, length=STAMP_READ)))

    with ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="dbops-heads") as pool:
        groups = {(encryption_of(key), ids): key for key, ids in zip(encrypted, pool.map(head, encrypted))}
    for (encryption, _ids), key in groups.items():
        _open(repository, key, encryption or "")
    return bool(encrypted)


def _open(repository: Repository, key: str, encryption: str) -> None:
    cipher = repository.cipher_of(encryption)
    if cipher is None:
        return
    head = b"".join(repository.store.get(key, length=HEAD_BYTES))
    try:
        cipher.check_opens(head)
    except (NoKey, Corrupt) as exc:
        raise type(exc)(f"{key} in repository {repository.name!r}: {exc.message}", hint=exc.hint) from exc
