# SPDX-License-Identifier: GPL-3.0-or-later
"""The recovery window: every point that an archive can really reach, and where it is broken. Pure.

A point is reachable when a base backup ends before it and every segment from the backup's start up to it is there, on
the timelines that lead to it. What is reachable is told per *line*: the path of timelines that ends in one of them, as
its `.history` file says. Two lines share their past up to the fork.

Which file holds a segment (PostgreSQL's XLogFileReadAnyTLI): that of the newest timeline of the line that had begun by
then. A promotion copies the old timeline's part of the segment into the first file of the new one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Optional

from ..pg.wal import int_to_lsn, lsn_to_int


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
    last = max((item[1] for item in segments.present if _relevant(path, item, segments.size)), default=-1)
    found: list[Interval] = []
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
            found[-1] = _joined(found[-1], base)
        else:
            found.append(Interval(timeline, base.stop, end, base.stopped, (base.label,), missing))
    return tuple(found)


def covering(found: Iterable[Interval], position: int) -> Optional[Interval]:
    """The interval in which the byte position can be reached, if there is one."""
    for interval in found:
        if interval.start <= position <= interval.end:
            return interval
    return None


def _joined(interval: Interval, base: Base) -> Interval:
    """With one more base; one that started later may have stopped earlier, and then the interval begins there."""
    return replace(
        interval,
        start=min(interval.start, base.stop),
        start_time=min(interval.start_time, base.stopped),
        bases=(*interval.bases, base.label),
    )


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
    number = start // segments.size
    while number <= last:
        timeline = holder(path, number, segments.size)
        if not segments.has(timeline, number):
            return _until(path, number, segments), segments.name(timeline, number)
        number += 1
    return max(start, _until(path, number, segments)), None


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


def _relevant(path: Sequence[Stretch], item: tuple[int, int], size: int) -> bool:
    timeline, number = item
    return holder(path, number, size) == timeline
