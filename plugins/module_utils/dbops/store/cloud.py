# SPDX-License-Identifier: GPL-3.0-or-later
"""A store out of any cloud's bucket: parts, parallel reads, patience, first-writer-wins, locks.

A small object is one request on its way out and one on its way back. Bytes that arrived are durable when the cloud
says so; nobody sees an object of several parts before its last one.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from typing import Callable, TypeVar
from urllib.parse import quote, unquote

from ..errors import Corrupt, DbopsError, NotFound
from ..settings import RepositorySettings
from .bucket import CHUNK, Bucket, How, Judgement, Page, Piece
from .lease import Leases
from .parts import in_order, parts_of, run_all
from .patience import patiently
from .protocol import AlreadyThere, Folder, ObjectInfo, check_key, check_prefix

T = TypeVar("T")
_TOKEN = "dbopsput"  # metadata that names one put, so that an answer that got lost is no riddle; no name has a dash


class CloudStore:
    def __init__(self, bucket: Bucket, settings: RepositorySettings) -> None:
        self.name = settings.name
        self.bucket = bucket
        self._transfer = settings.transfer
        self._leases = Leases(self)
        self._lock = settings.lock
        self.retained: Callable[[str], datetime | None] = lambda key: None  # until when a new object is to be locked

    # -- writing

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
        del relied_on  # what is visible here is durable
        whole = self._whole(key)
        self._leases.check()
        if if_absent and not self.bucket.takes_conditions:
            self._look_before(key)
        kept = {name.lower(): quote(value, safe=" /:,") for name, value in (metadata or {}).items()}
        kept[_TOKEN] = secrets.token_hex(8)
        how = How(if_absent, kept, retain_until or self.retained(key), self._is_compliance)
        parts = parts_of(chunks, self._transfer.part_bytes)
        first, last = next(parts)
        size = len(first)
        if last:
            self._conclude(key, how, lambda: self.bucket.put(whole, first, how))
        else:
            size = self._put_parts(key, how, first, parts)
        return ObjectInfo(key, size, datetime.now(timezone.utc), dict(metadata or {}))

    def _put_parts(self, key: str, how: How, first: bytes, rest: Iterator[tuple[bytes, bool]]) -> int:
        whole, verb = self._whole(key), f"write {key}"
        upload = self._tried(verb, key, lambda: self.bucket.begin(whole, how))
        size = 0

        def work() -> Iterator[Callable[[], None]]:
            nonlocal size
            for number, (data, last) in enumerate(itertools.chain([(first, False)], rest)):
                size += len(data)
                yield self._part(upload.part, key, number, data, last)

        try:
            run_all(work(), 1 if upload.ordered else self._transfer.parallel)
            self._leases.check()
            self._conclude(key, how, upload.finish)
            seen = self.head(key)
            if seen.size_bytes != size:
                raise Corrupt(
                    f"Repository {self.name!r} took {size} bytes for {key} and holds {seen.size_bytes}.",
                    hint="Run it again; if it stays so, the server does not keep what it acknowledges.",
                )
        except BaseException:
            with contextlib.suppress(Exception):  # the next run's sweep has another chance
                self._tried(f"give up {key}", key, upload.abort)
            raise
        return size

    def _part(self, send: Callable[..., None], key: str, number: int, data: bytes, last: bool) -> Callable[[], None]:
        return lambda: self._tried(f"write part {number + 1} of {key}", key, lambda: send(number, data, last=last))

    def _conclude(self, key: str, how: How, call: Callable[[], None]) -> None:
        """The request that makes an object visible. An earlier attempt whose answer was lost may have done it."""

        def once(attempt: int) -> None:
            try:
                call()
            except Exception as exc:
                if attempt and self._is_this_put(key, how, exc):
                    return
                raise

        try:
            patiently(once, self._judged(f"write {key}", key), budget_s=self._transfer.retry_budget_s, what="It")
        except AlreadyThere as exc:
            raise self._taken(key) from exc

    def _is_this_put(self, key: str, how: How, exc: Exception) -> bool:
        """Whether what is there now came from the attempt before, which therefore did succeed."""
        with contextlib.suppress(DbopsError):
            verdict = exc if isinstance(exc, DbopsError) else self.bucket.judge(exc, "write", key).error
            if isinstance(verdict, (AlreadyThere, NotFound)):  # NotFound: the upload ended with the first answer
                return self._head(key).metadata.get(_TOKEN) == how.metadata[_TOKEN]
        return False

    def _look_before(self, key: str) -> None:
        with contextlib.suppress(NotFound):
            self.head(key)
            raise self._taken(key)

    @property
    def _is_compliance(self) -> bool:
        return self._lock is not None and self._lock.mode == "compliance"

    def retain(self, key: str, until: datetime) -> None:
        """Lock what is there until then, unless it is locked for longer already."""
        now = self.locked_until(key)
        if now is None or now < until:
            verb, whole = f"lock {key}", self._whole(key)
            self._tried(verb, key, lambda: self.bucket.retain(whole, until, compliance=self._is_compliance))

    def locked_until(self, key: str) -> datetime | None:
        """None also for a moment that has passed."""
        until = self._tried(f"look at the lock of {key}", key, lambda: self.bucket.retained(self._whole(key)))
        return until if until is not None and until > datetime.now(timezone.utc) else None

    def expunge(self, key: str) -> None:
        """Try to remove every version for good: what somebody would do who wants the backups gone."""
        self._tried(f"expunge {key}", key, lambda: self.bucket.expunge(self._whole(key)))

    def change_class(self, key: str, storage_class: str) -> None:
        """The same bytes in another of the cloud's classes. Not for what is locked: S3 and Google would keep both."""
        self._leases.check()
        whole = self._whole(key)
        self._tried(f"move {key} to {storage_class}", key, lambda: self.bucket.change_class(whole, storage_class))

    def settle(self, key: str) -> None:
        self.head(key)

    def delete(self, key: str) -> None:
        whole = self._whole(key)
        self._leases.check()
        self._tried(f"delete {key}", key, lambda: self.bucket.delete(whole))

    def sweep(self, prefix: str = "") -> int:
        below = self.bucket.prefix + check_prefix(prefix)
        found = self._tried("list unfinished uploads", prefix, lambda: list(self.bucket.unfinished(below)))
        for upload in found:
            self._tried(f"give up {upload[0]}", upload[0], partial(self.bucket.discard, upload))
        return len(found)

    # -- reading

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        first = self._piece(key, start, self._window(length))
        end = first.total_bytes if length is None else min(first.total_bytes, start + length)
        return self._rest(key, first, start + first.size_bytes, end)

    def _rest(self, key: str, first: Piece, start: int, end: int) -> Iterator[bytes]:
        yield from _handed_on(first)
        step = self._transfer.part_bytes
        if start >= end:
            return
        ranges = ((at, min(step, end - at)) for at in range(start, end, step))
        work = (partial(self._piece, key, at, size, first.version) for at, size in ranges)
        for piece in in_order(work, self._transfer.parallel):
            yield from _handed_on(piece)

    def _window(self, length: int | None) -> int:
        return self._transfer.part_bytes if length is None else min(length, self._transfer.part_bytes)

    def _piece(self, key: str, start: int, length: int, version: str | None = None) -> Piece:
        whole = self._whole(key)
        if length == 0:
            return Piece(deque(), self.head(key).size_bytes, "")

        def read() -> Piece:
            piece = self.bucket.read(whole, start, length, version)
            if piece.size_bytes != max(0, min(length, piece.total_bytes - start)):
                raise ConnectionError(f"{piece.size_bytes} bytes came of {length}")  # as of any other cut connection
            return piece

        try:
            return self._tried(f"read {key}", key, read)
        except AlreadyThere as exc:
            raise Corrupt(
                f"{key} in repository {self.name!r} was replaced while it was read.",
                hint="Nothing of ours does that: find out who writes there, then read it again.",
            ) from exc

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | DbopsError | None]]:
        def one(key: str) -> tuple[str, bytes | DbopsError | None]:
            try:
                return key, b"".join(self.get(key))
            except NotFound:
                return key, None
            except DbopsError as exc:
                return key, exc

        return in_order((partial(one, check_key(key)) for key in keys), 4 * self._transfer.parallel)

    def head(self, key: str) -> ObjectInfo:
        info = self._head(key)
        info.metadata.pop(_TOKEN, None)
        return info

    def _head(self, key: str) -> ObjectInfo:
        whole = self._whole(key)
        found = self._tried(f"look at {key}", key, lambda: self.bucket.head(whole))
        kept = {name: unquote(value) for name, value in found.metadata.items()}
        return ObjectInfo(key, found.size_bytes, found.modified, kept)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return (info for info in self._listed(check_prefix(prefix)) if not _is_hidden(info.key))

    def _listed(self, prefix: str) -> Iterator[ObjectInfo]:
        """Hidden ones too."""
        cut = len(self.bucket.prefix)
        after: str | None = None
        while True:
            page = self._tried(f"list {prefix!r}", prefix, partial(self._page, prefix, after, folders=False))
            for info in page.objects:
                yield replace(info, key=info.key[cut:])
            after = page.next
            if after is None:
                return

    def children(self, prefix: str) -> Iterator[str]:
        check_prefix(prefix)
        return self._children(prefix)

    def folder(self, prefix: str) -> Folder | None:
        """None: a bucket has no folders whose change it would notice."""
        del prefix
        return None

    def _children(self, prefix: str) -> Iterator[str]:
        cut = len(self.bucket.prefix) + len(prefix)
        after: str | None = None
        while True:
            page = self._tried(f"list {prefix!r}", prefix, partial(self._page, prefix, after, folders=True))
            for folder in page.folders:
                name = folder[cut:].rstrip("/")
                if not name.startswith("."):
                    yield name
            after = page.next
            if after is None:
                return

    # -- the rest

    def lock(self, name: str, *, shared: bool = False) -> AbstractContextManager[None]:
        return self._leases.hold(check_key(name), shared=shared)

    def caveats(self) -> tuple[str, ...]:
        if self.bucket.takes_conditions:
            return ()
        caveat = (
            f"Repository {self.name!r} is configured as a server without conditional writes: two writers of one name "
            "at the same instant are not kept apart, and the later one overwrites the earlier one."
        )
        return (caveat,)

    def free_bytes(self) -> int | None:
        return None

    # -- for lease.py: claims are hidden, and their keys would be refused as anybody's own

    def claims(self, folder: str) -> Iterator[ObjectInfo]:
        return self._listed(folder)

    def claim(self, key: str) -> bytes:
        found = self._tried(f"read {key}", key, lambda: self.bucket.read(self.bucket.prefix + key, 0, 4096, None))
        return b"".join(found.chunks)

    def write_claim(self, key: str, content: bytes) -> None:
        self._tried(f"lock {key}", key, lambda: self.bucket.put(self.bucket.prefix + key, content, How()))

    def withdraw_claim(self, key: str) -> None:
        self._tried(f"unlock {key}", key, lambda: self.bucket.delete(self.bucket.prefix + key))

    # -- below: how

    def _whole(self, key: str) -> str:
        return self.bucket.prefix + check_key(key)

    def _page(self, prefix: str, after: str | None, *, folders: bool) -> Page:
        return self.bucket.page(self.bucket.prefix + prefix, folders=folders, after=after)

    def _judged(self, verb: str, key: str) -> Callable[[Exception], Judgement]:
        return lambda exc: self.bucket.judge(exc, f"Repository {self.name!r} at {self.bucket.where} cannot {verb}", key)

    def _tried(self, verb: str, key: str, call: Callable[[], T]) -> T:
        return patiently(
            lambda attempt: call(), self._judged(verb, key), budget_s=self._transfer.retry_budget_s, what="It"
        )

    def ask(self, verb: str, call: Callable[[], T]) -> T:
        """One request about the bucket itself, with the patience and the errors of all others."""
        return self._tried(verb, "", call)

    def _taken(self, key: str) -> AlreadyThere:
        return AlreadyThere(
            f"Repository {self.name!r} already holds {key!r}, and nothing that is stored is ever overwritten.",
            hint="Another writer was first; look at the object before anything else.",
        )


def _handed_on(piece: Piece) -> Iterator[bytes]:
    """In chunks of `CHUNK` at most: queues count chunks, however large a part is."""
    while piece.chunks:
        chunk = piece.chunks.popleft()
        view = memoryview(chunk)
        for at in range(0, len(chunk), CHUNK):
            yield chunk if len(chunk) <= CHUNK else bytes(view[at : at + CHUNK])


def _is_hidden(key: str) -> bool:
    """A lock, or somebody else's: no key of ours has a component that begins with a dot."""
    return key.startswith(".") or "/." in key
