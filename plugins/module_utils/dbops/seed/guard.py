# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps invented rows out of a database that matters: it holds no rows of others, and is not production."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from ..errors import Refused
from ..pg.connection import APPLICATION, Connection
from .plan import Plan

_PRODUCTION = re.compile(r"(^|[^a-z])(prod|production|live|master)([^a-z]|$)", re.IGNORECASE)
LARGE_BYTES = 10 << 30
MANY_SESSIONS = 20


@dataclass(frozen=True)
class Impression:
    """What a database looks like from outside."""

    database: str
    size_bytes: int
    sessions: int  # of others, in this database

    def signs_of_production(self) -> list[str]:
        signs = []
        if _PRODUCTION.search(self.database):
            signs.append("its name")
        if self.size_bytes > LARGE_BYTES:
            signs.append(f"its size of {self.size_bytes / (1 << 30):.0f} GiB")
        if self.sessions > MANY_SESSIONS:
            signs.append(f"{self.sessions} sessions of others")
        return signs


def impression(server: Connection) -> Impression:
    row = server.row(
        "select current_database() as database, pg_database_size(current_database()) as size_bytes, "
        "(select count(*) from pg_stat_activity "
        " where datname = current_database() and application_name <> %s) as sessions",
        (APPLICATION,),
    )
    return Impression(**row)


def refuse_production(seen: Impression, allowed: Optional[str]) -> None:
    """Refuse a database that looks like production, unless it was allowed by its exact name."""
    signs = seen.signs_of_production()
    if signs and allowed != seen.database:
        raise Refused(
            f"Database {seen.database!r} looks like production by {' and '.join(signs)}.",
            hint=f"If invented rows really belong there, allow it by name: {seen.database}.",
        )


def refuse_foreign_rows(server: Connection, plan: Plan) -> None:
    """Refuse when a table that would be filled holds rows that no seeding made."""
    foreign = [
        table
        for table in plan.profile.tables()
        if server.value(f"select exists (select from {table} where not coalesce({plan.seeded(table)}, false))")
    ]
    if foreign:
        raise Refused(
            f"These tables hold rows that seeding did not make: {', '.join(foreign)}.",
            hint="Seed an empty database; seeding never deletes rows of others.",
        )
