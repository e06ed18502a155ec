# SPDX-License-Identifier: GPL-3.0-or-later
"""What we need of a backup_manifest: the WAL that makes the backup consistent (PostgreSQL 18 manual, chapter 78)."""

from __future__ import annotations

import json
import os
import re

from ..errors import Corrupt
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
    if match is None:
        raise Corrupt("The backup_manifest names no WAL range.", hint="Run the backup again; see the server's log.")
    ranges = sorted(json.loads(match.group(1)), key=lambda item: lsn_to_int(item["Start-LSN"]))
    return WalRange(
        timeline=int(ranges[-1]["Timeline"]),
        start_lsn=ranges[0]["Start-LSN"],
        stop_lsn=ranges[-1]["End-LSN"],
        segment_size=segment_size,
    )
