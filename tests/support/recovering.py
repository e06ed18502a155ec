# SPDX-License-Identifier: GPL-3.0-or-later
"""A server whose WAL is archived by the real scripts, and recoveries of it into other directories."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.walfile import wal_name
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore import physical
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore.target import Target, iso_micro, parse
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings, from_mapping
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal.targets import archives
from tests.support.agent import Agent
from tests.support.archiving import Archiving, wait_until
from tests.support.physical import taken
from tests.support.servers import SUPERUSER, PgServer

_ports = itertools.count(6000)


@dataclass(frozen=True)
class Point:
    """Just after a row was committed: nothing else happened until the next one."""

    time: datetime
    lsn: str
    xid: int


@dataclass
class Protected:
    """`rows(...)` writes canary rows; `recovered(...)` opens what a recovery into a new directory brought back."""

    server: PgServer
    place: Path
    encryption: dict[str, Any] = field(default_factory=dict)
    cloud: dict[str, Any] | None = None  # the repository's settings, where it is no directory
    agent: Agent | None = None
    archiving: Archiving = field(init=False)
    mapping: dict[str, Any] = field(init=False)  # the content of a settings file
    settings: Settings = field(init=False)

    def __post_init__(self) -> None:
        repository = self.cloud or {"name": "a", "path": str(self.place / "repo")}
        directories = {} if self.cloud else {"a": self.place / "repo"}
        clouds = (self.cloud,) if self.cloud else ()
        self.archiving = Archiving(
            self.server, self.place / "arc", directories, clouds=clouds, encryption=self.encryption, agent=self.agent
        )
        self.archiving.switch_on()
        self.server.start()
        self.server.sql("create table canary (n int primary key, at timestamptz not null default clock_timestamp())")
        self.mapping = self.server.engine_mapping(
            None,
            repositories=[repository],
            encryption=self.encryption,
            archiving={"codec": self.archiving.codec, "get_retry_s": 1, "timeout_s": 20, "linger_s": 2},
        )
        self.settings = from_mapping(self.mapping, where="test settings")

    def move_to(self, repositories: list[dict[str, Any]], encryption: dict[str, Any]) -> None:
        """From now on archive and back up into these, encrypted so; readable with the keys that it names."""
        self.cloud = repositories[0]
        self.archiving.rest()
        self.archiving.repositories, self.archiving.clouds = {}, tuple(repositories)
        writing = {name: value for name, value in encryption.items() if name in ("method", "recipient_files")}
        self.archiving.encryption = writing
        self.archiving.write_config()
        self.mapping = {**self.mapping, "repositories": repositories, "encryption": encryption}
        self.settings = from_mapping(self.mapping, where="test settings")

    def backup(self) -> str:
        """A full backup whose own WAL is archived."""
        record = taken(self.settings)
        self.archive()
        return record.label

    def row(self, number: int) -> Point:
        with self.server.connection() as connection, connection.cursor() as cursor:
            cursor.execute("begin")
            cursor.execute("insert into canary values (%s)", (number,))
            cursor.execute("select pg_current_xact_id()::text::bigint % (2 ^ 32)::bigint")
            xid = int(cursor.fetchone()[0])
            cursor.execute("commit")
            cursor.execute("select clock_timestamp(), pg_current_wal_insert_lsn()::text")
            moment, lsn = cursor.fetchone()
        return Point(moment, lsn, xid)

    def archive(self) -> str:
        """Finish the segment and wait until it is stored."""
        name = self.archiving.switch_wal()
        if self.cloud:
            archived = f"select coalesce(left(last_archived_wal, 24) >= '{name}', false) from pg_stat_archiver"
            wait_until(lambda: self.server.value(archived), f"{name} is archived", limit_s=60)
            assert archives(self.settings, self.system_identifier)[0].has(wal_name(name))
        else:
            self.archiving.wait_until_stored(name)
        return name

    @property
    def system_identifier(self) -> str:
        return str(self.server.value("select system_identifier from pg_control_system()"))

    def plan(self, target: Target, name: str = "", **request: Any) -> physical.RestorePlan:
        request.setdefault("side", not request.get("in_place"))
        if request["side"]:
            number = next(_ports)
            request = {"target": str(self.place / f"{name or 'side'}{number}"), "port": number, **request}
        return physical.plan(self.settings, physical.Request(recovery=target, **request))

    @contextlib.contextmanager
    def recovered(self, *, inclusive: bool = True, **given: Any) -> Iterator[Side]:
        """A running side instance at that target: `recovered(time="...")`, with `request={...}` for more."""
        request = given.pop("request", {})
        options = {name: given.pop(name) for name in ("timeline", "action") if name in given}
        plan = self.plan(parse(given, inclusive=inclusive, **options), **request)
        result = physical.run(plan, Silent())["restore"]
        side = Side(self.server, Path(plan.data.path), result)
        try:
            yield side
        finally:
            side.stop()

    def in_place(self, target: Target, **request: Any) -> dict[str, Any]:
        """Recover the server itself, and start it; its result."""
        plan = self.plan(target, in_place=True, stop=True, start=True, **request)
        return dict(physical.run(plan, Silent())["restore"])


@dataclass
class Side:
    original: PgServer
    data: Path
    result: dict[str, Any]

    @property
    def recovery(self) -> dict[str, Any]:
        return dict(self.result["recovery"])

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        where = {"host": self.recovery["socket_directory"], "port": self.recovery["port"], "user": SUPERUSER}
        with self.original.connection(**where) as opened:
            yield opened

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        with self.connection() as opened, opened.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall()) if cursor.description else []

    def value(self, query: str) -> Any:
        return self.sql(query)[0][0]

    def rows(self) -> list[int]:
        return [number for (number,) in self.sql("select n from canary order by n")]

    def stop(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self.original.run("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")


def at(point: Point) -> str:
    return iso_micro(point.time)


__all__ = ["Point", "Protected", "Side", "at", "wait_until"]
