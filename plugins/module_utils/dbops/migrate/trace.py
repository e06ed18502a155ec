# SPDX-License-Identifier: GPL-3.0-or-later
"""What each statement of a file does to tables that were there before: lock, rewrite, scan, time, WAL.

The statements of a file that is one transaction run one by one inside one, with a look at our own locks after each; a
statement that refuses a transaction is watched from a second session.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from ..errors import DbopsError
from ..pg.connection import Connection
from .lexer import place
from .shape import Script, Shape

# By strength; which of them stop readers, and which stop writers.
LEVELS = (
    "AccessShareLock", "RowShareLock", "RowExclusiveLock", "ShareUpdateExclusiveLock", "ShareLock",
    "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock",
)  # fmt: skip
BLOCKS_WRITERS = frozenset(LEVELS[4:])
BLOCKS_READERS = frozenset(LEVELS[7:])

_RELATIONS = """
select c.oid::int8 as oid, c.oid::regclass::text as name, pg_relation_filenode(c.oid)::int8 as filenode,
    c.relkind::text as kind, pg_stat_get_xact_tuples_returned(c.oid) as rows_read
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'm') and n.nspname !~ '^pg_'
    and n.nspname not in ('information_schema', 'dbops_migrations')
"""
_LOCKS = """
select relation::int8 as oid, mode from pg_locks
where pid = %s and locktype = 'relation' and granted and relation = any(%s::oid[])
"""


@dataclass
class Trace:
    """One statement. `locks` name the tables that were there before with the strongest lock each."""

    statement: str
    line: int
    duration_s: float
    wal_bytes: int
    locks: dict[str, str] = field(default_factory=dict)
    rewritten: list[str] = field(default_factory=list)
    scanned: dict[str, int] = field(default_factory=dict)  # rows read
    sampled: bool = False

    @property
    def strongest(self) -> str:
        return max(self.locks.values(), key=LEVELS.index, default="")

    def as_dict(self) -> dict[str, Any]:
        return {
            "statement": " ".join(self.statement.split())[:200],
            "line": self.line,
            "duration_s": round(self.duration_s, 4),
            "wal_bytes": self.wal_bytes,
            "locks": self.locks,
            "rewritten": self.rewritten,
            "scanned_rows": self.scanned,
            "sampled": self.sampled,
        }


def traced(
    session: Connection,
    watcher: Callable[[], contextlib.AbstractContextManager[Connection]],
    script: Script,
    *,
    before_commit: Callable[[], None] = lambda: None,
) -> list[Trace]:
    """Run the file and tell of every statement. What it leaves is what sending it whole leaves.

    `before_commit` is called when all of a transaction's work is done and none of it is visible yet.
    """
    if script.shape in (Shape.ALONE, Shape.MARKED, Shape.SPLIT):
        return [_watched(session, watcher, script, item.text, item.start) for item in script.statements]
    found: list[Trace] = []
    last = before = _Look.of(session, None)
    session.run("begin")
    try:
        for item in script.statements:
            trace = _run(session, script, item.text, item.start)
            now = _Look.of(session, before)
            last.compare(now, before, trace)
            found.append(trace)
            last = now
        before_commit()
        session.run("commit")
    except BaseException:
        session.abandon()
        raise
    return found


def exclusive_hold_s(traces: Sequence[Trace]) -> float:
    """How long the first ACCESS EXCLUSIVE on a table that was there before was held: until the file's end."""
    for number, item in enumerate(traces):
        if item.strongest in BLOCKS_READERS:
            return sum(one.duration_s for one in traces[number:]) if not item.sampled else item.duration_s
    return 0.0


@contextlib.contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Seconds that the block took, or has taken so far."""
    began, ended = time.monotonic(), 0.0
    try:
        yield lambda: (ended or time.monotonic()) - began
    finally:
        ended = time.monotonic()


@dataclass(frozen=True)
class _Look:
    """The tables, and our own locks on those that were there before the file."""

    relations: dict[int, dict[str, Any]]
    locks: dict[int, str]

    @classmethod
    def of(cls, session: Connection, before: Optional[_Look]) -> _Look:
        locks = _locks(session, session.backend_pid, before.relations) if before else {}
        return cls(_relations(session), locks)

    def compare(self, now: _Look, before: _Look, trace: Trace) -> None:
        """What one statement did, into its trace."""
        for oid, mode in now.locks.items():
            held = self.locks.get(oid)
            if (held is None and mode != LEVELS[0]) or (held and LEVELS.index(mode) > LEVELS.index(held)):
                trace.locks[before.relations[oid]["name"]] = mode
        for oid, old in self.relations.items():
            new = now.relations.get(oid)
            if new is None or oid not in before.relations:
                continue
            if old["filenode"] != new["filenode"] and old["filenode"] is not None:
                trace.rewritten.append(old["name"])
            read = (new["rows_read"] or 0) - (old["rows_read"] or 0)
            if read > 0:
                trace.scanned[old["name"]] = int(read)


def _watched(
    session: Connection,
    watcher: Callable[[], contextlib.AbstractContextManager[Connection]],
    script: Script,
    text: str,
    start: int,
) -> Trace:
    before, pid = _relations(session), session.backend_pid
    with watcher() as other:
        seen: dict[int, str] = {}
        with _sampling(other, pid, before, seen):
            trace = _run(session, script, text, start)
    now = _relations(session)
    trace.locks = {before[oid]["name"]: mode for oid, mode in seen.items() if mode != LEVELS[0]}
    trace.rewritten = [
        old["name"] for oid, old in before.items() if oid in now and old["filenode"] != now[oid]["filenode"]
    ]
    trace.sampled = True
    return trace


@contextlib.contextmanager
def _sampling(other: Connection, pid: int, before: dict[int, dict[str, Any]], seen: dict[int, str]) -> Iterator[None]:
    done = threading.Event()

    def sample() -> None:
        with contextlib.suppress(DbopsError):
            while not done.is_set():
                for oid, mode in _locks(other, pid, before).items():
                    if LEVELS.index(mode) > LEVELS.index(seen.get(oid, LEVELS[0])):
                        seen[oid] = mode
                done.wait(0.002)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _run(session: Connection, script: Script, text: str, start: int) -> Trace:
    lsn, begun = _lsn(session), time.monotonic()
    session.send(text)
    return Trace(text, place(script.text, start)[0], time.monotonic() - begun, _lsn(session) - lsn)


def _relations(session: Connection) -> dict[int, dict[str, Any]]:
    return {int(row["oid"]): row for row in session.rows(_RELATIONS)}


def _locks(session: Connection, pid: int, before: dict[int, dict[str, Any]]) -> dict[int, str]:
    strongest: dict[int, str] = {}
    for row in session.rows(_LOCKS, (pid, list(before))):
        oid, mode = int(row["oid"]), str(row["mode"])
        known: Optional[str] = strongest.get(oid)
        if mode in LEVELS and (known is None or LEVELS.index(mode) > LEVELS.index(known)):
            strongest[oid] = mode
    return strongest


def _lsn(session: Connection) -> int:
    return int(session.value("select pg_current_wal_insert_lsn() - '0/0'"))
