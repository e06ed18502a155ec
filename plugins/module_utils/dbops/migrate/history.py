# SPDX-License-Identifier: GPL-3.0-or-later
"""What ran, when, how long, by whom: a table beside golang-migrate's, in a schema that golang-migrate ignores.

A row is `running` before its file is sent. In the file's own transaction, where it is one, the row becomes `applied`:
so a row that still says `running` after a crash proves that the file was rolled back.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ..pg.connection import Connection, ScriptFailed
from ..pg.fingerprint import Fingerprint
from .snapshot import HISTORY_SCHEMA
from .state import StateTable

RUNNING, APPLIED, FAILED, ASSUMED, FORCED = "running", "applied", "failed", "assumed", "forced"
_TABLE = f"{HISTORY_SCHEMA}.history"
_SCHEMA = f"""
create schema if not exists {HISTORY_SCHEMA};
create table if not exists {HISTORY_SCHEMA}.history (
    id bigint generated always as identity primary key,
    state_table text not null,
    version bigint not null,
    direction text not null,
    name text not null,
    checksum text,
    outcome text not null,
    atomic boolean not null default false,
    began timestamptz not null default clock_timestamp(),
    ended timestamptz,
    duration_s double precision,
    wal_bytes bigint,
    done_by text not null,
    notices jsonb not null default '[]',
    error text,
    fingerprint_before text,
    fingerprint_after text
);
create table if not exists {HISTORY_SCHEMA}.fingerprints (sha256 text primary key, content text not null);
comment on schema {HISTORY_SCHEMA} is 'What dbops knows of the migrations that it ran; dropping it loses only that'
"""

_READABLE = f"""
select exists (
    select from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = '{HISTORY_SCHEMA}' and c.relname = 'history'
        and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')
)
"""


@dataclass(frozen=True)
class Entry:
    id: int
    version: int
    direction: str
    name: str
    checksum: Optional[str]
    outcome: str
    atomic: bool
    began: str
    duration_s: Optional[float]
    done_by: str
    error: Optional[str]
    fingerprint_before: Optional[str]
    fingerprint_after: Optional[str]


class History:
    """The side table of one state table; `available` says whether it is there."""

    def __init__(self, session: Connection, table: StateTable) -> None:
        self._session = session
        self._of = f"{table.schema}.{table.name}"
        self.available = bool(session.value(_READABLE))

    def ensure(self) -> Optional[str]:
        """Make it if it is missing; a warning when we may not."""
        if not self.available:
            try:
                self._session.send(_SCHEMA)
            except ScriptFailed as exc:
                return f"No history is kept: {exc} Next: grant CREATE on the database, or set migrations.history false."
            self.available = True
        return None

    def entries(self) -> list[Entry]:
        """Oldest first."""
        if not self.available:
            return []
        rows = self._session.rows(
            "select id, version, direction, name, checksum, outcome, atomic, began::text as began, duration_s, "
            f"done_by, error, fingerprint_before, fingerprint_after from {_TABLE} where state_table = %s order by id",
            (self._of,),
        )
        return [Entry(**row) for row in rows]

    def begin(
        self, version: int, direction: str, name: str, checksum: str, *, atomic: bool, before: Fingerprint
    ) -> int:
        """A `running` row; its id."""
        self.keep(before)
        return int(
            self._session.value(
                f"insert into {_TABLE} (state_table, version, direction, name, checksum, outcome, atomic, "
                "done_by, fingerprint_before) values (%s, %s, %s, %s, %s, %s, %s, %s, %s) returning id",
                (self._of, version, direction, name, checksum, RUNNING, atomic, whoami(), before.sha256),
            )
        )

    @staticmethod
    def mark(entry: int) -> str:
        """The statement that joins a file's transaction and says that it committed."""
        return (
            f"update {HISTORY_SCHEMA}.history set outcome = '{APPLIED}', ended = clock_timestamp() where id = {entry}"
        )

    def end(
        self,
        entry: int,
        outcome: str,
        *,
        duration_s: float,
        wal_bytes: Optional[int] = None,
        notices: Sequence[str] = (),
        error: Optional[str] = None,
        after: Optional[Fingerprint] = None,
    ) -> None:
        if after is not None:
            self.keep(after)
        self._session.run(
            f"update {_TABLE} set outcome = %s, ended = clock_timestamp(), duration_s = %s, wal_bytes = %s, "
            "notices = %s, error = %s, fingerprint_after = %s where id = %s",
            (outcome, duration_s, wal_bytes, json.dumps(list(notices)), error, after.sha256 if after else None, entry),
        )

    def note(self, version: int, direction: str, name: str, outcome: str, *, checksum: Optional[str] = None) -> None:
        """A row about something that this program did not run: assumed, or forced."""
        self._session.run(
            f"insert into {_TABLE} (state_table, version, direction, name, checksum, outcome, done_by, ended) "
            "values (%s, %s, %s, %s, %s, %s, %s, clock_timestamp())",
            (self._of, version, direction, name, checksum, outcome, whoami()),
        )

    def keep(self, fingerprint: Fingerprint) -> None:
        self._session.run(
            f"insert into {HISTORY_SCHEMA}.fingerprints values (%s, %s) on conflict do nothing",
            (fingerprint.sha256, fingerprint.to_json()),
        )

    def fingerprint(self, sha256: Optional[str]) -> Optional[Fingerprint]:
        rows = self._session.rows(f"select content from {HISTORY_SCHEMA}.fingerprints where sha256 = %s", (sha256,))
        return Fingerprint.from_json(rows[0]["content"]) if rows else None


def known_versions(entries: Sequence[Entry]) -> dict[int, Optional[str]]:
    """The versions that are in the database as far as the history tells, each with its up file's checksum."""
    known: dict[int, Optional[str]] = {}
    for entry in entries:
        if entry.outcome not in (APPLIED, ASSUMED):
            continue
        if entry.direction == "up":
            known[entry.version] = entry.checksum
        else:
            known.pop(entry.version, None)
    return known


def last_seen(entries: Sequence[Entry], before: Mapping[int, int]) -> Optional[int]:
    """The state's version after the newest thing that the history knows of; None when it knows nothing.

    `before` gives for each version the one below it, which is where its down leads to.
    """
    for entry in reversed(entries):
        if entry.outcome in (APPLIED, ASSUMED):
            return entry.version if entry.direction == "up" else before.get(entry.version, -1)
        if entry.outcome == FORCED:
            return entry.version
    return None


def whoami() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def as_plain(entry: Entry) -> dict[str, Any]:
    return {
        name: getattr(entry, name)
        for name in ("version", "direction", "name", "outcome", "began", "duration_s", "done_by", "error")
    }
