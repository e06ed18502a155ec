# SPDX-License-Identifier: GPL-3.0-or-later
"""One file out of the archives: verified, or proven to be in none of them, or neither.

PostgreSQL takes "not there" for the end of recovery. So that answer needs every configured repository to have said so
itself, and to have shown that it is the one we mean: a mount point without its disk has nothing either.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ..errors import Corrupt, DbopsError, NotFound, Refused
from ..pg.walfile import HEADER_BYTES, Kind, WalName, check_history, check_segment, page_header
from ..repo.archive import WalArchive

_MOST_HISTORY = 1 << 20  # bytes; a line for each timeline
FOUND, MISSING, UNKNOWN, IMPOSSIBLE = "found", "missing", "unknown", "impossible"


@dataclass
class Outcome:
    """`lines` says what was met on the way: damaged copies, repositories that did not answer.

    UNKNOWN may be otherwise in a moment; IMPOSSIBLE will not be: every copy is damaged, or two copies differ.
    """

    verdict: str
    lines: list[str] = field(default_factory=list)
    segment_size: Optional[int] = None  # of a segment that was found

    def as_json(self) -> dict[str, Any]:
        return {"verdict": self.verdict, "lines": self.lines, "segment_size": self.segment_size}


def fetch(archives: Sequence[WalArchive], name: WalName, path: str) -> Outcome:
    """Write the plain content to `path`, a new file; only FOUND leaves one there, and verified."""
    claims, lines, doubts = _ask(archives, name)
    stamps = {sha256 for _archive, sha256 in claims if sha256 is not None}
    if len(stamps) > 1:
        where = ", ".join(repr(archive.name) for archive, _sha256 in claims)
        lines.append(f"{name.text} differs between the repositories {where}: find out which one is right.")
        return Outcome(IMPOSSIBLE, lines)
    damaged = False
    for archive, _sha256 in claims:
        try:
            size = _copy(archive, name, path)
            if archive is not archives[0]:
                lines.append(f"{name.text} comes from repository {archive.name!r}: not from {archives[0].name!r}.")
            return Outcome(FOUND, lines, size)
        except NotFound:
            doubts = True  # it was there a moment ago
            lines.append(f"{name.text} vanished from repository {archive.name!r}.")
        except (Corrupt, Refused) as exc:
            damaged = True
            lines.append(exc.message)
        except DbopsError as exc:
            doubts = True
            lines.append(exc.message)
    if doubts:
        return Outcome(UNKNOWN, lines)
    if damaged:
        return Outcome(IMPOSSIBLE, lines)
    return _lost_history(archives, name) or Outcome(MISSING, lines)


def is_missing(archives: Sequence[WalArchive], name: WalName) -> bool:
    """Whether `fetch` would say MISSING. Nothing is fetched, and why it would not is left for `fetch` to say."""
    claims, _lines, doubts = _ask(archives, name)
    return not claims and not doubts and _lost_history(archives, name) is None


def _lost_history(archives: Sequence[WalArchive], name: WalName) -> Optional[Outcome]:
    """A timeline with segments and without a history: called missing, recovery would pass over all that it holds."""
    if name.kind is not Kind.HISTORY or name.timeline == 1:  # the first has no history
        return None
    try:
        holders = [repr(archive.name) for archive in archives if next(archive.files(timeline=name.timeline), None)]
    except DbopsError as exc:
        return Outcome(UNKNOWN, [exc.message])
    if not holders:
        return None
    line = (
        f"{name.text} is lost: repository {', '.join(holders)} has segments of timeline {name.timeline}, and recovery "
        "would pass them over. Put it back (servers that were on that timeline have it in pg_wal), or move those "
        "segments away if nothing of them is wanted."
    )
    return Outcome(IMPOSSIBLE, [line])


def _ask(
    archives: Sequence[WalArchive], name: WalName
) -> tuple[list[tuple[WalArchive, Optional[str]]], list[str], bool]:
    """Who has it, with which checksum; what went wrong; whether anybody could not tell."""
    claims: list[tuple[WalArchive, Optional[str]]] = []
    lines = []
    doubts = False
    for archive in archives:
        try:
            claims.append((archive, archive.content_of(name)))
        except NotFound:
            try:
                known = archive.is_known()
            except DbopsError as exc:
                known, message = False, exc.message
            else:
                message = (
                    f"Repository {archive.name!r} has nothing at all of system {archive.system_identifier}: "
                    "is its disk mounted?"
                )
            if not known:
                doubts = True
                lines.append(message)
        except (Corrupt, Refused) as exc:
            claims.append((archive, None))  # something is there, and reading it will say what
            del exc
        except DbopsError as exc:
            doubts = True
            lines.append(exc.message)
    return claims, lines, doubts


def _copy(archive: WalArchive, name: WalName, path: str) -> Optional[int]:
    """The segment size it says of itself, None for what is no segment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            head, size = b"", 0
            kept = _MOST_HISTORY if name.kind is Kind.HISTORY else HEADER_BYTES
            for chunk in archive.stream(name):
                if len(head) < kept:
                    head += chunk[: kept - len(head)]
                size += len(chunk)
                view = memoryview(chunk)
                while view:
                    view = view[os.write(descriptor, view) :]
            return _checked(archive, name, head, size)
        finally:
            os.close(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def _checked(archive: WalArchive, name: WalName, head: bytes, size: int) -> Optional[int]:
    where = f"{name.text} in repository {archive.name!r}"
    if name.kind is Kind.HISTORY:
        check_history(name, head, where=where)
    if name.kind not in (Kind.SEGMENT, Kind.PARTIAL):
        return None
    header = page_header(head, where=where)
    check_segment(name, header, size_bytes=size, system_identifier=archive.system_identifier, where=where)
    return header.segment_size
