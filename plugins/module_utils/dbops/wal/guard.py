# SPDX-License-Identifier: GPL-3.0-or-later
"""Giving WAL up so that the server does not stop for want of room: off unless `drop_wal_when_free_below` is set.

Only a file that cannot be archived is given up, and only while pg_wal's file system has less room than that. It is
written down on this host before the server is told, and in every repository before anything later is acknowledged:
nobody can recover past it, and the next full backup begins a new window.
"""

from __future__ import annotations

import contextlib
import os

from ..errors import DbopsError, Unreachable
from ..pg.walfile import WalName
from ..settings import Settings
from .cluster import Cluster
from .spool import Spool, forget, make_directory, write
from .targets import Targets


def drop_or_raise(settings: Settings, cluster: Cluster, spool: Spool, name: WalName, error: DbopsError) -> str:
    """The alarm, when the file is given up; else the error that kept it from being archived."""
    limit = settings.archiving.drop_wal_when_free_below
    if limit is None or _free_bytes(cluster.wal_directory) >= limit:
        raise error
    del spool
    reason = f"{error.message} pg_wal had less than {limit} bytes free."
    try:
        directory = _directory(settings, cluster.system_identifier)
        make_directory(directory)
        write(os.path.join(directory, name.text), reason, durable=True)
    except OSError as exc:
        raise Unreachable(
            f"{error.message} It cannot be given up either, since that cannot be written down: {exc.strerror}.",
            hint=error.hint,
        ) from exc
    return (
        f"ALARM: {name.text} was NOT archived and is given up, because pg_wal is nearly full ({error.message}) "
        "Nothing can be recovered past it: mend the repository, then take a full backup at once."
    )


def pending(settings: Settings, system_identifier: str) -> list[str]:
    """What was given up and is not written down in every repository yet."""
    with contextlib.suppress(OSError):
        return sorted(name for name in os.listdir(_directory(settings, system_identifier)) if not name.endswith(".tmp"))
    return []


def settle_dropped(settings: Settings, cluster: Cluster, targets: Targets) -> None:
    """Write down in every required repository what was given up; later WAL is acknowledged only after that."""
    directory = _directory(settings, cluster.system_identifier)
    for name in pending(settings, cluster.system_identifier):
        path = os.path.join(directory, name)
        with open(path, encoding="utf-8", errors="replace") as stream:
            reason = stream.read().strip()
        for archive in targets.required:
            targets.check(archive)
            archive.mark_dropped(name, reason)
        forget(path)


def _directory(settings: Settings, system_identifier: str) -> str:
    """Not in the spool, which may vanish."""
    return os.path.join(settings.state_path, "dropped", system_identifier)


def _free_bytes(path: str) -> int:
    usage = os.statvfs(path)
    return usage.f_bavail * usage.f_frsize
