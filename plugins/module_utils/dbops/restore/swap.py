# SPDX-License-Identifier: GPL-3.0-or-later
"""A database is restored under a temporary name and takes its real one only when it is known to be good.

So nobody ever sees half of it, and the one that it replaces is moved aside, whole, in the same moment.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from ..errors import Busy, DbopsError, Refused, Unreachable
from ..pg.connection import Connection, connected
from ..pg.databases import (
    Database,
    creation,
    derived_name,
    finishing,
    identifier,
    renamed,
)
from ..pg.server import Server
from ..progress import Progress

_TEMPORARY = re.compile(r"_dbops_[0-9a-f]{8}$")
_ATTEMPTS = 6  # the server itself waits 5 s for the others to leave, each time
_ENDING_S = 1.0
_OTHERS = "select count(*)::int from pg_stat_activity where datname = %s and backend_type = 'client backend'"
_END_OTHERS = "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()"


def temporary_name(target: str) -> str:
    return derived_name(target, f"_dbops_{secrets.token_hex(4)}")


def name_aside(target: str, now: datetime) -> str:
    return derived_name(target, f"_before_{now:%Y%m%dT%H%M%SZ}")


def left_behind(names: Iterable[str]) -> list[str]:
    """Temporary databases: of a restore that is running elsewhere, or of one that was killed."""
    return [name for name in names if _TEMPORARY.search(name)]


@dataclass(frozen=True)
class Maintenance:
    """Connections for what one cannot do to the database one is in. Each is short: a restore may take hours."""

    server: Server
    database: str

    @classmethod
    def beside(cls, server: Server, targets: Iterable[str], there: Iterable[str]) -> Maintenance:
        """From login_db, or when that is to be replaced from another one that is there."""
        avoid = set(targets)
        for name in (server.connection.login_db, "postgres", "template1"):
            if name not in avoid and name in there:
                return cls(server, name)
        raise Refused(
            "Every database that one could restore from is to be replaced itself.",
            hint="Set login_db to a database that is not restored, or restore them one by one.",
        )

    @contextlib.contextmanager
    def session(self) -> Iterator[Connection]:
        with connected(self.server.connection, self.server.identity, database=self.database) as opened:
            yield opened

    def sessions_in(self, database: str) -> int:
        """Client sessions that stay: one that is just ending, perhaps one of ours, gets a moment to do so."""
        deadline = time.monotonic() + _ENDING_S
        with self.session() as session:
            while True:
                count = int(session.value(_OTHERS, (database,)))
                if not count or time.monotonic() > deadline:
                    return count
                time.sleep(0.05)

    def roles(self) -> frozenset[str]:
        with self.session() as session:
            return frozenset(row["rolname"] for row in session.rows("select rolname from pg_roles"))

    def tablespaces(self) -> frozenset[str]:
        with self.session() as session:
            return frozenset(row["spcname"] for row in session.rows("select spcname from pg_tablespace"))


@contextlib.contextmanager
def temporary_database(
    maintenance: Maintenance, like: Database, name: str, progress: Progress, *, with_owner: bool
) -> Iterator[None]:
    """An empty database of that name, made as `like` says. An exception inside of the block drops it."""
    with maintenance.session() as session:
        session.run(creation(renamed(like, name), major=maintenance.server.major, with_owner=with_owner))
    try:
        yield
    except BaseException:
        try:
            with maintenance.session() as session:
                session.run(f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)")
        except DbopsError as exc:
            progress.warn(f"Database {name!r}, half restored, could not be dropped: {exc.message} Drop it by hand.")
        raise


def finish(maintenance: Maintenance, like: Database, name: str, *, with_owner: bool, roles: frozenset[str]) -> None:
    """Settings, comment and rights, when it is full: some of them would have stood in the way."""
    with maintenance.session() as session:
        for statement in finishing(renamed(like, name), with_owner=with_owner, roles=roles):
            session.run(statement)


def swap(maintenance: Maintenance, ready: Mapping[str, str], aside: Mapping[str, str], *, disconnect: bool) -> None:
    """Rename all of `ready` (temporary name by target) at once, what stands there first to its name `aside`.

    One transaction: every target is either as it was or restored. Busy when sessions stay in a replaced database.
    """
    statements = [f"ALTER DATABASE {identifier(old)} RENAME TO {identifier(new)}" for old, new in aside.items()]
    statements += [f"ALTER DATABASE {identifier(new)} RENAME TO {identifier(old)}" for old, new in ready.items()]
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with maintenance.session() as session:
                for old in aside:
                    if disconnect:
                        session.run(_END_OTHERS, (old,))
                session.run("begin")
                for statement in statements:
                    session.run(statement)
                session.run("commit")
                return
        except Unreachable as exc:
            if "is being accessed by other users" not in exc.message:
                raise
            if attempt == _ATTEMPTS:
                raise busy(aside, exc.message) from exc


def busy(databases: Iterable[str], why: str) -> Busy:
    return Busy(
        f"Database {', '.join(map(repr, databases))} is in use and cannot be moved aside: {why}",
        hint="Stop its clients, or ask for their sessions to be ended (disconnect).",
    )
