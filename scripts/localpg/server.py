# SPDX-License-Identifier: GPL-3.0-or-later
"""One throwaway server: made, started, asked, stopped, killed."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .installations import Installation
from .osuser import OsUser, ProgramFailed, server_user
from .processes import kill_below, wait_until, working_below

SUPERUSER = "postgres"
CONF = "throwaway.conf"
_IN_PRODUCTION = (6).to_bytes(4, sys.byteorder)  # DBState in pg_control
LONGEST_SOCKET_DIRECTORY = 90  # the kernel takes 107 bytes, "/.s.PGSQL.65535.lock" included
FAST = {  # a throwaway server may lose everything in a power cut
    "fsync": "off",
    "dynamic_shared_memory_type": "mmap",  # in the data directory: a killed server leaves nothing in /dev/shm
    "shared_buffers": "16MB",
    "max_wal_size": "512MB",
    "wal_level": "replica",
    "max_wal_senders": "10",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "timezone": "UTC",
}


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Different ones."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _number in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@dataclass
class LocalServer:
    """A server below `base`: `data`, `log` and a private socket directory. No TCP unless `settings` ask for it.

    `settings` go into a file of the data directory at every start, so they can be changed between two starts.
    """

    installation: Installation
    base: Path
    port: int = field(default_factory=free_port)
    settings: dict[str, str] = field(default_factory=dict)
    os_user: OsUser = field(default_factory=server_user)

    @property
    def data(self) -> Path:
        return self.base / "data"

    @property
    def log(self) -> Path:
        return self.base / "server.log"

    @property
    def sockets(self) -> Path:
        return self.base / "s"

    # -- life

    def create(self, *, tcp_auth: str = "trust", locale: Sequence[str] = ("--no-locale",)) -> None:
        """initdb, with checksums, UTF8 and the superuser `postgres`; its private socket trusts whoever gets there."""
        self.make_directories()
        auth = ["--auth-local=trust", f"--auth-host={tcp_auth}"]
        self.run("initdb", "-D", self.data, "-U", SUPERUSER, *auth, "-k", "-N", "-E", "UTF8", *locale)
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as stream:
            stream.write(f"include_if_exists = '{CONF}'\n")

    def make_directories(self) -> None:
        """`base` and the socket directory; the socket's path has to be short."""
        if len(os.fsencode(self.sockets)) > LONGEST_SOCKET_DIRECTORY:
            raise ValueError(f"{self.sockets} is too long for a socket directory: choose a shorter base.")
        for path, mode in ((self.base, 0o755), (self.sockets, 0o700)):
            if not path.exists():
                self.os_user.own_directory(path, mode)

    def write_settings(self) -> None:
        fixed = {"port": str(self.port), "unix_socket_directories": str(self.sockets), "listen_addresses": ""}
        lines = [f"{name} = '{_quoted(value)}'\n" for name, value in {**FAST, **fixed, **self.settings}.items()]
        path = self.data / CONF
        path.write_text("".join(lines), encoding="utf-8")
        path.chmod(0o600)
        os.chown(path, self.os_user.uid, self.os_user.gid)

    def start(self, *, limit_s: int = 60) -> None:
        """Start and wait until it answers; ProgramFailed has the end of the server's log."""
        self.write_settings()
        try:
            command: list[str | Path] = ["-D", self.data, "-l", self.log, "-w", "-t", str(limit_s), "start"]
            self.run("pg_ctl", *command, keep_output=False)
        except ProgramFailed as exc:
            raise ProgramFailed(f"{exc}\nThe end of {self.log}:\n{self.log_tail()}") from None

    def begin(self) -> None:
        """Have it started, and do not wait: it may recover for long, or end in the middle of it."""
        self.write_settings()
        begun = self.log.stat().st_size if self.log.exists() else 0
        self.run("pg_ctl", "-D", self.data, "-l", self.log, "-W", "start", keep_output=False)
        wait_until(lambda: self.log.exists() and self.log.stat().st_size > begun, "it has begun to log")

    def wait_until_recovered(self, *, limit_s: float = 60) -> None:
        """Return when recovery is over and the server takes writes; AssertionError when it has ended instead."""
        wait_until(lambda: self.phase in ("ready", "gone"), "recovery has ended", limit_s=limit_s)
        assert self.phase == "ready", f"The server has ended:\n{self.log_tail()}"

    def stop(self, mode: str = "fast") -> None:
        """Nothing to do when it does not run."""
        if self.is_running:
            self.run("pg_ctl", "-D", self.data, "-m", mode, "-w", "stop")

    def restart(self) -> None:
        self.stop()
        self.start()

    def set_hba(self, *lines: str) -> None:
        """Replace pg_hba.conf; takes effect at once when the server runs."""
        path = self.data / "pg_hba.conf"
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")  # keeps its owner and mode
        if self.is_running:
            self.reload()

    def reload(self) -> None:
        self.write_settings()
        self.run("pg_ctl", "-D", self.data, "reload")

    def kill(self) -> None:
        """As a power cut would: SIGKILL for the postmaster and its children, and postmaster.pid stays behind.

        Until init has noticed the dead postmaster its number is taken, and the next start would refuse.
        """
        killed = kill_below(self.data)
        wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in killed), f"init has buried {killed}")

    @property
    def is_running(self) -> bool:
        return bool(working_below(self.data))

    @property
    def phase(self) -> str:
        """ready (it takes writes), busy (starting, recovering or stopping) or gone (no postmaster).

        Told by its files, as pg_ctl and pg_controldata do: a server that recovers has better things to do than to fork
        for us. `ready` in postmaster.pid is said by a hot standby, too.
        """
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
            os.kill(int(lines[0]), 0)
            state = (self.data / "global" / "pg_control").read_bytes()[16:20]
        except (OSError, ValueError, IndexError):
            return "gone"
        recovers = any((self.data / name).exists() for name in ("recovery.signal", "standby.signal"))
        said = lines[7].strip() if len(lines) > 7 else ""
        return "ready" if said == "ready" and not recovers and state == _IN_PRODUCTION else "busy"

    def log_tail(self, lines: int = 20) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"

    # -- asking it

    def run(self, program: str, *arguments: str | Path, **options: Any) -> str:
        """Run one of PostgreSQL's programs as the server's OS user; its standard output."""
        return self.os_user.run([self.installation.program(program), *arguments], **options)

    def psql(self, script: str, database: str = "postgres", variables: Mapping[str, object] | None = None) -> str:
        """Run a script with psql, as superuser, until the first error."""
        words = [f"--set={name}={value}" for name, value in {"ON_ERROR_STOP": 1, **(variables or {})}.items()]
        address: list[str | Path] = ["-h", self.sockets, "-p", str(self.port), "-U", SUPERUSER, "-d", database]
        return self.run("psql", "-XqAt", *address, *words, text_in=script)

    def sql(self, query: str, parameters: Sequence[Any] = (), *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement in autocommit as superuser; its rows."""
        with self.connection(database) as connection, connection.cursor() as cursor:
            cursor.execute(query, parameters or None)
            return list(cursor.fetchall()) if cursor.description else []

    def value(self, query: str, parameters: Sequence[Any] = (), *, database: str = "postgres") -> Any:
        return self.sql(query, parameters, database=database)[0][0]

    @contextlib.contextmanager
    def connection(self, database: str = "postgres", **more: Any) -> Iterator[Any]:
        """A psycopg2 connection as superuser, in autocommit."""
        import psycopg2

        where = {"host": str(self.sockets), "port": self.port, "user": SUPERUSER}
        opened = psycopg2.connect(dbname=database, **{**where, **more})
        opened.autocommit = True
        try:
            yield opened
        finally:
            opened.close()


def _quoted(value: object) -> str:
    return str(value).replace("'", "''")
