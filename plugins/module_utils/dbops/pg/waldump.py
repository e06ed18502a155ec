# SPDX-License-Identifier: GPL-3.0-or-later
"""What a WAL segment says about time: its commits, aborts and restore points, as pg_waldump reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Optional

from ..errors import ToolFailed
from .tools import Tools
from .wal import lsn_to_int

_LINE = re.compile(r"rmgr: (\w+)\s.*?tx:\s*(\d+), lsn: ([0-9A-F]+/[0-9A-F]+), .*?desc: (\w+) ?(.*)$")
_LSN = re.compile(r" lsn: ([0-9A-F]+/[0-9A-F]+), prev ")
_TIME = re.compile(r"(\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}(?:\.\d{1,6})?) UTC")
_ENDS = ("COMMIT", "ABORT", "COMMIT_PREPARED", "ABORT_PREPARED")


@dataclass(frozen=True)
class Mark:
    """A record at which recovery can be told to stop; `time` is None for a restore point, whose time is not printed."""

    kind: str  # commit | abort | restore_point
    position: int
    xid: int
    time: Optional[datetime] = None
    name: str = ""


@dataclass(frozen=True)
class Contents:
    """The marks of a run of WAL in its order, and where the last record begins that pg_waldump could read."""

    marks: tuple[Mark, ...]
    last_record: Optional[int]


def contents(tools: Tools, segments: Sequence[str]) -> Contents:
    """What one segment file, or the first and last of neighbours, hold; each in one directory under its real name.

    pg_waldump always ends such a run with an error, at the last record, which goes on in a file that it was not given;
    what it printed before counts. ToolFailed when it printed nothing and complained of more than that.
    """
    found: list[Mark] = []
    last = None
    try:
        for line in tools.lines("pg_waldump", list(segments)):
            position = _LSN.search(line)
            if position is not None:
                last = position.group(1)
            mark = parse(line)
            if mark is not None:
                found.append(mark)
    except ToolFailed as exc:
        if last is None and not re.search(r"could not (find|locate|read)|invalid|no valid record", exc.stderr_tail):
            raise
    return Contents(tuple(found), lsn_to_int(last) if last else None)


def marks(tools: Tools, segment: str) -> list[Mark]:
    """The marks of one segment file alone; a record that goes on in the next file is not among them."""
    return list(contents(tools, [segment]).marks)


def parse(line: str) -> Optional[Mark]:
    """One line of pg_waldump (15 to 18 print these alike), or None for a record that ends nothing."""
    match = _LINE.match(line)
    if match is None:
        return None
    manager, xid, lsn, kind, rest = match.groups()
    if manager == "XLOG" and kind == "RESTORE_POINT":
        return Mark("restore_point", lsn_to_int(lsn), int(xid), name=rest)
    if manager == "Transaction" and kind in _ENDS:
        time = _TIME.search(rest)
        prepared = re.match(r"(\d+):", rest)  # COMMIT_PREPARED names the transaction that it ends
        return Mark(
            "commit" if kind.startswith("COMMIT") else "abort",
            lsn_to_int(lsn),
            int(prepared.group(1)) if prepared else int(xid),
            _utc(time.group(1)) if time else None,
        )
    return None


def timed(found: list[Mark]) -> Iterator[datetime]:
    for mark in found:
        if mark.time is not None:
            yield mark.time


def _utc(text: str) -> datetime:
    whole, _dot, fraction = text.partition(".")
    moment = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
    return moment.replace(microsecond=int(fraction.ljust(6, "0")) if fraction else 0)
