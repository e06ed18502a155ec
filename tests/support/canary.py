# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbered rows, written by a client that keeps its own book of what the server has promised.

The book lies outside the server: what was acknowledged must be there after a recovery, what was sent and not answered
may be there, and anything else must not. Every row carries the sha256 of its own content, made by the client.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg2

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.wal import lsn_to_int
from tests.support.servers import PgServer, wait_until

# No key: a row that came back twice must be seen.
TABLE = "create table canary (n bigint not null, at text not null, pad text not null, hash text not null)"
QUERY = "select n, at, pad, hash from canary order by n"


@dataclass
class Row:
    """An acknowledged row. Nothing was written between it and `lsn`, nothing committed between it and `moment`.

    Both are None when the server was gone before it could be asked.
    """

    number: int
    lsn: int | None = None
    moment: datetime | None = None


@dataclass
class Branch:
    """One timeline: what it took over from the one before, and what was written on it."""

    timeline: int
    parent: Branch | None
    inherited: int  # the parent's rows up to this number are this branch's too
    rows: list[Row] = field(default_factory=list)
    maybe: set[int] = field(default_factory=set)  # sent, and never answered

    def acknowledged(self) -> list[Row]:
        above = self.parent.acknowledged() if self.parent else []
        return [row for row in above if row.number <= self.inherited] + self.rows

    def unanswered(self) -> set[int]:
        above = self.parent.unanswered() if self.parent else set()
        return {number for number in above if number <= self.inherited} | self.maybe


class Ledger:
    """All branches that ever were; `now` is the one that the server is on."""

    def __init__(self) -> None:
        self.branches = [Branch(1, None, 0)]
        self.numbers = 0

    @property
    def now(self) -> Branch:
        return self.branches[-1]

    def branch(self, timeline: int) -> Branch:
        return next(item for item in self.branches if item.timeline == timeline)

    def fork(self, timeline: int, *, parent: Branch, after: int) -> None:
        self.branches.append(Branch(timeline, parent, after))

    def check(self, found: Iterable[tuple[int, str, str, str]], branch: Branch, *, until: Row | None = None) -> int:
        """Raise unless these rows are exactly what the branch must hold, or held when `until` was the last one."""
        rows = list(found)
        numbers = [row[0] for row in rows]
        must = [row.number for row in branch.acknowledged() if until is None or row.number <= until.number]
        may = {number for number in branch.unanswered() if until is None or number < until.number}
        damaged = [number for number, at, pad, hashed in rows if hashed != digest(number, at, pad)]
        lost = sorted(set(must) - set(numbers))
        invented = sorted(set(numbers) - set(must) - may)
        twice = [number for number, following in zip(numbers, numbers[1:]) if number == following]
        if lost or invented or damaged or twice:
            raise AssertionError(
                f"timeline {branch.timeline}: of {len(must)} acknowledged rows {len(lost)} are lost ({lost[:5]}...), "
                f"{len(invented)} invented ({invented[:5]}), {len(damaged)} damaged, {len(twice)} there twice"
            )
        return len(rows)


def digest(number: int, at: str, pad: str) -> str:
    return hashlib.sha256(f"{number}|{at}|{pad}".encode()).hexdigest()


class Canary:
    """Writes rows one after the other, in a thread, whatever happens to the server; `pause` and `resume` it."""

    def __init__(self, server: PgServer, ledger: Ledger, chance: random.Random) -> None:
        self._server = server
        self._ledger = ledger
        self._chance = chance
        self._wanted = threading.Event()
        self._resting = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="canary", daemon=True)
        self._thread.start()

    def resume(self) -> None:
        self._resting.clear()
        self._wanted.set()

    def pause(self) -> None:
        """Return when nothing is on its way any more."""
        self._wanted.clear()
        wait_until(self._resting.is_set, "the canary rests")

    def end(self) -> None:
        self._over.set()
        self._wanted.set()
        self._thread.join(timeout=30)

    def wait_for(self, count: int, limit_s: float = 60) -> None:
        """Return when so many more rows are acknowledged."""
        goal = len(self._ledger.now.rows) + count
        wait_until(lambda: len(self._ledger.now.rows) >= goal, f"{count} more rows are acknowledged", limit_s=limit_s)

    def _run(self) -> None:
        connection: Any = None
        while not self._over.is_set():
            if not self._wanted.is_set():
                self._resting.set()
                self._wanted.wait(0.1)
                continue
            if connection is None:
                with contextlib.suppress(psycopg2.Error):
                    connection = self._connect()
                if connection is None:
                    time.sleep(0.02)  # between two tries to connect
                    continue
            try:
                self._write(connection)
                self._over.wait(0.003)  # hundreds of rows a second are enough, and the faults need the CPUs as well
            except psycopg2.Error:
                with contextlib.suppress(psycopg2.Error):
                    connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _connect(self) -> Any:
        connection = psycopg2.connect(
            host=str(self._server.sockets), port=self._server.port, user="postgres", dbname="postgres",
            connect_timeout=2,
        )  # fmt: skip
        connection.autocommit = True
        return connection

    def _write(self, connection: Any) -> None:
        branch = self._ledger.now
        self._ledger.numbers += 1
        number, at = self._ledger.numbers, repr(time.time())
        pad = self._chance.randbytes(self._chance.randrange(100, 900)).hex()
        with connection.cursor() as cursor:
            branch.maybe.add(number)
            cursor.execute("insert into canary values (%s, %s, %s, %s)", (number, at, pad, digest(number, at, pad)))
            row = Row(number)
            branch.rows.append(row)
            branch.maybe.discard(number)
            cursor.execute("select pg_current_wal_insert_lsn()::text, clock_timestamp()")
            lsn, row.moment = cursor.fetchone()
            row.lsn = lsn_to_int(lsn)
