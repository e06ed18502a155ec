# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backups of one cluster may go, and why each of them stays or goes. Decides only: nothing is deleted here.

The words of this file:

- A backup is *restorable* when it and all its ancestors are valid and in the listing. Only restorable backups
  count for a rule; what is not restorable is never a reason to delete something else.
- A *series* is what one restore needs a choice from: all physical backups of the cluster, or all dumps that hold one
  database. A dump of three databases belongs to three series and stays while one of them needs it. (Were a series the
  exact set of databases, each new database would start a new set and the old set's last backups would stay for ever.)
- A series may span several system identifiers (pg_upgrade makes a new one). The *current* one is that of the newest
  restorable backup of the series. The policy's rules run over the whole series, so that the old cluster's backups
  leave as time passes; what protects "the newest" and "the minimum" looks at the current one first.
- *Newer* means started later. Names, timelines and WAL positions say nothing about age (an upgrade resets them).

The clock is passed in, and only a clock that runs behind can be seen here: whoever calls with a clock that jumped
ahead gets a window that is too late. Compare it with another clock (the server's, the store's) before acting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from typing import Callable, Optional

from ..errors import BadInput, Refused
from .chains import Candidate, Judged, judge_chains

__all__ = ["Candidate", "Decision", "Policy", "Remaining", "RetentionPlan", "plan"]

CLOCK_TOLERANCE = timedelta(minutes=5)  # a stop time comes from the server's clock, `now` from ours
_BEGINNING = datetime.min.replace(tzinfo=timezone.utc)

_BUCKETS: Mapping[str, Callable[[datetime], str]] = {
    "daily": lambda start: f"{start:%Y-%m-%d}",
    "weekly": lambda start: "{}-W{:02}".format(*start.isocalendar()[:2]),  # ISO: Monday to Sunday
    "monthly": lambda start: f"{start:%Y-%m}",
    "yearly": lambda start: f"{start:%Y}",
}

TIERS = tuple(_BUCKETS)  # from the warmest; a tier's reasons begin with its name


@dataclass(frozen=True)
class Policy:
    """What to keep. The rules add up: a backup stays while one of them wants it; without any rule, all stay.

    `keep_last` counts restorable backups of a series, incremental ones too. `keep_within_s` keeps every restore point
    of the last so many seconds: the backups that stopped in them, and the one before, the anchor. `daily` to `yearly`
    count periods (UTC, by start time, ISO weeks) that hold a restorable backup, and keep the newest of each, so
    a period without a backup costs no older one its place. `min_redundancy` counts full backups or dumps; below
    it nothing is deleted, and the newest one stays even with 0.
    """

    keep_last: Optional[int] = None
    keep_within_s: Optional[int] = None
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    min_redundancy: int = 1

    def __post_init__(self) -> None:
        for name, value, optional in ((f.name, getattr(self, f.name), f.default is None) for f in fields(self)):
            if optional and value is None:
                continue
            # 0 could be read as "off" or as "keep none"; with something to lose, we do not guess
            least = 1 if optional else 0
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise BadInput(
                    f"The retention policy's {name} is {value!r}, but must be a whole number from {least} up.",
                    hint=f"Leave {name} out to switch the rule off." if optional else f"Give {name} 0 or more.",
                )

    @property
    def has_rules(self) -> bool:
        return any(value for name, value in self._given() if name != "min_redundancy")

    def _given(self) -> list[tuple[str, int]]:
        return [(f.name, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name)]

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self._given())


@dataclass(frozen=True)
class Decision:
    """One backup's fate, with every reason for it."""

    label: str
    keep: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Remaining:
    """What one series can still be restored from, per system identifier; `database` is None for physical backups.

    `oldest` and `newest` are stop times. With archived WAL any time from `oldest` on can be reached.
    """

    method: str
    database: Optional[str]
    system_identifier: str
    oldest: datetime
    newest: datetime
    labels: tuple[str, ...]  # newest first


@dataclass(frozen=True)
class RetentionPlan:
    """`decisions` newest first; `delete_order` never names a parent before its child."""

    decisions: tuple[Decision, ...]
    delete_order: tuple[str, ...]
    remaining: tuple[Remaining, ...]
    window_start: Optional[datetime] = None


_Series = tuple[str, Optional[str]]  # method, database
_Wish = tuple[str, str]  # label, reason to keep it


