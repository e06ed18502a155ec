# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts as a healthy cluster has them, to be changed one at a time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health.facts import (
    Backup,
    Facts,
    Probe,
    Reach,
    Repository,
    Server,
    Wal,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings_health import HealthSettings

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
SEGMENT = 16 << 20


def backup(hours_ago: float, **changes: Any) -> Backup:
    stopped = NOW - hours_ago * HOUR
    facts: dict[str, Any] = {
        "label": f"{stopped - HOUR:%Y%m%dT%H%M%SZ}-full",
        "method": "physical",
        "type": "full",
        "databases": (),
        "started": stopped - HOUR,
        "stopped": stopped,
        "stored_bytes": 50 << 20,
        "database_bytes": 400 << 20,
        "postgres_version": "18.6",
        "encrypted": False,
        "system_identifier": "7001",
        "proven_level": "content",
        "proven_at": stopped + HOUR / 2,
        "last_verdict": "pass",
        "last_verified_at": stopped + HOUR / 2,
    }
    return Backup(**{**facts, **changes})


def dump(hours_ago: float, *databases: str, **changes: Any) -> Backup:
    return backup(hours_ago, method="logical", type="dump", databases=databases, **changes)


def wal(**changes: Any) -> Wal:
    reach = Reach(NOW - 48 * HOUR, None, 100 * SEGMENT, None, ("b",))
    facts: dict[str, Any] = {
        "segments": 90,
        "stored_bytes": 9 << 20,
        "newest_end": 100 * SEGMENT,
        "intervals": (reach,),
        "missing": 0,
        "unarchived_bytes": 0,
    }
    return Wal(**{**facts, **changes})


def repository(*backups: Backup, **changes: Any) -> Repository:
    facts: dict[str, Any] = {
        "name": "disk",
        "required": True,
        "probes": (Probe("list", True, "listed", 0.1), Probe("read", True, "read", 0.1)),
        "backups": backups or (backup(2), backup(26)),
        "free_bytes": 50 << 30,
        "total_bytes": 100 << 30,
        "wal": wal(),
    }
    return Repository(**{**facts, **changes})


def server(**changes: Any) -> Server:
    facts: dict[str, Any] = {
        "version": "18.6",
        "system_identifier": "7001",
        "in_recovery": False,
        "archives": True,
        "archive_failing": False,
        "last_failed_wal": None,
        "last_failed_at": None,
        "failed_count": 0,
        "archived_count": 99,
        "waiting_files": 0,
        "waiting_s": None,
        "restart_pending": (),
        "position": 100 * SEGMENT,
        "database_bytes": 400 << 20,
        "checksum_failures": {"shop": 0},
        "wal_free_bytes": 9 << 30,
        "wal_total_bytes": 10 << 30,
    }
    return Server(**{**facts, **changes})


def facts(*repositories: Repository, policy: dict[str, Any] | None = None, **changes: Any) -> Facts:
    known: dict[str, Any] = {
        "cluster": "main",
        "seen": NOW,
        "policy": HealthSettings(**(policy or {})),
        "methods": ("physical",),
        "databases": (),
        "repositories": repositories or (repository(),),
        "server": server(),
        "server_error": "",
        "agent_version": "1.0.0",
        "tool_version": "1.0.0",
    }
    return Facts(**{**known, **changes})
