# SPDX-License-Identifier: GPL-3.0-or-later
"""From a recovery window to spans that a person can see, and what it takes to recover to an instant in them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Optional

from ..pg.wal import int_to_lsn
from ..repo.coverage import Line, Window
from ..repo.record import BackupRecord
from ..repo.window import Base, Interval
from ..restore.choose import SEGMENTS_S
from ..restore.target import iso_micro
from .model import Rates, Reach, Span

# Commit times at the ends of intervals, by timeline and byte position, as far as the WAL was asked.
Ends = Mapping[tuple[int, int], datetime]
_MOST = 400  # bases of a line, the newest: nobody reads more, and each costs a walk over its WAL
# A time target is proven by a later transaction alone: the last commit itself is reached as the latest.
_SHORT_OF = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Place:
    """Where a command has to look."""

    cluster: str
    repository: str


def spans(window: Window, ends: Ends, until: Optional[datetime] = None) -> tuple[Span, ...]:
    """Of the newest line, and of every other one that leads where the newest does not.

    `until`: up to when everything that was committed is archived; it closes the newest span where that is not broken.
    """
    return tuple(_spans(window, ends, until))


def _spans(window: Window, ends: Ends, until: Optional[datetime]) -> Iterator[Span]:
    newest = window.newest
    if newest is None:
        return
    left_at = {stretch.timeline: stretch.end for stretch in newest.path}
    for line in window.lines:
        for interval in line.intervals:
            is_newest = line is newest
            fork = left_at.get(line.timeline)
            if not is_newest and fork is not None and interval.end <= fork:
                continue  # all of it is the newest line's own past
            closes = is_newest and interval is line.intervals[-1] and interval.broken_by is None
            end, known = _end(window, line, interval, ends, until if closes else None)
            yield Span(
                timeline=line.timeline,
                start=interval.start_time,
                end=end,
                end_is_known=known,
                start_lsn=int_to_lsn(interval.start),
                end_lsn=int_to_lsn(interval.end),
                newest_timeline=is_newest,
                broken_by=interval.broken_by,
            )


def _end(
    window: Window, line: Line, interval: Interval, ends: Ends, until: Optional[datetime]
) -> tuple[datetime, bool]:
    last_base = max(window.bases[label].stopped for label in interval.bases)
    told = ends.get((line.timeline, interval.end))
    if until is not None:
        return max(until, told or until, last_base), True
    return (max(told, last_base), True) if told is not None else (last_base, False)


def reaches(
    place: Place,
    window: Window,
    records: Mapping[str, BackupRecord],
    ends: Ends,
    rates: Optional[Rates],
    until: Optional[datetime] = None,
) -> tuple[Reach, ...]:
    """The newest line cut at every base backup, newest first. Only bases whose chain is known in `records`."""
    line = window.newest
    found: list[Reach] = []
    if line is None:
        return ()
    for interval in line.intervals:
        is_last = interval is line.intervals[-1]
        end, _known = _end(window, line, interval, ends, until if is_last and interval.broken_by is None else None)
        bases = sorted((window.bases[label] for label in interval.bases), key=lambda base: (base.stop, base.label))
        bases = bases[-_MOST:]
        for base, after in zip(bases, [*bases[1:], None]):
            chain = _chain(base.label, records)
            # one segment more: a time is reached when a later transaction is seen
            stop = min(interval.end, after.stop + window.segments.size) if after else interval.end
            latest = after is None and is_last and interval.broken_by is None
            moment = after.stopped if after else end
            if chain and moment >= base.stopped:
                found.append(_reach(place, window, line, chain, base, (moment, stop), rates, latest=latest))
    return tuple(sorted(found, key=lambda item: item.start, reverse=True))


def _reach(
    place: Place,
    window: Window,
    line: Line,
    chain: Sequence[BackupRecord],
    base: Base,
    until: tuple[datetime, int],
    rates: Optional[Rates],
    *,
    latest: bool,
) -> Reach:
    moment, position = until
    files = list(window.between(line.path, base.start, position))
    wal_bytes = sum(window.stored.get(file, 0) for file in files)
    size = chain[-1].database_bytes or chain[-1].stored_bytes
    return Reach(
        start=base.stopped,
        end=moment,
        timeline=line.timeline,
        base=base.label,
        chain=tuple(record.label for record in chain),
        base_bytes=sum(record.stored_bytes for record in chain),
        wal_files=len(files),
        wal_bytes=wal_bytes,
        rto_s=estimate_s(rates, size, len(files)),
        command=command(place, moment - _SHORT_OF, latest=latest, is_empty=moment - _SHORT_OF <= base.stopped,
                        label=base.label, timeline=line.timeline),
    )  # fmt: skip


def estimate_s(rates: Optional[Rates], data_bytes: int, wal_files: int) -> Optional[float]:
    """Seconds to copy the data and to replay the WAL, at measured rates. None where no restore was measured.

    A restore that replayed nothing leaves the replay to the rate that `dbops restore --plan` assumes too.
    """
    if rates is None or rates.copy_bytes_per_s <= 0:
        return None
    return round(data_bytes / rates.copy_bytes_per_s + wal_files / (rates.replay_segments_per_s or SEGMENTS_S), 1)


def command(
    place: Place, moment: datetime, *, latest: bool, is_empty: bool = False, label: str = "", timeline: int = 1
) -> str:
    """The line that plans it; without --plan, and with the confirmation that it then asks for, it does it."""
    words = ["dbops restore", f"--cluster {place.cluster}", f"--repository {place.repository}"]
    if latest:
        words.append("--latest")
    elif is_empty:  # nothing was committed between the two backups: the base as it is
        words += [label, "--immediate"]
    else:
        words += [f"--time {iso_micro(moment)}", f"--timeline {timeline}"]
    return " ".join([*words, "--in-place --stop --start --plan"])


def _chain(label: str, records: Mapping[str, BackupRecord]) -> tuple[BackupRecord, ...]:
    """The full one first; nothing where a link is missing."""
    found: list[BackupRecord] = []
    step: Optional[str] = label
    while step is not None:
        record = records.get(step)
        if record is None or record in found:
            return ()
        found.insert(0, record)
        step = record.parent
    return tuple(found)
