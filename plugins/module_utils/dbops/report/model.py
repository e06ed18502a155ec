# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as plain data. `report.json` is exactly this, and every other form is drawn from it and from nothing else.

Instants are in UTC, sizes bytes, durations seconds. A name that the server or a repository chose is carried as it is:
whoever draws it escapes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Optional

SCHEMA = "v1"


@dataclass(frozen=True)
class Finding:
    """One answer of `dbops check`; severity is OK, WARNING, UNKNOWN or CRITICAL."""

    check: str
    subject: str
    severity: str
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Target:
    """What was promised against what is. `met` None: nobody can tell, and `words` say why."""

    name: str  # rpo | rto | window | age | proof
    title: str
    wanted_s: Optional[float]
    actual_s: Optional[float]
    met: Optional[bool]
    words: str


@dataclass(frozen=True)
class Backup:
    label: str
    method: str  # physical | logical
    type: str  # full | incremental | dump
    started: datetime
    stopped: datetime
    stored_bytes: int
    database_bytes: Optional[int]
    parent: Optional[str] = None
    databases: tuple[str, ...] = ()
    postgres_version: str = ""
    encrypted: bool = False
    problem: str = ""  # why it cannot be restored
    proven_level: Optional[str] = None
    proven_at: Optional[datetime] = None
    last_verdict: Optional[str] = None
    held: Optional[str] = None
    locked_until: Optional[datetime] = None
    keep: Optional[bool] = None  # what the next expiry would do; None where that is not decided
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Span:
    """Every instant from `start` to `end` can be recovered to. `end_is_known` False: at least until then.

    `broken_by` is the segment that is missing where more WAL lies beyond; None where the archive simply ends.
    """

    timeline: int
    start: datetime
    end: datetime
    end_is_known: bool
    start_lsn: str
    end_lsn: str
    newest_timeline: bool
    broken_by: Optional[str] = None


@dataclass(frozen=True)
class Reach:
    """What it takes to recover to an instant between `start` and `end`: this base, and at most so much WAL.

    `rto_s` is an estimate from measured rates, None where no restore was ever measured. Neither detection nor decision
    is in it.
    """

    start: datetime
    end: datetime
    timeline: int
    base: str
    chain: tuple[str, ...]
    base_bytes: int
    wal_files: int
    wal_bytes: int
    rto_s: Optional[float]
    command: str


@dataclass(frozen=True)
class Tail:
    """What is on the server alone: `since` is the oldest commit of it."""

    since: Optional[datetime]
    unarchived_bytes: int
    exposure_s: float


@dataclass(frozen=True)
class Point:
    name: str
    time: datetime
    lsn: str


@dataclass(frozen=True)
class Verification:
    label: str
    finished: datetime
    verdict: str
    level: Optional[str]
    target: str
    total_s: Optional[float]
    restored_bytes: Optional[int]
    copy_bytes_per_s: Optional[int]
    replay_segments_per_s: Optional[float]
    checks: int
    words: str  # the first check that did not pass
    rpo_s: Optional[float] = None  # what would have been lost, measured by the canary; None: there was none


@dataclass(frozen=True)
class Rates:
    """Measured by a verification's restore. Replay is counted in segments: a segment costs its fetch and its start even
    where little stands in it. None: it replayed none."""

    copy_bytes_per_s: int
    replay_segments_per_s: Optional[float]
    measured_by: str
    measured_at: datetime


@dataclass(frozen=True)
class Cost:
    """Thirty days of what lies there and of as many requests as lately, by that table of prices: no bill."""

    month: float
    currency: str
    prices: str


@dataclass(frozen=True)
class Repository:
    """`error` says why nothing is known about it; then all the rest is empty."""

    name: str
    type: str
    location: str
    required: bool
    error: str = ""
    backups: tuple[Backup, ...] = ()  # newest first
    spans: tuple[Span, ...] = ()
    reaches: tuple[Reach, ...] = ()  # newest first
    tail: Optional[Tail] = None
    points: tuple[Point, ...] = ()  # newest first
    verifications: tuple[Verification, ...] = ()  # newest first
    policy: str = ""
    window_start: Optional[datetime] = None  # of the retention policy
    retention_error: str = ""
    wal_segments: int = 0
    wal_bytes: int = 0
    backup_bytes: int = 0
    free_bytes: Optional[int] = None
    total_bytes: Optional[int] = None
    unreadable: tuple[str, ...] = ()
    cost: Optional[Cost] = None  # None for a directory, or where a class has no price
    left_out: int = 0  # backups that are not listed here, older than those that are


@dataclass(frozen=True)
class Cluster:
    name: str
    seen: datetime
    severity: str
    sentence: str
    postgres_version: Optional[str]
    database_bytes: Optional[int]
    in_recovery: Optional[bool]
    targets: tuple[Target, ...]
    findings: tuple[Finding, ...]
    repositories: tuple[Repository, ...]


@dataclass(frozen=True)
class Report:
    schema: str
    made: datetime
    tool_version: str
    clusters: tuple[Cluster, ...]