def plan(candidates: Iterable[Candidate], policy: Policy, now: datetime) -> RetentionPlan:
    """Decide about every backup of one cluster. The listing must be complete: a listing that failed is no listing.

    Raises Refused when the listing names a backup twice or the clock runs behind the backups.
    """
    backups = judge_chains(candidates)
    now = _check_clock(now, backups)
    window_start = _window_start(policy, now)
    everything_by_series = _by_series(backups)

    reasons: dict[str, dict[str, list[str]]] = {}  # label → reason → databases
    for label, reason in _whatever_the_policy(backups, policy):
        reasons.setdefault(label, {}).setdefault(reason, [])
    for (_method, database), series in everything_by_series.items():
        for label, reason in _wishes(series, policy, window_start):
            databases = reasons.setdefault(label, {}).setdefault(reason, [])
            if database is not None:
                databases.append(database)
    _keep_ancestors(backups, reasons)

    deleted = [known for known in backups if known.backup.label not in reasons]
    return RetentionPlan(
        decisions=tuple(_decision(known, policy, reasons.get(known.backup.label)) for known in backups),
        delete_order=tuple(known.backup.label for known in deleted),  # newest first, so children before parents
        remaining=tuple(_remaining(everything_by_series, kept=reasons.keys())),
        window_start=window_start,
    )


def _check_clock(now: datetime, backups: Sequence[Judged]) -> datetime:
    if now.utcoffset() is None:
        raise BadInput(f"Retention cannot be planned for {now}: it has no time zone.", hint="Give the time in UTC.")
    for known in backups:
        backup = known.backup
        future = {"starts": backup.start_time > now, "stops": backup.stop_time > now + CLOCK_TOLERANCE and backup.valid}
        for event, is_ahead in future.items():
            if is_ahead:
                raise Refused(
                    f"Nothing is expired: backup {backup.label!r} {event} in the future, "
                    f"by a clock that says {_show(now)}.",
                    hint="Set this host's clock right (and the database server's), then plan again.",
                )
    return now.astimezone(timezone.utc)


def _window_start(policy: Policy, now: datetime) -> Optional[datetime]:
    if policy.keep_within_s is None:
        return None
    try:
        return now - timedelta(seconds=policy.keep_within_s)
    except OverflowError:  # longer than the calendar: the window holds everything
        return _BEGINNING


def _by_series(backups: Sequence[Judged]) -> dict[_Series, list[Judged]]:
    series: dict[_Series, list[Judged]] = {}
    for known in backups:
        names: list[Optional[str]] = [*sorted(set(known.backup.databases))] if known.backup.method == "logical" else []
        for database in names or [None]:
            series.setdefault((known.backup.method, database), []).append(known)
    return series


def _whatever_the_policy(backups: Sequence[Judged], policy: Policy) -> Iterator[_Wish]:
    for known in backups:
        if known.backup.held is not None:
            yield known.backup.label, f"held: {known.backup.held or 'no reason given'}"
        for reason in known.backup.pinned:
            yield known.backup.label, reason
        if known.doubt:
            yield known.backup.label, f"kept, counting for nothing: {known.doubt}"
        if not policy.has_rules:
            yield known.backup.label, "the policy has no rule, so everything is kept"


def _wishes(series: Sequence[Judged], policy: Policy, window_start: Optional[datetime]) -> Iterator[_Wish]:
    """What one series wants to keep, newest first as `series` is."""
    usable = [known for known in series if known.restorable]
    yield from _not_replaced(series, usable)
    if not usable:
        return
    # every rule of today wants the newest as well; it must not depend on the rules of tomorrow
    yield usable[0].backup.label, "the newest valid backup"
    yield from _minimum(usable, policy.min_redundancy)
    for known in usable:
        if known.backup.proven:
            yield known.backup.label, "the last proven backup"
            break
    for place, known in enumerate(usable[: policy.keep_last or 0], start=1):
        yield known.backup.label, f"keep_last {place} of {policy.keep_last}"
    if window_start is not None:
        yield from _window(usable, window_start)
    for tier, bucket_of in _BUCKETS.items():
        yield from _tier(usable, tier, getattr(policy, tier), bucket_of)


def _not_replaced(series: Sequence[Judged], usable: Sequence[Judged]) -> Iterator[_Wish]:
    """A bad backup goes only when a good one began after it ended: it may still be running, or be all there is."""
    replaced_before = usable[0].backup.start_time if usable else _BEGINNING
    for known in series:
        if not known.restorable and known.backup.stop_time >= replaced_before:
            yield known.backup.label, "not restorable, but no later backup replaces it yet"


