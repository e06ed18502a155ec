# SPDX-License-Identifier: GPL-3.0-or-later
"""What was promised, against what is. Pure. What nobody could tell is neither met nor missed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Optional

from ..health.checks import candidates, exposure_s, wanted, wants_archiving
from ..health.facts import Facts
from ..health.facts import Repository as Seen
from ..progress import duration
from .model import Repository, Target


def targets(facts: Facts, repositories: Sequence[Repository]) -> tuple[Target, ...]:
    """In the order in which they are asked in an outage: how much is lost, how long it takes, how far back."""
    return (
        _rpo(facts),
        _rto(facts, repositories),
        _window(facts, repositories),
        _age(facts),
        _proof(facts, repositories),
    )


def _rpo(facts: Facts) -> Target:
    """The worst of the required repositories: any of them may be the one that is left."""
    title, limit = "Data at risk now (RPO)", facts.policy.rpo_s
    seen = [item for item in facts.repositories if item.required and item.reached]
    if not seen:
        return Target("rpo", title, limit, None, None, "No repository could be read.")
    found: list[float] = []
    for item in seen:
        if item.wal is not None and wants_archiving(facts, item.wal):
            exposure = exposure_s(facts, item.wal)
            if exposure is None:
                why = facts.server_error or "the server could not tell"
                return Target("rpo", title, limit, None, None, f"Nobody knows what is not archived: {why}")
            found.append(exposure)
        else:
            newest = _newest(facts, item)
            if newest is None:
                return Target("rpo", title, limit, None, False, f"{item.name} has neither WAL nor a valid backup.")
            found.append(max(0.0, (facts.seen - newest).total_seconds()))
    worst = max(found)
    if worst == 0:
        return Target("rpo", title, limit, 0.0, True, "Everything that was committed is archived.")
    words = f"The oldest commit that is on the server alone is {duration(worst)} old."
    if not any(item.wal is not None and wants_archiving(facts, item.wal) for item in seen):
        words = f"No WAL is archived: what was committed in the last {duration(worst)} is nowhere else."
    return Target("rpo", title, limit, worst, worst <= limit, words)


def _rto(facts: Facts, repositories: Sequence[Repository]) -> Target:
    """To the newest instant, from the repository that has it; an estimate by the rates of a real restore."""
    title, limit = "Time to recover (estimate)", facts.policy.rto_s
    known = [reach.rto_s for item in repositories for reach in item.reaches[:1] if reach.rto_s is not None]
    if not known:
        return Target("rto", title, limit, None, None, "No restore was measured yet: run dbops verify.")
    best = min(known)
    words = "Copy and replay at the rates of the last verification; detection and decision are not in it."
    return Target("rto", title, limit, best, None if limit is None else best <= limit, words)


def _window(facts: Facts, repositories: Sequence[Repository]) -> Target:
    title, limit = "Recovery window", facts.policy.min_window_s
    reached = [item for item in repositories if not item.error]
    newest = [max(_whole(item), default=None) for item in reached]
    starts = [start for start in newest if start is not None]
    if not reached:
        return Target("window", title, limit, None, None, "No repository could be read.")
    if not starts:
        met = None if limit is None else False
        return Target("window", title, limit, 0.0, met, "No instant between backups can be recovered to.")
    length = max(0.0, (facts.seen - min(starts)).total_seconds())
    words = f"Every instant since {min(starts):%Y-%m-%d %H:%M} UTC, without a gap."
    return Target("window", title, limit, length, None if limit is None else length >= limit, words)


def _whole(repository: Repository) -> list[datetime]:
    """The starts of the newest line's intervals; the last of them has no gap behind it, unless it is broken."""
    return [span.start for span in repository.spans if span.newest_timeline and span.broken_by is None]


def _age(facts: Facts) -> Target:
    title, limit = "Newest backup", facts.policy.max_age_s
    seen = [item for item in facts.repositories if item.required and item.reached]
    if not seen:
        return Target("age", title, limit, None, None, "No repository could be read.")
    ages: list[float] = []
    for item in seen:
        for method, database in wanted(facts):
            found = candidates(item, method, database)
            if not found:
                what = " ".join(filter(None, [method, database]))
                return Target("age", title, limit, None, False, f"{item.name} has no valid {what} backup.")
            ages.append(max(0.0, (facts.seen - found[0].stopped).total_seconds()))
    worst = max(ages)
    return Target("age", title, limit, worst, worst <= limit, f"The newest one ended {duration(worst)} ago.")


def _proof(facts: Facts, repositories: Sequence[Repository]) -> Target:
    title, limit = "Last proven by a restore", facts.policy.max_unproven_s
    found = [
        (backup.proven_at, backup) for item in repositories for backup in item.backups if backup.proven_at is not None
    ]
    if not found:
        return Target("proof", title, limit, None, False, "No backup was ever proven by a restore.")
    moment, last = max(found, key=lambda item: item[0])
    age = max(0.0, (facts.seen - moment).total_seconds())
    return Target("proof", title, limit, age, age <= limit, f"{last.label} passed to level {last.proven_level}.")


def _newest(facts: Facts, item: Seen) -> Optional[datetime]:
    del facts
    valid = [backup.stopped for backup in item.backups if backup.valid]
    return max(valid, default=None)
