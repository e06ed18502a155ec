# SPDX-License-Identifier: GPL-3.0-or-later
"""What a measured restore says about the time that another one would take. An estimate, and always called so. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

_COPY = ("fetch_and_extract_s", "verify_s", "sync_s", "load_s")


def throughput(restored_bytes: Optional[int], phases: Mapping[str, float]) -> Optional[int]:
    """Bytes of data per second, from the repository to disk; None when nothing was copied."""
    seconds = sum(phases.get(name, 0.0) for name in _COPY)
    return round(restored_bytes / seconds) if restored_bytes and seconds > 0 else None


def rto_estimate(
    restored: Mapping[str, Any], database_bytes: Optional[int], phases: Mapping[str, float]
) -> Optional[dict[str, Any]]:
    """Seconds to copy the database at its size when it was backed up, and to replay the WAL that this run replayed.

    Neither detection nor decision nor fencing is in it. None when nothing was measured.
    """
    rate = throughput(restored.get("restored_bytes") or database_bytes, phases)
    if rate is None or not database_bytes:
        return None
    copy_s = database_bytes / rate
    replay_s = phases.get("recovery_s", 0.0)
    wal_bytes = (restored.get("recovery") or {}).get("wal_bytes")
    return {
        "label": "estimate, from this run's rates; not a measured RTO",
        "seconds": round(copy_s + replay_s, 1),
        "copy_s": round(copy_s, 1),
        "replay_s": round(replay_s, 1),
        "database_bytes": database_bytes,
        "copy_bytes_per_s": rate,
        "replay_wal_bytes_per_s": round(wal_bytes / replay_s) if wal_bytes and replay_s else None,
    }
