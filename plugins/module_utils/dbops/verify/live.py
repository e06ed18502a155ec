# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows counted on the running primary, and the one point in its WAL at which a copy must have exactly those.

A physical backup has no snapshot of its own: no transaction ever saw what its WAL leads to. So the point is made for
the comparison. In one moment each database gets a snapshot and the WAL a restore point. The copy is recovered to that
point, where it holds what was committed before it in the WAL. That differs from the snapshot by transactions that ended
between the two, if there are any, and the copy itself can tell: it knows of each one whether it committed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from ..errors import BadInput
from ..pg.connection import Connection, connected
from ..pg.server import Server, look
from ..pg.tables import Counts, count_rows, differences, dumped_tables, steady_session
from ..pg.wal import int_to_lsn
from ..pg.walfile import WalName
from ..repo.archive import WalArchive
from ..repo.restore_points import RestorePoint
from ..restore.target import Target
from ..wal import restore_point
from .plan import LIVE, VerifyPlan
from .scratch import Scratch
from .verdict import Finding, Ladder, failed, passed, unknown

_ATTEMPTS = 20  # at a moment in which nothing commits; the last one counts as it is
_WAIT_S = 300  # for the segment to be archived
_MOST_TRANSACTIONS = 100_000
_SHOWN = 10
_DATABASES = "select datname from pg_database where datallowconn and not datistemplate order by 1"
_UNLOGGED = "select oid::bigint as oid from pg_class where relpersistence = 'u'"  # in no physical backup, rightly
_COMMITTED = """
select count(*) from (
    select unnest(array(select pg_snapshot_xip(%(snapshot)s::pg_snapshot)))::text::bigint as id
    union all select generate_series(%(first)s::bigint, %(last)s::bigint)
) as unseen where pg_xact_status(id::text::xid8) = 'committed'
"""


@dataclass(frozen=True)
class Live:
    """`snapshots` and `counts` by database; the copy is to be recovered to the restore point `name`."""

    name: str
    position: int
    snapshots: Mapping[str, str]
    counts: Mapping[str, Counts]

    @property
    def target(self) -> Target:
        return Target("name", self.name)


def aim(plan: VerifyPlan, ladder: Ladder) -> tuple[VerifyPlan, dict[str, Live]]:
    """The plan with its target, for one that is to be compared with the primary; what was counted, if it was.

    What keeps us from counting is a verdict on the ladder.
    """
    if plan.request.target != LIVE:
        return plan, {}
    if plan.record.method != "physical":
        raise BadInput(
            f"{plan.record.label} is a dump, and cannot be rolled forward to what the primary has now.",
            hint="Its rows are compared with those of its own snapshot: leave the target out.",
        )
    found: list[Live] = []

    def counting() -> Finding:
        found.append(count(plan))
        rows = sum(sum(item.rows.values()) for item in found[0].counts.values())
        return passed(f"{rows} rows were counted on the primary, at {int_to_lsn(found[0].position)}.", rows=rows)

    if not ladder.check("wal", "rows of the primary", counting):
        return plan, {}
    line = plan.recovery.timeline if plan.recovery else "latest"
    return replace(plan, recovery=replace(found[0].target, timeline=line)), {"live": found[0]}


def count(plan: VerifyPlan) -> Live:
    """Make the point, count, and wait until the repository has the point's WAL."""
    settings, record = plan.settings, plan.record
    server = look(settings.connection, settings.host)
    if server.system_identifier != record.system_identifier:
        raise BadInput(
            f"The running server is system {server.system_identifier}, and {record.label} is of "
            f"{record.system_identifier}.",
            hint="Verify a backup of the server that runs now, or choose another target.",
        )
    restore_point.require_archiving(server)
    name = f"dbops verify {datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S.%fZ}"
    with _sessions(server) as sessions:
        point, segment, snapshots = _moment(name, server, sessions)
        counts = {database: _count(session) for database, session in sessions.items()}
    archive = WalArchive(plan.repository, record.system_identifier)
    restore_point.wait_until_archived(point, segment, [archive], _WAIT_S, server)
    return Live(point.name, point.position, snapshots, counts)


