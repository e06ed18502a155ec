# SPDX-License-Identifier: GPL-3.0-or-later
"""What checks, metrics and reports know: plain data, seen at one moment. What could not be seen says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Optional

from ..backup.attempt import Attempt
from ..settings_canary import CanarySettings
from ..settings_health import HealthSettings


@dataclass(frozen=True)
class Backup:
    """A catalog entry. `damaged` are objects that are not there in their size; `broken_chain` why it cannot restore."""

    label: str
    method: str
    type: str
    databases: tuple[str, ...]
    started: datetime
    stopped: datetime
    stored_bytes: int
    database_bytes: Optional[int]
    postgres_version: str
    encrypted: bool
    system_identifier: str
    broken_chain: Optional[str] = None
    damaged: tuple[str, ...] = ()
    proven_level: Optional[str] = None
    proven_at: Optional[datetime] = None
    last_verdict: Optional[str] = None
    last_verified_at: Optional[datetime] = None
    last_words: str = ""
    held: bool = False
    rto_s: Optional[float] = None  # copy and replay, estimated by its newest verification that passed
    rpo_s: Optional[float] = None  # measured by the newest verification that found a canary

    @property
    def valid(self) -> bool:
        return self.broken_chain is None and not self.damaged


@dataclass(frozen=True)
class Probe:
    """One operation that was really tried on a repository."""

    operation: str  # list | read | decrypt | deep
    ok: Optional[bool]  # None: could not be tried
    message: str
    seconds: float


@dataclass(frozen=True)
class Reach:
    """One interval of the newest timeline that can be recovered to; times are those of commits."""

    start: datetime
    end: Optional[datetime]
    end_lsn: int
    broken_by: Optional[str]
    bases: tuple[str, ...]


@dataclass(frozen=True)
class Wal:
    """Of this server's system in one repository. `unarchived_since` is the first commit that only the server has."""

    segments: int
    stored_bytes: int
    newest_end: Optional[int]
    intervals: tuple[Reach, ...]
    missing: int  # segments that are not there although older and newer ones are
    unarchived_bytes: Optional[int] = None
    unarchived_since: Optional[datetime] = None
    newest_archived_at: Optional[datetime] = None


@dataclass(frozen=True)
class Repository:
    name: str
    required: bool
    probes: tuple[Probe, ...]
    backups: tuple[Backup, ...] = ()  # newest first
    unreadable: tuple[tuple[str, str], ...] = ()  # label, why
    unfinished: tuple[str, ...] = ()
    free_bytes: Optional[int] = None
    total_bytes: Optional[int] = None
    wal: Optional[Wal] = None
    wal_error: str = ""

    @property
    def reached(self) -> bool:
        return bool(self.probes) and self.probes[0].ok is True


@dataclass(frozen=True)
class Server:
    version: str
    system_identifier: str
    in_recovery: bool
    archives: bool
    archive_failing: bool
    last_failed_wal: Optional[str]
    last_failed_at: Optional[datetime]
    failed_count: int
    archived_count: int
    waiting_files: Optional[int]
    waiting_s: Optional[float]
    restart_pending: tuple[str, ...]
    position: Optional[int]  # None on a standby
    database_bytes: Optional[int]
    checksum_failures: dict[str, int] = field(default_factory=dict)
    wal_free_bytes: Optional[int] = None
    wal_total_bytes: Optional[int] = None
    canary_at: Optional[datetime] = None  # its last write; None: there is none


@dataclass(frozen=True)
class Facts:
    """`server` None: `server_error` says why it could not be asked."""

    cluster: str
    seen: datetime
    policy: HealthSettings
    methods: tuple[str, ...]
    databases: tuple[str, ...]  # that a dump must hold; empty: whatever it holds
    repositories: tuple[Repository, ...]
    server: Optional[Server]
    server_error: str
    agent_version: Optional[str]
    tool_version: str
    canary: CanarySettings = field(default_factory=CanarySettings)
    window_since: Optional[datetime] = None  # since when so long a window has been asked for, as far as is known
    attempts: tuple[Attempt, ...] = ()  # the last one of each method, on this host
    # deliveries so far, by channel and result (sent, failed)
    notifications: Mapping[tuple[str, str], int] = field(default_factory=dict)
