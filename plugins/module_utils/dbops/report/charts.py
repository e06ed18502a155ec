# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes and durations over time, and the last thirty days as squares. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Callable, Optional

from ..progress import duration, size
from .axis import axis_of
from .markup import Content, Markup, tag
from .model import Backup, Repository
from .picture import shape
from .words import TYPES, depth, plural

_MOST = 200
_HEIGHT, _TOP, _BOTTOM = 168, 26, 24
DAYS = 30


def sizes(repository: Repository, now: datetime) -> Markup:
    return _chart(
        repository, now, title="Stored size of each backup", value=lambda one: float(one.stored_bytes), words=size
    )


def durations(repository: Repository, now: datetime) -> Markup:
    return _chart(
        repository, now, title="How long each backup took",
        value=lambda one: max(0.0, (one.stopped - one.started).total_seconds()), words=duration,
    )  # fmt: skip


def _chart(
    repository: Repository,
    now: datetime,
    *,
    title: str,
    value: Callable[[Backup], float],
    words: Callable[[Optional[float]], str],
) -> Markup:
    backups = [one for one in repository.backups[:_MOST] if not one.problem]
    axis = axis_of((one.started for one in backups), now)
    top = max((value(one) for one in backups), default=0.0) or 1.0
    room = _HEIGHT - _TOP - _BOTTOM
    floor = _HEIGHT - _BOTTOM
    drawn: list[Content] = [
        tag("line", x1="0", x2="100%", y1=floor, y2=floor, class_="floor"),
        tag("line", x1="0", x2="100%", y1=_TOP, y2=_TOP, class_="grid"),
        tag("text", words(top), x=0, y=_TOP - 7, class_="scale"),
    ]
    for number, (moment, word) in enumerate(axis.ticks()):
        drawn.append(tag("text", word, x=axis.x(moment), y=_HEIGHT - 6, class_="tick" if number % 2 else "tick even"))
    for one in reversed(backups):
        height = max(1.0, room * value(one) / top)
        stem = tag("path", d=f"M0 {floor}v{-height:.1f}", class_=f"stem {one.type}")
        head = tag(
            "g", shape(one.type, fill=depth(one.proven_level)), transform=f"translate(0 {floor - height:.1f}) scale(.7)"
        )
        told = tag("title", f"{TYPES.get(one.type, one.type)} {one.label}: {words(value(one))}")
        drawn.append(tag("svg", tag("g", told, stem, head), x=axis.x(one.stopped), class_="at"))
    label = f"{title} in {repository.name}: {plural(len(backups), 'backup')}, at most {words(top)}"
    return tag(
        "figure",
        tag("figcaption", title),
        tag("svg", drawn, class_="chart", width="100%", height=_HEIGHT, role="img", aria_label=label),
    )


def strip(repository: Repository, now: datetime) -> Markup:
    """A square a day, the newest at the right: a backup that was restored since, a backup, or none."""
    days = day_states(repository.backups, now)
    count = {kind: sum(one == kind for _day, one in days) for kind in ("proven", "backup", "none")}
    said = f"Last {DAYS} days: {count['proven']} with a proven backup, {count['backup']} with an unproven one, "
    said += f"{count['none']} without a backup"
    words = {
        "proven": "a proven backup",
        "backup": "a backup, unproven",
        "none": "no backup",
        "before": "before the first",
    }
    squares = [tag("i", class_=f"day {kind}", title=f"{day}: {words[kind]}") for day, kind in days]
    return tag("div", squares, class_="strip", role="img", aria_label=said)


def day_states(backups: Sequence[Backup], now: datetime) -> list[tuple[date, str]]:
    """Of the last thirty days (UTC), oldest first: proven, backup, none, or before (the first backup ever)."""
    found: dict[date, str] = {}
    for one in backups:
        if not one.problem:
            day = one.stopped.date()
            found[day] = "proven" if one.proven_level or found.get(day) == "proven" else "backup"
    first = min(found, default=None)
    days = [now.date() - timedelta(days=back) for back in reversed(range(DAYS))]
    return [(day, found.get(day) or ("before" if first is None or day < first else "none")) for day in days]
