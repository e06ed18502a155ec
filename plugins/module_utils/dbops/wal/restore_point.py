# SPDX-License-Identifier: GPL-3.0-or-later
"""A named restore point that is worth something: its WAL is archived and readable before anybody is told of it.

Without that a name is a promise that the next disk failure breaks.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from ..errors import BadInput, DbopsError, Refused, Unreachable
from ..pg.connection import Connection, connected
from ..pg.server import Server, look
from ..pg.wal import int_to_lsn, lsn_to_int
from ..pg.walfile import WalName, wal_name
from ..repo.archive import WalArchive
from ..repo.restore_points import RestorePoint, read_points, write_point
from ..settings import Settings
from .targets import Targets

_POLL_S = 0.2
_MAKE = """
select lsn::text as lsn, pg_walfile_name(lsn) as file, clock_timestamp() as moment
from pg_create_restore_point(%s) as lsn
"""


def create(settings: Settings, name: str, *, wait_s: int = 60, by: str = "") -> dict[str, Any]:
    """Make it, switch WAL, wait until that segment can be read back from every required repository, write it down.

    Refused for a name that was used before: PostgreSQL would stop at the first one of that name.
    """
    check_name(name)
    server = look(settings.connection, settings.host)
    _require_archiving(server)
    archives = Targets(settings, server.system_identifier).required
    with contextlib.ExitStack() as locks:
        for archive in archives:
            locks.enter_context(archive.repository.store.lock(f"{settings.cluster}/restore-point"))
        _require_unused(name, archives)
        with connected(server.connection, server.identity) as session:
            point, segment = _make(session, name, server, by)
        _wait(segment, archives, wait_s, name)
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


def _require_archiving(server: Server) -> None:
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
                    f"Restore point {name!r} was made before, at {int_to_lsn(point.position)} ({point.time}).",
                    hint="Choose another name: a recovery would stop at the first of that name.",
                )


def _make(session: Connection, name: str, server: Server, by: str) -> tuple[RestorePoint, WalName]:
    row = session.row(_MAKE, (name,))
    session.run("select pg_switch_wal()")
    segment = wal_name(row["file"])
    moment: datetime = row["moment"]
    point = RestorePoint(name, server.system_identifier, segment.timeline, lsn_to_int(row["lsn"]), moment, by)
    return point, segment


def _wait(segment: WalName, archives: Sequence[WalArchive], wait_s: int, name: str) -> None:
    until = time.monotonic() + wait_s
    for archive in archives:
        while not _can_be_read(archive, segment):
            if time.monotonic() > until:
                raise Unreachable(
                    f"Restore point {name!r} was made, but its segment {segment.text} did not come into repository "
                    f"{archive.name!r} within {wait_s} s.",
                    hint="See dbops wal status and the server's log; once archiving works the point can be used.",
                )
            time.sleep(_POLL_S)


def _can_be_read(archive: WalArchive, segment: WalName) -> bool:
    """To its last byte, with the right checksum."""
    try:
        _drain(archive.stream(segment))
    except DbopsError:
        return False
    return True


def _drain(chunks: Iterator[bytes]) -> None:
    for _chunk in chunks:
        pass
