# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a WAL archive: what their names mean, and what a segment's first page says of itself.

Sources: PostgreSQL's xlog_internal.h (names, page headers) and the manual's chapter on continuous archiving.
"""

from __future__ import annotations

import enum
import re
import struct
from dataclasses import dataclass
from typing import Optional

from ..errors import BadInput, Corrupt, Refused
from .wal import segment_name

HEADER_BYTES = 40
_LONG_HEADER = struct.Struct("<HHIQI4xQII")  # magic, info, timeline, address, rem_len, system id, segment and page size
_XLP_LONG_HEADER = 0x0002
_MAJORS = {0xD10D: 14, 0xD110: 15, 0xD113: 16, 0xD116: 17, 0xD118: 18}
KNOWN_MAJORS = frozenset(_MAJORS.values())


class Kind(enum.Enum):
    SEGMENT = "segment"
    PARTIAL = "partial"  # the unfinished last segment of a timeline that a promotion left
    BACKUP = "backup"  # a backup's history file: where it started and stopped
    HISTORY = "history"  # a timeline's ancestry


_PATTERNS = {
    Kind.SEGMENT: re.compile(r"[0-9A-F]{24}"),
    Kind.PARTIAL: re.compile(r"[0-9A-F]{24}\.partial"),
    Kind.BACKUP: re.compile(r"[0-9A-F]{24}\.[0-9A-F]{8}\.backup"),
    Kind.HISTORY: re.compile(r"[0-9A-F]{8}\.history"),
}


@dataclass(frozen=True)
class WalName:
    text: str
    kind: Kind

    @property
    def timeline(self) -> int:
        return int(self.text[:8], 16)


def wal_name(text: str) -> WalName:
    """BadInput for anything that PostgreSQL would not ask to archive."""
    for kind, pattern in _PATTERNS.items():
        if pattern.fullmatch(text):
            return WalName(text, kind)
    raise BadInput(
        f"{text!r} is not the name of a WAL file.", hint="archive_command gives %p, restore_command %f and %p."
    )


@dataclass(frozen=True)
class PageHeader:
    """`major` is None for a version that this program does not know yet."""

    magic: int
    major: Optional[int]
    timeline: int
    address: int
    system_identifier: str
    segment_size: int


def page_header(first_bytes: bytes, *, where: str) -> PageHeader:
    """The long header with which every segment begins; Corrupt when it is none."""
    if len(first_bytes) < HEADER_BYTES:
        raise Corrupt(f"{where} is too short for a WAL segment.", hint="Look where it came from.")
    magic, info, timeline, address, _rem, system, segment_size, page_size = _LONG_HEADER.unpack_from(first_bytes)
    if magic & 0xFF00 != 0xD100 or not info & _XLP_LONG_HEADER or segment_size < 1 << 20 or page_size < 1 << 10:
        raise Corrupt(f"{where} does not begin as a WAL segment does.", hint="Look where it came from.")
    return PageHeader(magic, _MAJORS.get(magic), timeline, address, str(system), segment_size)


def check_segment(name: WalName, header: PageHeader, *, size_bytes: int, system_identifier: str, where: str) -> None:
    """Refused for another cluster's segment, Corrupt for one that is not what its name says."""
    if header.system_identifier != system_identifier:
        raise Refused(
            f"{where} belongs to system {header.system_identifier}, and this archive to {system_identifier}.",
            hint="Clusters must not share an archive: a restored copy needs archive_mode=off or its own name.",
        )
    expected = segment_name(header.timeline, header.address, header.segment_size)
    # After a promotion the first segment of the new timeline begins with pages copied from the old one.
    if expected[8:] != name.text[8:24] or header.timeline > name.timeline:
        raise Corrupt(f"{where} says of itself that it is {expected}.", hint="Look where it came from.")
    if name.kind is Kind.SEGMENT and size_bytes != header.segment_size:
        raise Corrupt(
            f"{where} has {size_bytes} bytes, a segment here has {header.segment_size}.", hint="It was cut off."
        )


def parse_history(content: str) -> list[tuple[int, str]]:
    """A `.history` file's lines: (parent timeline, LSN at which the next one left it), oldest first."""
    found = []
    for line in content.splitlines():
        fields = line.split("#", 1)[0].split()
        if len(fields) >= 2:
            found.append((int(fields[0]), fields[1]))
    return found


def check_history(name: WalName, content: bytes, *, where: str) -> None:
    """Corrupt unless it leads from older timelines, each once and in order, to that of its name.

    Another timeline's history is whole in itself, and recovery would follow it to wherever that timeline went.
    """
    try:
        parents = [timeline for timeline, _lsn in parse_history(content.decode("utf-8", "replace"))]
    except ValueError:
        parents = []
    if not parents or parents != sorted(set(parents)) or parents[-1] >= name.timeline:
        raise Corrupt(
            f"{where} is not the history of timeline {name.timeline}.",
            hint="Take it from another repository, or from pg_wal of a server that was on that timeline.",
        )
