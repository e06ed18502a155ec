# SPDX-License-Identifier: GPL-3.0-or-later
"""A time axis: instants as percentages of a width that only the reader's screen knows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

_STEPS = tuple(
    timedelta(**step)
    for step in (
        {"minutes": 1}, {"minutes": 5}, {"minutes": 15}, {"hours": 1}, {"hours": 3}, {"hours": 6}, {"hours": 12},
        {"days": 1}, {"days": 2}, {"days": 7}, {"days": 14}, {"days": 28}, {"days": 91}, {"days": 365},
    )
)  # fmt: skip
_TICKS = 8
_LEAST = timedelta(minutes=10)


@dataclass(frozen=True)
class Axis:
    start: datetime
    end: datetime

    def percent(self, moment: datetime) -> float:
        """0 to 100; what lies outside is at the edge."""
        share = (moment - self.start) / (self.end - self.start)
        return round(100 * min(1.0, max(0.0, share)), 3)

    def x(self, moment: datetime) -> str:
        return f"{self.percent(moment):g}%"

    def width(self, start: datetime, end: datetime) -> str:
        return f"{max(0.0, round(self.percent(end) - self.percent(start), 3)):g}%"

    def has(self, moment: datetime) -> bool:
        return self.start <= moment <= self.end

    def ticks(self) -> Iterator[tuple[datetime, str]]:
        """At whole steps, no more than eight; days where they are days apart, else hours."""
        whole = self.end - self.start
        step = next((item for item in _STEPS if whole / item <= _TICKS), None) or whole / _TICKS
        midnight = self.start.replace(hour=0, minute=0, second=0, microsecond=0)
        number = int((self.start - midnight) / step)
        while True:
            moment = midnight + number * step
            number += 1
            if moment > self.end:
                return
            if moment < self.start:
                continue
            # a word at the very edge would be cut off
            if 2 <= self.percent(moment) <= 98:
                yield moment, _named(moment, step)


def axis_of(moments: Iterable[datetime], now: datetime) -> Axis:
    """From the first of them to now, with room for a mark at both ends."""
    known = [*moments, now]
    start, end = min(known), max(now, min(max(known), now + timedelta(days=1)))
    room = max(_LEAST, (end - start) * 0.02)
    return Axis(start - room, end + room)


def _named(moment: datetime, step: timedelta) -> str:
    if step >= timedelta(days=200):
        return f"{moment:%Y}"
    if step >= timedelta(days=1):
        return f"{moment.day} {moment:%b}"
    return f"{moment:%H:%M}" if moment.hour or moment.minute else f"{moment.day} {moment:%b}"
