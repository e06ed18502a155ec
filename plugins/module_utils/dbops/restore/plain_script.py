# SPDX-License-Identifier: GPL-3.0-or-later
"""A plain dump on its way to psql: whole, kept inside its database, and kept from running programs.

A script may hold psql's own commands (`\\connect`, `\\!`, `\\copy`), and anyone may have made it. psql's restricted
mode refuses them all, but a dump of a current pg_dump enters that mode itself, by a key that the file tells. So its
lines are taken out, and psql is locked with a key of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Optional

from ..errors import BadInput, Corrupt

HEAD = 1 << 16
_TAIL = 1 << 13
_BLANK = rb"(?:[ \t]*(?:--[^\n]*)?\r?\n)*"
_RESTRICT = re.compile(_BLANK + rb"(\\restrict ([A-Za-z0-9]+)\r?\n)")
_ELSEWHERE = re.compile(rb"^(?:CREATE DATABASE|DROP DATABASE|\\connect|\\c )[^\n]*", re.M)
# What comes before the first object: only there does pg_dump --create change the database, and rows cannot mislead.
_FIRST_OBJECT = re.compile(rb"^(?:COPY|INSERT|CREATE (?!DATABASE|ROLE)|ALTER (?!DATABASE|ROLE))", re.M)
_COMPLETE = re.compile(
    rb"(?:\A|\n)-- PostgreSQL database dump complete\r?\n(?:--)?\s*(?:\\unrestrict ([A-Za-z0-9]+))?\s*\Z"
)


def checked_script(
    chunks: Iterator[bytes], name: str, *, ours: bool = False, may_be_incomplete: bool = False
) -> Iterator[bytes]:
    """The script without the lines of restricted mode. BadInput when it would leave its database.

    Corrupt when pg_dump's closing comment is missing; the last bytes come only after that was found.
    """
    chunks = iter(chunks)
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= HEAD:
            break
    if not ours:
        _refuse_other_databases(head, name)
    match = _RESTRICT.match(head)
    key = match.group(2) if match else None
    if match:
        head = head[: match.start(1)] + head[match.end(1) :]
    held = b""
    for chunk in _and_then(head, chunks):
        held += chunk
        if len(held) > _TAIL:
            yield held[:-_TAIL]
            held = held[-_TAIL:]
    if not may_be_incomplete and not is_complete(held, key):
        raise Corrupt(
            f"{name} does not end with pg_dump's closing comment: it was cut off, or pg_dump did not make it.",
            hint="Take another copy. If it is a script of your own, restore it with allow_errors, or run it by psql.",
        )
    # The key's other line is among the last ones, or psql meets it and refuses: nowhere else is it pg_dump's.
    yield held if key is None else (held + b"\n").replace(b"\n\\unrestrict " + key + b"\n", b"\n")


def is_complete(tail: bytes, key: Optional[bytes]) -> bool:
    """Whether this is the end of a whole dump; one that began with a key must end with it."""
    match = _COMPLETE.search(tail)
    return match is not None and (key is None or match.group(1) == key)


def _refuse_other_databases(head: bytes, name: str) -> None:
    first = _FIRST_OBJECT.search(head)
    preamble = head[: first.start()] if first else head
    if b"-- PostgreSQL database cluster dump" in preamble:
        raise BadInput(
            f"{name} is a dump of a whole cluster by pg_dumpall, not of one database.",
            hint="Run it by psql into an empty cluster, or restore a dump of one database.",
        )
    found = _ELSEWHERE.search(preamble)
    if found:
        raise BadInput(
            f"{name} would leave the database that it is restored into: {found.group().decode('utf-8', 'replace')}",
            hint="Dump it again without --create, or run it by psql if you mean that.",
        )


def _and_then(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from chunks
