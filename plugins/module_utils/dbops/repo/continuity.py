# SPDX-License-Identifier: GPL-3.0-or-later
"""What an archive lacks, and what it has and helps nobody: gaps, missing and orphaned segments. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .window import Base, Interval, Segments, Stretch, intervals, line


@dataclass(frozen=True)
class Run:
    """Segments in a row, of one timeline."""

    timeline: int
    first: int
    last: int

    def describe(self, segments: Segments) -> dict[str, object]:
        return {
            "first": segments.name(self.timeline, self.first),
            "last": segments.name(self.timeline, self.last),
            "count": self.last - self.first + 1,
        }


@dataclass(frozen=True)
class Continuity:
    """`gaps`: not there, though older and newer ones of the timeline are. `missing`: by backup, what it cannot do
    without. `orphaned`: there, and no backup leads to them."""

    gaps: tuple[Run, ...]
    missing: Mapping[str, tuple[str, ...]]
    orphaned: tuple[Run, ...]
    window: tuple[Interval, ...]


def continuity(
    segments: Segments, bases: Sequence[Base], histories: Mapping[int, Sequence[tuple[int, str]]]
) -> Continuity:
    timelines = sorted({item[0] for item in segments.present} | {base.timeline for base in bases})
    there = {item for item in segments.present if item not in segments.dropped}
    window: list[Interval] = []
    used: set[tuple[int, int]] = set()
    starts = {base.label: base.start for base in bases}
    for timeline in timelines:
        path = line(timeline, histories)
        found = intervals(timeline, bases, segments, histories)
        window += found
        for interval in found:
            begin = min(starts[label] for label in interval.bases)
            used |= _used(path, begin // segments.size, (interval.end - 1) // segments.size, segments.size)
    return Continuity(
        gaps=tuple(run for timeline in timelines for run in _gaps(there, timeline)),
        missing={base.label: lacking for base in bases if (lacking := _lacking(base, segments))},
        orphaned=runs(there - used),
        window=tuple(window),
    )


def runs(items: Collection[tuple[int, int]]) -> tuple[Run, ...]:
    """The (timeline, number) pairs as runs, in order."""
    found: list[Run] = []
    for timeline, number in sorted(items):
        if found and found[-1].timeline == timeline and found[-1].last == number - 1:
            found[-1] = Run(timeline, found[-1].first, number)
        else:
            found.append(Run(timeline, number, number))
    return tuple(found)


def _gaps(there: Iterable[tuple[int, int]], timeline: int) -> list[Run]:
    present = runs([item for item in there if item[0] == timeline])
    return [Run(timeline, before.last + 1, after.first - 1) for before, after in zip(present, present[1:])]


def _lacking(base: Base, segments: Segments) -> tuple[str, ...]:
    numbers = range(base.start // segments.size, (max(base.start, base.stop - 1)) // segments.size + 1)
    return tuple(segments.name(base.timeline, item) for item in numbers if not segments.has(base.timeline, item))


def _used(path: Sequence[Stretch], first: int, last: int, size: int) -> set[tuple[int, int]]:
    """Every file of the line from the first to the last segment; at a fork those of both timelines."""
    return {
        (stretch.timeline, number)
        for stretch in path
        for number in range(
            max(first, stretch.begin // size),
            min(last, last if stretch.end is None else stretch.end // size) + 1,
        )
    }
