# SPDX-License-Identifier: GPL-3.0-or-later
"""Are the rows what the profile promises? Counts, invariants, and a hash by which two loads can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..pg.connection import Connection
from .plan import Plan

_NAMED = 3  # violations that are shown


@dataclass(frozen=True)
class Finding:
    """A promise that the rows break."""

    promise: str
    violations: int
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = f", such as {'; '.join(self.examples)}" if self.examples else ""
        return f"{self.promise}: {self.violations} rows break it{shown}"


def findings(server: Connection, plan: Plan, rows: Mapping[str, int]) -> list[Finding]:
    """What does not hold; nothing is the proof. Needs the profile's functions to be there."""
    found = [
        Finding(f"{table} has exactly {expected} rows, and has {rows[table]}", abs(rows[table] - expected))
        for table, expected in plan.expected().items()
        if rows[table] != expected
    ]
    for invariant in plan.profile.invariants:
        query = plan.violations(invariant.violations, invariant.name)
        broken = server.rows(f"select count(*) over () as whole, v::text as example from ({query}) v limit {_NAMED}")
        if broken:
            found.append(Finding(invariant.name, broken[0]["whole"], tuple(row["example"] for row in broken)))
    return found


def counts(server: Connection, plan: Plan) -> dict[str, int]:
    """Rows that seeding made, by table."""
    return {
        table: server.value(f"select count(*) from {table} where {plan.seeded(table)}")
        for table in plan.profile.tables()
    }


def content_hashes(server: Connection, plan: Plan) -> dict[str, str]:
    """A hash per table that does not depend on the order of its rows: equal content, equal hash, on any version."""
    return {
        table: server.value(
            "select to_hex((coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) % 9223372036854775783)::bigint) "
            f"from {table} t where {plan.seeded(table)}"
        )
        for table in plan.profile.tables()
    }
