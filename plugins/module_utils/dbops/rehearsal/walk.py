# SPDX-License-Identifier: GPL-3.0-or-later
"""Files, one after the other, on a running side instance: what each takes, holds, writes, and makes others wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Optional

from ..migrate import trace
from ..migrate.apply import RETRIED, set_limits
from ..migrate.apply import Step as Planned
from ..migrate.files import Migration, Migrations
from ..migrate.finding import NOTE, Budgets, Finding, basename, in_words, of_traces, refused
from ..migrate.shape import Script
from ..pg.connection import Connection, ScriptFailed
from ..progress import Progress, Step
from ..settings_migrations import MigrationSettings
from .workload import READ, WRITE, Workload

Connect = Callable[[], AbstractContextManager[Connection]]


@dataclass
class FileRun:
    """One file there. Sizes are the database's, in bytes; `size_peak` counts old and new copies of a rewrite."""

    version: int
    direction: str
    file: Optional[str]
    size_before: int
    duration_s: float = 0.0
    wal_bytes: int = 0
    attempts: int = 1
    size_peak: int = 0
    size_after: int = 0
    traces: list[trace.Trace] = field(default_factory=list)
    others: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "direction": self.direction,
            "file": self.file,
            "duration_s": round(self.duration_s, 3),
            "exclusive_s": round(trace.exclusive_hold_s(self.traces), 3),
            "wal_bytes": self.wal_bytes,
            "attempts": self.attempts,
            "size_before": self.size_before,
            "size_peak": self.size_peak,
            "size_after": self.size_after,
            "locks": self.locks,
            "rewritten": sorted({name for one in self.traces for name in one.rewritten}),
            "statements": [one.as_dict() for one in self.traces],
            "waited": self.others,
        }

    @property
    def locks(self) -> dict[str, str]:
        """The strongest lock on each table that was there before."""
        strongest: dict[str, str] = {}
        for one in self.traces:
            for name, mode in one.locks.items():
                known = strongest.get(name)
                if known is None or trace.LEVELS.index(mode) > trace.LEVELS.index(known):
                    strongest[name] = mode
        return strongest


@dataclass
class Walk:
    """The work on one running side instance."""

    session: Connection
    connect: Connect  # a second session of the runner's role
    settings: MigrationSettings
    budgets: Budgets
    progress: Progress
    files: list[FileRun] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def through(self, pending: Sequence[tuple[Planned, Script]], migrations: Migrations, load: Workload) -> bool:
        """Every file in its order, until one fails; whether all are in."""
        for step, script in pending:
            self.progress.report(Step("rehearse", note=step.name))
            if not self._file(step, script, migrations.at(step.version), load):
                return False
        return True

    def _file(self, step: Planned, script: Script, item: Migration, load: Workload) -> bool:
        done = FileRun(step.version, step.direction, basename(item, step.direction), self._size())
        self.files.append(done)
        began, lsn = time.monotonic(), self._lsn()
        try:
            self._send(script, done)
        except ScriptFailed as exc:
            self.findings.append(refused(exc, item, step.direction, step.direction, script))
            return False
        finally:
            ended = time.monotonic()
            done.duration_s, done.wal_bytes, done.size_after = ended - began, self._lsn() - lsn, self._size()
            done.size_peak = max(done.size_peak, done.size_before, done.size_after)
            load.settle()
            done.others = load.between(began, ended)
        self.session.renew()
        self.findings.extend(of_traces(item, step.direction, done.traces, self.budgets))
        self.findings.extend(_of_locks(item, done))
        return True

    def _send(self, script: Script, done: FileRun) -> None:
        """As the runner does it: its limits, and again after a lock that it gave up on."""
        set_limits(self.session, self.settings, script)

        def note_size() -> None:
            done.size_peak = self._size()

        while True:
            try:
                done.traces = trace.traced(self.session, self.connect, script, before_commit=note_size)
                return
            except ScriptFailed as exc:
                if exc.sqlstate not in RETRIED or not script.may_be_repeated or done.attempts > self.settings.retries:
                    raise
                done.attempts += 1

    def _size(self) -> int:
        return int(self.session.value("select pg_database_size(current_database())"))

    def _lsn(self) -> int:
        return int(self.session.value("select pg_current_wal_insert_lsn() - '0/0'"))


def _of_locks(item: Migration, done: FileRun) -> Iterator[Finding]:
    """Who waited for this file, and how long, in words."""
    exclusive = sorted(name for name, mode in done.locks.items() if mode == trace.LEVELS[-1])
    if not exclusive:
        return
    waited = ", ".join(
        f"a {who} of {done.others[kind]['table']} waited {done.others[kind]['longest_s']:.3f} s"
        for who, kind in (("reader", READ), ("writer", WRITE))
        if done.others.get(kind, {}).get("longest_s") is not None
    )
    held = f"{trace.exclusive_hold_s(done.traces):.3f} s"
    text = f"Holds {in_words(trace.LEVELS[-1])} on {', '.join(exclusive)} for {held}" + (
        f"; {waited}." if waited else "."
    )
    yield Finding("exclusive lock", NOTE, text, item.version, done.file)
