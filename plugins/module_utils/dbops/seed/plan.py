# SPDX-License-Identifier: GPL-3.0-or-later
"""A profile at one scale and one anchor, as the statements that make it. Decides; asks no server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .functions import FIRST_KEY, LAST_KEY, SCHEMA, array, create, literal
from .profile import Part, Profile, filled, total

CHUNK = 50_000  # rows of a split part in one transaction
IN_ONE_TRANSACTION = 200_000  # rows; above, the load goes in marked steps that several workers take
_BYTES_OF_ROW, _BYTES_OF_COLUMN = 60, 24  # heap and indexes together, from the reference application's tables


@dataclass(frozen=True)
class Plan:
    profile: Profile
    scale: int
    anchor: str  # ISO 8601, UTC
    sizes: dict[str, int]

    @property
    def values(self) -> dict[str, str]:
        """What `$name` stands for in the profile's SQL."""
        profile = self.profile
        return {
            "anchor": f"timestamptz {literal(self.anchor)}",
            "scale": str(self.scale),
            **{name: str(size) for name, size in self.sizes.items()},
            **profile.parameters,
            **{f"words.{name}": array(words) for name, words in profile.words.items()},
        }

    def functions(self) -> Iterator[str]:
        return create(self.profile, self.sizes)

    def rows_of(self, part: Part) -> int | None:
        """How many rows the part makes, where the profile promises it."""
        return None if part.rows is None else total(part.rows, self.sizes)

    def expected(self) -> dict[str, int]:
        """Rows per table, of those whose parts all promise a number."""
        rows: dict[str, int] = {}
        for table in self.profile.tables():
            sizes = [self.rows_of(part) for part in self.profile.parts if part.table == table]
            if None not in sizes:
                rows[table] = sum(size for size in sizes if size is not None)
        return rows

    def range_of(self, part: Part) -> int:
        """About how many rows the part makes: those that it promises, or the range that it runs over."""
        return total(part.rows or part.split or "1", self.sizes)

    def estimated_rows(self) -> int:
        """All rows of all tables."""
        return sum(self.range_of(part) for part in self.profile.parts if part.table is not None)

    def estimated_bytes(self) -> dict[str, int]:
        """About how much room each part takes in its table and its indexes, by the part's name."""
        return {
            part.name: self.range_of(part) * (_BYTES_OF_ROW + _BYTES_OF_COLUMN * len(part.columns))
            for part in self.profile.parts
        }

    @property
    def in_one_transaction(self) -> bool:
        return self.estimated_rows() <= IN_ONE_TRANSACTION

    def chunks(self, part: Part) -> list[tuple[int, int]]:
        """The ranges, both ends included, that the part is made in; one without meaning for a part that is not split.

        The cuts depend on the profile alone: a load that was killed goes on with the very same ones.
        """
        if part.split is None:
            return [(0, 0)]
        last = total(part.split, self.sizes)
        return [(low, min(low + CHUNK - 1, last)) for low in range(1, last + 1, CHUNK)]

    def create_scratch(self, part: Part) -> str:
        """An empty scratch table of the part's shape."""
        return f"create unlogged table {SCHEMA}.{part.name} as {self._select(part, (1, 0))} with no data"

    def insert(self, part: Part, chunk: tuple[int, int]) -> str:
        select = self._select(part, chunk)
        if part.table is None:
            return f"insert into {SCHEMA}.{part.name} {select}"
        columns = ", ".join(f'"{column}"' for column in part.columns)
        return f"insert into {part.table} ({columns}) overriding system value {select}"

    def seeded(self, table: str) -> str:
        """A condition on the table's rows, true for those that seeding made."""
        columns = {part.seeded for part in self.profile.parts if part.table == table}
        return " or ".join(
            f"{said} between '{FIRST_KEY}' and '{LAST_KEY}'" if said.isidentifier() else said
            for said in sorted(columns)
        )

    def violations(self, query: str, where: str) -> str:
        return filled(query, self.values, where)

    def _select(self, part: Part, chunk: tuple[int, int]) -> str:
        values = {**self.values, "lo": str(chunk[0]), "hi": str(chunk[1])}
        where = f"part {part.name!r}"
        columns = ", ".join(
            f'{filled(expression, values, where)} as "{column}"' for column, expression in part.columns.items()
        )
        return f"select {columns} from {filled(part.source, values, where)}"


def at_scale(profile: Profile, scale: int, anchor: str) -> Plan:
    plan = Plan(profile, scale, anchor, profile.sized(scale))
    for part in profile.parts:  # a misspelt $name is an error of the file, and found before a server is asked
        plan.insert(part, (1, 1))
        plan.rows_of(part)
        plan.chunks(part)
    for invariant in profile.invariants:
        plan.violations(invariant.violations, f"invariant {invariant.name!r}")
    return plan
