# SPDX-License-Identifier: GPL-3.0-or-later
"""One file into the database: golang-migrate's three transactions, with our patience and our records around them.

state (target, dirty) -> the file -> state (target, clean). A file that is one transaction and gave up on a lock left
nothing behind, so it is sent again; any other failure leaves the state dirty, and says what is true now.
"""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Optional

from ..errors import DbopsError
from ..pg.connection import Connection, ScriptFailed
from ..pg.fingerprint import Fingerprint
from ..progress import Progress
from ..settings_migrations import MigrationSettings
from . import state
from .files import UP, File
from .history import APPLIED, FAILED, History, digest
from .lexer import place
from .shape import Script, Shape
from .snapshot import take
from .state import StateTable

RETRIED = ("55P03", "40P01")  # lock_not_available, deadlock_detected
_LONGEST_PAUSE_S = 10.0


@dataclass(frozen=True)
class Step:
    """One version, one way; `target` is what the state says afterwards. Without a file only the state moves."""

    version: int
    direction: str
    target: int
    file: Optional[File]

    @property
    def name(self) -> str:
        return self.file.basename if self.file else f"{self.version} ({self.direction}, no file)"


@dataclass(frozen=True)
class Applied:
    step: Step
    duration_s: float
    wal_bytes: int
    attempts: int
    notices: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {
            "version": self.step.version,
            "direction": self.step.direction,
            "file": self.step.file.basename if self.step.file else None,
            "duration_s": round(self.duration_s, 3),
            "wal_bytes": self.wal_bytes,
            "attempts": self.attempts,
            "notices": self.notices,
        }


class MigrationFailed(DbopsError):
    """A file was refused; `rolled_back` is None where that is not known."""

    error_code = "migration_failed"

    def __init__(self, message: str, hint: str, *, step: Step, rolled_back: Optional[bool]) -> None:
        super().__init__(message, hint)
        self.step = step
        self.rolled_back = rolled_back


