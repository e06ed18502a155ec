# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose WAL a repository takes: that of the system it knows, and of those that an operator adopted.

A clone that was made a cluster of its own, or a new cluster under an old name, would mix its WAL with the source's;
after pg_upgrade a new identifier is right, and only a person can tell the two apart.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Optional

from ..errors import NotFound, Refused
from ..store import AlreadyThere
from . import layout
from .record import iso
from .repository import Repository


def check_owner(repository: Repository, system_identifier: str) -> None:
    """Refused for a system that this repository does not know while it holds another one's WAL or backups."""
    known = set(repository.store.children(layout.wal(repository.cluster)))
    if system_identifier in known or _is_adopted(repository, system_identifier):
        return
    other = next(iter(sorted(known)), None) or _system_of_backups(repository, system_identifier)
    if other is not None:
        raise Refused(
            f"Repository {repository.name!r} holds system {other} as cluster {repository.cluster!r}, "
            f"and this server is system {system_identifier}.",
            hint="A copy needs archive_mode=off or its own cluster name; after pg_upgrade run: dbops wal adopt.",
        )


def adopt(repository: Repository, system_identifier: str, *, by: str, reason: str, now: datetime) -> bool:
    """Let this system archive as this cluster from now on; False when it may already."""
    note = {"system_identifier": system_identifier, "by": by, "reason": reason, "since": iso(now)}
    content = (json.dumps(note, indent=1) + "\n").encode()
    try:
        repository.store.put(layout.adopted(repository.cluster, system_identifier), [content], if_absent=True)
    except AlreadyThere:
        return False
    return True


def _is_adopted(repository: Repository, system_identifier: str) -> bool:
    try:
        repository.store.head(layout.adopted(repository.cluster, system_identifier))
    except NotFound:
        return False
    return True


def _system_of_backups(repository: Repository, system_identifier: str) -> Optional[str]:
    """Another system's identifier, if a backup has one; a repository with this system's own backups is its own."""
    found = {entry.record.system_identifier for entry in repository.catalog().entries}
    return None if not found or system_identifier in found else min(found)
