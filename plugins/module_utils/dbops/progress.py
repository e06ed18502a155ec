# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress of a long run, as plain data, for whoever wants to show it; durations and sizes in words.

The engine only ever calls `Progress.report`; the command draws a bar or writes JSON lines, a module
writes a status file that its action plugin reads.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import Callable, Protocol

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


@dataclass(frozen=True)
class Step:
    """One observation. `total_bytes` is an estimate, or None where nobody can know."""

    phase: str
    done_bytes: int = 0
    total_bytes: int | None = None
    rate_bytes_per_s: float = 0.0
    eta_s: float | None = None
    note: str = ""

    @property
    def percent(self) -> float | None:
        """0 to 100, never more, or None without a total."""
        if not self.total_bytes:
            return None
        return min(100.0, 100.0 * self.done_bytes / self.total_bytes)


class Progress(Protocol):
    def report(self, step: Step) -> None: ...

    def warn(self, message: str) -> None: ...


class Silent:
    """Shows nothing, but keeps the warnings: they belong into every result."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def report(self, step: Step) -> None:
        del step

    def warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)


class StatusFile(Silent):
    """Leaves the newest step in a file, whole at any moment, for another process to read."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def report(self, step: Step) -> None:
        directory = os.path.dirname(self._path)
        descriptor, temporary = tempfile.mkstemp(prefix=".progress-", dir=directory)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump({**asdict(step), "percent": step.percent}, stream)
            os.replace(temporary, self._path)
        except BaseException:
            os.unlink(temporary)
            raise


class Meter:
    """Turns byte counts into steps with a rate and an estimate, at most one each `interval_s`.

    `total_bytes` may be learned late or corrected by assigning to it.
    """

    def __init__(
        self,
        progress: Progress,
        phase: str,
        *,
        total_bytes: int | None = None,
        interval_s: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = progress
        self._phase = phase
        self._interval_s = interval_s
        self._clock = clock
        self._started = clock()
        self._last = self._started - interval_s
        self.total_bytes = total_bytes
        self.done_bytes = 0

    def add(self, count: int) -> None:
        self.done_bytes += count
        now = self._clock()
        if now - self._last >= self._interval_s:
            self._last = now
            self._progress.report(self.step())

    def finish(self) -> None:
        """Report the end, whatever the interval says: the last line is always the whole truth."""
        self.total_bytes = self.done_bytes
        self._progress.report(self.step())

    def step(self, note: str = "") -> Step:
        elapsed = max(self._clock() - self._started, 1e-6)
        rate = self.done_bytes / elapsed
        left = None if self.total_bytes is None else max(0, self.total_bytes - self.done_bytes)
        eta = left / rate if left is not None and rate > 0 else None
        return Step(self._phase, self.done_bytes, self.total_bytes, rate, eta, note)


def duration(seconds: float | None) -> str:
    """Two units at most: `42 s`, `3 min 20 s`, `2 h 05 min`, `9 d 4 h`."""
    if seconds is None:
        return "-"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s" if whole >= 10 or seconds < 0 or seconds == whole else f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(count: float | None) -> str:
    """Three digits and a binary unit: `734 B`, `1.21 GiB`; a dash for what nobody knows."""
    if count is None:
        return "-"
    value = float(count)
    for unit in _UNITS:
        if abs(value) < 1000 or unit == _UNITS[-1]:
            break
        value /= 1024
    if unit == "B":
        return f"{value:.0f} B"
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
