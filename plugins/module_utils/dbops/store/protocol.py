# SPDX-License-Identifier: GPL-3.0-or-later
"""The one protocol that every store speaks: keys, bytes, and who was first.

A key is a relative path with forward slashes. An object is there whole or not at all: `put` shows it only after
its last byte is durable, and a `put` that ends in an exception leaves nothing that `list` or `get` would show.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from ..errors import BadInput, DbopsError, Unreachable

_PLAIN = re.compile(r"[A-Za-z0-9_][\w.-]{0,99}(?:/[A-Za-z0-9_][\w.-]{0,99})*", re.ASCII)  # nearly all are


class AlreadyThere(DbopsError):
    """A conditional put lost: an object of that key exists and was not touched."""

    exit_code = 6
    error_code = "already_there"


@dataclass(frozen=True)
class ObjectInfo:
    """`metadata` may be empty although some was given: a store keeps it as well as it can, so nobody relies on it."""

    key: str
    size_bytes: int
    modified: datetime
    metadata: dict[str, str] = field(default_factory=dict)
    storage_class: str = ""  # the cloud's own word, where a list has it


@dataclass(frozen=True)
class Folder:
    """What lies directly in one: objects, and folders by name with a stamp.

    Two equal stamps of a folder say that no object came or went there in between. An empty one says nothing: it has
    changed so lately that the next change might not show.
    """

    objects: tuple[ObjectInfo, ...]
    folders: Mapping[str, str]


class Trouble(Unreachable):
    """Cannot know, and why: `reason` is one of REASONS, for those who count or probe."""

    def __init__(self, message: str, hint: str = "", *, reason: str) -> None:
        super().__init__(message, hint)
        self.reason = reason


REASONS = ("credentials", "permission", "network", "no_bucket", "clock", "busy", "server", "request")


class Store(Protocol):
    """Errors: NotFound (proven absent), Unreachable (cannot know), BadInput (no such key can exist)."""

    name: str

    def put(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        if_absent: bool = False,
        relied_on: bool = False,
        metadata: Mapping[str, str] | None = None,
        retain_until: datetime | None = None,
    ) -> ObjectInfo:
        """Store the chunks as one durable object; memory is bounded by parts, never by the object's size.

        With `retain_until` the store itself refuses to delete or replace it before; BadInput where it cannot.

        With `if_absent` the first writer wins and every other one gets AlreadyThere. With `relied_on` other writers
        of the same content may take what they see for done: once it is seen it stays, even if this put fails then.
        """

    def settle(self, key: str) -> None:
        """Make durable what is there, whoever wrote it; NotFound when it is not there."""

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The object's bytes, or the range of them, in chunks. NotFound before the first chunk."""

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | DbopsError | None]]:
        """Small objects, whole, in the order asked for, fast for thousands; None for one that is proven absent.

        The error of a single object is handed over in its place, and the others follow.
        """

    def head(self, key: str) -> ObjectInfo: ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object whose key starts with `prefix`, by key. Raises rather than ends early on a failure."""

    def children(self, prefix: str) -> Iterator[str]:
        """The names directly below `prefix` (which ends with a slash) that have something below them, in order."""

    def folder(self, prefix: str) -> Folder | None:
        """What lies directly below `prefix` (which ends with a slash); None where the store has no stamps to give."""

    def delete(self, key: str) -> None:
        """Remove one object; already gone is fine."""

    def sweep(self, prefix: str = "") -> int:
        """Remove what interrupted puts left under `prefix` (never an object); says how many. Caller holds the lock."""

    def lock(self, name: str, *, shared: bool = False) -> AbstractContextManager[None]:
        """Exclude others from `name` until the block or the process ends; Busy, saying who, when it is taken."""

    def caveats(self) -> tuple[str, ...]:
        """What this store, as it is configured, does not promise although others do; one sentence each."""

    def free_bytes(self) -> int | None:
        """Room left, or None where a store has no such limit."""


def check_key(key: str) -> str:
    """Refuse a key that could leave its root or mean two things; every store asks this first."""
    if _PLAIN.fullmatch(key):
        return key
    parts = key.split("/")
    if any(not part or part.startswith(".") or "\0" in part for part in parts):
        raise BadInput(
            f"{key!r} cannot be a key.",
            hint="Use plain path components joined by single slashes; none may begin with a dot.",
        )
    if any(len(part.encode("utf-8", "surrogateescape")) > 240 for part in parts):
        raise BadInput(f"The key {key!r} has a component of more than 240 bytes.", hint="Choose a shorter name.")
    return key


def check_prefix(prefix: str) -> str:
    """The same for the beginning of keys: its last component may be unfinished, or empty."""
    directory, slash, leaf = prefix.rpartition("/")
    if slash:
        check_key(directory)
    if leaf:
        check_key(leaf)
    return prefix
