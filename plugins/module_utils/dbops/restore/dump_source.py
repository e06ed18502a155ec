# SPDX-License-Identifier: GPL-3.0-or-later
"""A dump to read, from a repository or from a file that anyone made: what it is, told by its bytes, not its name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Callable, Optional, cast

from ..codec.codecs import codec_of
from ..codec.stream import ahead, read_chunks
from ..errors import BadInput, Corrupt, DbopsError, NotFound, Unreachable
from ..repo.record import StoredObject
from ..repo.repository import Repository

HEAD = 1 << 16
_MAGIC = b"PGDMP"
_CUSTOM = 1  # the format's number, after three bytes of version and two of sizes (pg_backup_archiver.c, WriteHead)
_FORMAT_BYTE = 10

OnBytes = Optional[Callable[[int], None]]


@dataclass(frozen=True)
class Source:
    """`format`: custom, plain, or directory: as a tar of its files, which pg_dump -Ft makes too, or `directory` itself.

    `read(on_bytes)` gives the chunks without compression, checked as far as the source can be; `on_bytes` counts
    stored bytes. `plain_bytes` is None where only reading could tell. `path`: the file itself, when nothing but
    opening it is needed.
    """

    name: str
    format: str
    stored_bytes: int
    read: Callable[[OnBytes], Iterator[bytes]]
    plain_bytes: Optional[int] = None
    path: Optional[str] = None
    directory: Optional[str] = None
    ours: bool = False


def repository_source(repository: Repository, label: str, item: StoredObject) -> Source:
    def read(on_bytes: OnBytes) -> Iterator[bytes]:
        return repository.read_object(label, item, on_bytes=on_bytes)

    return Source(
        name=f"{item.name} of {label}",
        format=item.dump_format or "custom",
        stored_bytes=item.stored.size_bytes,
        read=read,
        plain_bytes=item.plain.size_bytes if item.plain else None,
        ours=True,
    )


def file_source(path: str) -> Source:
    """NotFound, Unreachable, Corrupt when it is damaged already where it starts, BadInput when it is no dump."""
    if os.path.isdir(path):
        return _directory_source(path)
    size = _size(path)

    def read(on_bytes: OnBytes) -> Iterator[bytes]:
        return _file_chunks(path, on_bytes)

    head = _head(read(None))
    if not head:
        raise Corrupt(f"{path} is empty.", hint="Look for what interrupted the dump; use another file.")
    dump_format = format_of(head)
    if dump_format is None:
        raise BadInput(
            f"{path} is neither an archive of pg_dump nor an SQL script.",
            hint="Name a .sql, .dump or .tar file, plain or compressed by gzip, zstd or lz4, or a dump directory.",
        )
    packed = codec_of(_raw_head(path)).name != "none"
    return Source(
        name=path,
        format=dump_format,
        stored_bytes=size,
        read=read,
        plain_bytes=None if packed else size,
        path=None if packed else os.path.abspath(path),
    )


def format_of(head: bytes) -> Optional[str]:
    """The format that begins like this; None when it is no dump."""
    if head.startswith(_MAGIC):
        return "custom" if head[_FORMAT_BYTE : _FORMAT_BYTE + 1] == bytes([_CUSTOM]) else None
    if head[257:262] == b"ustar":
        return "directory"
    return None if b"\0" in head or _MAGIC.startswith(head) else "plain"


def _directory_source(path: str) -> Source:
    toc = os.path.join(path, "toc.dat")
    try:
        with open(toc, "rb") as stream:
            head = stream.read(len(_MAGIC))
        size = sum(entry.stat().st_size for entry in os.scandir(path))
    except FileNotFoundError as exc:
        raise BadInput(f"{path} is no dump directory: it has no toc.dat.", hint="Name the dump itself.") from exc
    except OSError as exc:
        raise Unreachable(f"Cannot read {path}: {exc.strerror}.", hint="Check the rights of its files.") from exc
    if head != _MAGIC:
        raise Corrupt(f"{toc} is not the table of contents of a dump.", hint="Take another copy of the directory.")

    def read(on_bytes: OnBytes) -> Iterator[bytes]:
        raise AssertionError("a directory is handed to pg_restore as it is")

    where = os.path.abspath(path)
    return Source(path, "directory", size, read, plain_bytes=size, directory=where)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError as exc:
        raise NotFound(f"There is no file {path}.", hint="Check the path: it is one on the database host.") from exc
    except OSError as exc:
        raise Unreachable(f"Cannot look at {path}: {exc.strerror}.", hint="Check its directory's rights.") from exc


def _file_chunks(path: str, on_bytes: OnBytes) -> Iterator[bytes]:
    try:
        with open(path, "rb", buffering=0) as stream:
            codec = codec_of(stream.read(8))
            stream.seek(0)
            yield from codec.decompress(ahead(_counted(read_chunks(cast(Any, stream)), on_bytes)))
    except OSError as exc:
        raise Unreachable(f"Cannot read {path}: {exc.strerror}.", hint="Check its rights and the disk.") from exc
    except Corrupt as exc:
        raise Corrupt(f"{path}: {exc.message}", hint=exc.hint) from exc


def _counted(chunks: Iterable[bytes], on_bytes: OnBytes) -> Iterator[bytes]:
    for chunk in chunks:
        if on_bytes is not None:
            on_bytes(len(chunk))
        yield chunk


def _raw_head(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(8)


def _head(chunks: Iterator[bytes]) -> bytes:
    head = b""
    try:
        for chunk in chunks:
            head += chunk
            if len(head) >= HEAD:
                break
    except DbopsError:
        if not head:
            raise  # with something to look at, reading it all will say where it is damaged
    return head[:HEAD]
