# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpacking the server's tar archives while they arrive, and trusting none of their names.

PostgreSQL writes plain ustar with files and directories only (src/port/tar.c; tablespace links travel in
tablespace_map). Anything else, and any name that would leave the target, is an error before it is acted on.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Callable, Optional

from ..errors import Corrupt, Unreachable
from ..pg.osuser import Identity

_BLOCK = tarfile.BLOCKSIZE
_WRITE = 1 << 20
_KINDS = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE)


@dataclass
class Extracted:
    """What came out; `held` are the files kept back in memory, by name."""

    files: int = 0
    size_bytes: int = 0
    held: dict[str, bytes] = field(default_factory=dict)


def extract(
    chunks: Iterable[bytes],
    root: str,
    *,
    owner: Identity,
    name: str,
    hold: Callable[[str], bool] = lambda _name: False,
    on_bytes: Optional[Callable[[int], None]] = None,
) -> Extracted:
    """Unpack below `root`, which is ours and new. Files for which `hold` says so are returned, not written."""
    done = Extracted()
    reader = _Reader(chunks, name)
    made = {root}
    for member in _members(reader):
        path = os.path.join(root, member.name)
        if member.isdir():
            _directory(path, member.mode, owner, made)
            continue
        if hold(member.name):
            done.held[member.name] = b"".join(reader.take(member.size))
        else:
            _directory(os.path.dirname(path), 0o700, owner, made)
            _file(path, member.mode, owner, reader.take(member.size))
        reader.skip(-member.size % _BLOCK)
        done.files += 1
        done.size_bytes += member.size
        if on_bytes is not None:
            on_bytes(member.size)
    reader.drain()
    return done


def scan(chunks: Iterable[bytes], *, name: str) -> dict[str, int]:
    """Read an archive to its end without writing: its files with their sizes. Corrupt as in `extract`."""
    found: dict[str, int] = {}
    reader = _Reader(chunks, name)
    for member in _members(reader):
        if member.isfile():
            found[member.name] = member.size
            for _chunk in reader.take(member.size):
                pass
            reader.skip(-member.size % _BLOCK)
    reader.drain()
    return found


def _members(reader: _Reader) -> Iterator[tarfile.TarInfo]:
    while True:
        header = b"".join(reader.take(_BLOCK))
        if header == bytes(_BLOCK):
            return
        try:
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as exc:
            raise Corrupt(f"{reader.name} is not a tar archive: {exc}.", hint="Restore another backup.") from exc
        member.name = _safe_name(member, reader.name)
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


def _directory(path: str, mode: int, owner: Identity, made: set[str]) -> None:
    """Make the directory unless this run already did; what exists otherwise is another archive's and stays."""
    path = path.rstrip("/")
    if path in made:
        return
    parent = os.path.dirname(path)
    if parent not in made:
        _directory(parent, 0o700, owner, made)
    try:
        os.mkdir(path, mode & 0o777 | 0o700)
    except FileExistsError:
        if os.path.islink(path) or not os.path.isdir(path):
            raise Corrupt(f"{path} stands where a directory must be.", hint="Restore into an empty place.") from None
    except OSError as exc:
        raise _cannot_write(path, exc) from exc
    else:
        owner.give(path)
    made.add(path)


def _file(path: str, mode: int, owner: Identity, chunks: Iterator[memoryview]) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode & 0o777)
    except FileExistsError:
        raise Corrupt(
            f"{path} comes twice, or something was there before.",
            hint="Examine the archive; restore another backup, into an empty place.",
        ) from None
    except OSError as exc:
        raise _cannot_write(path, exc) from exc
    try:
        if owner.needs_switch:
            os.fchown(descriptor, owner.uid, owner.gid)
        for chunk in chunks:
            while chunk:
                chunk = chunk[os.write(descriptor, chunk) :]
    except OSError as exc:
        raise _cannot_write(path, exc) from exc
    finally:
        os.close(descriptor)


def _cannot_write(path: str, exc: OSError) -> Unreachable:
    return Unreachable(
        f"Cannot write {path}: {exc.strerror}.", hint="Free space there or choose another target, then run again."
    )


class _Reader:
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
            piece = self._left[: min(size, _WRITE)]
            self._left = self._left[len(piece) :]
            size -= len(piece)
            yield piece

    def skip(self, size: int) -> None:
        for _piece in self.take(size):
            pass

    def drain(self) -> None:
        """To the very end, so that the hashes of the whole stream are compared."""
        self._left = memoryview(b"")
        for _chunk in self._chunks:
            pass
