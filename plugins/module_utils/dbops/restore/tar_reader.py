# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the server's tar archives while they arrive, and trusting none of their names.

PostgreSQL writes plain ustar with files and directories only (src/port/tar.c; tablespace links travel in
tablespace_map). Anything else, and any name that would leave the target, is an error before it is acted on.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..errors import Corrupt

_BLOCK = tarfile.BLOCKSIZE
_PIECE = 1 << 20
_TOGETHER = 256
_KINDS = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE)


class Piece(NamedTuple):
    """The next bytes of a member. A directory or an empty file has one piece, without bytes."""

    member: tarfile.TarInfo
    content: memoryview
    ends: bool  # the member's last


def read(chunks: Iterable[bytes], name: str) -> Iterator[Piece]:
    """All members in the order of the archive, and then the stream to its very end, so that its hashes are compared.

    Corrupt, naming the archive, for what is no tar archive, ends too early, or holds what PostgreSQL never writes.
    """
    source = _Source(chunks, name)
    for member in _members(source):
        left = 0 if member.isdir() else member.size
        if not left:
            yield Piece(member, memoryview(b""), True)
        for content in source.take(left):
            left -= len(content)
            yield Piece(member, content, not left)
        if not member.isdir():
            source.skip(-member.size % _BLOCK)
    source.drain()


def batches(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Handed over together what would cost more to hand over than to write: small files come by the hundred.

    What came before an error is handed over before it.
    """
    batch: list[Piece] = []
    size = 0
    try:
        for piece in pieces:
            batch.append(piece)
            size += len(piece.content)
            if size >= _PIECE or len(batch) == _TOGETHER:
                yield batch
                batch, size = [], 0
    except Corrupt:
        yield batch
        raise
    yield batch


def _members(source: _Source) -> Iterator[tarfile.TarInfo]:
    while True:
        header = b"".join(source.take(_BLOCK))
        if header == bytes(_BLOCK):
            return
        try:
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as exc:
            raise Corrupt(f"{source.name} is not a tar archive: {exc}.", hint="Restore another backup.") from exc
        member.name = _safe_name(member, source.name)
        yield member


def _safe_name(member: tarfile.TarInfo, archive: str) -> str:
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if member.name.startswith("/") or ".." in parts or "\0" in member.name:
        raise Corrupt(
            f"{archive} holds the entry {member.name!r}, which points outside the target directory.",
            hint="PostgreSQL never writes such a name: somebody made this archive. Examine it; restore another backup.",
        )
    if member.type not in _KINDS or member.size < 0 or not (parts or member.isdir()):
        raise Corrupt(
            f"{archive} holds {member.name!r}, which is neither file nor directory.",
            hint="PostgreSQL never writes such an entry: examine the archive; restore another backup.",
        )
    return "/".join(parts)


class _Source:
    """Takes exact amounts from a stream of chunks without joining more than asked."""

    def __init__(self, chunks: Iterable[bytes], name: str) -> None:
        self._chunks = iter(chunks)
        self._left = memoryview(b"")
        self.name = name

    def take(self, size: int) -> Iterator[memoryview]:
        while size > 0:
            if not self._left:
                try:
                    self._left = memoryview(next(self._chunks))
                except StopIteration:
                    raise Corrupt(f"{self.name} ends too early.", hint="Restore another backup.") from None
            piece = self._left[: min(size, _PIECE)]
            self._left = self._left[len(piece) :]
            size -= len(piece)
            yield piece

    def skip(self, size: int) -> None:
        for _piece in self.take(size):
            pass

    def drain(self) -> None:
        self._left = memoryview(b"")
        for _chunk in self._chunks:
            pass
