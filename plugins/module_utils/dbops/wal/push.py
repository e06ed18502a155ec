# SPDX-License-Identifier: GPL-3.0-or-later
"""archive_command: returns when one file is durable in every required repository, and raises otherwise.

The shell script (scripts.py) answers when a worker has been ahead of the server. This is what a miss starts: it has
the worker started, pushes its own file meanwhile, and never touches pg_wal/archive_status, which is the server's.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from typing import Any

from ..errors import DbopsError
from ..pg.walfile import WalName, wal_name
from ..repo.archive import Stored
from ..settings import Settings
from ..store import preload
from . import guard, optional
from .bounded import bounded
from .cluster import Cluster, calling_cluster, check_place
from .launch import Launcher
from .segment import packed_file
from .spool import ERROR, Spool, Version, forget, version_of
from .targets import Targets

FRESH_ERROR_S = 3  # the worker's error is repeated, instead of trying at once what has just failed


@dataclass
class Pushed:
    """`lines` is what the operator should read although all went well."""

    name: str
    stored: str  # new, identical, acknowledged (a worker did it) or dropped
    lines: list[str] = field(default_factory=list)


def push(settings: Settings, spool_path: str, path: str, launcher: Launcher) -> Pushed:
    name = wal_name(os.path.basename(path))
    cluster = calling_cluster(settings, path)
    check_place(settings, cluster)
    spool = Spool(spool_path, cluster)
    has_spool = spool.may_claim()
    if has_spool and _is_acknowledged(settings, spool, name, path):
        return Pushed(name.text, "acknowledged")
    for item in settings.repositories:
        if item.required:
            preload(item)
    try:
        if has_spool:
            _repeat_fresh_error(spool, name)
            launcher.push_worker(cluster, skip=name.text)
        told = bounded(
            lambda: _push_now(settings, cluster, path, name),
            timeout_s=settings.archiving.timeout_s,
            what=f"Archiving {name.text}",
        )
    except DbopsError as error:
        return Pushed(name.text, "dropped", [guard.drop_or_raise(settings, cluster, spool, name, error)])
    with contextlib.suppress(OSError):
        optional.note(spool, settings, [name.text])
    if has_spool:
        spool.push.await_worker()
    lines = []
    if told["stored"] == Stored.IDENTICAL.value:
        lines = [f"{name.text} was archived already, with the same content: made durable again."]
    return Pushed(name.text, told["stored"], lines)


def push_one(targets: Targets, cluster: Cluster, path: str, name: WalName) -> tuple[Stored, Version]:
    """One file, now, in this thread."""
    with targets.packing:
        packed, version = packed_file(cluster, path, name, targets.shape)
    return targets.store(packed), version


def _push_now(settings: Settings, cluster: Cluster, path: str, name: WalName) -> dict[str, Any]:
    targets = Targets(settings, cluster.system_identifier)
    guard.settle_dropped(settings, cluster, targets)
    stored, _version = push_one(targets, cluster, path, name)
    return {"stored": stored.value}


def _is_acknowledged(settings: Settings, spool: Spool, name: WalName, path: str) -> bool:
    """Whether a marker is there, or comes while a living worker may be at this very file."""
    try:
        version = version_of(path)
    except OSError:
        return False  # pushing it will say why
    limit = time.monotonic() + min(10.0, settings.archiving.timeout_s / 3)
    poked = False
    while not spool.is_acknowledged(name.text, version):
        failed = os.path.exists(os.path.join(spool.markers, name.text + ERROR))
        if failed or time.monotonic() > limit or not spool.push.has_worker():
            return spool.is_acknowledged(name.text, version)
        if not poked:
            spool.push.poke()
            poked = True
        time.sleep(0.02)
    return True


def _repeat_fresh_error(spool: Spool, name: WalName) -> None:
    """Raise what the worker has just met with this file; the next call tries for itself."""
    path = os.path.join(spool.markers, name.text + ERROR)
    try:
        age = abs(time.time() - os.stat(path).st_mtime)
        with open(path, encoding="utf-8", errors="replace") as stream:
            text = " ".join(stream.read().split())
    except OSError:
        return
    forget(path)
    if age <= FRESH_ERROR_S and text:
        raise DbopsError(text)
