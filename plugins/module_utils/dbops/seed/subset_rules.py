# SPDX-License-Identifier: GPL-3.0-or-later
"""What an anonymised subset takes and how columns are masked: a file that people write, checked before a row is read.

Nothing personal is copied because somebody forgot it: a column that can hold anything, or whose name says that it is
about a person, needs a rule. docs/seeding.md describes the format.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from ..errors import BadInput
from ..schema import between, build
from .masks import MASKS
from .profile import FORMAT, content_given, mapping_in

# These hold whatever somebody writes into them, or where somebody was.
_OPEN_TYPES = frozenset(
    (
        *("text", "varchar", "bpchar", "name", "citext", "json", "jsonb", "xml", "bytea", "hstore", "tsvector"),
        *("inet", "cidr", "macaddr", "macaddr8"),
        *("point", "lseg", "line", "path", "polygon", "box", "circle", "geometry", "geography"),
    )
)
# A number or a date is about a person when its name says so.
_ABOUT_PLACES = re.compile(r"(^|_)(lat|latitude|lon|lng|long|longitude|birth|birthday|born|dob|age|ssn|ip)(_|$)")
# What such a column holds is personal whatever anybody says: no rule keeps it.
_NEVER_KEPT = re.compile(
    r"(^|_)(e?mail|phone|mobile|first_?name|last_?name|full_?name|surname|address|password|passwd|token|secret|otp|totp|"
    r"iban|card_?number|ssn|passport|license_?number|licence_?number)(_|$)"
)


@dataclass(frozen=True)
class ColumnRule:
    """One of: `mask`, a kind of replacement; `set`, one value for all (null too); `keep`, and why nobody is in it."""

    mask: Optional[str] = None
    keep_first: int = 0  # characters at the beginning that a mask of kind `code` leaves
    set: Optional[str] = None
    null: bool = False
    keep: Optional[str] = None

    def check(self) -> None:
        said = [self.mask is not None, self.set is not None, self.null, self.keep is not None]
        if sum(said) != 1:
            raise BadInput("A column's rule is one of mask, set, null: true and keep.", hint="Choose one of them.")
        if self.mask is not None and self.mask not in MASKS:
            raise BadInput(f"There is no mask {self.mask!r}.", hint=f"There is: {', '.join(sorted(MASKS))}.")
        if self.keep is not None and len(self.keep) < 8:
            raise BadInput("`keep` wants a reason.", hint="Say in a few words why no person can be told by the column.")


@dataclass(frozen=True)
class Roots:
    """Whom the subset is about."""

    table: str
    where: str = "true"


@dataclass(frozen=True)
class Rules:
    format: int
    name: str
    roots: Roots
    columns: dict[str, ColumnRule]  # by table.column
    places: dict[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)  # table: [[latitude, longitude], ...]
    radius_m: int = 300
    reference: tuple[str, ...] = ()  # tables whose rows the migrations own: they are in the target already
    follow: tuple[str, ...] = ()  # tables whose rows come with every row that they belong to, not only with the roots'
    skip: tuple[str, ...] = ()  # tables that stay empty

    def check(self) -> None:
        if self.format != FORMAT:
            raise BadInput(f"Rules {self.name!r} have format {self.format}.", hint=f"This version reads {FORMAT}.")
        between("radius_m", self.radius_m, 50, 20_000)
        for table, pairs in self.places.items():
            if any(len(pair) != 2 for pair in pairs):
                raise BadInput(f"places: {table} wants pairs of a latitude and a longitude.", hint="[[lat, lon], ...]")

    def digest(self) -> str:
        plain = json.dumps(self, default=vars, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(plain.encode()).hexdigest()[:16]

    def of(self, table: str, column: str) -> Optional[ColumnRule]:
        return self.columns.get(f"{table}.{column}")

    def placed(self, table: str) -> set[str]:
        return {column for pair in self.places.get(table, ()) for column in pair}


@dataclass(frozen=True)
class Column:
    """A column of the source as its catalog tells it."""

    name: str
    type: str  # the base type's name, of an array its elements'
    enum: bool = False
    generated: bool = False
    reference: bool = False  # a foreign key to a table of reference rows
    array: bool = False

    @property
    def open(self) -> bool:
        """Whether it can hold anything: such a column is searched for originals."""
        return self.type in _OPEN_TYPES and not self.enum

    @property
    def needs_rule(self) -> bool:
        if self.generated or self.reference:
            return False
        return self.open or self.personal or bool(_ABOUT_PLACES.search(self.name))

    @property
    def personal(self) -> bool:
        """Whether its name says so; `phone_verified_at` and `is_email_public` only tell that there is one."""
        return bool(_NEVER_KEPT.search(self.name)) and not self.name.startswith("is_") and not self.name.endswith("_at")


def check_against(rules: Rules, tables: Mapping[str, Iterable[Column]]) -> None:
    """Refuse rules that name what is not there, leave out what looks personal, or keep what must not be kept.

    `tables` are those that are copied, with their columns.
    """
    known = {f"{table}.{column.name}": column for table, columns in tables.items() for column in columns}
    placed = {f"{table}.{column}" for table in rules.places for column in rules.placed(table)}
    unknown = sorted({*rules.columns, *placed} - set(known))
    if unknown:
        raise BadInput(
            f"Rules {rules.name!r} name {', '.join(unknown)}, and no table that is copied has such a column.",
            hint="Take it out, or mend its name.",
        )
    bare = sorted(
        name for name, it in known.items() if it.needs_rule and name not in placed and name not in rules.columns
    )
    if bare:
        raise BadInput(
            f"Rules {rules.name!r} say nothing about {', '.join(bare)}, which may hold personal data.",
            hint="Give each a mask, a value, or `keep` with the reason why no person can be told by it.",
        )
    kept = sorted(name for name, rule in rules.columns.items() if rule.keep is not None and known[name].personal)
    if kept:
        raise BadInput(
            f"Rules {rules.name!r} keep {', '.join(kept)}, whose name says that it is personal.",
            hint="Give it a mask or a value.",
        )


def load(path: str) -> Rules:
    return from_mapping(mapping_in(path), where=path)


def given(rules: Any) -> Rules:
    """Rules as a module gets them: a file's path, or the content itself."""
    data, where = content_given(rules, "set of rules")
    return from_mapping(data, where=where)


def from_mapping(data: Mapping[str, Any], *, where: str = "rules") -> Rules:
    return build(Rules, data, where=where)