def compared(scratch: Scratch, superuser: str, live: Live) -> Finding:
    """Each table has the rows that were counted. To be asked before anything commits in the copy."""
    lines: list[str] = []
    tables = rows = 0
    for database, expected in live.counts.items():
        with scratch.session(superuser, database) as session:
            session.run("begin isolation level repeatable read read only")
            committed = _committed_since(session, live.snapshots[database])
            if committed is None or committed > 0:
                return unknown(
                    f"{committed or 'Very many'} transactions ended between the count in {database!r} and the "
                    "restore point, so that the two cannot be compared.",
                    "Verify again at a quieter moment.",
                )
            there = dumped_tables(session)
            found = count_rows(session, there)
        lines += [f"{database}: {line}" for line in differences(expected.rows, (), found)]
        lines += [f"{database}: {label}: is not there, and has rows here" for label in _strangers(expected, found)]
        tables, rows = tables + len(expected.rows), rows + sum(expected.rows.values())
    left_out = [
        f"{database}: {label} ({why})"
        for database, counts in live.counts.items()
        for label, why in sorted(counts.uncounted.items())
    ]
    if lines:
        return failed(
            f"Rows differ from the primary's: {'; '.join(lines[:_SHOWN])}.".replace("were dumped", "are there"),
            "Look for damage on the primary and in its WAL: one of the two has lost them.",
            differences=lines,
            restore_point=live.name,
        )
    if left_out:
        return unknown(
            f"Tables could not be counted on the primary: {'; '.join(left_out[:_SHOWN])}.",
            "Let the role read them (pg_read_all_data, BYPASSRLS), or verify again.",
            left_out=left_out,
        )
    return passed(
        f"{tables} tables have the {rows} rows that the primary had at {int_to_lsn(live.position)}.",
        tables=tables,
        rows=rows,
        restore_point=live.name,
    )


# -- on the primary


@contextlib.contextmanager
def _sessions(server: Server) -> Iterator[dict[str, Connection]]:
    """One for each database, open before the moment comes."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(connected(server.connection, server.identity))
        names = [str(row["datname"]) for row in first.rows(_DATABASES)]
        opened = {
            name: stack.enter_context(connected(server.connection, server.identity, database=name)) for name in names
        }
        for session in opened.values():
            steady_session(session)
        yield opened


def _moment(
    name: str, server: Server, sessions: Mapping[str, Connection]
) -> tuple[RestorePoint, WalName, dict[str, str]]:
    """Snapshots and the restore point as close together as can be; tried again while transactions end in between."""
    with connected(server.connection, server.identity) as maker:
        restore_point.require_rights(maker, server)
        for attempt in range(_ATTEMPTS):
            snapshots = {}
            for database, session in sessions.items():
                session.run("begin isolation level repeatable read read only")
                snapshots[database] = str(session.value("select pg_current_snapshot()::text"))
            point = restore_point.make(maker, f"{name[:58]} {attempt}", server, "")
            after = str(maker.value("select pg_current_snapshot()::text"))
            if all(_same(before, after) for before in snapshots.values()) or attempt == _ATTEMPTS - 1:
                break
            for session in sessions.values():
                session.run("rollback")
        segment = restore_point.switch(maker, point)
    return point, segment, snapshots


def _same(before: str, after: str) -> bool:
    """Nothing was running and nothing began: then nothing can have ended in between."""
    low, high, running = before.split(":")
    return not running and low == high and after.split(":")[1] == high


def _count(session: Connection) -> Counts:
    unlogged = {row["oid"] for row in session.rows(_UNLOGGED)}
    found = count_rows(session, [table for table in dumped_tables(session) if table.oid not in unlogged])
    session.run("rollback")
    return found


# -- in the copy


def _committed_since(session: Connection, snapshot: str) -> int | None:
    """How many transactions the copy has that the snapshot did not see; None when too many to ask."""
    first = int(snapshot.split(":")[1])
    next_ = int(session.value("select pg_snapshot_xmax(pg_current_snapshot())::text"))
    if next_ - first > _MOST_TRANSACTIONS:
        return None
    return int(session.value(_COMMITTED, {"snapshot": snapshot, "first": first, "last": next_ - 1}))


def _strangers(expected: Counts, found: Counts) -> Iterable[str]:
    """Tables with rows that the primary did not have. Unlogged ones are empty in a copy."""
    return sorted(
        label for label, rows in found.rows.items() if rows and label not in expected.rows | expected.uncounted
    )
