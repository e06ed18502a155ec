# SPDX-License-Identifier: GPL-3.0-or-later
"""What the archived WAL itself says of time: the last transaction of an interval, and where a name or an id stands.

Segments are fetched into a private directory and read by pg_waldump, together with their successor where a record may
go on in it. What was found is kept in the host's state, by the content that it was found in.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Optional

from ..pg.tools import Tools
from ..pg.waldump import Contents, Mark, contents
from ..pg.walfile import wal_name
from ..repo.archive import WalArchive
from ..repo.coverage import Line, Window
from ..repo.record import from_iso
from ..repo.window import Interval
from .target import iso_micro

_FORMAT = 1
_FARTHEST = 256  # segments: a cluster that was idle for longer than that has no commit worth the search


@dataclass(frozen=True)
class Edge:
    """The last transaction that ended before the interval did (its commit or abort), and the last record's place.

    `time` is None when none was found within the search's limit; then no time target can be proven there.
    """

    time: Optional[datetime]
    last_record: Optional[int]


class WalReader:
    """Reads a window's WAL, one segment at a time. `close` it, or use it in a with statement."""

    def __init__(self, archive: WalArchive, window: Window, tools: Tools, *, cache: Optional[str] = None) -> None:
        self._archive = archive
        self._window = window
        self._tools = tools
        self._cache = cache and os.path.join(cache, "wal-marks", window.system_identifier)
        self._room = tempfile.TemporaryDirectory(prefix="dbops-wal-")  # pylint: disable=consider-using-with
        tools.identity.give(self._room.name)

    def __enter__(self) -> WalReader:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._room.cleanup()

    def edge(self, line: Line, interval: Interval) -> Edge:
        """Walk back from the interval's end until a transaction's end is found."""
        last_record = None
        near = max(interval.start, interval.end - _FARTHEST * self._window.segments.size)
        places = list(self._window.between(line.path, near, interval.end))
        for timeline, number in reversed(places):
            found = self.read(timeline, number, until=interval.end)
            last_record = found.last_record if last_record is None else last_record
            times = [mark.time for mark in found.marks if mark.time is not None and mark.position >= interval.start]
            if times:
                return Edge(max(times), last_record)
        return Edge(None, last_record)

    def newest_first(self, line: Line, interval: Interval) -> Iterator[Mark]:
        """Every mark of the interval, from its end back to its start."""
        for timeline, number in reversed(list(self._window.between(line.path, interval.start, interval.end))):
            for mark in reversed(self.read(timeline, number, until=interval.end).marks):
                if mark.position >= interval.start:
                    yield mark

    def last_before(self, line: Line, interval: Interval, moment: datetime) -> tuple[Optional[datetime], int]:
        """The last commit that was not later than `moment`, and the byte position up to which replay must read.

        Transactions end in the order of time as far as the server's clock was steady: the search is by halves.
        """
        places = list(self._window.between(line.path, interval.start, interval.end))
        low, high = 0, len(places) - 1  # the first segment with an end later than `moment` is one of these, or none is
        while low < high:
            middle = (low + high) // 2
            if self._is_past(places[low : middle + 1], interval, moment):
                high = middle
            else:
                low = middle + 1
        commit = None
        for index in range(low, -1, -1):
            times = [
                mark.time
                for mark in self._within(places[index], interval)
                if mark.kind == "commit" and mark.time is not None and mark.time <= moment
            ]
            if times:
                commit = max(times)
                break
        return commit, min(interval.end, (places[low][1] + 1) * self._window.segments.size)

    def _is_past(self, places: list[tuple[int, int]], interval: Interval, moment: datetime) -> bool:
        """Whether the last transaction in these segments ended later than `moment`; segments may hold none."""
        for place in reversed(places):
            times = list(_times(self._within(place, interval)))
            if times:
                return max(times) > moment
        return False

    def read(self, timeline: int, number: int, *, until: int) -> Contents:
        """One segment's marks that begin before `until`. Corrupt and NotFound as of WalArchive.get."""
        size = self._window.segments.size
        name = self._window.segments.name(timeline, number)
        following = self._following(timeline, number, until)
        key = self._key(name, following)
        found = self._remembered(key)
        if found is None:
            with self._files([name] + ([following] if following else [])) as paths:
                found = contents(self._tools, paths)
            self._remember(key, found)
        limit = min(until, (number + 1) * size)
        kept = tuple(mark for mark in found.marks if mark.position < limit)
        last = found.last_record
        if last is not None and last >= limit:
            last = None
        return Contents(kept, last)

    def _within(self, place: tuple[int, int], interval: Interval) -> tuple[Mark, ...]:
        found = self.read(*place, until=interval.end).marks
        return tuple(mark for mark in found if mark.position >= interval.start)

    def _following(self, timeline: int, number: int, until: int) -> Optional[str]:
        """The next segment, where the last record may go on, if replay reads it too."""
        size = self._window.segments.size
        if (number + 1) * size >= until or not self._window.segments.has(timeline, number + 1):
            return None
        return self._window.segments.name(timeline, number + 1)

    @contextlib.contextmanager
    def _files(self, names: list[str]) -> Iterator[list[str]]:
        paths = []
        try:
            for name in names:
                path = os.path.join(self._room.name, name)
                paths.append(path)
                with open(path, "wb") as stream:
                    for chunk in self._archive.stream(wal_name(name)):
                        stream.write(chunk)
                self._tools.identity.give(path)
            yield paths
        finally:
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)

    # -- what was read before

    def _key(self, name: str, following: Optional[str]) -> Optional[str]:
        if not self._cache:
            return None
        stamps = [self._archive.content_of(wal_name(item)) for item in (name, following) if item]
        if None in stamps:
            return None
        return "-".join([name, *(str(stamp)[:16] for stamp in stamps)])

    def _remembered(self, key: Optional[str]) -> Optional[Contents]:
        if not key:
            return None
        try:
            with open(os.path.join(str(self._cache), key), encoding="utf-8") as stream:
                data = json.load(stream)
            if data["format"] != _FORMAT:
                return None
            return Contents(tuple(_mark(item) for item in data["marks"]), data["last_record"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _remember(self, key: Optional[str], found: Contents) -> None:
        """A convenience: where it cannot be kept, the WAL is read again next time."""
        if not key or len(found.marks) > 10_000:
            return
        data: dict[str, Any] = {"format": _FORMAT, "last_record": found.last_record, "marks": []}
        for mark in found.marks:
            time = iso_micro(mark.time) if mark.time else None
            data["marks"].append([mark.kind, mark.position, mark.xid, time, mark.name])
        with contextlib.suppress(OSError):
            os.makedirs(str(self._cache), mode=0o700, exist_ok=True)
            temporary = os.path.join(str(self._cache), f".{key}.{os.getpid()}")
            with open(temporary, "w", encoding="utf-8") as stream:
                json.dump(data, stream)
            os.rename(temporary, os.path.join(str(self._cache), key))


def _times(found: tuple[Mark, ...]) -> Iterator[datetime]:
    for mark in found:
        if mark.time is not None:
            yield mark.time


def _mark(item: list[Any]) -> Mark:
    kind, position, xid, time, name = item
    return Mark(kind, position, xid, from_iso(time) if time else None, name)
