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
        ahead = [(version, version, path) for version, path in self._files("up") if version > at]
        self._run(ahead if count is None else ahead[:count])

    def down(self, count: int) -> None:
        at = self._begin()
        versions = [version for version, _path in self._files("up")]
        behind = [
            (version, max((it for it in versions if it < version), default=-1), path)
            for version, path in reversed(self._files("down"))
            if version <= at
        ]
        self._run(behind[:count])

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

    def _run(self, steps: list[tuple[int, int, Path]]) -> None:
        try:
            for _version, target, path in steps:
                self._set_version(target, dirty=True)
                text = path.read_text()
                if text.strip():
                    self._send(text)
                self._set_version(target, dirty=False)
        finally:
            self._unlock()

    def _files(self, way: str) -> list[tuple[int, Path]]:
        return sorted((int(path.name.split("_")[0]), path) for path in self._directory.glob(f"*.{way}.sql"))

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
