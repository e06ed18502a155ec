# SPDX-License-Identifier: GPL-3.0-or-later
"""The workbench of a rehearsal: databases of its own on a server, copied from each other, all gone at the end.

The session that makes them bears their common name: so a killed run's databases can be told from those in use.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Optional

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
    prefix: str = field(default_factory=lambda: f"dbops_rehearsal_{secrets.token_hex(4)}_")
    spare: int = 0  # databases that may stay until the end; for a server that goes away with them, a drop is lost time
    _roles: list[str] = field(default_factory=list)
    _made: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _maker: Optional[Connection] = None
    _how: str = ""

    def check(self) -> int:
        """The server's version number; Refused where we may not make databases."""
        with self.session(self.connection.login_db) as session:
            if not session.value("select rolcreatedb or rolsuper from pg_roles where rolname = current_user"):
                raise Refused(
                    f"Role {self.connection.login_user!r} may not create databases, and a rehearsal needs its own.",
                    hint="Rehearse on a throwaway server (leave the server out), or grant CREATEDB.",
                )
            return int(session.value("show server_version_num"))

    def clean(self) -> list[str]:
        """Drop the databases that killed rehearsals left on this server; their names."""
        with self._turn:
            maker = self._session_that_makes()
            rows = maker.rows(
                "select datname as name from pg_database where datname like %s order by 1", (r"dbops\_rehearsal\_%",)
            )
            left = []
            for name in (str(row["name"]) for row in rows):
                prefix = re.match(r"(dbops_rehearsal_[0-9a-f]+_)[0-9]+$", name)
                alive = "select exists (select from pg_stat_activity where application_name = %s)"
                if prefix and not maker.value(alive, (prefix.group(1),)):
                    maker.run(f"drop database if exists {quote(name)} with (force)")
                    left.append(name)
            return left

    def create(self, template: str = "template0") -> str:
        """A new database, a copy of `template`, in which nobody may be at that moment; its name."""
        with self._turn:
            name = f"{self.prefix}{next(self._numbers)}"
            maker = self._session_that_makes()
            maker.run(f"create database {quote(name)} template {quote(template)}{self._how}")
            self._made.append(name)
            return name

    def expect_roles(self, names: Sequence[str]) -> None:
        """Roles that files will make. They belong to the server: those that are not there yet go with us at the end."""
        with self._turn:
            query = "select rolname from pg_roles where rolname = any(%s)"
            rows = self._session_that_makes().rows(query, (list(names),))
        there = {row["rolname"] for row in rows}
        self._roles = [name for name in dict.fromkeys(names) if name not in there]

    def drop(self, name: str) -> None:
        """It is not needed any more; where it need not go at once, it goes with the others."""
        if len(self._made) <= self.spare:
            return
        with self._turn:
            if name in self._made:
                self._session_that_makes().run(f"drop database if exists {quote(name)} with (force)")
                self._made.remove(name)

    @contextlib.contextmanager
    def session(self, database: str) -> Iterator[Connection]:
        with connected(self.connection, self.identity, database=database) as session:
            yield session

    def clear(self) -> None:
        """Drop what was made here; a role that something else rests on by now stays."""
        self.spare = 0
        for name in list(self._made):
            with contextlib.suppress(DbopsError):
                self.drop(name)
        for name in self._roles:
            with contextlib.suppress(DbopsError):
                self._session_that_makes().run(f"drop role if exists {quote(name)}")
        self.close()

    def close(self) -> None:
        self._open.close()
        self._maker = None

    def _session_that_makes(self) -> Connection:
        if self._maker is None:
            self._maker = self._open.enter_context(self.session(self.connection.login_db))
            self._maker.run("select set_config('application_name', %s, false)", (self.prefix,))
            # For databases as small as these, copying files beats writing pages to WAL.
            major = int(self._maker.value("show server_version_num")) // 10000
            self._how = " strategy file_copy" if major >= 15 else ""
        return self._maker
