# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the demo lives: one directory per user below /var/tmp, since a socket's path has to be short and a server that
root starts for somebody else cannot live below a private home directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from localpg.installations import EMBEDDED_MAJOR, Installation, embedded
from localpg.osuser import ProgramFailed, server_user
from localpg.processes import kill_below, working_below
from localpg.server import SUPERUSER, LocalServer

CHECKOUT = Path(__file__).resolve().parent.parent
EXAMPLE = CHECKOUT / "examples" / "ridehailing"
CLUSTER = "demo"
DATABASE = "ridehailing"
NEEDED_BYTES = 1 << 30


class DemoError(Exception):
    """The demo cannot go on, or found what it must not find; the message is for the person who runs it."""


class Place:
    """All paths of the demo. `base` may be chosen by DBOPS_DEMO; it is removed only when we made it."""

    def __init__(self) -> None:
        self.base = Path(os.environ.get("DBOPS_DEMO") or f"/var/tmp/dbops-demo-{os.geteuid()}").absolute()
        self.marker = self.base / "made-by-the-demo"
        self.repository = self.base / "repository"
        self.results = self.base / "results"
        self.variables = self.base / "vars.json"
        self.command = self.base / "bin" / "dbops"
        self.config = self.base / "demo.json"
        self.owners_config = self.base / "owner.json"

    def require_ours(self) -> None:
        """/var/tmp is everybody's, and DBOPS_DEMO may name anything: what the demo did not make is left alone."""
        status = self.base.lstat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o022 or not self.marker.is_file():
            raise DemoError(f"{self.base} is there, and the demo did not make it. Look at it, remove it, run again.")

    def make(self) -> None:
        free = shutil.disk_usage(self.base.parent).free
        if free < NEEDED_BYTES:
            raise DemoError(f"{self.base.parent} has {free >> 20} MiB free; the demo wants {NEEDED_BYTES >> 20}.")
        self.base.mkdir(mode=0o755)
        self.base.chmod(0o755)
        self.marker.touch()

    def remove(self) -> bool:
        """Stop what runs below and remove it all; whether there was anything."""
        if not os.path.lexists(self.base):
            return False
        self.require_ours()
        kill_below(self.base)
        shutil.rmtree(self.base)
        return True

    def install_postgresql(self) -> Installation:
        """The embedded 18 under a path that does not depend on where the virtual environment is."""
        found = embedded(cache=self.base / "wheel")
        link = self.base / "postgresql"
        if not link.is_symlink():
            link.symlink_to(found.bin_dir.parent)
        return Installation(EMBEDDED_MAJOR, link / "bin")

    def server(self) -> LocalServer:
        """The demo's server as it was set up, running or not."""
        installation = Installation(EMBEDDED_MAJOR, self.base / "postgresql" / "bin")
        server = LocalServer(installation, self.base / "pg")
        server.settings = {
            "cluster_name": CLUSTER,
            "archive_mode": "on",  # so that archiving needs no restart; what is called is still to be set up
            "summarize_wal": "on",
            "logging_collector": "on",  # one log, whoever starts the server
            "log_directory": str(server.log.parent),
            "log_filename": server.log.name,
        }
        if self.variables.exists():
            server.port = int(json.loads(self.variables.read_text())["dbops_port"])
        return server

    @property
    def is_running(self) -> bool:
        return bool(working_below(self.base))

    def write_variables(self, server: LocalServer) -> None:
        """What the playbooks have to know; inventories/demo reads this file."""
        self.variables.write_text(json.dumps(self._variables(server), indent=2) + "\n", encoding="utf-8")

    def write_owners_settings(self, server: LocalServer) -> None:
        """For migrations and seed: they change the application's database, which the role of the backups must not."""
        mapping = {
            "cluster": CLUSTER,
            "connection": {
                "login_unix_socket": str(server.sockets),
                "login_port": server.port,
                "login_user": SUPERUSER,
            },
            "host": {"os_user": server_user().name, "data_directory": str(server.data)},
        }
        self.owners_config.write_text(json.dumps(mapping, indent=2) + "\n", encoding="utf-8")

    def _variables(self, server: LocalServer) -> dict[str, Any]:
        python, codec = archiver()
        return {
            "dbops_cluster": CLUSTER,
            "dbops_os_user": server_user().name,
            "dbops_data_directory": str(server.data),
            "dbops_bin_dir": str(self.base / "postgresql" / "bin"),
            "dbops_unix_socket": str(server.sockets),
            "dbops_port": server.port,
            "dbops_login_user": "dbops",
            "dbops_create_role": True,
            "dbops_repository_path": str(self.repository),
            "dbops_config_path": str(self.config),
            "dbops_state_path": str(self.base / "state"),
            "dbops_lib_path": str(self.base / "lib"),
            "dbops_bin_path": str(self.command),
            "dbops_dependencies": "none",
            "dbops_python": sys.executable,
            "dbops_archiving": {"codec": codec},
            "archiving_python": python,
        }


def archiver() -> tuple[str, str]:
    """An interpreter that the server can start as its own OS user, and the codec that it has there.

    As root our own one may lie in a home that is closed to everybody else.
    """
    for python, codec, library in (
        (sys.executable, "zstd", "zstandard"),
        ("/usr/bin/python3", "zstd", "zstandard"),
        ("/usr/bin/python3", "gzip", "zlib"),
    ):
        with contextlib.suppress(ProgramFailed, OSError):
            server_user().run([python, "-I", "-c", f"import sys, {library}; assert sys.version_info >= (3, 9)"])
            return python, codec
    raise DemoError(f"{server_user().name} can start neither {sys.executable} nor /usr/bin/python3: install python3.")