@dataclass
class Applier:
    """Applies steps over one session, which holds the locks."""

    session: Connection
    table: StateTable
    settings: MigrationSettings
    history: Optional[History]
    progress: Progress
    latest: Optional[Fingerprint] = None  # the schema as it is now, as far as we know

    def apply(self, step: Step, script: Script) -> Applied:
        with finishing_first():
            return self._apply(step, script)

    def _apply(self, step: Step, script: Script) -> Applied:
        set_limits(self.session, self.settings, script)
        entry, before = self._begin(step, script)
        started, lsn = time.monotonic(), self._lsn()
        self._write(step.target, dirty=True)
        try:
            notices, attempts = self._send(step, script, self._message(script, entry))
        except ScriptFailed as exc:
            self._end(entry, FAILED, started, error=exc.message)
            raise self._failure(step, script, exc) from exc
        done = Applied(step, time.monotonic() - started, self._lsn() - lsn, attempts, notices)
        self._reset()
        self._write(step.target, dirty=False)
        self._end(entry, APPLIED, started, done=done, before=before)
        return done

    def _reset(self) -> None:
        """What the file has SET, or left open, ends with it: golang-migrate lets it leak into the next. Locks stay."""
        if self.session.abandon():
            self.progress.warn("A file began a transaction and did not end it: what it did after BEGIN is rolled back.")
        self.session.run("reset all")
        self.session.restore_role()

    def _message(self, script: Script, entry: Optional[int]) -> str:
        if entry is None or not script.may_be_followed:
            return script.text
        return f"{script.text}\n;\n{History.mark(entry)}"

    def _send(self, step: Step, script: Script, message: str) -> tuple[list[str], int]:
        if script.shape is Shape.EMPTY:  # comments alone: the server would answer, and psycopg2 would not take it
            return [], 1
        if script.shape is Shape.MARKED:
            notices = [notice for item in script.statements for notice in self.session.send(item.text)]
            return notices, 1
        attempt = 1
        while True:
            try:
                return self.session.send(message), attempt
            except ScriptFailed as exc:
                again = exc.sqlstate in RETRIED and script.may_be_repeated and attempt <= self.settings.retries
                if not again:
                    raise
                pause = min(_LONGEST_PAUSE_S, 0.1 * 2**attempt) * random.uniform(0.5, 1.0)
                self.progress.warn(
                    f"{step.name}: {exc.message} Attempt {attempt} was rolled back; the next one in {pause:.1f} s."
                )
                time.sleep(pause)
                attempt += 1

    def _write(self, version: int, *, dirty: bool) -> None:
        """The state, with the same patience: it is one transaction, and a reader's lock on the table ends."""
        for attempt in range(self.settings.retries + 1):
            try:
                state.write(self.session, self.table, version, dirty=dirty)
                return
            except ScriptFailed as exc:
                if exc.sqlstate not in RETRIED or attempt == self.settings.retries:
                    raise
                time.sleep(min(_LONGEST_PAUSE_S, 0.1 * 2**attempt))

    def _lsn(self) -> int:
        return int(self.session.value("select pg_current_wal_insert_lsn() - '0/0'"))

    def _begin(self, step: Step, script: Script) -> tuple[Optional[int], Optional[Fingerprint]]:
        if self.history is None:
            return None, None
        before = self.latest or self._fingerprint()
        checksum = digest(script.text)
        name = step.file.basename if step.file else ""
        entry = self.history.begin(
            step.version, step.direction, name, checksum, atomic=script.may_be_followed, before=before
        )
        return entry, before

    def _end(
        self,
        entry: Optional[int],
        outcome: str,
        started: float,
        *,
        done: Optional[Applied] = None,
        error: Optional[str] = None,
        before: Optional[Fingerprint] = None,
    ) -> None:
        if self.history is None or entry is None:
            return
        first_error_wins = contextlib.suppress(DbopsError) if outcome == FAILED else contextlib.nullcontext()
        with first_error_wins:
            self.session.abandon()
            self.history.end(
                entry,
                outcome,
                duration_s=time.monotonic() - started,
                wal_bytes=done.wal_bytes if done else None,
                notices=done.notices if done else (),
                error=error,
                after=self._fingerprint() if before is not None else None,
            )

    def _fingerprint(self) -> Fingerprint:
        self.latest = take(self.session, self.table)
        return self.latest

    def _failure(self, step: Step, script: Script, exc: ScriptFailed) -> MigrationFailed:
        where = step.name
        if exc.position is not None and exc.position < len(script.text) and script.shape is not Shape.MARKED:
            line, column = place(script.text, exc.position)
            where = f"{step.name}:{line}:{column}"
        back = script.may_be_repeated
        now = state.State(step.target, dirty=True)
        source = step.version if step.direction != UP else None
        kept = f"still at {source}" if source is not None else "as it was before"
        if back:
            hint = (
                f"The file was rolled back and the schema is {kept}; the state says {now}. "
                "Mend the file, then dbops migrate doctor --repair, and run again."
            )
        else:
            hint = f"The state says {now}, and part of the file may be in. dbops migrate doctor shows what is."
        return MigrationFailed(
            f"{where}: {exc.message} (SQLSTATE {exc.sqlstate})", hint, step=step, rolled_back=True if back else None
        )


def set_limits(session: Connection, settings: MigrationSettings, script: Script) -> None:
    """The runner's limits for a file, as session settings: a SET LOCAL of the file has the last word.

    None for an index built concurrently: giving up on its wait would leave it invalid.
    """
    patient = script.shape in (Shape.ALONE, Shape.MARKED)
    session.run(
        "select set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false)",
        ("0" if patient else str(settings.lock_timeout_ms), str(settings.statement_timeout_ms)),
    )


@contextlib.contextmanager
def finishing_first() -> Iterator[None]:
    """A signal that asks us to stop waits until the block is done: between file and state there is no good place."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    ours = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in ours:
        signal.signal(number, lambda got, _frame: received.append(got))
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])
