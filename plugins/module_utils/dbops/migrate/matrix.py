# SPDX-License-Identifier: GPL-3.0-or-later
"""The rehearsal itself: every file up, down and up again, in every order that production may meet.

straight   each up in a session of its own from empty; after each: the schema, what became of the rows, a copy
cell N     in that copy: down N must give the schema and the rows of N-1, up N again those of N
one run    all ups in one session (what a file SETs leaks into the next), then all downs: each schema as before
stepwise   up, down, up of every file from empty: a fresh install and a rehearsed one must be the same
runner     our own runner from empty; a second `up` has nothing to do
trace      statement by statement with the rows in place, up and down: locks, rewrites, scans, time, WAL
far        from several versions with their rows: up to the end and all the way back, nothing lost
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from ..errors import DbopsError
from ..pg.connection import Connection, ScriptFailed
from ..pg.fingerprint import Fingerprint, Likeness, differences, likeness, told
from ..progress import Silent
from ..settings import Settings
from ..settings_migrations import MigrationSettings
from . import ledger as ledgers
from . import run, trace
from .bench import Bench
from .files import DOWN, UP, Migration, Migrations
from .ledger import Ledger
from .lexer import place
from .plan import Request
from .shape import Script, Shape
from .snapshot import take
from .state import NOTHING
from .trace import Trace

_SKIPPED = re.compile(r"(already exists|does not exist), skipping")
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


@dataclass
class Cell:
    """What was found out about one version; None is "not tried"."""

    version: int
    name: str
    up_s: Optional[float] = None
    down_s: Optional[float] = None
    down: Optional[str] = None
    again: Optional[str] = None
    rows: Optional[str] = None
    traces: dict[str, list[Trace]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "name": self.name,
            "up_s": self.up_s,
            "down_s": self.down_s,
            "down": self.down,
            "again": self.again,
            "rows": self.rows,
            "statements": {way: [item.as_dict() for item in found] for way, found in self.traces.items()},
        }


@dataclass
class Matrix:
    bench: Bench
    migrations: Migrations
    scripts: dict[tuple[int, str], Script]
    data: dict[int, str]  # rows to add at a version, as SQL
    budgets: Budgets = field(default_factory=Budgets)
    chosen: Optional[frozenset[int]] = None  # versions to try; None: all
    only_cells: bool = False  # leave out the walks over all versions
    jobs: int = 2
    findings: list[Finding] = field(default_factory=list)
    cells: dict[int, Cell] = field(default_factory=dict)
    schemas: dict[int, Fingerprint] = field(default_factory=dict)
    rows: dict[int, Ledger] = field(default_factory=dict)  # after a version's own rows were added
    rows_before_data: dict[int, Ledger] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Everything. The straight walk goes first; what needs no copy of its begins beside it."""
        self.cells = {item.version: Cell(item.version, item.name) for item in self.migrations.all}
        with ThreadPoolExecutor(max_workers=max(1, self.jobs)) as pool:
            waiting: list[Future[None]] = []
            reached = self._straight(lambda work: waiting.append(pool.submit(self._guarded, work)))
            if reached:
                whole = (self._one_run, self._stepwise, self._runner)
                for work in (*whole, self._trace) if not self.only_cells else (self._trace,):
                    waiting.append(pool.submit(self._guarded, self._bound(work, reached)))
                for start in self._far_starts(reached):
                    waiting.append(pool.submit(self._guarded, self._bound(self._far, reached, start)))
            for future in waiting:
                future.result()

    # -- the walks

    def _straight(self, submit: Callable[[Callable[[], None]], None]) -> list[Migration]:
        """The versions whose up works."""
        home = self.bench.create()
        with self.bench.session(home) as session:
            self.schemas[NOTHING] = take(session)
            self.rows[NOTHING] = Ledger()
        reached: list[Migration] = []
        for item in self.migrations.all:
            with self.bench.session(home) as session:
                if not self._step(session, item, UP, "straight"):
                    return reached
                self.schemas[item.version] = take(session)
                self._look_after_up(session, item)
            if self._is_chosen(item.version) and item.down is not None:
                submit(self._bound(self._cell, item, self.bench.create(home)))
            if item.version in self.data and not self._add_rows(home, item.version):
                return reached
            reached.append(item)
        with self.bench.session(home) as session:
            self._look_at_the_end(session)
        return reached

    def _cell(self, item: Migration, name: str) -> None:
        cell, below = self.cells[item.version], self.migrations.before(item.version)
        with self.bench.session(name) as session:
            began = time.monotonic()
            if not self._step(session, item, DOWN, "down"):
                cell.down = "failed"
                return
            cell.down_s = round(time.monotonic() - began, 3)
            cell.down = self._same_schema(session, below, item, DOWN, "down", "before the up")
            cell.rows = self._same_rows(session, self.rows.get(below, Ledger()), item, DOWN, "rows")
        with self.bench.session(name) as session:
            if not self._step(session, item, UP, "again"):
                cell.again = "failed"
                return
            cell.again = self._same_schema(session, item.version, item, UP, "again", "after the first up")
        self.bench.drop(name)

    def _one_run(self, reached: Sequence[Migration]) -> None:
        name = self.bench.create()
        with self.bench.session(name) as session:
            for item in reached:
                if not self._step(session, item, UP, "one run"):
                    return
            session.restore_role()
            if (
                self._same_schema(session, reached[-1].version, reached[-1], UP, "one run", "file by file")
                == "different"
            ):
                return
            for item in reversed(reached):
                if item.down is None or not self._step(session, item, DOWN, "full down"):
                    return
                self._same_schema(
                    session, self.migrations.before(item.version), item, DOWN, "full down", "on the way up"
                )
        self.bench.drop(name)

    def _stepwise(self, reached: Sequence[Migration]) -> None:
        name = self.bench.create()
        for item in reached:
            for way in (UP, DOWN, UP) if item.down is not None else (UP,):
                with self.bench.session(name) as session:
                    if not self._step(session, item, way, "stepwise"):
                        return
        with self.bench.session(name) as session:
            self._same_schema(session, reached[-1].version, reached[-1], UP, "stepwise", "straight up")
        self.bench.drop(name)

    def _runner(self, reached: Sequence[Migration]) -> None:
        name = self.bench.create()
        section = MigrationSettings(path=self.migrations.directory, database=name, history=False)
        host = replace(Settings(cluster="rehearsal").host, os_user=self.bench.identity.name)
        settings = Settings(cluster="rehearsal", connection=self.bench.connection, host=host, migrations=section)
        goal = Request("goto", version=reached[-1].version)
        run.run(settings, goal, Silent())
        if len(reached) == len(self.migrations.all) and run.run(settings, Request("up"), Silent())["changed"]:
            self._add(Finding("idempotence", ERROR, "A second `up` found something to do."))
        self.bench.drop(name)

    def _trace(self, reached: Sequence[Migration]) -> None:
        name = self.bench.create()
        for item in reached:
            if not self._traced(name, item, UP):
                return
            if item.version in self.data and not self._add_rows(name, item.version, quiet=True):
                return
        for item in reversed(reached):
            if item.down is None:
                break
            with self.bench.session(name) as session:
                before = ledgers.capture(session)
            if not self._traced(name, item, DOWN):
                return
            with self.bench.session(name) as session:
                lost = [it for it in ledgers.losses(before, ledgers.capture(session)) if "went with" not in it.how]
            self._tell_losses(lost, item, DOWN, "rows")
        self.bench.drop(name)

    def _far(self, reached: Sequence[Migration], start: int) -> None:
        with contextlib.suppress(ScriptFailed):  # a file that fails has been told by its cell
            self._far_and_back(reached, start)

    def _far_and_back(self, reached: Sequence[Migration], start: int) -> None:
        name = self.bench.create()
        below = [item for item in reached if item.version <= start]
        above = [item for item in reached if item.version > start]
        with self.bench.session(name) as session:
            for item in below:
                session.send(self.scripts[item.version, UP].text)
                if item.version in self.data:
                    session.send(self.data[item.version])
            before = ledgers.capture(session)
            for item in above:
                self._send(session, self.scripts[item.version, UP])
            for item in reversed(above):
                self._send(session, self.scripts[item.version, DOWN])
            lost = ledgers.losses(before, ledgers.capture(session), exactly=True)
        for loss in lost:
            if not any(ledgers.is_declared(loss, self._declared(item)) for item in above):
                text = f"From version {start} to {reached[-1].version} and back: {loss.what}: {loss.how}."
                self._add(Finding("rows", ERROR, text, start))
        self.bench.drop(name)

    # -- one file

    def _step(self, session: Connection, item: Migration, way: str, check: str) -> bool:
        """Send the file whole; what went wrong as a finding."""
        script, began = self.scripts[item.version, way], time.monotonic()
        try:
            notices = self._send(session, script)
        except ScriptFailed as exc:
            self._add(_refused(exc, item, way, check, script))
            return False
        except DbopsError as exc:
            self._add(Finding(check, ERROR, str(exc), item.version, _file(item, way)))
            return False
        if check == "straight":
            self.cells[item.version].up_s = round(time.monotonic() - began, 3)
            for notice in notices:
                if _SKIPPED.search(notice):
                    text = f"The server skipped something: {notice.removeprefix('NOTICE:').strip()}."
                    self._add(Finding("skipped", WARNING, text, item.version, _file(item, way)))
        return True

    def _send(self, session: Connection, script: Script) -> list[str]:
        if script.shape is Shape.EMPTY and not script.text.strip():
            return []
        if script.shape is Shape.MARKED:
            return [notice for item in script.statements for notice in session.send(item.text)]
        notices = session.send(script.text)
        session.abandon()
        return notices

    def _traced(self, name: str, item: Migration, way: str) -> bool:
        script = self.scripts[item.version, way]
        try:
            with self.bench.session(name) as session:
                found = trace.traced(session, lambda: self.bench.session(name), script)
        except DbopsError as exc:
            if script.shape is not Shape.SPLIT:
                self._add(Finding("trace", ERROR, exc.message, item.version, _file(item, way)))
            return False
        if self._is_chosen(item.version):
            self.cells[item.version].traces[way] = found
            self._judge(item, way, found)
        return True

    def _judge(self, item: Migration, way: str, found: list[Trace]) -> None:
        """What a trace says against budgets, and what is worth knowing of it."""
        file, total, hold = _file(item, way), sum(one.duration_s for one in found), trace.exclusive_hold_s(found)
        for one in found:
            if one.rewritten:
                text = f"Rewrites {', '.join(one.rewritten)} under {_words(one.strongest)}."
                self._add(Finding("rewrite", WARNING, text, item.version, file, one.line))
        if self.budgets.file_s is not None and total > self.budgets.file_s:
            text = f"Took {total:.3f} s; the budget is {self.budgets.file_s:g} s."
            self._add(Finding("duration", ERROR, text, item.version, file))
        if self.budgets.exclusive_s is not None and hold > self.budgets.exclusive_s:
            text = f"Held ACCESS EXCLUSIVE for {hold:.3f} s; the budget is {self.budgets.exclusive_s:g} s."
            self._add(Finding("lock", ERROR, text, item.version, file))

    # -- comparing

    def _same_schema(self, session: Connection, version: int, item: Migration, way: str, check: str, other: str) -> str:
        found = differences(self.schemas[version], take(session))
        verdict = likeness(found)
        if verdict is Likeness.DIFFERENT:
            text = f"After {way} {item.version} the schema is not the one {other}."
            details = tuple(told([it for it in found if it.kind != "column order"], other, "now"))
            self._add(Finding(check, ERROR, text, item.version, _file(item, way), details=details))
        elif verdict is Likeness.COLUMN_ORDER:
            tables = ", ".join(sorted(it.name for it in found))
            text = f"After {way} {item.version} columns stand in another order: {tables}."
            self._add(Finding(check, WARNING, text, item.version, _file(item, way)))
        return verdict.value

    def _same_rows(self, session: Connection, before: Ledger, item: Migration, way: str, check: str) -> Optional[str]:
        if not self.data:
            return None
        lost = ledgers.losses(before, ledgers.capture(session), exactly=True)
        return "lost" if self._tell_losses(lost, item, way, check) else "kept"

    def _look_after_up(self, session: Connection, item: Migration) -> None:
        """Rows that the up changed or dropped; what went with a column or a table is looked for after the down."""
        if not self.data:
            return
        now = ledgers.capture(session)
        self.rows_before_data[item.version] = self.rows[item.version] = now
        lost = ledgers.losses(self.rows[self.migrations.before(item.version)], now)
        if item.down is not None:
            lost = [loss for loss in lost if "went with" not in loss.how]
        self._tell_losses(lost, item, UP, "rows")

    def _tell_losses(self, lost: Sequence[ledgers.Loss], item: Migration, way: str, check: str) -> bool:
        said = self._declared(item)
        undeclared = [loss for loss in lost if not ledgers.is_declared(loss, said)]
        for loss in undeclared:
            text = f"{loss.what}: {loss.how}. If that is meant, say so in the file: -- data-loss: {loss.what}: why"
            self._add(Finding(check, ERROR, text, item.version, _file(item, way)))
        return bool(undeclared)

    def _declared(self, item: Migration) -> list[str]:
        halves = [self.scripts[item.version, way].text for way in (UP, DOWN)]
        return [name for text in halves for name in ledgers.declared(text)]

    def _look_at_the_end(self, session: Connection) -> None:
        for row in session.rows("select indexrelid::regclass::text as name from pg_index where not indisvalid"):
            self._add(Finding("invalid index", ERROR, f"Index {row['name']} is invalid: it was not built to its end."))
        query = "select conrelid::regclass || '.' || conname as name from pg_constraint where not convalidated"
        for row in session.rows(query):
            self._add(Finding("not validated", WARNING, f"No file validates the constraint {row['name']}."))
        if session.value(
            "select count(*) from pg_locks where not granted and database = "
            "(select oid from pg_database where datname = current_database())"
        ):
            self._add(Finding("lock", ERROR, "Somebody still waits for a lock at the end."))

    def _add_rows(self, name: str, version: int, *, quiet: bool = False) -> bool:
        try:
            with self.bench.session(name) as session:
                session.send(self.data[version])
                if not quiet:
                    self.rows[version] = ledgers.capture(session)
        except ScriptFailed as exc:
            if not quiet:
                self._add(
                    Finding("data", ERROR, f"The rows for version {version} cannot be added: {exc.message}", version)
                )
            return False
        return True

    # -- odds and ends

    def _far_starts(self, reached: Sequence[Migration]) -> list[int]:
        """Up to three versions that have rows and only files with a way back above them: the first, middle and last."""
        if any(item.down is None for item in reached) or self.chosen is not None:
            return []
        versions = [item.version for item in reached[:-1] if item.version in self.data]
        return sorted({versions[0], versions[len(versions) // 2], versions[-1]}) if versions else []

    def _is_chosen(self, version: int) -> bool:
        return self.chosen is None or version in self.chosen

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except DbopsError as exc:
            self._add(Finding("rehearsal", ERROR, str(exc)))

    def _bound(self, work: Callable[..., None], *values: Any) -> Callable[[], None]:
        return lambda: work(*values)

    def _add(self, finding: Finding) -> None:
        with self._lock:
            if finding not in self.findings:
                self.findings.append(finding)


def _refused(exc: ScriptFailed, item: Migration, way: str, check: str, script: Script) -> Finding:
    line = place(script.text, exc.position)[0] if exc.position is not None else None
    names = {"straight": "The up fails", "down": "The down fails", "again": "The up fails the second time"}
    what = names.get(check, f"Fails ({check}, {way})")
    return Finding(
        check, ERROR, f"{what}: {exc.message} (SQLSTATE {exc.sqlstate})", item.version, _file(item, way), line
    )


def _file(item: Migration, way: str) -> Optional[str]:
    half = item.half(way)
    return os.path.basename(half.path) if half else None


def _words(level: str) -> str:
    """AccessExclusiveLock as ACCESS EXCLUSIVE."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", level.removesuffix("Lock")).upper()
