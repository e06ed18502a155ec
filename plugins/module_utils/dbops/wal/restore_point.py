# SPDX-License-Identifier: GPL-3.0-or-later
"""A named restore point that is worth something: its WAL is archived and readable before anybody is told of it.

Without that a name is a promise that the next disk failure breaks.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..errors import BadInput, Corrupt, DbopsError, Refused, Unreachable
from ..pg.connection import Connection, connected
from ..pg.server import Server, look
from ..pg.wal import int_to_lsn, lsn_to_int, segments_between
from ..pg.waldump import contents
from ..pg.walfile import WalName, wal_name
from ..repo.archive import WalArchive
from ..repo.record import iso
from ..repo.restore_points import RestorePoint, read_points, write_point
from ..settings import Settings
from .targets import Targets

_POLL_S = 0.2
_LONGEST_RECORD = 256  # bytes; a restore point's has a header, a time and a name of 64
_FUNCTIONS = ("pg_create_restore_point(text)", "pg_switch_wal()")
_MAKE = """
select lsn::text as lsn, pg_walfile_name(lsn) as file, clock_timestamp() as moment
from pg_create_restore_point(%s) as lsn
"""


@dataclass(frozen=True)
class PointPlan:
    """A point that can be made: the name is free, and the server archives."""

    name: str
    server: Server
    archives: tuple[WalArchive, ...]

    def preview(self) -> dict[str, Any]:
        return {
            "changed": True,
            "msg": f"Would make restore point {self.name!r} and wait until it is archived.",
            "restore_point": {
                "name": self.name,
                "system_identifier": self.server.system_identifier,
                "repositories": [archive.name for archive in self.archives],
            },
            "warnings": [],
        }


def plan(settings: Settings, name: str) -> PointPlan:
    """Refused for a name that was used before: PostgreSQL would stop at the first one of that name."""
    check_name(name)
    server = look(settings.connection, settings.host)
    require_archiving(server)
    with connected(server.connection, server.identity) as session:
        require_rights(session, server)
    archives = tuple(Targets(settings, server.system_identifier).required)
    _require_unused(name, archives)
    return PointPlan(name, server, archives)


def create(settings: Settings, name: str, *, wait_s: int = 60, by: str = "") -> dict[str, Any]:
    """Make it, switch WAL, wait until it can be found again by its name in every required repository, write it down."""
    planned = plan(settings, name)
    server, archives = planned.server, planned.archives
    with contextlib.ExitStack() as locks:
        for archive in archives:
            locks.enter_context(archive.repository.store.lock(f"{settings.cluster}/restore-point"))
        _require_unused(name, archives)  # once more: now nobody else can make it
        with connected(server.connection, server.identity) as session:
            point = make(session, name, server, by)
            segment = switch(session, point)
        wait_until_archived(point, segment, archives, wait_s, server)
        for archive in archives:
            write_point(archive.repository, point)
    return {
        "changed": True,
        "msg": f"Restore point {name!r} is at {int_to_lsn(point.position)} on timeline {point.timeline}, archived.",
        "restore_point": {
            **point.describe(),
            "segment": segment.text,
            "repositories": [archive.name for archive in archives],
        },
        "warnings": [],
    }


def check_name(name: str) -> None:
    if not name or len(name.encode("utf-8", "surrogatepass")) > 63 or not name.isprintable():
        raise BadInput(f"{name!r} cannot be a restore point's name.", hint="Use 1 to 63 bytes of printable text.")


def require_archiving(server: Server) -> None:
    if server.in_recovery:
        raise Refused("A standby cannot make a restore point.", hint="Make it on the primary.")
    if server.settings["archive_mode"] == "off":
        raise Refused(
            "The server does not archive its WAL (archive_mode=off), so nothing could be restored to that point.",
            hint="Set up archiving first.",
        )


def _require_unused(name: str, archives: Sequence[WalArchive]) -> None:
    for archive in archives:
        for point in read_points(archive.repository, archive.system_identifier):
            if point.name == name:
                raise Refused(
                    f"Restore point {name!r} was made before, at {int_to_lsn(point.position)} ({iso(point.time)}).",
                    hint="Choose another name: a recovery would stop at the first of that name.",
                )


def require_rights(session: Connection, server: Server) -> None:
    """Both of them, before the first is used: a point whose WAL cannot be finished is of no use."""
    lacking = [
        name
        for name in _FUNCTIONS
        if not session.value("select has_function_privilege(%s, 'EXECUTE')", (f"pg_catalog.{name}",))
    ]
    if lacking:
        role = server.connection.login_user
        raise Refused(
            f"Role {role!r} may not call {' and '.join(lacking)}.",
            hint=f"As a superuser, in database {server.connection.login_db!r}: GRANT EXECUTE ON FUNCTION "
            f"{', '.join(lacking)} TO that role; playbooks/setup.yml does so for the backup role.",
        )


def make(session: Connection, name: str, server: Server, by: str) -> RestorePoint:
    """The point alone. Nothing is promised of it until its WAL is archived."""
    row = session.row(_MAKE, (name,))
    timeline = wal_name(row["file"]).timeline
    moment: datetime = row["moment"]
    return RestorePoint(name, server.system_identifier, timeline, lsn_to_int(row["lsn"]), moment, by)


def switch(session: Connection, point: RestorePoint) -> WalName:
    """Finish the point's segment, so that it is archived now; its name."""
    name = wal_name(session.value("select pg_walfile_name(%s::pg_lsn)", (int_to_lsn(point.position),)))
    session.run("select pg_switch_wal()")
    return name


def wait_until_archived(
    point: RestorePoint, segment: WalName, archives: Sequence[WalArchive], wait_s: int, server: Server
) -> None:
    """Return when the archived WAL itself shows the point, in each repository."""
    until = time.monotonic() + wait_s
    for archive in archives:
        while not _is_found(point, archive, server):
            if time.monotonic() > until:
                raise Unreachable(
                    f"Restore point {point.name!r} was made, but its segment {segment.text} did not come into "
                    f"repository {archive.name!r} within {wait_s} s.",
                    hint="See dbops wal status and the server's log; once archiving works the point can be used.",
                )
            time.sleep(_POLL_S)


def _is_found(point: RestorePoint, archive: WalArchive, server: Server) -> bool:
    """By its name, in the copy that a recovery would read. Corrupt when that copy is whole and does not have it."""
    with tempfile.TemporaryDirectory(prefix="dbops-restore-point-") as room:
        server.identity.give(room)
        paths = []
        # Two segments where the record begins in the one before.
        begin = max(0, point.position - _LONGEST_RECORD)
        for name in segments_between(point.timeline, begin, point.position, server.segment_size):
            paths.append(os.path.join(room, name))
            try:
                with open(paths[-1], "wb") as stream:
                    for chunk in archive.stream(wal_name(name)):
                        stream.write(chunk)
            except DbopsError:
                return False
            server.identity.give(paths[-1])
        found = contents(server.tools, paths).marks
    if not any(mark.kind == "restore_point" and mark.name == point.name for mark in found):
        raise Corrupt(
            f"Restore point {point.name!r} is not in the WAL that repository {archive.name!r} has of "
            f"{int_to_lsn(point.position)}.",
            hint="Look for another server that archives into the same place; see dbops wal status.",
        )
    return True
