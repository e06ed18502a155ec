# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory of plain files as one tar stream, and back: what a dump in directory format is.

Made by hand because nothing may be held in memory, and read by hand because a tar may name any path: here only
plain files are taken, and only by the last part of their name.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from typing import Any, cast

from ..codec.stream import CHUNK
from ..errors import Corrupt

_BLOCK = 512
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def flat_tar(directory: str) -> Iterator[bytes]:
    """The tar of the files that lie directly in `directory`, the table of contents first."""
    for name in sorted(os.listdir(directory), key=lambda name: (name != "toc.dat", name)):
        with open(os.path.join(directory, name), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = status.st_size, 0o600, int(status.st_mtime)
            yield entry.tobuf(tarfile.GNU_FORMAT)
            left = status.st_size
            while left:
                chunk = file.read(min(CHUNK, left))
                if not chunk:
                    raise Corrupt(f"{name} became shorter while it was read.", hint="Run again; look at the disk.")
                left -= len(chunk)
                yield chunk
            yield bytes(-status.st_size % _BLOCK)
    yield bytes(2 * _BLOCK)


def unpack_flat(chunks: Iterable[bytes], directory: str, *, what: str) -> list[str]:
    """Write the tar's files directly into `directory`; their paths. Corrupt for links, odd names, or an early end."""
    written: list[str] = []
    for name, content in _files(chunks, what):
        path = os.path.join(directory, name)
        try:
            with open(path, "xb") as file:
                for chunk in content:
                    file.write(chunk)
        except FileExistsError as exc:
            raise Corrupt(f"{what} holds {name!r} twice.", hint="Do not trust this file.") from exc
        written.append(path)
    return written


def names_in(chunks: Iterable[bytes], *, what: str) -> set[str]:
    """The names of the tar's files, all of it read; Corrupt as in `unpack_flat`."""
    names = set()
    for name, content in _files(chunks, what):
        names.add(name)
        for _chunk in content:
            pass
    return names


def _files(chunks: Iterable[bytes], what: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Each file's name with its content, which is to be read before the next one; at the end the end is checked."""
    source = _Chunked(chunks)
    try:
        with tarfile.open(fileobj=cast(Any, source), mode="r|") as archive:
            for entry in archive:
                if not entry.isdir():
                    yield _plain_name(entry, what), _content(archive, entry, what)
    except tarfile.TarError as exc:
        raise _damaged(what, exc) from exc
    source.drain()
    if not source.ended_well:
        raise Corrupt(f"{what} is cut off: a tar's end is missing.", hint="Take another copy of it.")


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo, what: str) -> Iterator[bytes]:
    file = archive.extractfile(entry)
    if file is None:
        raise Corrupt(f"{what} holds {entry.name!r}, which is no plain file.", hint="Take another copy of it.")
    left = entry.size
    try:
        while left:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                raise tarfile.ReadError("unexpected end of data")
            left -= len(chunk)
            yield chunk
    except tarfile.TarError as exc:
        raise _damaged(what, exc) from exc


def _damaged(what: str, exc: tarfile.TarError) -> Corrupt:
    return Corrupt(f"{what} is not a whole directory dump: {exc}.", hint="Take another copy of it.")


def _plain_name(entry: tarfile.TarInfo, what: str) -> str:
    parts = [part for part in entry.name.split("/") if part != "."]
    if entry.isreg() and len(parts) in (1, 2) and all(map(_NAME.fullmatch, parts)):
        return parts[-1]
    raise Corrupt(f"{what} holds {entry.name!r}, which no dump of pg_dump has.", hint="Do not trust this file.")


class _Chunked:
    """Chunks as a file to read from, which remembers how the stream ended: a whole tar ends with two empty blocks."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held = b""
        self._tail = b""

    def read(self, size: int = -1) -> bytes:
        parts, have = [], 0
        while size < 0 or have < size:
            if not self._held:
                self._held = next(self._chunks, b"")
                if not self._held:
                    break
            part = self._held if size < 0 else self._held[: size - have]
            self._held = self._held[len(part) :]
            parts.append(part)
            have += len(part)
        data = b"".join(parts)
        self._tail = (self._tail + data)[-2 * _BLOCK :]
        return data

    def drain(self) -> None:
        """Read to the end, so that whoever checks the stream has seen all of it."""
        while self.read(CHUNK):
            pass

    @property
    def ended_well(self) -> bool:
        return self._tail == bytes(2 * _BLOCK)
