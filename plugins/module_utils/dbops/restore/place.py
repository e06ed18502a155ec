# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a restore goes: checked before a byte moves, filled beside the real place, swapped in at the end.

Everything is unpacked into `<place>.dbops-restore` next to its final place. Only when all of it is on disk does the old
directory become `<place>.before-<UTC>` and the new one take its name. Killed at any point, a restore leaves the old
cluster whole, in one place or the other, and a second run starts clean.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Optional

from ..errors import BadInput, Corrupt, NotFound, Refused
from ..pg.datadir import major_version, postmaster_pid, tablespace_links
from ..pg.osuser import Identity
from ..pg.service import service_of
from .durable import fsync_directory, write_durably

PARTIAL = ".dbops-restore"
NOTE = "dbops_moved_aside.json"
_TABLESPACE = re.compile(r"PG_\d+_\d+")  # what the server makes in a tablespace's directory, one for each version


@dataclass(frozen=True)
class Place:
    """One directory that a restore fills: the data directory or a tablespace."""

    path: str
    occupied: bool  # by something that will be moved aside
    keep_directory: bool  # an empty mount point: filled as it is, since it cannot be renamed

    @property
    def disk(self) -> str:
        """A directory that exists on the file system that will be filled."""
        return self.path if self.keep_directory else os.path.dirname(self.path)

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
    if not cluster and not all(_TABLESPACE.fullmatch(name) for name in os.listdir(path)):
        raise Refused(f"{path} is not empty and is no tablespace.", hint="It is not ours to move: name another place.")
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


def require_unwatched(path: str) -> None:
    """Refused where somebody would start the server again in the middle of what is done to it."""
    service = service_of(path) or ""
    if "patroni" in service.lower():
        raise Refused(
            f"The server in {path} is run by {service}, which would start it again at once.",
            hint="Stop that first, on every member of its cluster; then restore without stop and start.",
        )


def require_apart(places: Iterable[Place]) -> None:
    """No place may lie in another one: swapping the outer would take the inner along."""
    paths = sorted(os.path.realpath(place.path) for place in places)
    for outer, inner in zip(paths, paths[1:]):
        if inner == outer or inner.startswith(outer + os.sep):
            raise BadInput(
                f"{inner} and {outer} cannot both be restored into.",
                hint="Map each tablespace to a directory of its own, outside the data directory.",
            )


def require_not_of(place: Place, others: Iterable[str]) -> None:
    """A tablespace that another cluster still links to stays where it is: that cluster would lose it."""
    for data_directory in others:
        if os.path.realpath(place.path) in tablespace_links(data_directory).values():
            raise Refused(
                f"{place.path} is a tablespace of the cluster in {data_directory}.",
                hint="Map it to another directory, or restore in place of that cluster.",
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
    """Remove what was unpacked; a mount point was empty and is emptied again."""
    if not place.keep_directory:
        shutil.rmtree(place.partial, ignore_errors=True)
        return
    with os.scandir(place.path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


@dataclass(frozen=True)
class Moved:
    """What the swap moved aside: from → to, the data directory first; empty when nothing was there."""

    directories: dict[str, str]

    @property
    def data_directory(self) -> Optional[str]:
        return next(iter(self.directories.values()), None)


def swap(data: Place, tablespaces: dict[int, Place], *, label: str, now: Optional[datetime] = None) -> Moved:
    """Old directories aside, new ones in. The data directory last, so that nothing half-swapped can be started."""
    aside = names_aside([place.path for place in (data, *tablespaces.values()) if place.occupied], "before", now)
    if data.occupied:
        _leave_note(data.path, aside, label)
    try:
        for place in tablespaces.values():
            if place.occupied:
                os.rename(place.path, aside[place.path])
                relink(data.path, place.path, aside[place.path])
            _move_in(place)
    except BaseException:
        undo_half_swap(data.path, now=now)
        raise
    if data.occupied:
        os.rename(data.path, aside[data.path])
    _move_in(data)
    return Moved(aside)


def undo_half_swap(data_directory: str, *, now: Optional[datetime] = None) -> list[str]:
    """Give the old cluster its tablespaces back, of which a restore that ended in the middle had moved some aside.

    Only such a restore leaves its note in a data directory that is still in its place. What it had put in goes to
    `<place>.interrupted-<UTC>`; those paths are returned.
    """
    path = os.path.join(data_directory, NOTE)
    if not os.path.isfile(path):
        return []
    moved, _restored = read_note(path)
    interrupted = []
    for place, aside in moved.items():
        if place != data_directory and os.path.isdir(aside):
            if os.path.isdir(place):
                interrupted.append(names_aside([place], "interrupted", now)[place])
                os.rename(place, interrupted[-1])
            os.rename(aside, place)
            relink(data_directory, aside, place)
            fsync_directory(os.path.dirname(place))
    os.unlink(path)
    return interrupted


def read_note(path: str) -> tuple[dict[str, str], str]:
    """What a restore moved aside, place → where it lies, and the label that it restored."""
    try:
        with open(path, encoding="utf-8") as stream:
            note = json.load(stream)
        return {str(place): str(aside) for place, aside in note["moved"].items()}, str(note["restored"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise Corrupt(f"{path} cannot be read: {exc!r}.", hint="Move the directories by hand.") from exc


def names_aside(places: Iterable[str], word: str, now: Optional[datetime] = None) -> dict[str, str]:
    """`<place>.<word>-<UTC>` for each place, all of the same second: this one, or the next in which all are free."""
    moment = now or datetime.now(timezone.utc)
    while True:
        names = {place: f"{place}.{word}-{moment:%Y%m%dT%H%M%SZ}" for place in places}
        if not any(map(os.path.lexists, names.values())):
            return names
        moment += timedelta(seconds=1)


def _move_in(place: Place) -> None:
    if place.keep_directory:
        return
    os.rename(place.partial, place.path)  # replaces an empty directory, and nothing else
    fsync_directory(os.path.dirname(place.path))


def _leave_note(data_directory: str, aside: dict[str, str], label: str) -> None:
    """What a rollback needs to know goes along with the old directory itself."""
    note: dict[str, Any] = {"restored": label, "moved": aside}
    write_durably(os.path.join(data_directory, NOTE), (json.dumps(note, indent=1) + "\n").encode())


def relink(data_directory: str, old: str, new: str) -> None:
    """Let a cluster's link follow its tablespace, so that it still starts from where it now lies."""
    for oid, path in tablespace_links(data_directory, follow=False).items():
        if os.path.normpath(path) == old:
            link = os.path.join(data_directory, "pg_tblspc", str(oid))
            fresh = f"{link}.new"
            owner = os.lstat(link)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)
            os.symlink(new, fresh)
            if os.geteuid() == 0:
                os.lchown(fresh, owner.st_uid, owner.st_gid)
            os.rename(fresh, link)  # at once: a cluster without the link would start, and miss the tablespace
