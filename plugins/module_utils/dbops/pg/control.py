# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting and stopping a server that no service manager knows of, with pg_ctl."""

from __future__ import annotations

import contextlib
import os

from ..errors import Corrupt, ToolFailed
from ..settings import ConnectionSettings
from .connection import connected_in
from .datadir import postmaster_pid
from .tools import Tools

_LOG = "dbops-start.log"


def stop(tools: Tools, data_directory: str, *, timeout_s: int = 300) -> bool:
    """Stop the server that runs here, connections cut; False when none did."""
    if postmaster_pid(data_directory) is None:
        return False
    tools.run("pg_ctl", ["stop", "-D", data_directory, "-m", "fast", "-w", "-t", str(timeout_s), "-s"])
    return True


def start(tools: Tools, data_directory: str, *, options: str = "", timeout_s: int = 3600) -> None:
    """Start it and wait until it accepts connections, however long replay takes within the limit."""
    log = os.path.join(data_directory, _LOG)
    arguments = ["start", "-D", data_directory, "-w", "-t", str(timeout_s), "-l", log, "-s"]
    try:
        tools.run("pg_ctl", arguments + (["-o", options] if options else []))
    except ToolFailed as exc:
        raise ToolFailed(
            f"The server in {data_directory} did not start: {_last_words(log) or exc.message}",
            hint=f"See {log}; mend the configuration, then start it: the restored data is complete.",
            stderr_tail=exc.stderr_tail,
        ) from exc


def start_recovery(tools: Tools, data_directory: str, log: str, *, options: str = "") -> None:
    """Start a server whose recovery somebody follows: nothing is waited for, and `log` is this start's alone.

    The options make it tell there, in English, what recovery does; they end with this run of the server.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(log)
    told = (
        "-c logging_collector=off -c log_destination=stderr -c lc_messages=C -c log_min_messages=info "
        "-c log_line_prefix=%m: -c hot_standby=on"
    )
    words = ["start", "-D", data_directory, "-W", "-l", log, "-s", "-o", f"{options} {told}".strip()]
    tools.run("pg_ctl", words)


def check_answers(tools: Tools, data_directory: str, connection: ConnectionSettings, system_identifier: str) -> str:
    """Ask the started server who it is; its version. Corrupt when another system answers."""
    with connected_in(data_directory, connection, tools.identity) as session:
        found = str(session.value("select system_identifier from pg_control_system()"))
        if found != system_identifier:
            raise Corrupt(
                f"System {found} answers in {data_directory}, not {system_identifier} that was restored.",
                hint="Another server listens on that socket: stop it.",
            )
        session.value("select count(*) from pg_class")
        return str(session.value("show server_version"))


def _last_words(log: str) -> str:
    try:
        with open(log, encoding="utf-8", errors="replace") as stream:
            lines = [line.strip() for line in stream if "FATAL" in line or "PANIC" in line or "could not" in line]
    except OSError:
        return ""
    return lines[-1] if lines else ""
