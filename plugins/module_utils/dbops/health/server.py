# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at the server, and what of its commits is nowhere but there."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Optional

from ..errors import DbopsError
from ..pg.canary import last_seen
from ..pg.connection import Connection, connected, located
from ..pg.osuser import cluster_identity
from ..pg.tools import Tools, find_tools
from ..pg.wal import lsn_to_int, segment_name
from ..pg.waldump import contents
from ..settings import Settings
from ..wal.status import status
from .facts import Server

_HEADER = 0x28  # a segment's long page header: a position there means that nothing was written since the switch
_MOST = 16  # segments to look through for the first commit
_QUERY = """
select current_setting('server_version') as version, current_setting('server_version_num')::int as version_num,
    (select system_identifier::text from pg_control_system()) as system_identifier,
    pg_is_in_recovery() as in_recovery,
    case when not pg_is_in_recovery() then pg_current_wal_lsn()::text end as position,
    case when not pg_is_in_recovery()
         then ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end as timeline,
    current_setting('archive_mode') as archive_mode, (select setting from pg_settings where name = 'archive_command')
        as command, (select setting from pg_settings where name = 'archive_library') as library,
    (select setting::bigint from pg_settings where name = 'wal_segment_size') as segment_size,
    (select setting from pg_settings where name = 'data_directory') as data_directory,
    (select array_agg(name order by name) from pg_settings where pending_restart) as pending,
    (select case when bool_and(has_database_privilege(oid, 'CONNECT') or pg_has_role('pg_read_all_stats', 'USAGE'))
            then sum(case when has_database_privilege(oid, 'CONNECT') or pg_has_role('pg_read_all_stats', 'USAGE')
                     then pg_database_size(oid) end) end from pg_database)::bigint as bytes
"""
_ARCHIVER = (
    "select archived_count, failed_count, last_archived_time, last_failed_wal, last_failed_time, "
    "coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) as failing from pg_stat_archiver"
)
_CHECKSUMS = (
    "select datname, checksum_failures from pg_stat_database "
    "where datname is not null and checksum_failures is not null"
)


@dataclass(frozen=True)
class Waiting:
    """Bytes of WAL that hold a commit and are not archived; 0 when no commit is among them. `since`: the first one."""

    length: int
    since: Optional[datetime]


@dataclass(frozen=True)
class Seen:
    """`server` None: `error` says why."""

    server: Optional[Server]
    error: str = ""
    last_archived_at: Optional[datetime] = None
    timeline: int = 0
    segment_size: int = 0
    wal_directory: Optional[str] = None
    tools: Optional[Tools] = None

    def unarchived(self, newest_end: Optional[int]) -> Optional[Waiting]:
        """What the server has beyond the newest segment that a repository has; None where nobody can tell."""
        server = self.server
        if server is None or server.position is None or newest_end is None:
            return None
        behind = server.position - newest_end
        if behind <= _HEADER:
            return Waiting(0, None)
        if self.wal_directory and self.tools:
            return self._first_commit(newest_end, server.position)
        return Waiting(behind, self.last_archived_at)

    def _first_commit(self, start: int, position: int) -> Waiting:
        """By the WAL itself: on an idle server what came since the last switch is bookkeeping, which nobody loses."""
        tools, directory, size = self.tools, self.wal_directory, self.segment_size
        first, last = start // size, (position - 1) // size
        for number in range(first, min(last + 1, first + _MOST)):
            path = os.path.join(directory or "", segment_name(self.timeline, number * size, size))
            if tools is None or not os.path.exists(path):
                break
            try:
                marks = contents(tools, [path]).marks
            except DbopsError:
                break
            times = [mark.time for mark in marks if mark.time is not None and mark.position >= start]
            if times:
                return Waiting(position - start, min(times))
        else:
            if last < first + _MOST:
                return Waiting(0, None)
        return Waiting(position - start, self.last_archived_at)


def look(settings: Settings) -> Seen:
    """Never raises for a server that is away: that is a fact too."""
    try:
        identity = cluster_identity(settings.host.os_user, settings.host.data_directory)
        connection = located(settings.connection, settings.host.data_directory)
        with connected(connection, identity) as session:
            return _asked(session, settings)
    except DbopsError as error:
        return Seen(None, error.message)


def _asked(session: Connection, settings: Settings) -> Seen:
    row = session.row(_QUERY)
    archiver = session.row(_ARCHIVER)
    failures = {item["datname"]: int(item["checksum_failures"]) for item in session.rows(_CHECKSUMS)}
    data_directory = settings.host.data_directory or row["data_directory"]
    wal_directory = os.path.join(data_directory, "pg_wal") if data_directory else None
    local = wal_directory is not None and os.path.isdir(wal_directory) and _is_local(settings)
    usage = shutil.disk_usage(wal_directory) if local and wal_directory else None
    waiting = _waiting(settings, data_directory) if local else None
    server = Server(
        version=row["version"],
        system_identifier=row["system_identifier"],
        in_recovery=row["in_recovery"],
        archives=row["archive_mode"] != "off"
        and bool(row["command"] not in ("", "(disabled)", None) or row["library"]),
        archive_failing=archiver["failing"],
        last_failed_wal=archiver["last_failed_wal"],
        last_failed_at=archiver["last_failed_time"],
        failed_count=archiver["failed_count"],
        archived_count=archiver["archived_count"],
        waiting_files=waiting["files"] if waiting else None,
        waiting_s=waiting["seconds"] if waiting else None,
        restart_pending=tuple(row["pending"] or ()),
        position=lsn_to_int(row["position"]) if row["position"] else None,
        database_bytes=row["bytes"],
        checksum_failures=failures,
        wal_free_bytes=usage.free if usage else None,
        wal_total_bytes=usage.total if usage else None,
        canary_at=_canary(settings, session),
    )
    return Seen(
        server,
        last_archived_at=archiver["last_archived_time"],
        timeline=row["timeline"] or 0,
        segment_size=row["segment_size"],
        wal_directory=wal_directory if local else None,
        tools=_tools(settings, row["version_num"] // 10000) if local else None,
    )


def _canary(settings: Settings, session: Connection) -> Optional[datetime]:
    found = last_seen(settings, session, settings.connection.login_db) if settings.canary.enabled else None
    return found.at if found else None


def _is_local(settings: Settings) -> bool:
    return settings.connection.login_host in ("", "localhost", "127.0.0.1", "::1")


def _waiting(settings: Settings, data_directory: str) -> Optional[dict[str, Any]]:
    try:
        here = replace(settings, host=replace(settings.host, data_directory=data_directory))
        return dict(status(here)["backlog"])
    except DbopsError:
        return None  # not for us to look into


def _tools(settings: Settings, major: int) -> Optional[Tools]:
    try:
        identity = cluster_identity(settings.host.os_user, settings.host.data_directory)
        return find_tools(major, identity, bin_dir=settings.host.bin_dir)
    except DbopsError:
        return None
