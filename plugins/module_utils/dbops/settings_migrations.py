# SPDX-License-Identifier: GPL-3.0-or-later
"""The section `migrations` of the settings file: where the files lie, what they change, how patiently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from .schema import between


@dataclass(frozen=True)
class MigrationSettings:
    path: str = "db/migrations"
    database: Optional[str] = None  # None: connection.login_db
    table: str = "schema_migrations"
    schema: Optional[str] = None  # of the state table; None: the connection's current schema, as golang-migrate
    wait_s: int = 15  # for another runner to finish
    lock_timeout_ms: int = 2000  # how long one statement may wait for a lock, and make all behind it wait; 0: no limit
    statement_timeout_ms: int = 0
    retries: int = 8  # of a file that gave up on a lock, each after a longer pause
    history: bool = True  # the side table in the schema dbops_migrations

    def check(self) -> None:
        between("migrations.wait_s", self.wait_s, 0, 86_400)
        between("migrations.lock_timeout_ms", self.lock_timeout_ms, 0, 3_600_000)
        between("migrations.statement_timeout_ms", self.statement_timeout_ms, 0, 86_400_000)
        between("migrations.retries", self.retries, 0, 1000)
