# SPDX-License-Identifier: GPL-3.0-or-later
"""Cutting a zstd stream at its block boundaries (RFC 8878, section 3.1), so that unpacking it takes bounded memory.

A block unpacks to at most 128 KiB, but to that it may unpack from four bytes: a table of empty pages would turn one
piece of input into gigabytes at once. The library has no limit on what one call returns, so it gets a few blocks at a
time. What does not look like zstd is passed on as it is: saying what is wrong with it is the library's part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_MAGIC = 0xFD2FB528
_SKIPPABLE = 0x184D2A50
_BLOCKS = 8
LARGEST = _BLOCKS << 17  # what a piece unpacks to at the most: 1 MiB


def pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes; none of the pieces holds more than the headers of `_BLOCKS` blocks."""
    walker = _Walker()
    for chunk in chunks:
        start = 0
        while start < len(chunk):
            end = walker.walk(chunk, start)
            yield chunk[start:end] if (start, end) != (0, len(chunk)) else chunk
            start = end


class _Walker:
    """Goes from header to header; between two of them it only counts."""

    def __init__(self) -> None:
        self._skip = 0  # bytes until the next header
        self._header = b""  # what has been read of it
        self._in_frame = False
        self._trailer = 0  # the frame's checksum, after its last block
        self._lost = False

    def walk(self, chunk: bytes, start: int) -> int:
        """How far to go in this chunk, from `start`, without passing more than `_BLOCKS` block headers."""
        position, seen = start, 0
        while position < len(chunk) and not self._lost:
            if self._skip:
                step = min(self._skip, len(chunk) - position)
                self._skip -= step
                position += step
                continue
            if self._in_frame and not self._header:
                if seen == _BLOCKS:
                    return position
                seen += 1
            self._header += chunk[position : position + 1]
            position += 1
            if self._in_frame:
                self._block()
            else:
                self._frame()
        return len(chunk) if not self._lost else min(len(chunk), start + 4096)

    def _block(self) -> None:
        if len(self._header) < 3:
            return
        header = int.from_bytes(self._header, "little")
        self._header = b""
        last, kind, size = header & 1, (header >> 1) & 3, header >> 3
        self._lost = kind == 3
        self._skip = 1 if kind == 1 else size
        if last:
            self._skip += self._trailer
            self._in_frame = False

    def _frame(self) -> None:
        if len(self._header) < 5:
            return
        magic = int.from_bytes(self._header[:4], "little")
        if magic & 0xFFFFFFF0 == _SKIPPABLE:
            if len(self._header) == 8:
                self._skip = int.from_bytes(self._header[4:], "little")
                self._header = b""
            return
        if magic != _MAGIC:
            self._lost = True
            return
        descriptor = self._header[4]
        single = descriptor >> 5 & 1
        content_size = (single, 2, 4, 8)[descriptor >> 6]
        self._skip = (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3] + content_size
        self._trailer = 4 if descriptor >> 2 & 1 else 0
        self._in_frame = True
        self._header = b""
