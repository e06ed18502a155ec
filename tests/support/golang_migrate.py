# SPDX-License-Identifier: GPL-3.0-or-later
"""golang-migrate's PostgreSQL driver, statement by statement: what its command would send to this server.

Source: golang-migrate 4, database/postgres/postgres.go and migrate.go. Notices are dropped, nothing is retried, the
connection is one for the whole run, and a file is one message.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import psycopg2

from tests.support.servers import PgServer


class Dirty(RuntimeError):
    pass


class GolangMigrate:
    """`migrate -path DIR -database postgres:///NAME`."""

    def __init__(self, server: PgServer, database: str, directory: Path) -> None:
        self._raw = psycopg2.connect(host=str(server.sockets), port=server.port, user="postgres", dbname=database)
        self._raw.autocommit = True
        self._directory = directory
        self._send("SELECT CURRENT_DATABASE()")
        self._schema = self._send("SELECT CURRENT_SCHEMA()")[0][0]
        self._table = f'"{self._schema}"."schema_migrations"'
        names = "\0".join([self._schema, "schema_migrations", "/" + database])
        self._lock_id = str((zlib.crc32(names.encode()) * 1486364155) % (1 << 32))
        self._lock()
        known = self._send(
            "SELECT COUNT(1) FROM information_schema.tables WHERE table_schema = %s AND table_name = %s LIMIT 1",
            (self._schema, "schema_migrations"),
        )
        if known[0][0] == 0:
            columns = "version bigint not null primary key, dirty boolean not null"
            self._send(f"CREATE TABLE IF NOT EXISTS {self._table} ({columns})")
        self._unlock()

    def close(self) -> None:
        self._raw.close()

    def version(self) -> tuple[int, bool]:
        rows = self._send(f"SELECT version, dirty FROM {self._table} LIMIT 1")
        return (rows[0][0], rows[0][1]) if rows else (-1, False)

    def up(self, count: int | None = None) -> None:
        at = self._begin()
        ahead = [(version, self._file(version, "up")) for version in self._versions() if version > at]
        self._run(ahead if count is None else ahead[:count])

    def down(self, count: int) -> None:
        at = self._begin()
        self._run(self._behind(at)[:count])

    def goto(self, goal: int) -> None:
        at = self._begin()
        ahead = [(version, self._file(version, "up")) for version in self._versions() if at < version <= goal]
        back = self._behind(at)
        self._run(ahead if goal >= at else [step for step, it in zip(back, reversed(self._upto(at))) if it > goal])

    def killed_after_the_file(self, way: str) -> None:
        """One step whose process dies before it says that the file is in."""
        at = self._begin()
        version = min((it for it in self._versions() if it > at), default=at)
        target, path = (version, self._file(version, "up")) if way == "up" else self._behind(at)[0]
        self._set_version(target, dirty=True)
        self._apply(path)
        self.close()

    def force(self, version: int) -> None:
        self._lock()
        self._set_version(version, dirty=False)
        self._unlock()

    def _begin(self) -> int:
        self._lock()
        at, dirty = self.version()
        if dirty:
            self._unlock()
            raise Dirty(f"Dirty database version {at}. Fix and force version.")
        return at

    def _run(self, steps: list[tuple[int, Path | None]]) -> None:
        """Each a target and a file; a half that is missing moves the version and runs nothing."""
        try:
            for target, path in steps:
                self._set_version(target, dirty=True)
                self._apply(path)
                self._set_version(target, dirty=False)
        finally:
            self._unlock()

    def _apply(self, path: Path | None) -> None:
        text = path.read_text() if path else ""
        if text.strip():
            self._send(text)

    def _versions(self) -> list[int]:
        return sorted({int(path.name.split("_")[0]) for path in self._directory.glob("*.sql")})

    def _upto(self, at: int) -> list[int]:
        return [version for version in self._versions() if version <= at]

    def _behind(self, at: int) -> list[tuple[int, Path | None]]:
        known = self._upto(at)
        below = [-1, *known]
        return [(target, self._file(version, "down")) for target, version in reversed(list(zip(below, known)))]

    def _file(self, version: int, way: str) -> Path | None:
        found = [it for it in self._directory.glob(f"*.{way}.sql") if int(it.name.split("_")[0]) == version]
        return found[0] if found else None

    def _set_version(self, version: int, *, dirty: bool) -> None:
        self._send("BEGIN")
        self._send(f"TRUNCATE {self._table}")
        if version >= 0 or (version == -1 and dirty):
            self._send(f"INSERT INTO {self._table} (version, dirty) VALUES (%s, %s)", (version, dirty))
        self._send("COMMIT")

    def _lock(self) -> None:
        self._send("SELECT pg_advisory_lock(%s)", (self._lock_id,))

    def _unlock(self) -> None:
        self._send("SELECT pg_advisory_unlock(%s)", (self._lock_id,))

    def _send(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with self._raw.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall()) if cursor.description else []
