# SPDX-License-Identifier: GPL-3.0-or-later
"""The one JSON shape in which every door shows a backup. Stable: keys are added, never renamed."""

from __future__ import annotations

from typing import Any, Optional

from .record import BackupRecord, iso
from .repository import Entry


def describe(record: BackupRecord, repository: str, entry: Optional[Entry] = None) -> dict[str, Any]:
    """Times are ISO-8601 UTC, sizes bytes, durations seconds. `verified` is "unverified" until a proof says more."""
    return {
        "label": record.label,
        "cluster": record.cluster,
        "repository": repository,
        "method": record.method,
        "type": record.type,
        "parent": record.parent,
        "started": iso(record.started),
        "stopped": iso(record.stopped),
        "duration_s": round(record.duration_s, 3),
        "database_bytes": record.database_bytes,
        "stored_bytes": record.stored_bytes,
        "codec": record.codec,
        "system_identifier": record.system_identifier,
        "postgres_version": record.postgres_version,
        "timeline": record.wal.timeline if record.wal else None,
        "start_lsn": record.wal.start_lsn if record.wal else None,
        "stop_lsn": record.wal.stop_lsn if record.wal else None,
        "databases": list(record.databases),
        "from_standby": record.from_standby,
        "reason": record.reason,
        "verified": (entry.proven_level if entry else None) or "unverified",
        "verified_at": iso(entry.proven_at) if entry and entry.proven_at else None,
        "held": entry.held if entry else None,
        "notes": list(record.notes),
    }
