# SPDX-License-Identifier: GPL-3.0-or-later
"""The workbench of a rehearsal: databases of its own on a server, copied from each other, all gone at the end."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import DbopsError, Refused
from ..pg.connection import Connection, connected
from ..pg.osuser import Identity
from ..settings import ConnectionSettings
from .state import quote


@dataclass
class Bench:
    """Safe for several threads: every session is one thread's own, and making databases is done in turns."""

    connection: ConnectionSettings
    identity: Identity
    prefix: str = field(default_factory=lambda: f"dbops_rehearsal_{os.getpid()}_")
    _made: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def check(self) -> int:
        """The server's version number; Refused where we may not make databases."""
        with self.session(self.connection.login_db) as session:
            if not session.value("select rolcreatedb or rolsuper from pg_roles where rolname = current_user"):
                raise Refused(
                    f"Role {self.connection.login_user!r} may not create databases, and a rehearsal needs its own.",
                    hint="Rehearse on a throwaway server (leave the server out), or grant CREATEDB.",
                )
            return int(session.value("show server_version_num"))

    def create(self, template: str = "template0") -> str:
        """A new database, a copy of `template`, in which nobody may be at that moment; its name."""
        with self._turn:
            name = f"{self.prefix}{next(self._numbers)}"
            with self.session(self.connection.login_db) as session:
                # For databases as small as these, copying files beats writing pages to WAL.
                how = " strategy file_copy" if self._major(session) >= 15 else ""
                session.run(f"create database {quote(name)} template {quote(template)}{how}")
            self._made.append(name)
            return name

    def drop(self, name: str) -> None:
        with self.session(self.connection.login_db) as session:
            session.run(f"drop database if exists {quote(name)} with (force)")
        self._made.remove(name)

    @contextlib.contextmanager
    def session(self, database: str) -> Iterator[Connection]:
        with connected(self.connection, self.identity, database=database) as session:
            yield session

    def clear(self) -> None:
        for name in list(self._made):
            with contextlib.suppress(DbopsError):
                self.drop(name)

    @staticmethod
    def _major(session: Connection) -> int:
        return int(session.value("show server_version_num")) // 10000
