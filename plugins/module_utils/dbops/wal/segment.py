# SPDX-License-Identifier: GPL-3.0-or-later
"""A file of pg_wal on its way out: read once, proven to be what its name says, compressed for all repositories."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from ..codec.stream import Shape
from ..errors import Corrupt, NotFound, Refused, Unreachable
from ..pg.walfile import HEADER_BYTES, KNOWN_MAJORS, Kind, WalName, check_segment, page_header
from ..repo.archive import PackedFile, pack
from .cluster import Cluster
from .spool import Version, version_of

_CHUNK = 1 << 20  # what a codec takes for one block, without copying


def packed_file(cluster: Cluster, path: str, name: WalName, shape: Shape) -> tuple[PackedFile, Version]:
    """The file, packed, and which state of it that was. Refused or Corrupt when it does not belong into the archive."""
    try:
        before = version_of(path)
        with open(path, "rb", buffering=0) as stream:
            packed = pack(name, _checked(cluster, stream, name, path), shape)
        after = version_of(path)
    except FileNotFoundError as exc:
        raise NotFound(f"{path} is not there.", hint="Give %p as PostgreSQL does; see the data directory.") from exc
    except OSError as exc:
        raise Unreachable(f"Cannot read {path}: {exc.strerror}.", hint="Check the disk (dmesg).") from exc
    if before != after:
        raise Corrupt(f"{path} changed while it was read.", hint="It is read again at the next call.")
    return packed, after


def _checked(cluster: Cluster, stream: BinaryIO, name: WalName, path: str) -> Iterator[bytes]:
    size = os.fstat(stream.fileno()).st_size
    first = stream.read(_CHUNK)
    if name.kind in (Kind.SEGMENT, Kind.PARTIAL):
        check_ours(cluster, name, first[:HEADER_BYTES], size, path)
    elif not first:
        raise Corrupt(f"{path} is empty.", hint="Look where it came from.")
    seen = 0
    chunk = first
    while chunk:
        seen += len(chunk)
        yield chunk
        chunk = stream.read(_CHUNK)
    if seen != size:
        raise Corrupt(f"{path} has {size} bytes and only {seen} could be read.", hint="Check the disk (dmesg).")


def check_ours(cluster: Cluster, name: WalName, head: bytes, size_bytes: int, path: str) -> None:
    """The first page against pg_control: system, version, timeline; and against the file's own name."""
    header = page_header(head, where=path)
    check_segment(
        name, header, size_bytes=size_bytes, system_identifier=cluster.system_identifier, where=os.path.basename(path)
    )
    if header.major != (cluster.major if cluster.major in KNOWN_MAJORS else None):
        raise Refused(
            f"{path} is WAL of PostgreSQL {header.major or 'an unknown version'}, and this cluster is {cluster.major}.",
            hint="It is left over from before an upgrade: remove it from archive_status once you are sure.",
        )
    # After a promotion WAL is archived before pg_control says so, but never before the history is written.
    history = os.path.join(cluster.wal_directory, f"{name.timeline:08X}.history")
    if name.timeline > cluster.timeline and not os.path.exists(history):
        raise Refused(
            f"{path} is on timeline {name.timeline}, and this cluster on {cluster.timeline} with no history of it.",
            hint="Find out where the file came from before anything is archived.",
        )
