# SPDX-License-Identifier: GPL-3.0-or-later
"""WAL clean-up as part of expiry: what wal_retention decides, for each system whose WAL is archived here."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Optional

from . import layout, wal_retention
from .coverage import Window, base_of, windows
from .repository import Catalog, Repository


@dataclass(frozen=True)
class WalExpiry:
    """One system's WAL: the fate of each run of segments; `delete` are keys in the store."""

    window: Window
    runs: tuple[wal_retention.Run, ...]
    delete: tuple[str, ...]

    def keys(self, *, only: Collection[str]) -> Iterator[str]:
        for key in self.delete:
            if key in only:
                yield key

    def as_dict(self) -> dict[str, Any]:
        name = self.window.segments.name
        return {
            "system_identifier": self.window.system_identifier,
            "delete_segments": len(self.delete),
            "ranges": [
                {
                    "timeline": run.timeline,
                    "first": name(run.timeline, run.first),
                    "last": name(run.timeline, run.last),
                    "segments": run.segments,
                    "keep": run.keep,
                    "reason": run.reason,
                }
                for run in self.runs
            ],
        }


def unlocked(
    repository: Repository, decided: tuple[WalExpiry, ...], *, lasting: Optional[timedelta], now: datetime
) -> tuple[WalExpiry, ...]:
    """Without the segments that the store itself still keeps: a lock lasts from the moment of writing."""
    if lasting is None or not any(item.delete for item in decided):
        return decided
    free = {
        item.key for item in repository.store.list(layout.wal(repository.cluster)) if item.modified + lasting <= now
    }
    return tuple(replace(item, delete=tuple(key for key in item.delete if key in free)) for item in decided)


def decide_wal(
    repository: Repository,
    catalog: Catalog,
    kept: Collection[str],
    window_start: Optional[datetime],
    *,
    has_rules: bool,
) -> tuple[WalExpiry, ...]:
    """Nothing goes without a rule, nor while a record cannot be read or a chain is broken: that may need any of it."""
    found = []
    for window in windows(repository, catalog):
        bases = [
            base
            for entry in catalog.entries
            if entry.record.label in kept and entry.record.system_identifier == window.system_identifier
            for base in [base_of(entry.record)]
            if base is not None
        ]
        if catalog.unreadable or not has_rules or any(base.label not in window.bases for base in bases):
            bases = []
        opening = {label for line in window.lines for interval in line.intervals for label in interval.bases}
        decided = wal_retention.plan(
            bases, window.stored.keys(), window.segments.size, window.histories, window_start, opening=opening
        )
        found.append(WalExpiry(window, decided.runs, tuple(window.keys[place] for place in decided.delete)))
    return tuple(found)
