# SPDX-License-Identifier: GPL-3.0-or-later
"""What one cloud does in its own words: single requests, none repeated. CloudStore makes a store of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Optional, Protocol

from ..errors import DbopsError
from .protocol import ObjectInfo

CHUNK = 1 << 20


@dataclass(frozen=True)
class How:
    """How one object is to be written. `metadata` is plain ASCII already, and names this very put."""

    if_absent: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    retain_until: Optional[datetime] = None
    compliance: bool = False  # nobody can end the retention early


@dataclass(frozen=True)
class Piece:
    """A range of an object. `total_bytes` is the whole object's size, `version` tells this content from another.

    Whoever hands its chunks on takes them out, so that their memory may serve the next piece.
    """

    chunks: deque[bytes]
    total_bytes: int
    version: str

    @property
    def size_bytes(self) -> int:
        """Of the chunks that are left."""
        return sum(map(len, self.chunks))


@dataclass(frozen=True)
class Page:
    """Some of a list: objects and folders (keys that end with a slash), and where to go on, if there is more."""

    objects: Sequence[ObjectInfo]
    folders: Sequence[str]
    next: Optional[str]


@dataclass(frozen=True)
class Judgement:
    """What an SDK's exception means: the error to raise, and whether the same request may well succeed now."""

    error: DbopsError
    again: bool = False
    wait_s: Optional[float] = None  # as the server asked


class Upload(Protocol):
    """An object on its way in several parts, visible only after `finish`."""

    ordered: bool  # each part must be there before the next one begins

    def part(self, number: int, data: bytes, *, last: bool) -> None: ...

    def finish(self) -> None: ...

    def abort(self) -> None: ...


class Bucket(Protocol):
    """Every method is one request (or says otherwise) and lets the SDK's exceptions out, for `judge`.

    Keys here are whole ones, the repository's prefix included.
    """

    prefix: str  # "" or "path/"
    where: str  # for messages
    takes_conditions: bool  # whether if_absent is decided by the server, in one step

    def preload(self) -> None:
        """Import the cloud's library and what it reads from disk at its start. No request, no thread."""

    def put(self, key: str, data: bytes, how: How) -> None: ...

    def begin(self, key: str, how: How) -> Upload: ...

    def read(self, key: str, start: int, length: int, version: Optional[str]) -> Piece:
        """Less than `length` at the object's end. With `version`, only if the object is that one still."""

    def head(self, key: str) -> ObjectInfo: ...

    def page(self, prefix: str, *, folders: bool, after: Optional[str]) -> Page: ...

    def delete(self, key: str) -> None:
        """Already gone is fine."""

    def retain(self, key: str, until: datetime, *, compliance: bool) -> None:
        """Let the retention of what is there end not before then; a longer one stays."""

    def retained(self, key: str) -> Optional[datetime]:
        """Until when it cannot be deleted, None for no such moment."""

    def change_class(self, key: str, storage_class: str) -> None:
        """The same content and metadata in that storage class or tier."""

    def expunge(self, key: str) -> None:
        """Try to remove every version of it, for good."""

    def unfinished(self, prefix: str) -> Sequence[tuple[str, str]]:
        """Uploads that were begun and not finished: key and identifier. As many requests as it takes."""

    def discard(self, upload: tuple[str, str]) -> None: ...

    def judge(self, exc: Exception, verb: str, key: str) -> Judgement:
        """Only for exceptions of the SDK and of the network; anything else is raised again as it is."""
