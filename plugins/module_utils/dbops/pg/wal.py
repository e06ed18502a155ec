# SPDX-License-Identifier: GPL-3.0-or-later
"""LSNs and WAL file names as PostgreSQL writes them (PostgreSQL 18 manual, functions-admin; xlog_internal.h)."""

from __future__ import annotations

import re

from ..errors import BadInput

DEFAULT_SEGMENT_SIZE = 16 << 20
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


def lsn_to_int(text: str) -> int:
    """`16/B374D848` as its byte position."""
    match = _LSN.fullmatch(text)
    if match is None:
        raise BadInput(f"{text!r} is not an LSN.", hint="Write it as PostgreSQL does: 16/B374D848.")
    return (int(match[1], 16) << 32) | int(match[2], 16)


def int_to_lsn(position: int) -> str:
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def segment_name(timeline: int, position: int, segment_size: int = DEFAULT_SEGMENT_SIZE) -> str:
    """The 24 hex digits of the segment that holds the byte at `position`."""
    number = position // segment_size
    per_log = 0x100000000 // segment_size
    return f"{timeline:08X}{number // per_log:08X}{number % per_log:08X}"


def segments_between(timeline: int, start: int, stop: int, segment_size: int = DEFAULT_SEGMENT_SIZE) -> list[str]:
    """Every segment needed for [start, stop): what a base backup needs to become consistent."""
    last = max(start, stop - 1)
    return [
        segment_name(timeline, number * segment_size, segment_size)
        for number in range(start // segment_size, last // segment_size + 1)
    ]
