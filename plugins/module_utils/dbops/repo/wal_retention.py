# SPDX-License-Identifier: GPL-3.0-or-later
"""Which archived WAL may go once the backups have been decided about. Pure.

From the start of the backup that anchors the window everything stays, on every timeline. A kept backup from before it
keeps what makes it consistent: it restores to that point only. Only what lies before all that on the way to the anchor
may go; a branch that was left, a history, another system's WAL and everything without a kept backup stay.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Optional

from .window import Base, line

PITR = "within the recovery window"
STANDALONE = "that point only"
BRANCH = "another branch"
GONE = "before the recovery window, and no kept backup needs it"
NO_BACKUP = "no rule, or no valid backup that it could be judged by"


@dataclass(frozen=True)
class Run:
    """Neighbouring segments of one timeline with the same fate: the numbers of the first and the last."""

    timeline: int
    first: int
    last: int
    segments: int
    keep: bool
    reason: str


@dataclass(frozen=True)
class WalPlan:
    runs: tuple[Run, ...]
    delete: tuple[tuple[int, int], ...]  # (timeline, number), oldest first


def plan(
    kept: Sequence[Base],
    present: Collection[tuple[int, int]],
    size: int,
    histories: Mapping[int, Sequence[tuple[int, str]]],
    window_start: Optional[datetime],
    *,
    opening: Optional[Collection[str]] = None,
) -> WalPlan:
    """The fate of every archived segment. Without `window_start` the window reaches back to the oldest kept backup.

    `opening` are the labels that a recovery can really begin with (None: all); no other one can anchor the window.
    """
    anchors = [base for base in kept if opening is None or base.label in opening]
    if anchors:
        fates = _fates(kept, anchored(anchors, window_start), present, size, histories)
    else:
        fates = dict.fromkeys(present, (True, NO_BACKUP))
    ordered = sorted(present)
    return WalPlan(
        runs=tuple(_runs(ordered, fates)),
        delete=tuple(place for place in ordered if not fates[place][0]),
    )


def anchored(kept: Sequence[Base], window_start: Optional[datetime]) -> list[Base]:
    """The backups from which the window is recovered: the newest one that ended before it, and all later ones."""
    if window_start is None:
        return list(kept)
    before = [base for base in kept if base.stopped <= window_start]
    anchor = max(before, key=lambda base: (base.stopped, base.start), default=None)
    return [base for base in kept if base is anchor or base.stopped > window_start]


def _fates(
    kept: Sequence[Base],
    recovering: Sequence[Base],
    present: Iterable[tuple[int, int]],
    size: int,
    histories: Mapping[int, Sequence[tuple[int, str]]],
) -> dict[tuple[int, int], tuple[bool, str]]:
    first = min(recovering, key=lambda base: base.start)
    horizon = first.start // size
    path = line(first.timeline, histories)
    fates = {}
    for timeline, number in present:
        needed_by = [base.label for base in kept if _needs(base, number, size)]
        on_path = any(
            stretch.timeline == timeline
            and number >= stretch.begin // size
            and (stretch.end is None or number < stretch.end // size)
            for stretch in path
        )
        if number >= horizon:
            fates[timeline, number] = (True, PITR)
        elif needed_by:
            fates[timeline, number] = (True, f"{STANDALONE}: {', '.join(sorted(needed_by))}")
        elif not on_path:
            fates[timeline, number] = (True, BRANCH)
        else:
            fates[timeline, number] = (False, GONE)
    return fates


def _needs(base: Base, number: int, size: int) -> bool:
    """On whatever timeline: a backup that began before a fork may have ended after it."""
    return base.start // size <= number <= base.stop // size


def _runs(ordered: Sequence[tuple[int, int]], fates: Mapping[tuple[int, int], tuple[bool, str]]) -> Iterable[Run]:
    runs: list[Run] = []
    for timeline, number in ordered:
        keep, reason = fates[timeline, number]
        last = runs[-1] if runs else None
        if last and (last.timeline, last.last, last.keep, last.reason) == (timeline, number - 1, keep, reason):
            runs[-1] = Run(timeline, last.first, number, last.segments + 1, keep, reason)
        else:
            runs.append(Run(timeline, number, number, 1, keep, reason))
    return runs
