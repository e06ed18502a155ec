# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster that calls archive_command or restore_command: where it lies and which system it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Optional

from ..errors import DbopsError, NotFound, Refused
from ..pg.controlfile import control_file
from ..settings import Settings


@dataclass(frozen=True)
class Cluster:
    data_directory: str
    system_identifier: str
    timeline: int  # pg_control's
    major: int
    born_ns: int  # when PG_VERSION was made; nothing ever changes that file, so a script can tell clusters apart by it

    @property
    def wal_directory(self) -> str:
        return os.path.join(self.data_directory, "pg_wal")

    @property
    def is_standby(self) -> bool:
        return os.path.exists(os.path.join(self.data_directory, "standby.signal"))

    def is_still_there(self) -> bool:
        """Whether the same cluster still lies in this place: a restore may have put another one here."""
        try:
            return cluster_in(self.data_directory).same_as(self)
        except DbopsError:
            return False

    def same_as(self, other: Cluster) -> bool:
        return (self.system_identifier, self.major, self.born_ns) == (
            other.system_identifier,
            other.major,
            other.born_ns,
        )


def cluster_in(data_directory: str) -> Cluster:
    control = control_file(data_directory)
    try:
        with open(os.path.join(data_directory, "PG_VERSION"), encoding="ascii") as stream:
            major, born_ns = int(stream.read()), os.fstat(stream.fileno()).st_mtime_ns
    except (OSError, ValueError) as exc:
        raise NotFound(
            f"{data_directory} has no readable PG_VERSION.", hint="Name the server's data directory."
        ) from exc
    return Cluster(os.path.abspath(data_directory), control.system_identifier, control.timeline, major, born_ns)


def calling_cluster(settings: Settings, path: str) -> Cluster:
    """The cluster whose server gave us `path` (its %p): the file's own, else the working directory's.

    PostgreSQL works in its data directory and names files relative to it; other callers give absolute paths.
    """
    beside = os.path.dirname(os.path.dirname(os.path.abspath(path)))
    for place in (beside, os.getcwd(), settings.host.data_directory):
        if place and os.path.exists(os.path.join(place, "global", "pg_control")):
            return cluster_in(place)
    raise NotFound(
        f"Cannot tell whose file {path} is: neither there nor in {os.getcwd()} is a data directory.",
        hint="Use %p as PostgreSQL gives it, or set host.data_directory.",
    )


def check_place(settings: Settings, cluster: Cluster) -> None:
    """Refused when a copy of the cluster archives with the settings of the original."""
    stated: Optional[str] = settings.host.data_directory
    if stated and os.path.realpath(stated) != os.path.realpath(cluster.data_directory):
        raise Refused(
            f"The server in {cluster.data_directory} must not archive as cluster {settings.cluster!r}, "
            f"which lies in {stated}.",
            hint="Set archive_mode=off in a copy, or correct host.data_directory.",
        )
