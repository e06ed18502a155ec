# SPDX-License-Identifier: GPL-3.0-or-later
"""For how long the cloud itself keeps what is stored, so that lock and expiry agree.

A backup within `keep_within` is wanted by the policy, and the newest one before that is the window's anchor: it is
needed until the next full backup is as old. So a lock lasts for the window and the longest time between full backups.
What a rule by count keeps for longer is kept by expiry, not by the lock, unless `lock.period` says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Callable, Optional

from ..errors import BadInput
from ..schema import duration_s
from ..settings import RepositorySettings, RetentionSettings
from ..store import Store
from . import layout
from .record import BackupRecord

if TYPE_CHECKING:
    from ..store.cloud import CloudStore


def period(repository: RepositorySettings, rules: RetentionSettings) -> Optional[timedelta]:
    """How long a new object is locked; None without `lock`. BadInput when nothing says how long."""
    lock = repository.lock
    if lock is None:
        return None
    if lock.period is not None:
        return timedelta(seconds=duration_s(lock.period, "lock.period"))
    window = rules.keep_within_s()
    if window is None:
        raise BadInput(
            f"Repository {repository.name!r} has a lock, and nothing says for how long.",
            hint="Set retention.keep_within, from which it is worked out, or lock.period.",
        )
    return timedelta(seconds=window + duration_s(lock.full_interval, "lock.full_interval"))


def locks(key: str, cluster: str) -> bool:
    """Backups, WAL and proofs. A hold must be releasable, and the rest can be written again."""
    return key.startswith((layout.backups(cluster), layout.wal(cluster), layout.proofs(cluster)))


def lock_new_objects(store: Store, repository: RepositorySettings, rules: RetentionSettings, cluster: str) -> None:
    """From here on every put into this store is locked as the policy says."""
    lasting = period(repository, rules)
    cloud = None if lasting is None else _cloud(store)
    if lasting is not None and cloud is not None:
        cloud.retained = _rule(lasting, cluster)


def _rule(lasting: timedelta, cluster: str) -> Callable[[str], Optional[datetime]]:
    def until(key: str) -> Optional[datetime]:
        if not locks(key, cluster):
            return None
        return (datetime.now(timezone.utc) + lasting).replace(microsecond=0)

    return until


def lock_chain(store: Store, cluster: str, chain: Iterable[BackupRecord]) -> None:
    """Lock what a new incremental rests on for as long as itself: without its full backup it would be worth nothing."""
    cloud = _cloud(store)
    if cloud is None:
        return
    for record in chain:
        keys = [layout.stored_object(cluster, record.label, item.name, item.generation) for item in record.objects]
        for key in (*keys, layout.record(cluster, record.label)):
            until = cloud.retained(key)
            if until is not None:
                cloud.retain(key, until)


def locked_until(store: Store, cluster: str, label: str) -> Optional[datetime]:
    """Until when the cloud keeps this backup, None when it could be deleted."""
    cloud = _cloud(store)
    return cloud.locked_until(layout.record(cluster, label)) if cloud else None


def _cloud(store: Store) -> Optional[CloudStore]:
    """None for a directory. Imported here, since archive_command starts for each miss and mostly locks nothing."""
    from ..store.cloud import CloudStore

    return store if isinstance(store, CloudStore) else None
