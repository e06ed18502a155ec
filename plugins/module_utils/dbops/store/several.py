# SPDX-License-Identifier: GPL-3.0-or-later
"""Several stores as one: what is written is read once and goes to all, what is read comes from the first that can.

A required member that fails, fails the call. One that is not required is dropped until the object is closed, with the
reason in `lost`, and is told to `on_lost` once. Memory is bounded by a few chunks per member, so the slowest member
sets the pace; an optional one that takes nothing for `patience_s` is dropped too.
"""

from __future__ import annotations

import builtins
import contextlib
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Callable, Optional, TypeVar  # a method is called list here

from ..errors import DbopsError, NotFound, Unreachable
from .protocol import AlreadyThere, Folder, ObjectInfo, Store

PATIENCE_S = 300.0
_DEPTH = 4
_T = TypeVar("_T")
_END = object()


class PartlyStored(DbopsError):
    """A small object that is in some required stores already, and cannot be put into the next."""

    exit_code = 4
    error_code = "partly_stored"


@dataclass(frozen=True)
class Member:
    store: Store
    required: bool = True

    @property
    def name(self) -> str:
        return self.store.name


class Several:
    """Members in the order in which they are asked. Reading needs any one of them, writing every required one."""

    def __init__(
        self,
        members: Sequence[Member],
        *,
        on_lost: Callable[[str, str], None] = lambda name, why: None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.members = tuple(members)
        self.name = ", ".join(member.name for member in self.members)
        self.lost: dict[str, str] = {}
        self._on_lost = on_lost
        self._patience_s = patience_s

    @property
    def live(self) -> list[Member]:
        return [member for member in self.members if member.name not in self.lost]

    def drop(self, name: str, why: str) -> None:
        """Go on without this member."""
        if name not in self.lost:
            self.lost[name] = why
            self._on_lost(name, why)

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
        """A list of chunks goes to one member after the other, a stream to all at once.

        After a failure a member may have the object all the same: whoever puts it under a name of his own removes it.
        """

        def put(store: Store, source: Iterable[bytes]) -> ObjectInfo:
            return store.put(
                key, source, if_absent=if_absent, relied_on=relied_on, metadata=metadata, retain_until=retain_until
            )

        members = self.live
        if len(members) == 1:
            return put(members[0].store, chunks)
        if isinstance(chunks, (list, tuple)):
            return self._put_in_turn(key, chunks, put)
        return self._put_at_once(chunks, put)

    def settle(self, key: str) -> None:
        self._each(lambda store: store.settle(key))

    def delete(self, key: str) -> None:
        self._each(lambda store: store.delete(key))

    def sweep(self, prefix: str = "") -> int:
        return sum(self._each(lambda store: store.sweep(prefix)))

    @contextlib.contextmanager
    def lock(self, name: str, *, shared: bool = False) -> Iterator[None]:
        """Every member's. An optional one that is busy or away is dropped."""
        with contextlib.ExitStack() as stack:
            self._each(lambda store: stack.enter_context(store.lock(name, shared=shared)))
            yield

    # -- reading

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """One member that stops in the middle is followed by the next, from that byte on."""
        store, chunks = self._first(lambda store: (store, store.get(key, start=start, length=length)))
        return self._go_on(key, store, chunks, start, length)

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | DbopsError | None]]:
        return self._first(lambda store: iter(list(store.read_many(keys))))

    def head(self, key: str) -> ObjectInfo:
        return self._first(lambda store: store.head(key))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self._first(lambda store: iter(list(store.list(prefix))))

    def children(self, prefix: str) -> Iterator[str]:
        return self._first(lambda store: iter(list(store.children(prefix))))

    def folder(self, prefix: str) -> Folder | None:
        return self._first(lambda store: store.folder(prefix))

    def caveats(self) -> tuple[str, ...]:
        return tuple(caveat for member in self.members for caveat in member.store.caveats())

    def free_bytes(self) -> int | None:
        """Of the required member with the least room."""
        known = [size for size in self._each(lambda store: store.free_bytes()) if size is not None]
        return min(known) if known else None

    # -- below: how

    def _each(self, call: Callable[[Store], _T]) -> builtins.list[_T]:
        done = []
        for member in self.live:
            try:
                done.append(call(member.store))
            except DbopsError as exc:
                if member.required or len(self.live) == 1:
                    raise
                self.drop(member.name, str(exc))
        return done

    def _first(self, call: Callable[[Store], _T]) -> _T:
        """The answer of the first member that has one. NotFound only when all of them said so."""
        failed: list[tuple[Member, DbopsError]] = []
        for member in self.live:
            try:
                answer = call(member.store)
            except (NotFound, Unreachable) as exc:
                failed.append((member, exc))
                continue
            for other, error in failed:
                self._pass_over(other, error)
            return answer
        errors = [error for _member, error in failed]
        raise next((error for error in errors if not isinstance(error, NotFound)), errors[0])

    def _member(self, store: Store) -> Member:
        return next(member for member in self.members if member.store is store)

    def _pass_over(self, member: Member, error: DbopsError) -> None:
        """Another member answered instead. One that only lacks this object may have the next."""
        if isinstance(error, NotFound):
            self._on_lost(member.name, str(error))
        elif not member.required:
            self.drop(member.name, str(error))

    def _go_on(
        self, key: str, store: Store, chunks: Iterator[bytes], start: int, length: Optional[int]
    ) -> Iterator[bytes]:
        given = 0
        tried = [store]
        while True:
            try:
                for chunk in chunks:
                    given += len(chunk)
                    yield chunk
                return
            except (NotFound, Unreachable) as exc:
                waiting = [member for member in self.live if member.store not in tried]
                if not waiting:
                    raise
                self._pass_over(self._member(store), exc)
                store = waiting[0].store
                tried.append(store)
                chunks = _opened(store, key, start + given, None if length is None else length - given)

    def _put_in_turn(
        self, key: str, chunks: Sequence[bytes], put: Callable[[Store, Iterable[bytes]], ObjectInfo]
    ) -> ObjectInfo:
        """The required ones first. One that has these very bytes already does not keep them from the others."""
        stored: dict[str, ObjectInfo] = {}
        taken: Optional[AlreadyThere] = None
        for member in sorted(self.live, key=lambda member: not member.required):
            try:
                stored[member.name] = put(member.store, chunks)
            except AlreadyThere as exc:
                # Of two writers the first one decides who wins, so the loser must not be first in the next.
                if b"".join(member.store.get(key)) != b"".join(chunks):
                    raise
                taken = taken or exc
            except DbopsError as exc:
                if not member.required and len(self.live) > 1:
                    self.drop(member.name, str(exc))
                elif stored:
                    raise PartlyStored(
                        f"{key} is stored in {', '.join(stored)}, and not in {member.name!r}: {exc.message}",
                        hint="Mend that repository, then run: dbops repo sync.",
                    ) from exc
                else:
                    raise
        if taken is not None:
            raise taken
        return next(iter(stored.values()))

    def _put_at_once(self, chunks: Iterable[bytes], put: Callable[[Store, Iterable[bytes]], ObjectInfo]) -> ObjectInfo:
        writers = [_Writer(member, put) for member in self.live]
        try:
            for chunk in chunks:
                for writer in writers:
                    writer.offer(chunk, self._patience(writer))
                writers = self._still_writing(writers)
            for writer in writers:
                writer.offer(_END, self._patience(writer))
            for writer in writers:
                writer.wait(self._patience(writer))
            writers = self._still_writing(writers)
        except BaseException as exc:
            for writer in writers:
                writer.abandon(exc)
            for writer in writers:
                writer.wait(self._patience_s)
            raise
        return next(writer.info for writer in writers if writer.info is not None)

    def _patience(self, writer: _Writer) -> Optional[float]:
        return None if writer.member.required else self._patience_s

    def _still_writing(self, writers: builtins.list[_Writer]) -> builtins.list[_Writer]:
        """Without those that failed, unless one of these was required, or nobody is left."""
        failed = [writer for writer in writers if writer.error is not None]
        alive = [writer for writer in writers if writer.error is None]
        for writer in failed:
            if writer.member.required or not alive or not isinstance(writer.error, DbopsError):
                raise writer.error or Unreachable("No repository is left.", hint="See the warnings.")
            self.drop(writer.member.name, str(writer.error))
        return alive


