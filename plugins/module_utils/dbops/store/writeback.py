# SPDX-License-Identifier: GPL-3.0-or-later
"""Letting the disk work while a stream still runs, so that the fsync at its end finds little left to wait for.

Left alone, the kernel keeps gigabytes back and writes them when fsync asks. sync_file_range(2) only starts writing: it
makes nothing durable and takes no write error away from the fsync, which is still what counts. PostgreSQL's
checkpointer does the same.
"""

from __future__ import annotations

import ctypes

EVERY_BYTES = 8 << 20
_SYNC_FILE_RANGE_WRITE = 2
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)  # Linux has it; without it fsync waits longer
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class Writeback:
    """Follows one file that is written from its beginning on."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._written = 0
        self._started = 0

    def wrote(self, size: int) -> None:
        self._written += size
        if self._written - self._started >= EVERY_BYTES and _sync_file_range is not None:
            _sync_file_range(self._descriptor, self._started, self._written - self._started, _SYNC_FILE_RANGE_WRITE)
            self._started = self._written
