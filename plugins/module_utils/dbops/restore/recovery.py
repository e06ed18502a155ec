# SPDX-License-Identifier: GPL-3.0-or-later
"""Recovery to a target, written into a restored data directory before it gets its place; and tidied when it is done.

Everything that replay needs lies in `dbops_recovery/` of the data directory itself: the script for restore_command, the
engine that it runs, its settings. So a server that was stopped on the way, or by a store that went away, goes on where
it was when it is simply started again, by whomever.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Optional

from ..errors import BadInput
from ..pg.datadir import control_data
from ..pg.osuser import Identity
from ..pg.tools import Tools
from ..settings import Settings
from ..wal.runnable import copy_engine, find_python
from ..wal.scripts import Place, get_script
from .choose import Route
from .durable import write_durably
from .target import parameters, rewrite_auto_conf

DIRECTORY = "dbops_recovery"
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
    """A server of its own beside the real one: reachable over one private socket, and cut off from everything else."""

    port: int
    socket_directory: str


@dataclass(frozen=True)
class Recovery:
    """`data_directory` is the final place; what is prepared may still lie elsewhere."""

    route: Route
    data_directory: str
    settings: Settings
    only_repository: Optional[str]  # the one that the caller named; None: a segment is missing when all say so
    codecs: frozenset[str]
    side: Optional[Side]
    engine: str  # the directory that holds the package; a copy of it is what restore_command runs

    def describe(self, base_bytes: int) -> dict[str, Any]:
        side = self.side
        return {
            **self.route.describe(base_bytes),
            "mode": "side" if side else "in_place",
            "port": side.port if side else None,
            "socket_directory": side.socket_directory if side else None,
        }

    @property
    def spool_path(self) -> str:
        """Of this data directory alone: the real cluster's spool is in use."""
        mark = hashlib.sha256(self.data_directory.encode()).hexdigest()[:12]
        return os.path.join(self.settings.state_path, f"recovery-{mark}")


def side_of(settings: Settings, data_directory: str, port: Optional[int], sockets: Optional[str]) -> Side:
    """BadInput where the side instance would be the cluster itself, or its socket could not be made."""
    own = settings.host.data_directory
    if own and os.path.realpath(own) == os.path.realpath(data_directory):
        raise BadInput(
            f"A side instance cannot lie in the cluster's own {own}.", hint="Name another directory as its target."
        )
    directory = sockets or os.path.join(data_directory, DIRECTORY)
    chosen = port or settings.connection.login_port
    if not os.path.isabs(directory) or len(f"{directory}/.s.PGSQL.{chosen}".encode()) > _LONGEST_SOCKET:
        raise BadInput(f"{directory} cannot hold a socket.", hint="Give a short absolute path as socket directory.")
    return Side(chosen, directory)


def prepare(recovery: Recovery, root: str, tools: Tools) -> None:
    """Write everything into `root`, the complete data directory that is still to be moved to its place."""
    identity = tools.identity
    directory = os.path.join(root, DIRECTORY)
    shutil.rmtree(directory, ignore_errors=True)
    os.mkdir(directory, 0o700)
    identity.give(directory)
    command = _write_command(recovery, directory, identity)
    settings = parameters(recovery.route.target, restore_command=command)
    if recovery.side is not None:
        settings.update(_isolation(recovery, root, tools, recovery.side))
        _complete(root, directory)
    _rewrite(root, settings)
    write_durably(os.path.join(root, "recovery.signal"), b"")


def settle(recovery: Recovery, tools: Tools) -> None:
    """After a promotion: take back what was only for this recovery, and keep what isolates a side instance.

    Left behind, a recovery target would stop any standby that is made from this cluster.
    """
    root = recovery.data_directory
    if recovery.side is None:
        _rewrite(root, {})
        shutil.rmtree(os.path.join(root, DIRECTORY), ignore_errors=True)
    else:
        _rewrite(root, _isolation(recovery, root, tools, recovery.side))
    shutil.rmtree(recovery.spool_path, ignore_errors=True)


def _write_command(recovery: Recovery, directory: str, identity: Identity) -> str:
    """The script of restore_command, its settings and its engine; how PostgreSQL is to call it."""
    final = os.path.join(recovery.data_directory, DIRECTORY)
    lib = copy_engine(recovery.engine, directory, recovery.codecs, identity)
    python = find_python(lib, recovery.engine, recovery.codecs, identity)
    config = os.path.join(directory, "settings.json")
    write_durably(config, (json.dumps(_settings(recovery), indent=1) + "\n").encode())
    place = Place(
        recovery.settings.cluster,
        os.path.join(final, "settings.json"),
        recovery.spool_path,
        python,
        (os.path.join(final, "lib"),),
    )
    write_durably(os.path.join(directory, "get"), get_script(place).encode(), 0o700)
    # %f and %p are PostgreSQL's; a percent sign in a path would be taken for one of them
    return f"{shlex.quote(os.path.join(final, 'get')).replace('%', '%%')} %f %p"


def _settings(recovery: Recovery) -> dict[str, Any]:
    """The cluster's settings as the script needs them: this data directory, and the repositories that count."""
    data: dict[str, Any] = _without_nones(asdict(recovery.settings))
    data["host"]["data_directory"] = recovery.data_directory
    data["host"]["state_path"] = recovery.settings.state_path
    data["archiving"]["spool_path"] = recovery.spool_path
    if recovery.only_repository is not None:
        data["repositories"] = [item for item in data["repositories"] if item["name"] == recovery.only_repository]
    return data


def _without_nones(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nones(item) for key, item in value.items() if item is not None}
    return [_without_nones(item) for item in value] if isinstance(value, (list, tuple)) else value


def _isolation(recovery: Recovery, root: str, tools: Tools, side: Side) -> dict[str, str]:
    """What keeps a side instance from the world, also when somebody starts it by hand.

    It archives nowhere, listens nowhere, follows nobody, subscribes to nothing, waits for no standby and loads no
    library of the original's (pg_cron would run its jobs here).
    """
    settings = {
        "archive_mode": "off",
        "archive_command": "",
        "archive_cleanup_command": "",
        "recovery_end_command": "",
        "listen_addresses": "",
        "unix_socket_directories": side.socket_directory,
        "port": str(side.port),
        "hba_file": os.path.join(recovery.data_directory, DIRECTORY, "pg_hba.conf"),
        "external_pid_file": os.path.join(recovery.data_directory, DIRECTORY, "server.pid"),
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


def _complete(root: str, directory: str) -> None:
    """Configuration that lies outside the data directory was not restored with it; who reaches the socket may enter."""
    write_durably(os.path.join(directory, "pg_hba.conf"), b"local all all trust\n")
    for name in ("postgresql.conf", "pg_ident.conf"):
        path = os.path.join(root, name)
        if not os.path.lexists(path):
            write_durably(path, b"# Written by dbops for a side instance; its settings are in postgresql.auto.conf.\n")


def _rewrite(root: str, settings: Mapping[str, str]) -> None:
    path = os.path.join(root, _AUTO_CONF)
    content = ""
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="surrogateescape") as stream:
        content = stream.read()
    write_durably(path, rewrite_auto_conf(content, settings).encode("utf-8", "surrogateescape"))


def resume_command(tools: Tools, data_directory: str, options: str) -> str:
    words = [os.path.join(tools.bin_dir, "pg_ctl"), "start", "-D", data_directory]
    return shlex.join([*words, *(["-o", options] if options else [])])
