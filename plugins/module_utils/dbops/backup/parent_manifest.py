# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifests of this host's newest encrypted backups, kept in the clear for the incrementals that rest on them.

PostgreSQL wants the parent's whole manifest for an incremental backup, and a host that has only public keys cannot
open the one that it has just stored. It tells nothing that is not in the data directory beside it: names, sizes and
checksums of the cluster's files. The record's hash decides whether it is the right one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import Optional

from ..codec.stream import CHUNK
from ..errors import Corrupt, NoKey
from ..pg.osuser import Identity
from ..repo import layout
from ..repo.readable import check_object
from ..repo.record import BackupRecord
from ..repo.repository import Repository
from ..settings import Settings

_KEPT = 3
_DIRECTORY = "manifests"


def keep(settings: Settings, identity: Identity, label: str, path: str) -> None:
    """A copy of the manifest at `path`, for as long as it is among the newest."""
    directory = os.path.join(settings.state_path, _DIRECTORY)
    identity.make_private_directory(directory)
    temporary = os.path.join(directory, f".{label}")
    shutil.copyfile(path, temporary)
    os.chmod(temporary, 0o600)
    identity.give(temporary)
    os.replace(temporary, os.path.join(directory, label))
    labels = sorted(name for name in os.listdir(directory) if layout.is_label(name))
    for old in labels[:-_KEPT]:
        os.unlink(os.path.join(directory, old))


def fetch(settings: Settings, repository: Repository, parent: BackupRecord, path: str) -> None:
    """The parent's manifest as a file: the copy of this host, else the stored one."""
    kept = _kept(settings, parent)
    if kept is not None:
        shutil.copyfile(kept, path)
        return
    with open(path, "wb") as stream:
        for chunk in repository.read_object(parent.label, parent.of_kind("manifest")[0]):
            stream.write(chunk)


def why_not(settings: Settings, repository: Repository, parent: BackupRecord) -> Optional[str]:
    """The reason why the parent's manifest cannot be had here, None when it can."""
    manifest = parent.of_kind("manifest")[0]
    if manifest.encryption is None or _kept(settings, parent) is not None:
        return None
    try:
        check_object(repository, parent.label, manifest)
    except (NoKey, Corrupt) as error:
        return (
            f"the manifest of {parent.label} is not kept on this host, and cannot be read: {error.message.rstrip('.')}"
        )
    return None


def _kept(settings: Settings, parent: BackupRecord) -> Optional[str]:
    path = os.path.join(settings.state_path, _DIRECTORY, parent.label)
    plain = parent.of_kind("manifest")[0].plain
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
    except OSError:
        return None
    return path if plain is not None and digest.hexdigest() == plain.sha256 else None
