# SPDX-License-Identifier: GPL-3.0-or-later
"""golang-migrate's advisory lock, both ids of it, taken by asking again and never by waiting inside the server.

A session that waits in `pg_advisory_lock` holds a snapshot, and a CREATE INDEX CONCURRENTLY of whoever holds the lock
waits for that snapshot: the two deadlock (golang-migrate issue 960). Between two tries of ours there is no snapshot.
"""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Iterator, Sequence

from ..errors import Busy
from ..pg.connection import Connection
from .state import StateTable

_SALT = 1486364155
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0


def lock_id(*names: str) -> int:
    """golang-migrate's GenerateAdvisoryLockId; the names in the order in which it joins them: the database last."""
    return (zlib.crc32("\0".join(names).encode()) * _SALT) % (1 << 32)


def lock_ids(table: StateTable, database: str) -> tuple[int, int]:
    """The command's, whose database name is a URL's path with its slash, and an embedding application's, without."""
    return lock_id(table.schema, table.name, "/" + database), lock_id(table.schema, table.name, database)


@contextlib.contextmanager
def held(session: Connection, table: StateTable, database: str, *, wait_s: float) -> Iterator[None]:
    """Both locks, for the time of the block. Busy, with who holds them, when they are not free within `wait_s`."""
    ids = lock_ids(table, database)
    deadline, pause = time.monotonic() + wait_s, _FIRST_PAUSE_S
    while not _taken(session, ids):
        if time.monotonic() >= deadline:
            raise Busy(
                f"Another run migrates {database!r}: {_holder(session, ids)}; it was not done within {wait_s:g} s.",
                hint="Wait for it, or look at that session: select * from pg_stat_activity where pid = ...",
            )
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(2 * pause, _LONGEST_PAUSE_S)
    try:
        yield
    finally:
        with contextlib.suppress(Exception):  # a broken connection has lost its locks anyway
            for number in reversed(ids):
                session.value("select pg_advisory_unlock(%s)", (number,))


def _taken(session: Connection, ids: Sequence[int]) -> bool:
    """Both or none, each in a statement of its own."""
    taken: list[int] = []
    for number in ids:
        if not session.value("select pg_try_advisory_lock(%s)", (number,)):
            for mine in taken:
                session.value("select pg_advisory_unlock(%s)", (mine,))
            return False
        taken.append(number)
    return True


def _holder(session: Connection, ids: Sequence[int]) -> str:
    rows = session.rows(
        "select a.pid, a.usename, a.application_name, a.client_addr, "
        "date_trunc('second', now() - a.backend_start) as age "
        "from pg_locks l join pg_stat_activity a on a.pid = l.pid "
        "where l.locktype = 'advisory' and l.granted and l.classid = 0 and l.objsubid = 1 "
        "and l.objid::bigint = any(%s) "
        "and l.database = (select oid from pg_database where datname = current_database())",
        (list(ids),),
    )
    shown = [
        f"pid {row['pid']} ({row['usename']}, {row['application_name'] or 'no application name'}, "
        f"from {row['client_addr'] or 'the socket'}, connected for {row['age']})"
        for row in rows
    ]
    return ", ".join(shown) or "it has just gone"
