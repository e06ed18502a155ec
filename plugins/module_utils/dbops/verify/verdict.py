# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts, and the ladder that collects them. What could not be looked at is never a pass."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Callable, Optional

from ..errors import Corrupt, DbopsError, ToolFailed
from ..progress import Progress, Step

# In the order in which they are climbed; what a level proves is in docs/verification.md.
LEVELS = ("bytes", "wal", "manifest", "restore", "structure", "content", "assertions")


class Verdict(str, Enum):
    PASS = "pass"
    FAIL = "fail"
    COULD_NOT_VERIFY = "could_not_verify"


@dataclass(frozen=True)
class Check:
    """One question about the backup and its answer. `details` are plain data, for the proof."""

    level: str
    name: str
    verdict: Verdict
    message: str
    seconds: float = 0.0
    hint: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        return {
            "level": self.level,
            "name": self.name,
            "verdict": self.verdict.value,
            "message": self.message,
            "seconds": round(self.seconds, 3),
            "hint": self.hint,
            "details": dict(self.details),
        }


@dataclass(frozen=True)
class Finding:
    """What a check found, before it has a name and a place on the ladder."""

    verdict: Verdict
    message: str
    hint: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def passed(message: str, **details: Any) -> Finding:
    return Finding(Verdict.PASS, message, details=details)


def failed(message: str, hint: str = "", **details: Any) -> Finding:
    return Finding(Verdict.FAIL, message, hint, details)


def unknown(message: str, hint: str = "", **details: Any) -> Finding:
    return Finding(Verdict.COULD_NOT_VERIFY, message, hint, details)


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """A failure beats a doubt, a doubt beats any number of passes. No verdict at all is a doubt: nothing is proven."""
    found = set(verdicts)
    if Verdict.FAIL in found:
        return Verdict.FAIL
    return Verdict.PASS if found == {Verdict.PASS} else Verdict.COULD_NOT_VERIFY


def proven_level(checks: Iterable[Check]) -> Optional[str]:
    """The highest level up to which every check passed; None when the lowest one that was asked did not."""
    by_level: dict[str, list[Verdict]] = {}
    for check in checks:
        by_level.setdefault(check.level, []).append(check.verdict)
    proven = None
    for level in LEVELS:
        if level in by_level:
            if overall(by_level[level]) is not Verdict.PASS:
                break
            proven = level
    return proven


# The host's fault and not the backup's: an extension or library that is not here, no room, no right.
_SURROUNDINGS = re.compile(
    r"No space left on device|could not access file \"|could not load library|is not available|"
    r"could not open extension control file|Cannot allocate memory|out of memory|could not create shared memory|"
    r"could not map anonymous shared memory|could not create semaphores|Too many open files|Permission denied|"
    r"incompatible library|required file is not available|no usable system locale|collation .* for encoding"
)
# SQLSTATEs that speak of the data itself: a violated constraint, corrupted data or index.
_OF_THE_DATA = re.compile(r"23...|XX00[12]")


def verdict_of(error: DbopsError) -> Verdict:
    """Whether an error says that the backup is bad, or only that it could not be looked at."""
    text = f"{error.message} {getattr(error, 'stderr_tail', '')}"
    if _SURROUNDINGS.search(text):
        return Verdict.COULD_NOT_VERIFY
    if isinstance(error, (Corrupt, ToolFailed)):
        return Verdict.FAIL
    code = getattr(error.__cause__, "pgcode", None)
    if code is not None and (_OF_THE_DATA.fullmatch(code) or 'could not open file "base/' in text):
        return Verdict.FAIL
    return Verdict.COULD_NOT_VERIFY


class Ladder:
    """Runs checks and keeps their answers; an error becomes a verdict, and nothing is lost of its words."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.checks: list[Check] = []

    def check(self, level: str, name: str, look: Callable[[], Finding]) -> bool:
        """Whether it passed."""
        self._progress.report(Step("verify", note=f"{level}: {name}"))
        begun = time.monotonic()
        try:
            finding = look()
        except DbopsError as error:
            finding = of_error(error)
        self.add(level, name, finding, time.monotonic() - begun)
        return finding.verdict is Verdict.PASS

    def add(self, level: str, name: str, finding: Finding, seconds: float = 0.0) -> None:
        self.checks.append(Check(level, name, finding.verdict, finding.message, seconds, finding.hint, finding.details))

    @property
    def verdict(self) -> Verdict:
        return overall(check.verdict for check in self.checks)

    @contextmanager
    def timed(self, phases: dict[str, float], name: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            phases[name] = round(phases.get(name, 0.0) + time.monotonic() - begun, 3)


def of_error(error: DbopsError) -> Finding:
    tail = getattr(error, "stderr_tail", "")
    return Finding(verdict_of(error), error.message, error.hint, {"stderr_tail": tail[-2000:]} if tail else {})
