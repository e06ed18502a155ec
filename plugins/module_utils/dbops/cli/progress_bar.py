# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress of the command: a bar on a terminal, JSON lines for machines, nothing for a log file.

Showing never ends the work: when nobody reads any more, nothing is shown any more.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from dataclasses import asdict
from typing import Any, Callable, Optional, TextIO

from ..progress import Silent, Step, duration
from . import words
from .words import clean, size

_CLEAR = "\r\x1b[K"


class Told(Silent):
    """Warnings as lines on stderr, once each; steps not at all."""

    def __init__(self, errors: TextIO) -> None:
        super().__init__()
        self._errors = errors
        self._lock = threading.RLock()

    def warn(self, message: str) -> None:
        with self._lock:
            if message not in self.warnings:
                self._show_warning(message)
            super().warn(message)

    def done(self) -> None:
        """The work has ended, well or not: leave the screen as it was."""

    def _show_warning(self, message: str) -> None:
        write(self._errors, f"dbops: warning: {clean(message)}\n")


class Bar(Told):
    """One line that is redrawn at most ten times a second, and gone at the end."""

    def __init__(self, screen: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(screen)
        self._clock = clock
        self._drawn_at = float("-inf")
        self._phase = ""
        self._line = ""

    def report(self, step: Step) -> None:
        with self._lock:
            now = self._clock()
            if now - self._drawn_at < 0.1 and step.phase == self._phase:
                return
            self._drawn_at, self._phase = now, step.phase
            self._line = line(step, shutil.get_terminal_size((80, 24)).columns - 1)
            write(self._errors, _CLEAR + self._line)

    def done(self) -> None:
        with self._lock:
            if self._line:
                self._line = ""
                write(self._errors, _CLEAR)

    def _show_warning(self, message: str) -> None:
        write(self._errors, _CLEAR if self._line else "")
        super()._show_warning(message)
        write(self._errors, self._line)


class JsonLines(Told):
    """Every step and every warning one line on stdout, each with its `event`; at most two steps a second."""

    def __init__(self, lines: TextIO, errors: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(errors)
        self._lines = lines
        self._clock = clock
        self._reported_at = float("-inf")
        self._phase = ""

    def report(self, step: Step) -> None:
        with self._lock:
            now = self._clock()
            whole = step.total_bytes is not None and step.done_bytes >= step.total_bytes
            if now - self._reported_at < 0.4 and step.phase == self._phase and not whole:
                return
            self._reported_at, self._phase = now, step.phase
            self.event("progress", {**asdict(step), "percent": step.percent})

    def event(self, name: str, data: dict[str, Any]) -> None:
        with self._lock:
            write(self._lines, json_line(name, data))

    def _show_warning(self, message: str) -> None:
        self.event("warning", {"msg": message})


def json_line(event: str, data: dict[str, Any]) -> str:
    return json.dumps({"event": event, **data}) + "\n"


def line(step: Step, width: int) -> str:
    """The step in at most `width` columns: what matters least is left out first."""
    percent = step.percent
    done = size(step.done_bytes)
    parts = {
        "phase": clean(step.phase),
        "bar": "",
        "percent": "" if percent is None else f"{percent:3.0f} %",
        "bytes": done if step.total_bytes is None else f"{done} of {size(step.total_bytes)}",
        "rate": f"{size(step.rate_bytes_per_s)}/s" if step.rate_bytes_per_s else "",
        "eta": _eta(step.eta_s),
        "note": clean(step.note),
    }
    for expendable in ("", "note", "rate", "bytes", "eta", "phase"):
        if expendable:
            parts[expendable] = ""
        text = "  ".join(part for part in parts.values() if part)
        if words.width(text) <= width:
            break
    room = min(40, width - words.width(text) - 4)
    if percent is not None and room >= 10:
        full = int(room * percent / 100)
        parts["bar"] = f"[{'#' * full}{'.' * (room - full)}]"
        text = "  ".join(part for part in parts.values() if part)
    return words.cut(text, max(0, width))


def _eta(seconds: Optional[float]) -> str:
    return "" if seconds is None else f"ETA {duration(round(seconds))}"


def write(stream: TextIO, text: str) -> None:
    """Write and flush; a reader that is gone, or a full disk behind it, is none of the work's business."""
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):  # ValueError: closed
        return
