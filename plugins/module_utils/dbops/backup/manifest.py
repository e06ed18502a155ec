# SPDX-License-Identifier: GPL-3.0-or-later
"""What we need of a backup_manifest: the WAL that makes the backup consistent (PostgreSQL 18 manual, chapter 78)."""

from __future__ import annotations

import json
import os
import re

from ..errors import BadInput, Corrupt
from ..pg.wal import lsn_to_int
from ..repo.record import WalRange

_TAIL = 1 << 16


def wal_range(path: str, *, segment_size: int) -> WalRange:
    """From the manifest's end: it lists every file of the cluster, so it is never read whole."""
    with open(path, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _TAIL))
        tail = stream.read().decode("utf-8", "replace")
    match = re.search(r'"WAL-Ranges":\s*(\[.*?\])', tail, re.S)
    try:
        listed = json.loads(match.group(1)) if match else []
        ranges = sorted(listed, key=lambda item: lsn_to_int(item["Start-LSN"]))
        return WalRange(
            timeline=int(ranges[-1]["Timeline"]),
            start_lsn=ranges[0]["Start-LSN"],
            stop_lsn=ranges[-1]["End-LSN"],
            segment_size=segment_size,
        )
    except (ValueError, LookupError, TypeError, BadInput) as exc:
        raise Corrupt(
            f"The backup_manifest names no WAL range that can be read: {exc!r}.",
            hint="Run the backup again; see the server's log.",
        ) from exc
