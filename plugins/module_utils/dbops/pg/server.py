# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at a running server: the facts that a backup needs before it starts, and records."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Optional

from ..errors import Refused, Unreachable
from ..settings import ConnectionSettings, HostSettings
from .connection import Connection, connected, located
from .osuser import Identity, cluster_identity
from .tools import Tools, find_tools

OLDEST_MAJOR = 14


@dataclass(frozen=True)
class Tablespace:
    oid: int
    name: str
    path: str


@dataclass(frozen=True)
class Server:
    """`local` says whether its data directory can be seen from here. Sizes are bytes, None where not permitted."""

    connection: ConnectionSettings
    identity: Identity
    tools: Tools
    version: str
    version_num: int
    system_identifier: str
    in_recovery: bool
    data_directory: str
    local: bool
    tablespaces: tuple[Tablespace, ...]
    size_bytes: Optional[int]
    settings: dict[str, str]
    may_replicate: bool
    compressions: tuple[str, ...]  # what the server was built with and can send a base backup in

    @property
    def major(self) -> int:
        return self.version_num // 10000

    @property
    def segment_size(self) -> int:
        return int(self.settings["wal_segment_size"])

    def require_replication(self) -> None:
        if not self.may_replicate:
            raise Refused(
                f"Role {self.connection.login_user!r} may not take a physical backup: it lacks REPLICATION.",
                hint=f'Run: ALTER ROLE "{self.connection.login_user}" REPLICATION; or playbooks/setup.yml.',
            )
        if int(self.settings["max_wal_senders"]) < 2:
            raise Refused(
                f"max_wal_senders is {self.settings['max_wal_senders']}; a physical backup needs 2.",
                hint="Raise it and restart the server.",
            )


_SETTINGS = """
select name, current_setting(name) as value from pg_settings where name = any(%s)
union all
select 'wal_segment_size', setting from pg_settings where name = 'wal_segment_size'
"""
_WANTED = [
    "archive_command", "archive_mode", "block_size", "config_file", "data_checksums", "hba_file", "ident_file",
    "max_connections", "max_locks_per_transaction", "max_prepared_transactions", "max_wal_senders",
    "max_worker_processes", "server_encoding", "shared_preload_libraries", "summarize_wal",
    "unix_socket_directories", "wal_level", "wal_summary_keep_time",
]  # fmt: skip
# The guard stands inside each row: an aggregate is computed whatever the CASE around it says.
_SIZE = """
select case when bool_and(size is not null) then sum(size) end::bigint
from (select case when has_database_privilege(oid, 'CONNECT') or pg_has_role('pg_read_all_stats', 'USAGE')
                  then pg_database_size(oid) end as size
      from pg_database) as sizes
"""


def look(connection: ConnectionSettings, host: HostSettings) -> Server:
    """Connect once and ask everything. Errors: Unreachable, NotFound (no fitting programs), Refused (too old)."""
    identity = cluster_identity(host.os_user, host.data_directory)
    connection = located(connection, host.data_directory)
    with connected(connection, identity) as session:
        return _ask(session, connection, host, identity)


def _ask(session: Connection, connection: ConnectionSettings, host: HostSettings, identity: Identity) -> Server:
    version_num = int(session.value("show server_version_num"))
    if version_num // 10000 < OLDEST_MAJOR:
        raise Refused(
            f"PostgreSQL {version_num // 10000} is not supported.",
            hint=f"Use {OLDEST_MAJOR} or later: older ones are out of care.",
        )
    settings = {row["name"]: row["value"] for row in session.rows(_SETTINGS, (_WANTED,))}
    data_directory = host.data_directory or _data_directory(session)
    directory = data_directory if os.path.isdir(data_directory) else None
    role: dict[str, Any] = session.row(
        "select (rolreplication or rolsuper) as may from pg_roles where rolname = current_user"
    )
    return Server(
        connection=connection,
        identity=identity,
        tools=find_tools(version_num // 10000, identity, bin_dir=host.bin_dir, data_directory=directory),
        version=session.value("show server_version"),
        version_num=version_num,
        system_identifier=str(session.value("select system_identifier from pg_control_system()")),
        in_recovery=session.value("select pg_is_in_recovery()"),
        data_directory=data_directory,
        local=directory is not None and connection.login_host in ("", "localhost", "127.0.0.1", "::1"),
        tablespaces=tuple(
            Tablespace(row["oid"], row["spcname"], row["path"])
            for row in session.rows(
                "select oid::int, spcname, pg_tablespace_location(oid) as path from pg_tablespace "
                "where pg_tablespace_location(oid) <> '' order by oid"
            )
        ),
        size_bytes=session.value(_SIZE),
        settings=settings,
        may_replicate=role["may"],
        compressions=_compressions(session, version_num),
    )


def _data_directory(session: Connection) -> str:
    rows = session.rows("select setting from pg_settings where name = 'data_directory'")
    if not rows:
        raise Unreachable(
            "The role may not see the server's data_directory.",
            hint="Grant it pg_read_all_settings, or set host.data_directory.",
        )
    return str(rows[0]["setting"])


def _compressions(session: Connection, version_num: int) -> tuple[str, ...]:
    """Base backups are compressed by the same libraries as full pages in WAL, and that setting lists them."""
    if version_num < 150000:
        return ()
    rows = session.rows("select unnest(enumvals) as name from pg_settings where name = 'wal_compression'")
    return tuple(row["name"] for row in rows if row["name"] in ("lz4", "zstd"))
