# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of OpenPGP's packets (RFC 4880, section 4) as tells whom a message is for, and lets a note precede it."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_SESSION_KEY = 1
_COMMENT = 61  # GnuPG's own packet for comments; gpg passes over it


def comment(text: bytes) -> bytes:
    """A packet to put before a message."""
    size = len(text)
    length = bytes([size]) if size < 192 else struct.pack(">BI", 255, size)
    return bytes([0xC0 | _COMMENT]) + length + text


def key_ids(head: bytes) -> tuple[str, ...]:
    """The ids of the (sub)keys that open the message which begins with `head`, as gpg writes them."""
    found = []
    for tag, body in _packets(head):
        if tag == _SESSION_KEY and len(body) >= 9 and body[0] == 3:
            found.append(body[1:9].hex().upper())
        elif tag not in (_SESSION_KEY, _COMMENT):
            break
    return tuple(found)


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and body of each packet up to the first one whose length is not told beforehand, or that is cut off."""
    place = 0
    while place < len(data) and data[place] & 0x80:
        first = data[place]
        place += 1
        if first & 0x40:  # new format
            tag, octet = first & 0x3F, data[place] if place < len(data) else 255
            width = 1 if octet < 192 else 2 if octet < 224 else 5
            header = data[place : place + width]
            if len(header) < width or 224 <= octet < 255:
                return
            size = octet if width == 1 else ((octet - 192) << 8) + header[1] + 192
            if width == 5:
                size = struct.unpack(">I", header[1:])[0]
        else:
            tag, width = (first >> 2) & 0x0F, 1 << (first & 3)
            header = data[place : place + width]
            if width == 8 or len(header) < width:
                return
            size = int.from_bytes(header, "big")
        place += width
        if place + size > len(data):
            return
        yield tag, data[place : place + size]
        place += size
