# SPDX-License-Identifier: GPL-3.0-or-later
"""What a file makes and drops, read from its words: enough for comparing an up with its down, no more.

An object is a kind and a name; parts of a table are `table.part`. Names in `public` are told without it, functions
without their arguments. What a DO block or a function does at run time is not seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

from .lexer import Statement

Object = tuple[str, str]  # kind, name
_KINDS = (
    "table", "index", "type", "domain", "function", "procedure", "view", "sequence", "trigger", "policy", "schema",
    "extension", "role", "statistics", "aggregate", "rule",
)  # fmt: skip
_ON_TABLE = ("trigger", "policy", "rule")
_NOISE = {
    "or", "replace", "unique", "temp", "temporary", "unlogged", "global", "local", "recursive", "constraint",
    "materialized", "foreign", "user", "event",
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """`verb` is create, drop or alter; for alter, `what` is the table."""

    verb: str
    what: Object
    statement: Statement
    if_exists: bool = False  # IF EXISTS of a drop, IF NOT EXISTS of a create
    replaces: bool = False
    cascade: bool = False
    table: Optional[str] = None  # of an index; of a partition, what it is a part of


def changes(statement: Statement) -> list[Change]:
    words = statement.words
    if words[0] == "create":
        return list(_created(statement, words))
    if words[0] == "drop":
        return list(_dropped(statement, words))
    if words[:2] == ("alter", "table"):
        return list(_altered(statement, words))
    return []


def locked_table(statement: Statement) -> Optional[str]:
    """The table that an ALTER TABLE changes, a CREATE INDEX reads, or a REINDEX TABLE writes."""
    words = statement.words
    if words[:2] in (("alter", "table"), ("reindex", "table")):
        place, _careful = _past_all(words, 2, ("if", "exists"))
    elif words[0] == "create" and "index" in words[:3] and "on" in words:
        place = words.index("on") + 1
    else:
        return None
    return read_name(words, _past(words, place, "only"))[0]


def read_name(words: Sequence[str], place: int) -> tuple[str, int]:
    """A name, qualified or not, and the place behind it."""
    if place >= len(words):
        return "", place
    parts = [words[place]]
    place += 1
    while place + 1 < len(words) and words[place] == ".":
        parts.append(words[place + 1])
        place += 2
    if len(parts) > 1 and parts[0] == "public":
        parts = parts[1:]
    return ".".join(parts), place


def _created(statement: Statement, words: Sequence[str]) -> Iterator[Change]:
    place = 1
    while place < len(words) and words[place] in _NOISE:
        place += 1
    kind = words[place] if place < len(words) else ""
    if kind not in _KINDS:
        return
    place = _past(words, place + 1, "concurrently")
    place, careful = _past_all(words, place, ("if", "not", "exists"))
    if kind == "index" and words[place : place + 1] == ("on",):  # the server names it
        return
    name, behind = read_name(words, place)
    table = _table_of(words, behind) if kind in (*_ON_TABLE, "index") else None
    if kind == "table" and words[behind : behind + 2] == ("partition", "of"):
        table = read_name(words, behind + 2)[0]
    if kind in _ON_TABLE and table:
        name = f"{table}.{name}"
    yield Change("create", (kind, name), statement, careful, "replace" in words[:3], table=table)


def _dropped(statement: Statement, words: Sequence[str]) -> Iterator[Change]:
    place = 1
    while place < len(words) and words[place] in _NOISE:
        place += 1
    kind = words[place] if place < len(words) else ""
    if kind not in _KINDS:
        return
    place = _past(words, place + 1, "concurrently")
    place, careful = _past_all(words, place, ("if", "exists"))
    cascade = words[-1] == "cascade"
    while place < len(words):
        name, place = read_name(words, place)
        table = _table_of(words, place) if kind in _ON_TABLE else None
        yield Change("drop", (kind, f"{table}.{name}" if table else name), statement, careful, cascade=cascade)
        depth = 0
        while place < len(words) and (depth or words[place] != ","):  # arguments of a function
            depth += {"(": 1, ")": -1}.get(words[place], 0)
            place += 1
        place += 1


def _altered(statement: Statement, words: Sequence[str]) -> Iterator[Change]:
    place, _careful = _past_all(words, 2, ("if", "exists"))
    place = _past(words, place, "only")
    table, place = read_name(words, place)
    yield Change("alter", ("table", table), statement, table=table)
    for action in _actions(words[place:]):
        verb = {"add": "create", "drop": "drop"}.get(action[0])
        if verb is None or len(action) < 2:
            continue
        kind, at = ("column", 1)
        if action[1] in ("column", "constraint"):
            kind, at = action[1], 2
        elif action[1] in ("primary", "unique", "check", "foreign", "exclude", "not", "expression", "identity"):
            continue  # a constraint that the server names
        at, careful = _past_all(action, at, ("if", "not", "exists"))
        at, gentle = _past_all(action, at, ("if", "exists"))
        name = action[at] if at < len(action) else ""
        yield Change(
            verb, (kind, f"{table}.{name}"), statement, careful or gentle, cascade=action[-1] == "cascade", table=table
        )


def _actions(words: Sequence[str]) -> Iterator[Sequence[str]]:
    """The comma-separated actions of an ALTER TABLE."""
    start = depth = 0
    for place, word in enumerate(words):
        depth += {"(": 1, ")": -1}.get(word, 0)
        if word == "," and depth == 0:
            yield words[start:place]
            start = place + 1
    if start < len(words):
        yield words[start:]


def _table_of(words: Sequence[str], place: int) -> Optional[str]:
    for at in range(place, len(words) - 1):
        if words[at] == "on":
            return read_name(words, _past(words, at + 1, "only"))[0]
        if words[at] == "(":
            return None
    return None


def _past(words: Sequence[str], place: int, word: str) -> int:
    return place + 1 if place < len(words) and words[place] == word else place


def _past_all(words: Sequence[str], place: int, phrase: tuple[str, ...]) -> tuple[int, bool]:
    found = tuple(words[place : place + len(phrase)]) == phrase
    return (place + len(phrase), True) if found else (place, False)
