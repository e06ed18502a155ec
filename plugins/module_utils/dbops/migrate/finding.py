# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rehearsal has to say about a version or a file, and what the traces of a file mean for its budgets. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ..pg.connection import ScriptFailed
from .files import Migration
from .lexer import place
from .shape import Script
from .trace import Trace, exclusive_hold_s

ERROR, WARNING, NOTE = "error", "warning", "note"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (error), doubtful (warning) or worth knowing (note)."""

    check: str
    severity: str
    message: str
    version: Optional[int] = None
    file: Optional[str] = None
    line: Optional[int] = None
    details: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "severity": self.severity,
            "message": self.message,
            "version": self.version,
            "file": self.file,
            "line": self.line,
            "details": list(self.details),
        }


@dataclass(frozen=True)
class Budgets:
    """None is no limit. Seconds; of a whole file, and of an ACCESS EXCLUSIVE lock on a table that was there before."""

    file_s: Optional[float] = None
    exclusive_s: Optional[float] = None


def sorted_findings(findings: Sequence[Finding]) -> list[Finding]:
    """The worst first, then by version."""
    order = {ERROR: 0, WARNING: 1}
    return sorted(findings, key=lambda it: (order.get(it.severity, 2), it.version or 0, it.check))


def of_traces(item: Migration, way: str, found: Sequence[Trace], budgets: Budgets) -> Iterator[Finding]:
    """What a file's traces say against its budgets, and what is worth knowing of them."""
    file, total, hold = basename(item, way), sum(one.duration_s for one in found), exclusive_hold_s(found)
    for one in found:
        if one.rewritten:
            text = f"Rewrites {', '.join(one.rewritten)} under {in_words(one.strongest)}."
            yield Finding("rewrite", WARNING, text, item.version, file, one.line)
    if budgets.file_s is not None and total > budgets.file_s:
        text = f"Took {total:.3f} s; the budget is {budgets.file_s:g} s."
        yield Finding("duration", ERROR, text, item.version, file)
    if budgets.exclusive_s is not None and hold > budgets.exclusive_s:
        text = f"Held ACCESS EXCLUSIVE for {hold:.3f} s; the budget is {budgets.exclusive_s:g} s."
        yield Finding("lock", ERROR, text, item.version, file)


def refused(exc: ScriptFailed, item: Migration, way: str, check: str, script: Script) -> Finding:
    """The server's words about a file, with their line."""
    line = place(script.text, exc.position)[0] if exc.position is not None else None
    names = {"straight": "The up fails", "down": "The down fails", "again": "The up fails the second time"}
    what = names.get(check, f"Fails ({check}, {way})")
    said = f"{what}: {exc.message} (SQLSTATE {exc.sqlstate})"
    return Finding(check, ERROR, said, item.version, basename(item, way), line)


def basename(item: Migration, way: str) -> Optional[str]:
    half = item.half(way)
    return os.path.basename(half.path) if half else None


def in_words(level: str) -> str:
    """AccessExclusiveLock as ACCESS EXCLUSIVE."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", level.removesuffix("Lock")).upper()
