# SPDX-License-Identifier: GPL-3.0-or-later
"""A server of its own beside the real one, cut off from everything that the original talks to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from ..errors import BadInput
from ..pg.datadir import control_data
from ..pg.tools import Tools
from ..settings import Settings
from .durable import write_durably
from .target import rewrite_auto_conf

DIRECTORY = "dbops_recovery"
STUB = "# Written by dbops for a side instance"  # a postgresql.conf in place of one that lies elsewhere begins so
_AUTO_CONF = "postgresql.auto.conf"
_LONGEST_SOCKET = 107  # sun_path, less its end
# pg_controldata's words for what a hot standby must not have less of than the primary had.
_MINIMUMS = {
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_wal_senders setting": "max_wal_senders",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}


@dataclass(frozen=True)
class Side:
    """Reachable over one private socket, by whoever reaches that."""

    port: int
    socket_directory: str


def side_of(settings: Settings, data_directory: str, port: Optional[int], sockets: Optional[str]) -> Side:
    """BadInput where the side instance would be the cluster itself, or its socket could not be made."""
    own = settings.host.data_directory
    if own and os.path.realpath(own) == os.path.realpath(data_directory):
        raise BadInput(
            f"A side instance cannot lie in the cluster's own {own}.", hint="Name another directory as its target."
        )
    directory = sockets or os.path.join(data_directory, DIRECTORY)
    chosen = port or settings.connection.login_port
    if not os.path.isabs(directory) or not holds_a_socket(directory, chosen):
        raise BadInput(f"{directory} cannot hold a socket.", hint="Give a short absolute path as socket directory.")
    return Side(chosen, directory)


def holds_a_socket(directory: str, port: int) -> bool:
    """Whether the path of the socket would be short enough for the kernel."""
    return len(f"{directory}/.s.PGSQL.{port}".encode()) <= _LONGEST_SOCKET


def isolation(side: Side, data_directory: str, root: str, tools: Tools) -> dict[str, str]:
    """What keeps a side instance from the world, also when somebody starts it by hand.

    It archives nowhere, listens nowhere, follows nobody, subscribes to nothing, waits for no standby and loads no
    library of the original's (pg_cron would run its jobs here). `root` is where `data_directory` lies for now.
    """
    settings = {
        "archive_mode": "off",
        "archive_command": "",
        "archive_cleanup_command": "",
        "recovery_end_command": "",
        "listen_addresses": "",
        "unix_socket_directories": side.socket_directory,
        "port": str(side.port),
        "hba_file": os.path.join(data_directory, DIRECTORY, "pg_hba.conf"),
        "external_pid_file": os.path.join(data_directory, DIRECTORY, "server.pid"),
        "ssl": "off",
        "primary_conninfo": "",
        "primary_slot_name": "",
        "synchronous_standby_names": "",
        "max_logical_replication_workers": "0",
        "shared_preload_libraries": "",
        "session_preload_libraries": "",
        "local_preload_libraries": "",
        "logging_collector": "off",
        "hot_standby": "on",
    }
    if tools.major >= 15:
        settings["archive_library"] = ""
    control = control_data(tools, root)
    for said, name in _MINIMUMS.items():
        if control.get(said, "").isdigit():
            settings[name] = control[said]
    return settings


def complete(root: str) -> None:
    """Configuration that lies outside the data directory was not restored with it; who reaches the socket may enter."""
    write_durably(os.path.join(root, DIRECTORY, "pg_hba.conf"), b"local all all trust\n")
    for name in ("postgresql.conf", "pg_ident.conf"):
        path = os.path.join(root, name)
        if not os.path.lexists(path):
            write_durably(path, f"{STUB}; its settings are in postgresql.auto.conf.\n".encode())


def rewrite(root: str, settings: Mapping[str, str]) -> None:
    """postgresql.auto.conf with these settings in the place of what an earlier recovery had left there."""
    path = os.path.join(root, _AUTO_CONF)
    content = ""
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="surrogateescape") as stream:
        content = stream.read()
    write_durably(path, rewrite_auto_conf(content, settings).encode("utf-8", "surrogateescape"))