def _minimum(usable: Sequence[Judged], min_redundancy: int) -> Iterator[_Wish]:
    """The newest full backups or dumps, those of the current system identifier first.

    Fewer than the minimum after an upgrade: backups from before it fill up, until there are enough new ones.
    """
    current = usable[0].backup.system_identifier
    whole = [known.backup for known in usable if known.backup.type != "incremental"]
    whole.sort(key=lambda backup: backup.system_identifier != current)  # stable: newest first within each half
    needed = max(1, min_redundancy)
    for place, backup in enumerate(whole[:needed], start=1):
        noun = "dump" if backup.method == "logical" else "full backup"
        yield backup.label, f"min_redundancy: valid {noun} {place} of {needed}"


def _window(usable: Sequence[Judged], window_start: datetime) -> Iterator[_Wish]:
    inside = [known for known in usable if known.backup.stop_time >= window_start]
    before = [known for known in usable if known.backup.stop_time < window_start]
    for known in inside:
        yield known.backup.label, f"in the window: stopped at or after {_show(window_start)}"
    # Each cluster that lived in the window needs its own base; one that ended before it needs none, but we only know
    # that it ended when a successor has a base of its own before the window.
    alive = {known.backup.system_identifier for known in inside}
    alive.update(known.backup.system_identifier for known in before[:1])
    for known in before:
        if known.backup.system_identifier in alive:
            alive.remove(known.backup.system_identifier)
            yield known.backup.label, f"the window's anchor: newest that stopped before {_show(window_start)}"


def _tier(usable: Sequence[Judged], tier: str, count: int, bucket_of: Callable[[datetime], str]) -> Iterator[_Wish]:
    seen: set[str] = set()
    for known in usable:
        bucket = bucket_of(known.backup.start_time)
        if bucket in seen:
            continue
        if len(seen) == count:
            return
        seen.add(bucket)
        yield known.backup.label, f"{tier} {len(seen)} of {count}: newest valid of {bucket}"


def _keep_ancestors(backups: Sequence[Judged], reasons: dict[str, dict[str, list[str]]]) -> None:
    """A kept backup keeps its parent, and the parent then its own."""
    listed = {known.backup.label: known.backup for known in backups}
    for known in backups:
        # walked by link, not by age: where times are in doubt, a parent may well come before its child
        child, parent = known.backup, listed.get(known.backup.parent or "")
        reason = f"needed by {child.label}"
        while child.label in reasons and parent and reason not in reasons.get(parent.label, {}):
            reasons.setdefault(parent.label, {})[reason] = []
            child, parent = parent, listed.get(parent.parent or "")
            reason = f"needed by {child.label}"


def _decision(known: Judged, policy: Policy, reasons: Optional[Mapping[str, Sequence[str]]]) -> Decision:
    if reasons is None:
        return Decision(known.backup.label, False, (_why_it_goes(known, policy),))
    return Decision(known.backup.label, True, tuple(_spell(reason, names) for reason, names in reasons.items()))


def _why_it_goes(known: Judged, policy: Policy) -> str:
    if not known.backup.valid:
        return "not valid, so it counts for nothing, and a later backup replaces it"
    if not known.restorable:
        return "an ancestor is not valid, so it counts for nothing, and a later backup replaces it"
    return f"no rule wants it: {policy}"


def _remaining(by_series: Mapping[_Series, Sequence[Judged]], kept: Iterable[str]) -> Iterator[Remaining]:
    kept = set(kept)
    for (method, database), series in by_series.items():
        left: dict[str, list[Candidate]] = {}
        for known in series:
            if known.restorable and known.backup.label in kept:
                left.setdefault(known.backup.system_identifier, []).append(known.backup)
        for system_identifier, backups in left.items():
            stops = [backup.stop_time for backup in backups]
            labels = tuple(backup.label for backup in backups)
            yield Remaining(method, database, system_identifier, min(stops), max(stops), labels)


def _spell(reason: str, databases: Sequence[str]) -> str:
    if not databases:
        return reason
    named = ", ".join(repr(name) for name in databases[:3])
    more = f" and {len(databases) - 3} more" if len(databases) > 3 else ""
    return f"{reason} (database {named}{more})"


def _show(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
