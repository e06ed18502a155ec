# SPDX-License-Identifier: GPL-3.0-or-later
"""The recovery window: every point that an archive can really reach, and where it is broken. Pure.

A point is reachable when a base backup ends before it and every segment from the backup's start up to it is there, on
the timelines that lead to it. What is reachable is told per *line*: the path of timelines that ends in one of them, as
its `.history` file says. Two lines share their past up to the fork.

Which file holds a segment (PostgreSQL's XLogFileReadAnyTLI): that of the newest timeline of the line that had begun by
then. A promotion copies the old timeline's part of the segment into the first file of the new one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Optional

from ..pg.wal import int_to_lsn, lsn_to_int
from .wal_index import WalIndex


@dataclass(frozen=True)
class Base:
    """A base backup as the window sees it; `stopped` is the time from which on it can be a recovery's start."""

    label: str
    timeline: int
    start: int  # LSNs as byte positions
    stop: int
    stopped: datetime


@dataclass(frozen=True)
class Stretch:
    """One timeline's part of a line: from where it began to where the line left it (None: not yet)."""

    timeline: int
    begin: int
    end: Optional[int]


@dataclass(frozen=True)
class Interval:
    """Everything from `start` (a base's stop) to `end` can be reached, whichever base one begins with.

    `broken_by` names the first missing segment when more WAL lies beyond it; None where the archive simply ends.
    """

    timeline: int
    start: int
    end: int
    start_time: datetime
    bases: tuple[str, ...]
    broken_by: Optional[str] = None

    def describe(self) -> dict[str, object]:
        return {
            "timeline": self.timeline,
            "start_lsn": int_to_lsn(self.start),
            "end_lsn": int_to_lsn(self.end),
            "bases": list(self.bases),
            "broken_by": self.broken_by,
        }


@dataclass(frozen=True)
class Segments:
    """What is archived, and what must not be trusted: (timeline, number) of each."""

    present: Collection[tuple[int, int]]
    size: int
    dropped: Collection[tuple[int, int]] = ()  # acknowledged without archiving, to save a full disk

    def has(self, timeline: int, number: int) -> bool:
        return (timeline, number) in self.present and (timeline, number) not in self.dropped

    def first_missing(self, timeline: int, begin: int, end: int) -> Optional[int]:
        """The first number of begin to end (inclusive) that replay would lack there."""
        if not isinstance(self.present, WalIndex):
            return next((number for number in range(begin, end + 1) if not self.has(timeline, number)), None)
        lost = min((item[1] for item in self.dropped if item[0] == timeline and begin <= item[1] <= end), default=None)
        hole = self.present.first_missing(timeline, begin, end)
        return min((number for number in (lost, hole) if number is not None), default=None)

    def last(self, timeline: int, begin: int, end: Optional[int]) -> Optional[int]:
        """The last number from begin on (to end, inclusive) that is there, to be trusted or not."""
        if isinstance(self.present, WalIndex):
            return self.present.last(timeline, begin, end)
        numbers = (number for line, number in self.present if line == timeline and begin <= number)
        return max((number for number in numbers if end is None or number <= end), default=None)

    def count(self) -> int:
        """How many are there and can be trusted."""
        return len(self.present) - sum(item in self.present for item in set(self.dropped))

    def last_of_all(self) -> Optional[int]:
        """The greatest number, on whatever timeline, that can be trusted."""
        if isinstance(self.present, WalIndex) and not self.dropped:
            last = [self.present.last(timeline, 0) for timeline in self.present.timelines]
            return max((number for number in last if number is not None), default=None)
        return max((number for timeline, number in self.present if self.has(timeline, number)), default=None)

    def holes(self) -> int:
        """How many replay would lack although older and newer ones of their timeline can be trusted."""
        if isinstance(self.present, WalIndex) and not self.dropped:
            return self.present.holes()
        by_timeline: dict[int, list[int]] = {}
        for timeline, number in self.present:
            if self.has(timeline, number):
                by_timeline.setdefault(timeline, []).append(number)
        return sum(max(numbers) - min(numbers) + 1 - len(numbers) for numbers in by_timeline.values())

    def name(self, timeline: int, number: int) -> str:
        per_log = 0x100000000 // self.size
        return f"{timeline:08X}{number // per_log:08X}{number % per_log:08X}"


