# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a restore goes: checked before a byte moves, filled beside the real place, swapped in at the end.

Everything is unpacked into `<place>.dbops-restore` next to its final place. Only when all of it is on disk does the old
directory become `<place>.before-<UTC>` and the new one take its name. Killed at any point, a restore leaves the old
cluster whole, in one place or the other, and a second run starts clean.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Optional

from ..errors import BadInput, NotFound, Refused
from ..pg.datadir import major_version, postmaster_pid
from ..pg.osuser import Identity
from .durable import fsync_directory, write_durably

PARTIAL = ".dbops-restore"
NOTE = "dbops_moved_aside.json"


@dataclass(frozen=True)
class Place:
    """One directory that a restore fills: the data directory or a tablespace."""

    path: str
    occupied: bool  # by something that will be moved aside
    keep_directory: bool  # an empty mount point: filled as it is, since it cannot be renamed

    @property
    def partial(self) -> str:
        return self.path if self.keep_directory else self.path + PARTIAL


def judge(path: str, *, in_place: bool, cluster: bool) -> Place:
    """Refused unless the path is missing or empty, or `in_place` and plainly a cluster's directory."""
    if not os.path.isabs(path) or os.path.normpath(path) in ("/", "/etc", "/home", "/usr", "/var", "/root"):
        raise BadInput(f"{path!r} cannot be a target.", hint="Give the absolute path of a directory of its own.")
    path = os.path.normpath(path)
    if os.path.islink(path):
        path = os.path.realpath(path)  # move what it points to, and the link goes on pointing at the new one
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        raise NotFound(
            f"{parent} does not exist, so nothing can be restored into {path}.", hint=f"Make {parent} first."
        )
    if not os.path.exists(path):
        return Place(path, occupied=False, keep_directory=False)
    if not os.path.isdir(path):
        raise Refused(f"{path} is a file.", hint="Name a directory.")
    if not os.listdir(path):
        return Place(path, occupied=False, keep_directory=os.path.ismount(path))
    if not in_place:
        raise Refused(
            f"{path} is not empty.",
            hint="Restore into an empty directory, or in place (the old one is then moved aside, never removed).",
        )
    if cluster and major_version(path) is None:
        raise Refused(f"{path} is not empty and holds no cluster.", hint="It is not ours to move: empty it yourself.")
    if os.path.ismount(path):
        raise Refused(
            f"{path} is a mount point and cannot be moved aside.",
            hint="Move its content aside yourself, or restore into another directory and mount that here.",
        )
    return Place(path, occupied=True, keep_directory=False)


def require_stopped(path: str) -> None:
    pid = postmaster_pid(path)
    if pid is not None:
        raise Refused(
            f"A server runs in {path} (process {pid}).",
            hint="Stop it first: systemctl stop postgresql, or pg_ctl stop -D; or let the restore stop it (stop=true).",
        )


def prepare(place: Place, owner: Identity) -> str:
    """The empty private directory to fill; what a killed restore left of it is removed first."""
    if place.keep_directory:
        os.chmod(place.path, 0o700)
        owner.give(place.path)
        return place.path
    shutil.rmtree(place.partial, ignore_errors=True)
    os.mkdir(place.partial, 0o700)
    owner.give(place.partial)
    return place.partial


def discard(place: Place) -> None:
    if not place.keep_directory:
        shutil.rmtree(place.partial, ignore_errors=True)


@dataclass(frozen=True)
class Moved:
    """What the swap moved aside: from → to, the data directory first; empty when nothing was there."""

    directories: dict[str, str]

    @property
    def data_directory(self) -> Optional[str]:
        return next(iter(self.directories.values()), None)


def swap(data: Place, tablespaces: dict[int, Place], *, label: str, now: Optional[datetime] = None) -> Moved:
    """Old directories aside, new ones in. The data directory last, so that nothing half-swapped can be started."""
    stamp = f"{now or datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}"
    aside = {place.path: f"{place.path}.before-{stamp}" for place in (data, *tablespaces.values()) if place.occupied}
    if data.occupied:
        _leave_note(data.path, aside, label)
    for oid, place in tablespaces.items():
        if place.occupied:
            os.rename(place.path, aside[place.path])
            relink(data.path, oid, place.path, aside[place.path])
        _move_in(place)
    if data.occupied:
        os.rename(data.path, aside[data.path])
    _move_in(data)
    return Moved(aside)


def _move_in(place: Place) -> None:
    if place.keep_directory:
        return
    os.rename(place.partial, place.path)  # replaces an empty directory, and nothing else
    fsync_directory(os.path.dirname(place.path))


def _leave_note(data_directory: str, aside: dict[str, str], label: str) -> None:
    """What a rollback needs to know goes along with the old directory itself."""
    note: dict[str, Any] = {"restored": label, "moved": aside}
    write_durably(os.path.join(data_directory, NOTE), (json.dumps(note, indent=1) + "\n").encode())


def relink(data_directory: str, oid: int, old: str, new: str) -> None:
    """Let the old cluster's link follow its tablespace, so that it still starts from where it now lies."""
    link = os.path.join(data_directory, "pg_tblspc", str(oid))
    if os.path.islink(link) and os.path.normpath(os.readlink(link)) == old:
        owner = os.lstat(link)
        os.unlink(link)
        os.symlink(new, link)
        if os.geteuid() == 0:
            os.lchown(link, owner.st_uid, owner.st_gid)