def _opened(store: Store, key: str, start: int, length: Optional[int]) -> Iterator[bytes]:
    """As `get`, but an error comes with the first chunk, where the others come too."""
    yield from store.get(key, start=start, length=length)


class _Writer:
    """One member's `put` in a thread of its own, fed through a short queue."""

    def __init__(self, member: Member, put: Callable[[Store, Iterable[bytes]], ObjectInfo]) -> None:
        self.member = member
        self.info: Optional[ObjectInfo] = None
        self.error: Optional[BaseException] = None
        self._chunks: queue.Queue[Any] = queue.Queue(maxsize=_DEPTH)
        self._abandoned: Optional[BaseException] = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(put,), name="dbops-put", daemon=True)
        self._thread.start()

    def offer(self, chunk: Any, patience_s: Optional[float]) -> None:
        """Hand one chunk over; a writer that has ended, or takes nothing for too long, has its `error` instead."""
        limit = None if patience_s is None else time.monotonic() + patience_s
        while not self._done.is_set():
            with contextlib.suppress(queue.Full):
                self._chunks.put(chunk, timeout=0.2)
                return
            if limit is not None and time.monotonic() > limit:
                self.abandon(self._stuck(patience_s))
                return

    def wait(self, patience_s: Optional[float]) -> None:
        if not self._done.wait(patience_s) and self.error is None:
            self.abandon(self._stuck(patience_s))

    def abandon(self, why: BaseException) -> None:
        """Make the put end without its object, as soon as it asks for more."""
        self._abandoned = why
        self.error = self.error or why

    def _stuck(self, patience_s: Optional[float]) -> Unreachable:
        return Unreachable(
            f"Repository {self.member.name!r} took nothing for {patience_s:.0f} s.",
            hint="Look at its disk or its network; dbops repo sync brings it up to date.",
        )

    def _run(self, put: Callable[[Store, Iterable[bytes]], ObjectInfo]) -> None:
        try:
            self.info = put(self.member.store, self._source())
        except BaseException as exc:  # noqa: BLE001  # told to whoever feeds us
            self.error = self.error or exc
        finally:
            self._done.set()

    def _source(self) -> Iterator[bytes]:
        while True:
            if self._abandoned is not None:
                raise self._abandoned
            try:
                chunk = self._chunks.get(timeout=0.2)
            except queue.Empty:
                continue
            if chunk is _END:
                return
            yield chunk
