# SPDX-License-Identifier: GPL-3.0-or-later
"""A database's schema as names and definitions, free of oids, so that two of them can be compared and told apart.

Left out: what belongs to an extension (its version stands for it), and the values of sequences.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from .catalog_query import THESE_TABLES, WHOLE_SCHEMA
from .connection import Connection, Parameters

COLUMN_ORDER = "column order"
# Depends on who runs the migrations and not on what they say: left out when another server is compared with.
LOCAL_KINDS = frozenset({"owner", "privileges", "default privileges", "database setting"})

Key = tuple[str, str]  # kind and name


class Likeness(enum.Enum):
    EQUAL = "equal"
    COLUMN_ORDER = "equal but for column order"
    DIFFERENT = "different"


@dataclass(frozen=True)
class Difference:
    kind: str
    name: str
    left: str  # empty: not there
    right: str

    def told(self, left: str, right: str) -> str:
        """In words, with what to call the two sides."""
        if not self.left:
            return f"{self.kind} {self.name}: only in {right}: {_short(self.right)}"
        if not self.right:
            return f"{self.kind} {self.name}: only in {left}: {_short(self.left)}"
        return f"{self.kind} {self.name}: {_short(self.left)} in {left}, {_short(self.right)} in {right}"


class Fingerprint:
    def __init__(self, objects: dict[Key, str]) -> None:
        self.objects = objects

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        return json.dumps(sorted([kind, name, text] for (kind, name), text in self.objects.items()))

    @classmethod
    def from_json(cls, text: str) -> Fingerprint:
        return cls({(kind, name): definition for kind, name, definition in json.loads(text)})

    def portable(self) -> Fingerprint:
        """Without what depends on the server and the role."""
        return Fingerprint({key: text for key, text in self.objects.items() if key[0] not in LOCAL_KINDS})

    def lines(self) -> list[str]:
        return [f"{kind} {name}: {text}" for (kind, name), text in sorted(self.objects.items())]


def differences(left: Fingerprint, right: Fingerprint) -> list[Difference]:
    keys = sorted(set(left.objects) | set(right.objects))
    pairs = ((key, left.objects.get(key, ""), right.objects.get(key, "")) for key in keys)
    return [Difference(key[0], key[1], mine, other) for key, mine, other in pairs if mine != other]


def likeness(found: Iterable[Difference]) -> Likeness:
    kinds = {item.kind for item in found}
    if not kinds:
        return Likeness.EQUAL
    return Likeness.COLUMN_ORDER if kinds == {COLUMN_ORDER} else Likeness.DIFFERENT


def take(
    session: Connection, *, without_schemas: Sequence[str] = (), without_table: tuple[str, str] = ("", "")
) -> Fingerprint:
    """The schema as the session sees it now, but for some schemas, and for one table named by schema and name."""
    schema, table = without_table
    return _asked(session, WHOLE_SCHEMA, {"schemas": list(without_schemas), "schema": schema, "table": table})


def of_tables(session: Connection, tables: Iterable[str]) -> Fingerprint:
    """These tables and their partitions alone: columns, indexes, constraints, triggers, comments, privileges."""
    oids = session.value("select %s::regclass[]::oid[]::int8[]", (list(tables),))  # found on the caller's search path
    return _asked(session, THESE_TABLES, {"schemas": [], "tables": oids})


def _asked(session: Connection, query: str, parameters: Parameters) -> Fingerprint:
    search_path = session.value("select current_setting('search_path')")
    session.run("select set_config('search_path', 'pg_catalog', false)")  # every name is written with its schema
    try:
        rows = session.rows(query, parameters)
    finally:
        session.run("select set_config('search_path', %s, false)", (search_path,))
    return Fingerprint({(row["kind"], row["name"]): row["definition"] or "-" for row in rows})


def changed_lines(before: Fingerprint, after: Fingerprint) -> tuple[list[str], list[str]]:
    """Only what differs, as lines: for a diff that people read."""
    found = differences(before, after)
    left = [f"{item.kind} {item.name}: {item.left}" for item in found if item.left]
    right = [f"{item.kind} {item.name}: {item.right}" for item in found if item.right]
    return left, right


def told(found: Sequence[Difference], left: str, right: str, *, limit: int = 8) -> list[str]:
    shown = [item.told(left, right) for item in found[:limit]]
    return shown + ([f"... and {len(found) - limit} more"] if len(found) > limit else [])


def _short(text: str, width: int = 120) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 3] + "..."
