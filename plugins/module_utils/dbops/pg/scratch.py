# SPDX-License-Identifier: GPL-3.0-or-later
"""A throwaway server on this host: made, used, and gone without a trace; nothing else here notices it.

Whoever uses one holds a lock in its directory, which the kernel takes back with the process: so the next one finds what
a killed run left, stops it and takes it away.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import re
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from typing import Optional

from ..errors import NotFound
from ..settings import ConnectionSettings
from .connection import library
from .datadir import postmaster_pid
from .osuser import Identity, current_identity
from .tools import Tools

_PREFIX = "dbops-scratch-"
_YOUNG_S = 60  # a directory without a lock that is younger may be one that is just being made
_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin")
# It may lose everything in a power cut. No autovacuum: a session in a template makes copying it wait.
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "jit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "1h",
    "shared_buffers": "64MB",
    "max_connections": "60",
    "listen_addresses": "",
    "lc_messages": "C",
    "timezone": "UTC",
    "dynamic_shared_memory_type": "mmap",
}


@contextlib.contextmanager
def scratch_server(
    identity: Identity, *, bin_dir: Optional[str] = None
) -> Iterator[tuple[ConnectionSettings, Identity]]:
    """An empty server that runs as `identity`, and who we connect as: ourselves, over its private socket."""
    library()  # before anything is made
    tools = newest_tools(identity, bin_dir)
    place = _roomy()
    sweep(place or tempfile.gettempdir(), identity)
    base = tempfile.mkdtemp(prefix=_PREFIX, dir=place)
    data, sockets = os.path.join(base, "data"), os.path.join(base, "s")
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(open(os.path.join(base, "lock"), "w", encoding="ascii"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        stack.callback(shutil.rmtree, base, ignore_errors=True)
        identity.give(base)
        identity.make_private_directory(sockets)
        tools.run("initdb", ["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"])
        options = {**_SETTINGS, "unix_socket_directories": sockets, "port": "5432"}
        words = " ".join(f"-c {name}={value or chr(39) * 2}" for name, value in options.items())
        log = os.path.join(base, "log")
        try:
            tools.run("pg_ctl", ["start", "-D", data, "-w", "-s", "-l", log, "-o", words])
            yield ConnectionSettings(login_unix_socket=sockets, login_port=5432), current_identity()
        finally:
            with contextlib.suppress(Exception):
                tools.run("pg_ctl", ["stop", "-D", data, "-m", "immediate", "-w", "-s"])


def sweep(place: str, identity: Identity) -> list[str]:
    """Stop and remove the throwaway servers of killed runs; their directories. Those that somebody uses stay.

    `place` is everybody's: only what we made, or made and gave to `identity`, is looked into.
    """
    removed = []
    for base in sorted(glob.glob(os.path.join(place, f"{_PREFIX}*"))):
        with contextlib.suppress(OSError):
            status, path = os.lstat(base), os.path.join(base, "lock")
            if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (os.geteuid(), identity.uid):
                continue
            if not os.path.lexists(path):
                if status.st_uid == os.geteuid() and time.time() - status.st_mtime > _YOUNG_S:
                    shutil.rmtree(base, ignore_errors=True)
                    removed.append(base)
                continue
            if os.lstat(path).st_uid != os.geteuid():
                continue
            with open(path, encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: somebody uses it
                _remove(base)
                removed.append(base)
    return removed


def _remove(base: str) -> None:
    pid = postmaster_pid(os.path.join(base, "data"))
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)  # what pg_ctl sends for an immediate stop
        until = time.monotonic() + 10
        while os.path.exists(f"/proc/{pid}") and time.monotonic() < until:
            time.sleep(0.02)
    shutil.rmtree(base, ignore_errors=True)


def newest_tools(identity: Identity, bin_dir: Optional[str] = None) -> Tools:
    """The programs of the newest server that is installed here, or those of `bin_dir`."""
    on_path = shutil.which("initdb")
    places = [bin_dir] if bin_dir else [path for pattern in _PLACES for path in glob.glob(pattern)]
    if on_path and not bin_dir:
        places.append(os.path.dirname(os.path.realpath(on_path)))
    found = []
    for place in dict.fromkeys(places):
        with contextlib.suppress(Exception):
            said = Tools(place, 0, identity).run("initdb", ["--version"])
            number = re.search(r"\(PostgreSQL\) (\d+)", said)
            if number and os.access(os.path.join(place, "postgres"), os.X_OK):
                found.append(Tools(place, int(number.group(1)), identity))
    if not found:
        raise NotFound(
            f"No PostgreSQL server is installed here; looked in {', '.join(places) or 'the usual places'}.",
            hint="Install one (postgresql), set host.bin_dir, or name a server to rehearse on.",
        )
    return max(found, key=lambda tools: tools.major)


def _roomy() -> Optional[str]:
    """Memory, where there is enough of it for a small server; the path of a socket has to be short."""
    with contextlib.suppress(OSError):
        if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 2 << 30:
            return "/dev/shm"
    return None
