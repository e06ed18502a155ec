# SPDX-License-Identifier: GPL-3.0-or-later
"""restore_command: hands out what is verified, says "missing" only of what is proven missing, and else "cannot know".

The shell script (scripts.py) answers when a segment was fetched ahead; this is what a miss starts, and what every
question for a history is answered by. Exit codes: 0; 1 = missing, which ends recovery; 255 = PostgreSQL must stop.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from typing import Any, Optional

from ..errors import DbopsError, Unreachable
from ..pg.walfile import Kind, WalName, wal_name
from ..settings import Settings
from ..store import preload
from .bounded import bounded
from .cluster import Cluster, calling_cluster
from .fetch import FOUND, IMPOSSIBLE, MISSING, UNKNOWN, Outcome, fetch
from .launch import Launcher
from .prefetch import BUSY, await_first, take, want, want_from_start
from .spool import Spool, forget, give_path
from .targets import archives

CANNOT_KNOW = 255
_BUSY_LIMIT_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0


@dataclass
class Got:
    exit_code: int
    lines: list[str] = field(default_factory=list)


def get(settings: Settings, spool_path: str, file: str, to: str, launcher: Launcher) -> Got:
    """Whatever happens, the answer is a code that PostgreSQL understands rightly; `lines` says why."""
    cluster: Optional[Cluster] = None
    try:
        cluster = calling_cluster(settings, to)
        return _get(settings, cluster, Spool(spool_path, cluster), wal_name(file), to, launcher)
    except (DbopsError, OSError) as exc:
        return _cannot_know(settings, cluster, [str(exc)])


def _get(settings: Settings, cluster: Cluster, spool: Spool, name: WalName, to: str, launcher: Launcher) -> Got:
    prefetch = settings.archiving.prefetch_bytes > 0 and spool.may_claim()
    if prefetch and name.kind is Kind.SEGMENT and _handed_over(spool, name, to):
        spool.get.poke()
        return Got(0)
    for item in settings.repositories[:1]:  # the others are only asked when that one lacks it
        preload(item)
    begun = prefetch and name.kind is Kind.HISTORY and _begin_ahead(spool, cluster, launcher)
    outcome = _persistently(settings, cluster, name, to)
    if begun:
        await_first(spool)
    if outcome.verdict == FOUND:
        if prefetch and outcome.segment_size is not None:
            _fetch_ahead(spool, cluster, name, outcome.segment_size, launcher)
        return Got(0, outcome.lines)
    if outcome.verdict == MISSING:
        return Got(1, outcome.lines)
    return _cannot_know(settings, cluster, outcome.lines or [f"Cannot know whether {name.text} is archived."])


def _persistently(settings: Settings, cluster: Cluster, name: WalName, to: str) -> Outcome:
    """Ask until somebody knows or the time is over. A standby asks again by itself, and may stream meanwhile."""
    budget = settings.archiving.get_retry_s
    if cluster.is_standby and settings.archiving.standby_get_exit == 1:
        budget = 0
    until = time.monotonic() + budget
    pause = _FIRST_PAUSE_S
    while True:
        outcome = _once(settings, cluster, name, to)
        left = until - time.monotonic()
        if outcome.verdict != UNKNOWN or left <= 0:
            return outcome
        time.sleep(min(pause, left))
        pause = min(pause * 2, _LONGEST_PAUSE_S)


def _once(settings: Settings, cluster: Cluster, name: WalName, to: str) -> Outcome:
    """Never a half file at `to`: it gets its name when it is whole and verified."""
    temporary = f"{to}.dbops-{os.getpid()}"
    forget(temporary)

    def work() -> dict[str, Any]:
        return fetch(archives(settings, cluster.system_identifier), name, temporary).as_json()

    try:
        told = bounded(work, timeout_s=settings.archiving.timeout_s, what=f"Fetching {name.text}")
        if told["verdict"] == FOUND:
            if os.geteuid() == 0:
                _give_to_owner_of_data(cluster, temporary)
            os.rename(temporary, to)
        return Outcome(**told)
    except Unreachable as exc:
        return Outcome(UNKNOWN, [str(exc)])
    except DbopsError as exc:
        return Outcome(IMPOSSIBLE, [str(exc)])
    finally:
        forget(temporary)


def _handed_over(spool: Spool, name: WalName, to: str) -> bool:
    """Take a prefetched file, waiting a little for one that is on its way."""
    limit = time.monotonic() + _BUSY_LIMIT_S
    while True:
        if take(spool, name.text, to):
            return True
        busy = os.path.exists(os.path.join(spool.ready, name.text + BUSY))
        if not busy or time.monotonic() > limit or not spool.get.has_worker():
            return take(spool, name.text, to)
        time.sleep(0.01)


def _begin_ahead(spool: Spool, cluster: Cluster, launcher: Launcher) -> bool:
    """Recovery asks for histories before anything else: time for the worker to start, and to fetch the first."""
    with contextlib.suppress(OSError, DbopsError):
        if not spool.get.has_worker():
            want_from_start(spool, cluster)
            launcher.get_worker(cluster)
            return True
    return False


def _fetch_ahead(spool: Spool, cluster: Cluster, name: WalName, segment_size: int, launcher: Launcher) -> None:
    with contextlib.suppress(OSError):
        want(spool, name.text, segment_size)
        spool.get.poke()
        launcher.get_worker(cluster)
        spool.get.await_worker()


def _cannot_know(settings: Settings, cluster: Optional[Cluster], lines: list[str]) -> Got:
    if cluster is not None and cluster.is_standby and settings.archiving.standby_get_exit == 1:
        return Got(1, [*lines, "This is a standby: it waits, and asks again."])
    return Got(CANNOT_KNOW, [*lines, "Recovery stops here and nothing is promoted: mend that, then start again."])


def _give_to_owner_of_data(cluster: Cluster, path: str) -> None:
    with contextlib.suppress(OSError):
        give_path(path)
    owner = os.stat(cluster.data_directory)
    os.chown(path, owner.st_uid, owner.st_gid)
