# SPDX-License-Identifier: GPL-3.0-or-later
"""Are the rows what the profile promises? Counts, invariants, and a hash by which two loads can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..pg.connection import Connection
from .plan import Plan
from .profile import Invariant
from .work import shared_out

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


def findings(servers: Sequence[Connection], plan: Plan, rows: Mapping[str, int]) -> list[Finding]:
    """What does not hold; nothing is the proof. Needs the profile's functions to be there."""
    found = [
        Finding(f"{table} has exactly {expected} rows, and has {rows[table]}", abs(rows[table] - expected))
        for table, expected in plan.expected().items()
        if rows[table] != expected
    ]

    def ask(server: Connection, invariant: Invariant) -> list[Finding]:
        query = plan.violations(invariant.violations, invariant.name)
        broken = server.rows(f"select count(*) over () as whole, v::text as example from ({query}) v limit {_NAMED}")
        examples = tuple(row["example"] for row in broken)
        return [Finding(invariant.name, broken[0]["whole"], examples)] if broken else []

    return found + [it for answer in shared_out(servers, plan.profile.invariants, ask) for it in answer]


def counts(server: Connection, plan: Plan) -> dict[str, int]:
    """Rows that seeding made, by table."""
    return {
        table: server.value(f"select count(*) from {table} where {plan.seeded(table)}")
        for table in plan.profile.tables()
    }


def content_hashes(servers: Sequence[Connection], plan: Plan) -> dict[str, str]:
    """A hash per table that does not depend on the order of its rows: equal content, equal hash, on any version."""

    def ask(server: Connection, table: str) -> str:
        whole = "coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)"
        query = f"select to_hex(({whole} % 9223372036854775783)::bigint) from {table} t where {plan.seeded(table)}"
        return str(server.value(query))

    tables = plan.profile.tables()
    return dict(zip(tables, shared_out(servers, tables, ask)))
