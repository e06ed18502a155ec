# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory and a server in it that exist for one verification, whatever becomes of it.

Each scratch is held by a lock that the kernel takes back with its process. So the next run can tell what a killed one
left, and takes it away: first the server that may still run there, then the files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Optional

from ..errors import BadInput, Refused, ToolFailed, Unreachable
from ..pg import control
from ..pg.connection import Connection, connected
from ..pg.datadir import postmaster_pid
from ..pg.osuser import Identity
from ..pg.tools import Tools
from ..progress import Progress
from ..restore.isolation import DIRECTORY, complete, holds_a_socket, isolation, rewrite, side_of
from ..settings import ConnectionSettings, Settings

_PREFIX = "verify-"
_PORT = 54329  # in a directory of its own: it only names the socket
_END_S = 20.0


@dataclass(frozen=True)
class Scratch:
    path: str
    settings: Settings  # the cluster's, with every path inside of the scratch
    identity: Identity

    @property
    def data(self) -> str:
        return os.path.join(self.path, "data")

    @property
    def tablespaces(self) -> str:
        return os.path.join(self.path, "ts")

    @property
    def sockets(self) -> str:
        return os.path.join(self.path, "s")

    @property
    def port(self) -> int:
        return _PORT

    def isolate(self, tools: Tools) -> None:
        """Cut a data directory that was restored without a recovery off from the world."""
        directory = os.path.join(self.data, DIRECTORY)
        if not os.path.isdir(directory):
            os.mkdir(directory, 0o700)
            self.identity.give(directory)
        side = side_of(self.settings, self.data, self.port, self.sockets)
        complete(self.data)
        rewrite(self.data, isolation(side, self.data, self.data, tools))

    def connection(self, user: str, database: str = "template1") -> ConnectionSettings:
        return ConnectionSettings(
            login_unix_socket=self.sockets, login_port=self.port, login_user=user, login_db=database
        )

    @contextlib.contextmanager
    def session(self, user: str, database: str = "template1") -> Iterator[Connection]:
        with connected(self.connection(user, database), self.identity) as opened:
            opened.run("select set_config('statement_timeout', %s, false)", (f"{self.settings.verify.timeout_s}s",))
            opened.run("set row_security = off")
            yield opened

    def superuser(self) -> str:
        """The one that initdb made. It is asked as whoever the settings name; everybody may enter here."""
        with self.session(self.settings.connection.login_user) as session:
            rows = session.rows("select rolname from pg_roles where rolsuper and rolcanlogin order by oid limit 1")
        if not rows:
            raise Unreachable(
                "No superuser of the restored cluster may log in, so nobody can look into all of it.",
                hint="Give one LOGIN in production, or restore it by hand.",
            )
        return str(rows[0]["rolname"])


def require_short(root: str) -> None:
    """BadInput where the socket of a scratch below `root` could not be made."""
    if not holds_a_socket(os.path.join(root, f"{_PREFIX}{secrets.token_hex(3)}", "s"), _PORT):
        raise BadInput(
            f"The path {root} is too long for the socket of a server below it.",
            hint="Name a shorter directory: verify.scratch_path in the settings, or --scratch-path.",
        )


@contextlib.contextmanager
def scratch(settings: Settings, root: str, identity: Identity, label: str) -> Iterator[Scratch]:
    """An empty one, held. The caller removes it (see `remove`), so that its removal has a verdict of its own."""
    identity.make_private_directory(root)
    path = os.path.join(root, f"{_PREFIX}{secrets.token_hex(3)}")  # short: a socket's path ends at 107 bytes
    identity.make_private_directory(path)
    with open(os.path.join(path, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f"{label}, process {os.getpid()}\n")
        lock.flush()
        inside = Scratch(path, _moved_inside(settings, path, identity), identity)
        for directory in (inside.tablespaces, inside.sockets):
            identity.make_private_directory(directory)
        yield inside


def _moved_inside(settings: Settings, path: str, identity: Identity) -> Settings:
    return replace(
        settings,
        connection=ConnectionSettings(
            login_user=settings.connection.login_user, connect_timeout_s=settings.connection.connect_timeout_s
        ),
        host=replace(settings.host, os_user=identity.name, data_directory=None, state_path=os.path.join(path, "state")),
        archiving=replace(settings.archiving, spool_path=None),
    )


def remove(path: str, tools: Optional[Tools]) -> None:
    """Stop what runs there and take everything away. Unreachable says what stayed."""
    _stop(os.path.join(path, "data"), tools)
    for _attempt in range(3):  # a server that is just ending may still write a file
        shutil.rmtree(path, ignore_errors=True)
        if not os.path.lexists(path):
            return
        time.sleep(0.2)
    raise Unreachable(f"{path} could not be removed.", hint="Look what is left there, and remove it by hand.")


def sweep(root: str, progress: Progress) -> list[str]:
    """Remove the scratches of killed verifications; the paths. Those that somebody holds stay."""
    try:
        names = [name for name in os.listdir(root) if name.startswith(_PREFIX)]
    except OSError:
        return []
    removed = []
    for name in sorted(names):
        path = os.path.join(root, name)
        with contextlib.suppress(OSError), open(os.path.join(path, "lock"), "a", encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            remove(path, None)
            removed.append(path)
            progress.warn(f"A verification had been killed: {path} is removed.")
            continue
        if os.path.isdir(path) and not os.path.exists(os.path.join(path, "lock")):
            _remove_old(path, removed)
    return removed


def _remove_old(path: str, removed: list[str]) -> None:
    """Killed before it had its lock, or while it was removed; one that is just being made is younger."""
    with contextlib.suppress(OSError):
        if time.time() - os.stat(path).st_mtime > 60:
            remove(path, None)
            removed.append(path)


def _stop(data: str, tools: Optional[Tools]) -> None:
    """At once: nothing there is worth a checkpoint."""
    pid = postmaster_pid(data)
    if pid is None:
        return
    if tools is not None:
        with contextlib.suppress(ToolFailed):
            control.stop(tools, data)
            return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGQUIT)  # what pg_ctl sends for an immediate stop
    until = time.monotonic() + _END_S
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < until:
        time.sleep(0.05)
    if os.path.exists(f"/proc/{pid}"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def require_room(root: str, needed: int, label: str) -> int:
    """Bytes free where the scratch will be; Refused when they are too few."""
    above = root
    while not os.path.isdir(above):
        above = os.path.dirname(above)
    free = shutil.disk_usage(above).free
    if free < needed:
        raise Refused(
            f"Restoring {label} for a look needs about {needed} bytes, and {above} has {free}.",
            hint="Free space there, set verify.scratch_path to another disk, or verify on another host.",
        )
    return free
