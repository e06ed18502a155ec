# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's settings that archiving depends on: what it runs with, and where each comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from ..errors import Refused, Unreachable
from ..pg.connection import Connection, connected, located
from ..pg.osuser import Identity, cluster_identity
from ..settings import ConnectionSettings, Settings

NAMES = ("archive_mode", "archive_command", "archive_library", "archive_timeout", "restore_command", "summarize_wal",
         "wal_level")  # fmt: skip
FIRST_WITH_SUMMARIES = 17
_TRUE = ("on", "true", "yes", "1", "t", "y")
_FALSE = ("off", "false", "no", "0", "f", "n")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "": 1}

# reset_val and not setting: that one shows archive_command as "(disabled)" while archive_mode is off.
_QUERY = """
select name, coalesce(reset_val, '') as value, coalesce(boot_val, '') as boot, context, source, sourcefile, sourceline,
       pending_restart
from pg_settings where name = any(%s) order by name
"""


@dataclass(frozen=True)
class Parameter:
    name: str
    value: str
    boot: str  # what it is when no file says anything
    needs_restart: bool
    source: str
    file: Optional[str]
    line: Optional[int]
    pending_restart: bool

    def describe(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "source": self.source,
            "source_file": self.file,
            "source_line": self.line,
            "pending_restart": self.pending_restart,
        }


@dataclass(frozen=True)
class Surroundings:
    """A running server on this host."""

    connection: ConnectionSettings
    identity: Identity
    major: int
    system_identifier: str
    in_recovery: bool
    segment_size: int
    data_directory: str
    config_file: str
    parameters: Mapping[str, Parameter]


def surroundings(settings: Settings) -> Surroundings:
    """Refused for a server whose files are not on this host."""
    identity = cluster_identity(settings.host.os_user, settings.host.data_directory)
    connection = located(settings.connection, settings.host.data_directory)
    with connected(connection, identity) as session:
        places = {
            row["name"]: row["setting"]
            for row in session.rows(
                "select name, setting from pg_settings where name in ('config_file', 'data_directory')"
            )
        }
        if len(places) < 2 or not all(places.values()):
            raise Unreachable(
                "The role may not see where the server's configuration lies.",
                hint="Grant it pg_read_all_settings; playbooks/setup.yml creates a role with all that is needed.",
            )
        found = Surroundings(
            connection=connection,
            identity=identity,
            major=int(session.value("show server_version_num")) // 10000,
            system_identifier=str(session.value("select system_identifier from pg_control_system()")),
            in_recovery=session.value("select pg_is_in_recovery()"),
            segment_size=int(session.value("select setting from pg_settings where name = 'wal_segment_size'")),
            data_directory=settings.host.data_directory or places["data_directory"],
            config_file=places["config_file"],
            parameters=ask(session),
        )
    if not os.path.isdir(found.data_directory):
        raise Refused(
            f"The server's data directory {found.data_directory} is not on this host.",
            hint="Run it on the database host; archiving needs the server's own files.",
        )
    return found


def ask(session: Connection) -> dict[str, Parameter]:
    return {
        row["name"]: Parameter(
            row["name"],
            normal(row["name"], row["value"]),
            normal(row["name"], row["boot"]),
            row["context"] == "postmaster",
            row["source"],
            row["sourcefile"],
            row["sourceline"],
            row["pending_restart"],
        )
        for row in session.rows(_QUERY, (list(NAMES),))
    }


def normal(name: str, value: str) -> str:
    """One spelling for values that mean the same: `yes` is `on`, `5min` is `300`."""
    text = value.strip()
    if name == "archive_timeout":
        digits = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
        unit = text[len(digits) :].strip()
        if digits.isdigit() and unit in _SECONDS:
            return str(int(digits) * _SECONDS[unit])
        return text
    if name in ("archive_mode", "summarize_wal"):
        lower = text.lower()
        return "on" if lower in _TRUE else "off" if lower in _FALSE else lower
    return text.lower() if name == "wal_level" else text
