# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_basebackup as a stream of archives, its manifest and WAL beside them.

To standard output pg_basebackup can write neither tablespaces, nor the manifest of a server-compressed backup. To a
directory it can, one archive after the other, in the order in which the server sends them. So it gets a directory in
which each archive's name is a FIFO that we read: nothing is staged but the manifest and the WAL of the backup itself.

pg_basebackup insists on an empty or missing directory, so the FIFOs are made right after it has created the directory
and before it opens the first archive; several round trips and a checkpoint lie between. Should we be late once, mkfifo
finds a file in its place, and the run is started again: late is noticed, never guessed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Optional

from ..codec.stream import read_chunks
from ..errors import ToolFailed, Unreachable
from ..pg.connection import conninfo
from ..pg.server import Server

_F_SETPIPE_SZ = 1031  # fcntl.F_SETPIPE_SZ, which Python names from 3.10 on
_PIPE_BYTES = 1 << 20
_ATTEMPTS = 5


@dataclass(frozen=True)
class Archive:
    """One tar in flight; its chunks must be read to the end before the next archive is asked for."""

    name: str  # base.tar or <oid>.tar, without a codec's suffix
    tablespace_oid: Optional[int]
    chunks: Iterator[bytes]


@dataclass(frozen=True)
class Options:
    """`server_compression` is pg_basebackup's own word, such as `server-zstd:level=1,workers=2`, or None."""

    application_name: str
    server_compression: Optional[str] = None
    suffix: str = ""
    checkpoint: str = "fast"
    max_rate_kib_s: Optional[int] = None
    parent_manifest: Optional[str] = None


class _Late(Exception):
    """pg_basebackup opened an archive before its FIFO was there."""


class BaseBackup:
    def __init__(self, process: subprocess.Popen[bytes], directory: str, names: dict[str, Optional[int]], suffix: str):
        self._process = process
        self._directory = directory
        self._suffix = suffix
        self._waiting = {self._open_fifo(name): (name, oid) for name, oid in names.items()}

    @property
    def manifest_path(self) -> str:
        return os.path.join(self._directory, "backup_manifest")

    @property
    def wal_path(self) -> str:
        return os.path.join(self._directory, "pg_wal.tar")

    def archives(self) -> Iterator[Archive]:
        """The archives as they come; ends early when pg_basebackup does, whose exit code then says why."""
        poll = select.poll()
        for descriptor in self._waiting:
            poll.register(descriptor, select.POLLIN)
        while self._waiting:
            events = poll.poll(200)
            if events:
                descriptor = events[0][0]
                poll.unregister(descriptor)
                name, oid = self._waiting.pop(descriptor)
                os.set_blocking(descriptor, True)
                with os.fdopen(descriptor, "rb", buffering=_PIPE_BYTES) as stream:
                    yield Archive(name, oid, read_chunks(stream))
            elif self._process.poll() is not None:
                if self._process.returncode == 0:
                    missing = ", ".join(name for name, _oid in self._waiting.values())
                    raise ToolFailed(f"pg_basebackup ended without sending {missing}.", hint="Run the backup again.")
                return

    def wait(self) -> None:
        """Until pg_basebackup has written manifest and WAL and left; the caller's context checks its exit code."""
        self._process.wait()

    def close(self) -> None:
        while self._waiting:
            os.close(self._waiting.popitem()[0])

    def _open_fifo(self, name: str) -> int:
        path = os.path.join(self._directory, name + self._suffix)
        try:
            os.mkfifo(path, 0o600)
        except FileExistsError:
            raise _Late from None
        owner = os.stat(self._directory)
        if os.geteuid() == 0:
            os.chown(path, owner.st_uid, owner.st_gid)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_BYTES)
        return descriptor


@contextlib.contextmanager
def base_backup(server: Server, directory: str, options: Options) -> Iterator[BaseBackup]:
    """A running pg_basebackup that writes into `directory`, which must not exist. ToolFailed when it ends badly."""
    names: dict[str, Optional[int]] = {f"{space.oid}.tar": space.oid for space in server.tablespaces}
    names["base.tar"] = None
    for _attempt in range(_ATTEMPTS):
        with server.tools.started(
            "pg_basebackup", _arguments(server, directory, options), with_children=True
        ) as process:
            try:
                _wait_for(directory, process)
                if process.poll() is not None:
                    continue  # its exit code is checked on the way out, and raises
                running = BaseBackup(process, directory, names, options.suffix)
            except _Late:
                process.terminate()
                process.wait()
                process.returncode = 0  # killed by us, and told by the loop going on
                shutil.rmtree(directory, ignore_errors=True)
                continue
            try:
                yield running
            finally:
                running.close()
            return
    raise Unreachable(
        f"pg_basebackup could not be caught in time in {_ATTEMPTS} attempts.",
        hint="This host is overloaded: run the backup again when it is calmer.",
    )


def _wait_for(directory: str, process: subprocess.Popen[bytes]) -> None:
    while not os.path.isdir(directory) and process.poll() is None:
        time.sleep(0.001)


def _arguments(server: Server, directory: str, options: Options) -> list[str]:
    connection = replace(
        server.connection,
        connect_params={**server.connection.connect_params, "application_name": options.application_name},
    )
    arguments = [
        "--dbname", conninfo(connection),
        "--pgdata", directory,
        "--format", "tar",
        "--wal-method", "stream",
        "--checkpoint", options.checkpoint,
        "--label", options.application_name,
        "--no-sync",  # the archives are pipes; the store makes what it keeps durable
        "--no-password",
    ]  # fmt: skip
    if server.major >= 15:
        arguments += ["--compress", options.server_compression or "none"]
    if options.max_rate_kib_s:
        arguments += ["--max-rate", str(options.max_rate_kib_s)]
    if options.parent_manifest:
        arguments += ["--incremental", options.parent_manifest]
    return arguments