def line(timeline: int, histories: Mapping[int, Sequence[tuple[int, str]]]) -> tuple[Stretch, ...]:
    """The stretches that lead into `timeline`, oldest first. Without its history only the timeline itself is known."""
    stretches = []
    begin = 0
    for parent, left_at in histories.get(timeline, ()):
        end = lsn_to_int(left_at)
        stretches.append(Stretch(parent, begin, end))
        begin = end
    return (*stretches, Stretch(timeline, begin, None))


def intervals(
    timeline: int,
    bases: Iterable[Base],
    segments: Segments,
    histories: Mapping[int, Sequence[tuple[int, str]]],
) -> tuple[Interval, ...]:
    """The line's restorable intervals in LSN order. A base that cannot even become consistent starts none."""
    path = line(timeline, histories)
    last = _last(path, segments)
    found: list[Interval] = []
    joined: list[str] = []  # the bases of the last one
    begun, end, missing = 0, -1, None  # the run of segments walked last: bases within it share its end
    for base in sorted(bases, key=lambda item: (item.start, item.stop)):
        if not _on(path, base):
            continue
        if not begun <= base.start < end:
            begun = base.start
            end, missing = _reach(path, base.start, last, segments)
        if end < base.stop:
            continue
        if found and found[-1].end == end:
            joined.append(base.label)
            if (
                base.stop < found[-1].start or base.stopped < found[-1].start_time
            ):  # it started later and stopped earlier
                found[-1] = replace(
                    found[-1],
                    start=min(found[-1].start, base.stop),
                    start_time=min(found[-1].start_time, base.stopped),
                )
        else:
            _close(found, joined)
            joined = [base.label]
            found.append(Interval(timeline, base.stop, end, base.stopped, (), missing))
    _close(found, joined)
    return tuple(found)


def _close(found: list[Interval], joined: Sequence[str]) -> None:
    if found:
        found[-1] = replace(found[-1], bases=tuple(joined))


def covering(found: Iterable[Interval], position: int) -> Optional[Interval]:
    """The interval in which the byte position can be reached, if there is one."""
    for interval in found:
        if interval.start <= position <= interval.end:
            return interval
    return None


def _on(path: Sequence[Stretch], base: Base) -> bool:
    """Whether the line passes through the whole backup: it was on this timeline, and not yet gone when it stopped."""
    return any(
        stretch.timeline == base.timeline
        and stretch.begin <= base.stop
        and (stretch.end is None or base.stop <= stretch.end)
        for stretch in path
    )


def _reach(path: Sequence[Stretch], start: int, last: int, segments: Segments) -> tuple[int, Optional[str]]:
    """How far replay gets from `start`, and the missing segment if WAL of this line (up to `last`) lies beyond it."""
    first = start // segments.size
    for timeline, begin, end in parts(path, first, last, segments.size):
        number = segments.first_missing(timeline, begin, end)
        if number is not None:
            return _until(path, number, segments), segments.name(timeline, number)
    return max(start, _until(path, max(first, last + 1), segments)), None


def _until(path: Sequence[Stretch], number: int, segments: Segments) -> int:
    """Replay stops at the missing segment, or within it at the fork if the older timeline's file is there."""
    begin = number * segments.size
    for stretch in path:
        inside = stretch.end is not None and begin < stretch.end < begin + segments.size
        if inside and segments.has(stretch.timeline, number):
            return stretch.end or begin
    return begin


def holder(path: Sequence[Stretch], number: int, size: int) -> int:
    """The timeline whose file replay reads for this segment."""
    begun = [stretch for stretch in path if stretch.begin // size <= number]
    return begun[-1].timeline


def parts(path: Sequence[Stretch], first: int, last: int, size: int) -> Iterator[tuple[int, int, int]]:
    """From the first to the last number, as stretches of one holder each: timeline, first and last of it."""
    for stretch, after in zip(path, [*path[1:], None]):
        begin = max(first, stretch.begin // size)
        end = last if after is None else min(last, after.begin // size - 1)
        if begin <= end:
            yield stretch.timeline, begin, end


def _last(path: Sequence[Stretch], segments: Segments) -> int:
    """The last number for which the line's own file is there; -1 without any."""
    for stretch, after in reversed(list(zip(path, [*path[1:], None]))):
        end = None if after is None else after.begin // segments.size - 1
        found = segments.last(stretch.timeline, stretch.begin // segments.size, end)
        if found is not None:
            return found
    return -1
