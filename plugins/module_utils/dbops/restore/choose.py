# SPDX-License-Identifier: GPL-3.0-or-later
"""From a recovery target to the base backup, timeline and WAL that reach it, or to a refusal that names the nearest.

PostgreSQL notices an unreachable target only after it has replayed everything. So nothing is chosen here that the
archive does not prove: for a time a later transaction must have ended, a name or an id must stand in the WAL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Optional, Union

from ..errors import NotFound, Refused
from ..pg.wal import int_to_lsn
from ..pg.waldump import Mark
from ..repo.coverage import Line, Window
from ..repo.record import BackupRecord
from ..repo.restore_points import RestorePoint
from ..repo.window import Base, Interval, covering
from .edges import WalReader
from .target import Reach, Target, iso_micro, unreachable_time

# For an estimate only; what a run really takes is in its result.
_BASE_BYTES_S = 100 << 20
SEGMENTS_S = 8
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Route:
    """How a target is reached. `until` is the byte position that replay has to come to; `target` names its timeline."""

    target: Target
    label: str
    timeline: int
    start: int
    until: int
    wal_segments: int
    wal_bytes: int
    last_commit: Optional[datetime]

    def estimated_s(self, base_bytes: int) -> int:
        return round(base_bytes / _BASE_BYTES_S + self.wal_segments / SEGMENTS_S) + 2

    def describe(self, base_bytes: int) -> dict[str, Any]:
        return {
            "target": str(self.target),
            "target_kind": self.target.kind,
            "target_value": self.target.value,
            "inclusive": self.target.inclusive,
            "action": self.target.action,
            "base": self.label,
            "timeline": self.timeline,
            "start_lsn": int_to_lsn(self.start),
            "until_lsn": int_to_lsn(self.until),
            "wal_segments": self.wal_segments,
            "wal_bytes": self.wal_bytes,
            "expected_last_commit": iso_micro(self.last_commit) if self.last_commit else None,
            "estimated_seconds": self.estimated_s(base_bytes),
        }


def choose(
    target: Target,
    window: Window,
    reader: WalReader,
    *,
    record: Optional[BackupRecord] = None,
    points: Sequence[RestorePoint] = (),
) -> Route:
    """The route to the target, from the backup `record` if one is named. NotFound and Refused name what is nearest.

    `points` are the restore points that were written down: where to look first. What counts is the WAL itself.
    """
    line = _line(target, window, record)
    if not line.intervals:
        raise NotFound(
            f"On timeline {line.timeline} nothing can be reached: no base backup has the WAL that it needs in "
            f"repository {window.repository!r}.",
            hint=_elsewhere(window, line) or "Restore a backup as it is, without a target; see dbops info.",
        )
    if target.kind in ("immediate", "latest"):
        return _whole(target, window, line, reader, record)
    if target.kind == "time":
        interval, limit = _by_time(target, window, line, reader)
    elif target.kind == "lsn":
        interval, limit = _by_lsn(target, window, line, reader)
    else:
        interval, limit = _by_mark(target, window, line, reader, points)
    base = _base(target, window, interval, limit, record)
    until, commit = _end(target, line, interval, limit, reader)
    return _route(target, window, line, base, until, commit)


# -- which line


def _line(target: Target, window: Window, record: Optional[BackupRecord]) -> Line:
    if target.timeline.isdigit():
        wanted = int(target.timeline)
    elif target.timeline == "current" and (record or window.bases):
        wanted = record.wal.timeline if record and record.wal else newest_base(window).timeline
    elif window.newest is not None:
        wanted = window.newest.timeline
    else:
        wanted = 0
    line = window.line(wanted)
    if line is None:
        known = ", ".join(str(item.timeline) for item in window.lines) or "none"
        raise NotFound(
            f"Repository {window.repository!r} knows no timeline {target.timeline}.", hint=f"It knows: {known}."
        )
    return line


def newest_base(window: Window) -> Base:
    return max(window.bases.values(), key=lambda base: (base.stopped, base.label))


# -- which interval of it, and the limit before which the base must have stopped


Limit = Union[datetime, int]


def _by_time(target: Target, window: Window, line: Line, reader: WalReader) -> tuple[Interval, Limit]:
    # A base must have stopped before the target, so that the instant of its stop is just out of reach.
    edges = [(interval.start_time + _INSTANT, reader.edge(line, interval).time) for interval in line.intervals]
    problem = unreachable_time(target.time, Reach(edges), inclusive=target.inclusive)
    if problem is not None:
        known = Reach(edges)
        hint = f"On timeline {line.timeline} it can go to: {known}."
        if edges[-1][1] is not None and target.time >= edges[-1][1]:
            hint += " To replay everything that is archived, ask for the latest instead."
        raise Refused(
            f"{target.value} cannot be reached on timeline {line.timeline}: {problem}.",
            hint=" ".join(filter(None, [hint, _elsewhere(window, line)])),
        )
    for interval, (start, end) in zip(line.intervals, edges):
        if end is not None and start <= target.time <= end:
            return interval, target.time
    raise Refused(f"{target.value} cannot be reached.", hint="See dbops info.")  # unreachable_time() said otherwise


def _by_lsn(target: Target, window: Window, line: Line, reader: WalReader) -> tuple[Interval, Limit]:
    interval = covering(line.intervals, target.position)
    if interval is not None:
        last = reader.edge(line, interval).last_record
        if last is None or target.position <= last:
            return interval, target.position
        ends = [(item.start, min(item.end, last) if item is interval else item.end) for item in line.intervals]
    else:
        ends = [(item.start, item.end) for item in line.intervals]
    nearest = min((edge for pair in ends for edge in pair), key=lambda edge: abs(edge - target.position))
    raise Refused(
        f"LSN {target.value} cannot be reached on timeline {line.timeline}: the nearest that can is "
        f"{int_to_lsn(nearest)}.",
        hint=" ".join(filter(None, [f"It can go to: {_spans(line)}.", _elsewhere(window, line)])),
    )


def _by_mark(
    target: Target, window: Window, line: Line, reader: WalReader, points: Sequence[RestorePoint]
) -> tuple[Interval, Limit]:
    """Names and ids are looked for from the newest WAL back: an old one with the same name is not what is meant."""
    known = [point for point in points if target.kind == "name" and point.name == target.value]
    for point in known:
        interval = covering(line.intervals, point.position)
        if interval is not None and interval.start < point.position:
            size = window.segments.size
            begin = max(interval.start, (point.position - 1) // size * size)
            for mark in reader.newest_first(line, replace(interval, start=begin, end=point.position)):
                if _is(target, mark):
                    return interval, mark.position
    for interval in reversed(line.intervals):
        for mark in reader.newest_first(line, interval):
            if _is(target, mark):
                return interval, mark.position
    what = f"restore point {target.value!r}" if target.kind == "name" else f"the end of transaction {target.value}"
    raise NotFound(
        f"There is no {what} in the WAL that can be reached on timeline {line.timeline}.",
        hint=" ".join(filter(None, [f"Looked in: {_spans(line)}.", _written_down(known), _elsewhere(window, line)])),
    )


def _is(target: Target, mark: Mark) -> bool:
    if target.kind == "name":
        return mark.kind == "restore_point" and mark.name == target.value
    return mark.kind in ("commit", "abort") and str(mark.xid) == target.value


# -- which base


def _base(target: Target, window: Window, interval: Interval, limit: Limit, record: Optional[BackupRecord]) -> Base:
    usable = [window.bases[label] for label in interval.bases if _before(window.bases[label], limit)]
    if not usable:
        first = min((window.bases[label] for label in interval.bases), key=lambda base: base.stop)
        raise Refused(
            f"{target} lies before the end of the earliest backup that could lead there, {first.label}.",
            hint=f"The nearest is {iso_micro(first.stopped + _INSTANT)}, at LSN {int_to_lsn(first.stop)}.",
        )
    best = max(usable, key=lambda base: (base.stop, base.label))
    if record is None or record.label == best.label:
        return best
    for base in usable:
        if base.label == record.label:
            return base
    raise Refused(f"Backup {record.label} cannot reach {target}.", hint=f"Backup {best.label} can.")


def _before(base: Base, limit: Limit) -> bool:
    return base.stopped < limit if isinstance(limit, datetime) else base.stop <= limit


def _whole(target: Target, window: Window, line: Line, reader: WalReader, record: Optional[BackupRecord]) -> Route:
    """`immediate`: the named backup or the newest, up to its own end. `latest`: the same up to the end of the WAL."""
    if record is not None:
        interval = next((item for item in line.intervals if record.label in item.bases), None)
        if interval is None:
            raise Refused(
                f"Backup {record.label} cannot reach {target}: WAL that it needs is missing on timeline "
                f"{line.timeline}.",
                hint=f"Newest backup that can: {line.intervals[-1].bases[-1]}.",
            )
        base = window.bases[record.label]
    else:
        interval = line.intervals[-1]
        base = max((window.bases[label] for label in interval.bases), key=lambda item: (item.stop, item.label))
    if target.kind == "immediate":
        return _route(target, window, line, base, base.stop, None)
    newer = interval is not line.intervals[-1]
    if interval.broken_by is not None or newer:
        raise Refused(
            f"The end of the archived WAL cannot be reached from {base.label}: segment {interval.broken_by} is "
            "missing, and there is WAL beyond it.",
            hint=f"Aim at LSN {int_to_lsn(interval.end - 1)} or a time before the gap"
            + (f", or start from {line.intervals[-1].bases[-1]}." if newer else "."),
        )
    return _route(target, window, line, base, interval.end, reader.edge(line, interval).time)


# -- what it takes


def _end(
    target: Target, line: Line, interval: Interval, limit: Limit, reader: WalReader
) -> tuple[int, Optional[datetime]]:
    if isinstance(limit, datetime):
        commit, until = reader.last_before(line, interval, limit)
        return until, commit
    commit = None
    for mark in reader.newest_first(line, replace(interval, end=min(interval.end, limit + 1))):
        if mark.kind == "commit" and (mark.position < limit or target.inclusive):
            commit = mark.time
            break
    return limit, commit


def _route(target: Target, window: Window, line: Line, base: Base, until: int, commit: Optional[datetime]) -> Route:
    places = list(window.between(line.path, base.start, until))
    # A number, so that a timeline that appears meanwhile changes nothing; the base's own needs no history to be told.
    timeline = "current" if base.timeline == line.timeline or target.kind == "immediate" else str(line.timeline)
    return Route(
        target=replace(target, timeline=timeline),
        label=base.label,
        timeline=line.timeline,
        start=base.start,
        until=until,
        wal_segments=len(places),
        wal_bytes=sum(window.stored.get(place, 0) for place in places),
        last_commit=commit,
    )


# -- words


def _spans(line: Line) -> str:
    return "; ".join(f"{int_to_lsn(item.start)} to {int_to_lsn(item.end)}" for item in line.intervals) or "nothing"


def _written_down(known: Sequence[RestorePoint]) -> str:
    said = [f"{iso_micro(point.time)} at {int_to_lsn(point.position)} on timeline {point.timeline}" for point in known]
    return f"It was made {'; '.join(said)}." if said else ""


def _elsewhere(window: Window, line: Line) -> str:
    others = [str(item.timeline) for item in window.lines if item.timeline != line.timeline and item.intervals]
    return f"Other timelines with WAL: {', '.join(others)} (see dbops info)." if others else ""
