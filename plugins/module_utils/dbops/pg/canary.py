# SPDX-License-Identifier: GPL-3.0-or-later
"""The canary: one row, written every minute, whose time says how far a copy of the database has come.

An idle database commits nothing, so that nothing shows whether its commits would be archived. This row is a commit a
minute. Found in a restored copy, its time is the last instant that is proven to be there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Optional

from ..errors import DbopsError, Refused, Unreachable
from ..settings import Settings
from .connection import Connection, connected, located
from .osuser import cluster_identity

TABLE = "dbops.canary"
_MAKE = """
create table if not exists dbops.canary (
    one boolean primary key default true check (one), number bigint not null, at timestamptz not null
);
comment on table dbops.canary is 'One row, written every minute by dbops canary: how far a copy has come'
"""
_WRITE = """
insert into dbops.canary as it (number, at) values (1, clock_timestamp())
on conflict (one) do update set number = it.number + 1, at = clock_timestamp()
returning number, at
"""
_LIMITS = (
    "set statement_timeout = '10s'",
    "set lock_timeout = '5s'",
    "set synchronous_commit = local",  # a standby that is away must not stop the bird
)


@dataclass(frozen=True)
class Canary:
    """`number` counts the writes since the table was made; `at` is when the last one was."""

    number: int
    at: datetime


def database_of(settings: Settings) -> str:
    return settings.canary.database or settings.connection.login_db


def write(settings: Settings) -> Optional[Canary]:
    """Write it, and make its table the first time. None on a standby, whose primary writes."""
    identity = cluster_identity(settings.host.os_user, settings.host.data_directory)
    connection = located(settings.connection, settings.host.data_directory)
    with connected(connection, identity, database=database_of(settings)) as session:
        if session.value("select pg_is_in_recovery()"):
            return None
        for limit in _LIMITS:
            session.run(limit)
        if not _is_there(session):
            _make(session, settings)
        return Canary(**session.row(_WRITE))


def read(session: Connection) -> Optional[Canary]:
    """The row as this session sees it; None where there is no canary."""
    if not _is_there(session):
        return None
    rows = session.rows("select number, at from dbops.canary")
    return Canary(**rows[0]) if rows else None


def _is_there(session: Connection) -> bool:
    return bool(session.value("select to_regclass('dbops.canary') is not null"))


def _make(session: Connection, settings: Settings) -> None:
    role, database = settings.connection.login_user, database_of(settings)
    try:
        if session.value(
            "select to_regnamespace('dbops') is null"
        ):  # "if not exists" would ask for the right all the same
            session.run("create schema dbops")
        session.run(_MAKE)
    except Unreachable as error:
        if "permission denied" not in error.message:
            raise
        raise Refused(
            f"Role {role!r} may not make the canary's table in database {database!r}.",
            hint=f'As a superuser there: CREATE SCHEMA dbops AUTHORIZATION "{role}";',
        ) from error


def last_seen(settings: Settings, connection: Connection, connected_to: str) -> Optional[Canary]:
    """The primary's own row. `connection` is a session that is open already, in database `connected_to`."""
    if database_of(settings) == connected_to:
        return read(connection)
    identity = cluster_identity(settings.host.os_user, settings.host.data_directory)
    try:
        where = located(settings.connection, settings.host.data_directory)
        with connected(where, identity, database=database_of(settings)) as session:
            return read(session)
    except DbopsError:
        return None  # told as a canary that nobody finds
