# SPDX-License-Identifier: GPL-3.0-or-later
"""One database seen at one moment: an exported snapshot that pg_dump reads, and the rows counted in it beside."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Optional

from ..pg.connection import Connection, connected
from ..pg.server import Server
from ..pg.tables import Counts, Table, count_rows, dumped_tables, require_readable, steady_session
from ..settings import BackupSettings


class Snapshot:
    """An open transaction whose `name` pg_dump takes as --snapshot. Not for two threads at once."""

    def __init__(self, session: Connection, name: str, tables: list[Table]) -> None:
        self._session = session
        self.name = name
        self._tables = tables
        self._thread: Optional[threading.Thread] = None
        self._counts = Counts({}, {})
        self._failed: Optional[BaseException] = None
        self._stopping = False

    def counting_from_the_first(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same chunks; when the first has come, counting starts beside them.

        Not earlier: a lock of ours, taken before pg_dump has all of its own, could let a third session queue between
        the two, and pg_dump would wait for that one, which waits for us, who wait for pg_dump.
        """
        for chunk in chunks:
            if self._thread is None:
                self._start()
            yield chunk

    def counts(self) -> Counts:
        """Wait for the counting, which starts now if it has not yet; raises what it met."""
        thread = self._thread or self._start()
        thread.join()
        if self._failed is not None:
            raise self._failed
        return self._counts

    def abandon(self) -> None:
        """End a running count, so that a failed dump is reported now and not when a large table has been read."""
        self._stopping = True
        while self._thread is not None and self._thread.is_alive():
            self._session.cancel()  # again and again: it may just be between two statements
            self._thread.join(timeout=0.2)

    def _start(self) -> threading.Thread:
        self._thread = threading.Thread(target=self._count, name="dbops-count", daemon=True)
        self._thread.start()
        return self._thread

    def _count(self) -> None:
        try:
            self._counts = count_rows(self._session, self._unless_stopping())
        except BaseException as exc:  # noqa: BLE001  # handed to `counts`, which raises it
            self._failed = exc

    def _unless_stopping(self) -> Iterator[Table]:
        for table in self._tables:
            if self._stopping:
                return
            yield table


@contextlib.contextmanager
def snapshot(server: Server, database: str, backup: BackupSettings) -> Iterator[Snapshot]:
    """A snapshot of the database, kept until the block ends; Refused when the role may not read a table of it."""
    with connected(server.connection, server.identity, database=database) as session:
        steady_session(session)
        session.run("begin isolation level repeatable read read only")
        name = session.value("select pg_export_snapshot()")
        tables = dumped_tables(session, include=backup.include_tables, exclude=backup.exclude_tables)
        require_readable(database, tables, server.connection.session_role or server.connection.login_user)
        taken = Snapshot(session, name, tables if backup.row_counts else [])
        try:
            yield taken
        finally:
            taken.abandon()


def check_readable(server: Server, database: str, backup: BackupSettings) -> None:
    """What `snapshot` would refuse, found before anything of any database has been copied."""
    with snapshot(server, database, backup):
        return
