# SPDX-License-Identifier: GPL-3.0-or-later
"""From what a repository holds to what can be reached: its base backups, archived WAL and histories as one window.

The WAL is listed once. What opens no recovery is left out: a dump, a backup whose chain is broken, another system's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Optional

from ..pg.wal import DEFAULT_SEGMENT_SIZE, lsn_to_int
from ..pg.walfile import parse_history
from . import layout
from .archive import WalArchive
from .record import BackupRecord, iso
from .repository import Catalog, Repository
from .wal_index import WalIndex, WalKeys
from .wal_listing import listing
from .window import Base, Interval, Segments, Stretch, intervals, line, parts


@dataclass(frozen=True)
class Line:
    """The path of timelines that ends in `timeline`, and what can be reached along it."""

    timeline: int
    path: tuple[Stretch, ...]
    intervals: tuple[Interval, ...]


@dataclass(frozen=True)
class Window:
    """Everything that one repository can reach of one system; `stored` are the archived segments' sizes in bytes."""

    system_identifier: str
    repository: str
    lines: tuple[Line, ...]  # by timeline
    segments: Segments
    stored: Mapping[tuple[int, int], int]
    bases: Mapping[str, Base]
    histories: Mapping[int, Sequence[tuple[int, str]]] = field(default_factory=dict)
    keys: Mapping[tuple[int, int], str] = field(default_factory=dict)  # where each segment lies in the store

    @property
    def newest(self) -> Optional[Line]:
        return self.lines[-1] if self.lines else None

    @property
    def stored_bytes(self) -> int:
        return self.stored.total_bytes if isinstance(self.stored, WalIndex) else sum(self.stored.values())

    def line(self, timeline: int) -> Optional[Line]:
        return next((item for item in self.lines if item.timeline == timeline), None)

    def between(self, path: Sequence[Stretch], start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The segments (timeline, number) that replay along this path reads from one byte position to another."""
        size = self.segments.size
        for timeline, first, last in parts(path, start // size, max(start, stop - 1) // size, size):
            for number in range(first, last + 1):
                yield timeline, number

    def describe(self, ends: Optional[Mapping[tuple[int, int], datetime]] = None) -> dict[str, Any]:
        """`ends` are commit times at the ends of intervals, by timeline and byte position, as far as known."""
        known = ends or {}
        return {
            "system_identifier": self.system_identifier,
            "repository": self.repository,
            "segments": len(self.segments.present),
            "stored_bytes": self.stored_bytes,
            "dropped": len(self.segments.dropped),
            "lines": [
                {
                    "timeline": item.timeline,
                    "intervals": [
                        {
                            **interval.describe(),
                            "start_time": iso(interval.start_time),
                            "end_time": _told(known.get((item.timeline, interval.end))),
                        }
                        for interval in item.intervals
                    ],
                }
                for item in self.lines
            ],
        }


def _told(moment: Optional[datetime]) -> Optional[str]:
    return iso(moment) if moment else None


def window_of(repository: Repository, catalog: Catalog, system_identifier: str) -> Window:
    """Reads the list of WAL and the histories. A failed listing raises: half of it would show gaps, or hide them."""
    archive = WalArchive(repository, system_identifier)
    records = _usable(catalog, system_identifier)
    size = _segment_size(records)
    index, found = listing(archive, size)
    histories = {item.name.timeline: parse_history(archive.get(item.name).decode("utf-8", "replace")) for item in found}
    dropped = {_place(name, size) for name in archive.dropped() if len(name) == 24}
    segments = Segments(index, size, dropped)
    bases = {record.label: base for record in records for base in _base(record)}
    timelines = sorted({*histories, *index.timelines, *_timelines(bases.values())})
    lines = tuple(
        Line(timeline, line(timeline, histories), intervals(timeline, bases.values(), segments, histories))
        for timeline in timelines
    )
    return Window(system_identifier, repository.name, lines, segments, index, bases, histories, WalKeys(index))


def windows(repository: Repository, catalog: Catalog) -> list[Window]:
    """One for each system whose WAL is archived here."""
    systems = repository.store.children(layout.wal(repository.cluster))
    return [window_of(repository, catalog, system) for system in systems]


def _usable(catalog: Catalog, system_identifier: str) -> list[BackupRecord]:
    records = {entry.record.label: entry.record for entry in catalog.entries}
    whole: dict[Optional[str], bool] = {None: True}
    for entry in reversed(catalog.entries):  # oldest first: a parent is known before its children
        whole[entry.record.label] = whole.get(entry.record.parent, False)
    return [
        record
        for record in records.values()
        if record.method == "physical" and record.system_identifier == system_identifier and whole[record.label]
    ]


def _segment_size(records: Iterable[BackupRecord]) -> int:
    return next((record.wal.segment_size for record in records if record.wal), DEFAULT_SEGMENT_SIZE)


def base_of(record: BackupRecord) -> Optional[Base]:
    """The backup as the window sees it; None for one without WAL."""
    return next(_base(record), None)


def _base(record: BackupRecord) -> Iterator[Base]:
    wal = record.wal
    if wal is not None:
        yield Base(record.label, wal.timeline, lsn_to_int(wal.start_lsn), lsn_to_int(wal.stop_lsn), record.stopped)


def _timelines(bases: Iterable[Base]) -> Iterator[int]:
    for base in bases:
        yield base.timeline


def _place(segment: str, size: int) -> tuple[int, int]:
    """A segment's name as its timeline and number."""
    return int(segment[:8], 16), int(segment[8:16], 16) * (0x100000000 // size) + int(segment[16:24], 16)
