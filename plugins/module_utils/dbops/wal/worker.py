# SPDX-License-Identifier: GPL-3.0-or-later
"""The push worker: archives what waits in pg_wal/archive_status ahead of the server's asking, several at a time.

It only reads archive_status. It stops at the first error, leaving word of it: whether and when to try again is the
server's decision, and a file that must not be archived is a reason not to archive those after it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional

from ..errors import BadInput, DbopsError, NotFound
from ..pg.walfile import Kind, WalName, wal_name
from ..settings import Settings
from . import guard, optional
from .cluster import Cluster
from .launch import Launcher
from .log import note
from .premises import settings_stamps
from .push import push_one
from .spool import ERROR, OK, Spool, forget, version_of, wait_for_poke, write
from .targets import Targets

_READY = ".ready"
_LOOK_AGAIN_S = 0.1  # while the server has not yet asked for all that is done


def run_worker(
    settings: Settings, spool: Spool, cluster: Cluster, launcher: Launcher, *, skip: str = "", config: str = ""
) -> None:
    """Push until nothing has been asked for `linger_s`. Returns at once when another worker is at it."""
    spool.claim()
    with spool.push.hold() as held:
        if not held:
            return
        fifo = spool.push.open_fifo()
        try:
            PushWorker(settings, spool, cluster, launcher, config).run(fifo, skip)
        finally:
            os.close(fifo)


class PushWorker:
    def __init__(self, settings: Settings, spool: Spool, cluster: Cluster, launcher: Launcher, config: str) -> None:
        self._settings = settings
        self._spool = spool
        self._cluster = cluster
        self._launcher = launcher
        self._config = config
        self._config_stamps = settings_stamps(config)
        self._targets = Targets(settings, cluster.system_identifier)
        self._status: dict[str, Any] = {"pid": os.getpid(), "pushed": 0, "last_pushed": None, "last_error": None}
        self._told_at = 0.0

    def run(self, fifo: int, skip: str) -> None:
        archiving = self._settings.archiving
        until = time.monotonic() + archiving.linger_s
        # Twice as many as compress: while some wait for a disk's or a store's answer, the others keep the CPUs busy.
        with ThreadPoolExecutor(max_workers=2 * archiving.workers, thread_name_prefix="dbops-push") as pool:
            while self._goes_on():
                ready = ready_files(self._cluster.wal_directory, limit=archiving.batch)
                self._tidy(ready)
                waiting = [name for name in ready if not self._is_done(name)]
                # Somebody is at that one: last, when it may be done. But nothing overtakes a history.
                waiting.sort(key=lambda name: name.text == skip and name.kind is not Kind.HISTORY)
                if waiting:
                    if not self._push_all(pool, waiting):
                        break
                    until = time.monotonic() + archiving.linger_s
                    continue
                self._tell()
                left = until - time.monotonic()
                if wait_for_poke(fifo, min(left, _LOOK_AGAIN_S) if ready else left):
                    until = time.monotonic() + archiving.linger_s
                elif time.monotonic() >= until:
                    break
        self._tell(now=True)

    def _goes_on(self) -> bool:
        """Not for another cluster in the same place, and not with settings that are no longer true."""
        return self._cluster.is_still_there() and settings_stamps(self._config) == self._config_stamps

    def _push_all(self, pool: ThreadPoolExecutor, names: Sequence[WalName]) -> bool:
        """In order, several at a time; after the first failure none is begun."""
        try:
            guard.settle_dropped(self._settings, self._cluster, self._targets)
        except (DbopsError, OSError) as exc:
            self._fail(names[0], exc)
            return False
        failed = False

        def one(name: WalName) -> bool:
            nonlocal failed
            if failed:
                return False
            try:
                self._push(name)
            except (DbopsError, OSError) as exc:
                failed = True
                self._fail(name, exc)
            return not failed

        # No segment of a timeline is archived before the history without which nobody would find it.
        histories = [name for name in names if name.kind is Kind.HISTORY]
        outcome = [*pool.map(one, histories), *pool.map(one, [name for name in names if name not in histories])]
        for repository in optional.names(self._settings):
            self._catch_up(repository)
        return all(outcome)

    def _push(self, name: WalName) -> None:
        path = os.path.join(self._cluster.wal_directory, name.text)
        try:
            stored, version = push_one(self._targets, self._cluster, path, name)
        except NotFound:
            if os.path.exists(path):
                raise
            return  # archived by a command of its own meanwhile, and recycled
        optional.note(self._spool, self._settings, [name.text])
        self._spool.acknowledge(name.text, version)
        note(self._settings, "push-worker", f"{name.text} archived: {stored.value}")
        self._status["pushed"] += 1
        self._status["last_pushed"] = name.text
        self._tell()

    def _is_done(self, name: WalName) -> bool:
        try:
            version = version_of(os.path.join(self._cluster.wal_directory, name.text))
        except OSError:
            return True  # gone: whoever archived it was quicker
        return self._spool.is_acknowledged(name.text, version)

    def _fail(self, name: WalName, exc: Exception) -> None:
        text = one_line(exc)
        self._status["last_error"] = f"{name.text}: {text}"
        note(self._settings, "push-worker", f"{name.text} failed: {text}")
        with contextlib.suppress(OSError):
            write(os.path.join(self._spool.markers, name.text + ERROR), text)

    def _tidy(self, ready: Sequence[WalName]) -> None:
        """Drop markers of what the server does not wait for any more, so that they are never more than a batch."""
        wanted = {name.text for name in ready}
        with contextlib.suppress(OSError):
            for marker in os.listdir(self._spool.markers):
                for suffix in (OK, ERROR, ".tmp"):
                    if marker.endswith(suffix) and marker[: -len(suffix)] not in wanted:
                        forget(os.path.join(self._spool.markers, marker))

    def _catch_up(self, repository: str) -> None:
        self._launcher.optional_worker(self._cluster, repository)
        optional.Book(self._spool, repository).desk.poke()

    def _tell(self, *, now: bool = False) -> None:
        if now or time.monotonic() - self._told_at > 1.0:
            self._told_at = time.monotonic()
            with contextlib.suppress(OSError):
                write(os.path.join(self._spool.push.path, "status.json"), json.dumps(self._status))


def ready_files(wal_directory: str, *, limit: Optional[int] = None) -> list[WalName]:
    """What the server wants archived, in its order: histories first, then by name."""
    found = []
    with os.scandir(os.path.join(wal_directory, "archive_status")) as entries:
        for entry in entries:
            if entry.name.endswith(_READY):
                with contextlib.suppress(BadInput):
                    found.append(wal_name(entry.name[: -len(_READY)]))
    found.sort(key=lambda name: (name.kind is not Kind.HISTORY, name.text))
    return found[:limit]


def one_line(exc: Exception) -> str:
    return " ".join((str(exc) or type(exc).__name__).split())
