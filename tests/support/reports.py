# SPDX-License-Identifier: GPL-3.0-or-later
"""A report with one of everything, to be changed one thing at a time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.report.model import (
    SCHEMA,
    Backup,
    Cluster,
    Cost,
    Finding,
    Point,
    Reach,
    Report,
    Repository,
    Span,
    Tail,
    Target,
    Verification,
)

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
EVIL = "<script>alert(1)</script>"


def backup(hours_ago: float, **changes: Any) -> Backup:
    stopped = NOW - hours_ago * HOUR
    facts: dict[str, Any] = {
        "label": f"{stopped - HOUR:%Y%m%dT%H%M%SZ}-full",
        "method": "physical",
        "type": "full",
        "started": stopped - HOUR,
        "stopped": stopped,
        "stored_bytes": 50 << 20,
        "database_bytes": 400 << 20,
        "postgres_version": "18.6",
        "keep": True,
        "reasons": ("the newest valid backup",),
    }
    return Backup(**{**facts, **changes})


def verification(hours_ago: float, **changes: Any) -> Verification:
    facts: dict[str, Any] = {
        "label": "20261124T010000Z-full",
        "finished": NOW - hours_ago * HOUR,
        "verdict": "pass",
        "level": "content",
        "target": "everything that is archived",
        "total_s": 42.5,
        "restored_bytes": 400 << 20,
        "copy_bytes_per_s": 100 << 20,
        "replay_segments_per_s": 8.5,
        "checks": 15,
        "words": "",
    }
    return Verification(**{**facts, **changes})


def span(first: float, last: float, **changes: Any) -> Span:
    facts: dict[str, Any] = {
        "timeline": 1,
        "start": NOW - first * HOUR,
        "end": NOW - last * HOUR,
        "end_is_known": True,
        "start_lsn": "0/2000028",
        "end_lsn": "0/9000000",
        "newest_timeline": True,
    }
    return Span(**{**facts, **changes})


def reach(first: float, last: float, **changes: Any) -> Reach:
    facts: dict[str, Any] = {
        "start": NOW - first * HOUR,
        "end": NOW - last * HOUR,
        "timeline": 1,
        "base": "20261124T010000Z-full",
        "chain": ("20261124T010000Z-full",),
        "base_bytes": 50 << 20,
        "wal_files": 17,
        "wal_bytes": 9 << 20,
        "rto_s": 4.0,
        "command": "dbops restore --cluster main --repository disk --latest --in-place --stop --start --plan",
    }
    return Reach(**{**facts, **changes})


def repository(**changes: Any) -> Repository:
    facts: dict[str, Any] = {
        "name": "disk",
        "type": "local",
        "location": "/backups",
        "required": True,
        "backups": (
            backup(3, type="incremental", parent="20261124T010000Z-full", held="an audit"),
            backup(10, proven_level="content", proven_at=NOW - 9 * HOUR, last_verdict="pass"),
            backup(34, type="dump", method="logical", databases=("shop", EVIL), proven_level="bytes", proven_at=NOW),
            backup(58, problem="base.tar.zst is missing", keep=False, reasons=("no rule wants it",)),
            backup(82, last_verdict="fail", locked_until=NOW + 99 * HOUR),
        ),
        "spans": (
            span(82, 60, broken_by="000000010000000000000009"),
            span(58, 0.5),
            span(40, 30, newest_timeline=False, timeline=2, end_is_known=False),
        ),
        "reaches": (reach(10, 0.5), reach(58, 10)),
        "tail": Tail(NOW - HOUR / 2, 40 << 20, 1800.0),
        "points": (Point(f"before {EVIL}", NOW - 20 * HOUR, "0/8000000"),),
        "verifications": (
            verification(9),
            verification(33, verdict="could_not_verify", level=None, words="no room: it needs 9 GiB", total_s=None),
            verification(57, verdict="fail", words=f"a row of {EVIL} is missing"),
        ),
        "policy": "keep_within_s=2419200",
        "wal_segments": 90,
        "wal_bytes": 300 << 20,
        "backup_bytes": 250 << 20,
        "free_bytes": 50 << 30,
        "total_bytes": 100 << 30,
        "cost": Cost(3.456, "USD", "list prices of 2025, built in"),
    }
    return Repository(**{**facts, **changes})


def cluster(name: str = "main", *repositories: Repository, **changes: Any) -> Cluster:
    facts: dict[str, Any] = {
        "name": name,
        "seen": NOW,
        "severity": "CRITICAL",
        "sentence": f"{name} is CRITICAL: disk: a commit is too old.",
        "postgres_version": "18.6",
        "database_bytes": 400 << 20,
        "in_recovery": False,
        "targets": (
            Target("rpo", "Data at risk now (RPO)", 600.0, 1800.0, False, "The oldest commit is 30 min old."),
            Target("rto", "Time to recover (estimate)", None, 4.0, None, "At the rates of the last verification."),
            Target("window", "Recovery window", 86400.0, 208800.0, True, "Every instant, without a gap."),
            Target("age", "Newest backup", 93600.0, 10800.0, True, "The newest one ended 3 h ago."),
            Target("proof", "Last proven by a restore", 3024000.0, None, None, "Nobody could tell."),
        ),
        "findings": (
            Finding("exposure", "disk", "CRITICAL", f"A commit in {EVIL} is 30 min old.", "See dbops wal status."),
            Finding("decrypt", "disk", "UNKNOWN", "No key here opens it.", "Bring the key."),
            Finding("age", "disk physical", "OK", "It ended 3 h ago."),
        ),
        "repositories": repositories
        or (repository(), Repository("vault", "s3", "s3://vault", required=False, error="The store is away.")),
    }
    return Cluster(**{**facts, **changes})


def report(*clusters: Cluster) -> Report:
    return Report(SCHEMA, NOW, "1.0.0", clusters or (cluster(),))
