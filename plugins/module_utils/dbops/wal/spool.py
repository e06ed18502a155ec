# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands, scripts and workers of one cluster tell each other, in files on this host.

<spool>/cluster                            whose spool it is: the system identifier; mtime = that of its PG_VERSION
<spool>/push/<system>/<file>.ok            durable in every required repository; mtime = that of the file in pg_wal
<spool>/push/<system>/<file>.error         why the worker could not push it
<spool>/push/{lock,worker.pid,poke}        one worker at a time; a byte in the FIFO wakes it
<spool>/get/<boot>/<system>/<segment>      fetched ahead, verified; .ok beside it has its mtime until it is taken
<spool>/get/{lock,worker.pid,poke,want}

An equal mtime is what a shell can check without starting anything. It ties a marker to that very version of a file:
a segment that was written again later, by whatever cluster and whatever the clock says, is another one. Prefetched
files belong to one boot, because after a power cut a file may have its name and lack its bytes.
All of it may vanish at any time: then work is done again, and nothing is lost.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from .cluster import Cluster

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
OK, ERROR = ".ok", ".error"


@dataclass(frozen=True)
class Version:
    """One state of one file."""

    mtime_ns: int
    size_bytes: int
    inode: int


def version_of(path: str) -> Version:
    found = os.stat(path)
    return Version(found.st_mtime_ns, found.st_size, found.st_ino)


class Spool:
    def __init__(self, path: str, cluster: Cluster) -> None:
        self.path = path
        self.cluster = cluster
        self.push = Desk(os.path.join(path, "push"))
        self.get = Desk(os.path.join(path, "get"))
        self.markers = os.path.join(path, "push", cluster.system_identifier)
        self.ready = os.path.join(path, "get", boot_id() or "unknown", cluster.system_identifier)

    def claim(self) -> None:
        """Make the spool this cluster's: what another system or another boot left here goes."""
        seal = os.path.join(self.path, "cluster")
        if not self._is_ours(seal):
            make_directory(self.path)
            write(seal, self.cluster.system_identifier, mtime_ns=self.cluster.born_ns)
        for above, ours in ((self.push.path, self.markers), (self.get.path, self.ready)):
            if not os.path.isdir(ours):
                self._drop_strangers(above, ours)
                make_directory(ours)

    def may_claim(self) -> bool:
        """The same, if it can be written. One that cannot (full, read-only) costs speed, and nothing else."""
        try:
            self.claim()
        except OSError:
            return False
        return True

    def is_acknowledged(self, name: str, version: Version) -> bool:
        """Whether a marker says that exactly this file is durable wherever it must be."""
        return self._marked(self.markers, name, version)

    def acknowledge(self, name: str, version: Version) -> None:
        write(os.path.join(self.markers, name + OK), _text(version), mtime_ns=version.mtime_ns)
        forget(os.path.join(self.markers, name + ERROR))

    def _marked(self, directory: str, name: str, version: Version) -> bool:
        marker = os.path.join(directory, name + OK)
        try:
            with open(marker, encoding="ascii") as stream:
                return stream.read().strip() == _text(version)
        except (OSError, ValueError):
            return False

    def _is_ours(self, seal: str) -> bool:
        try:
            with open(seal, encoding="ascii") as stream:
                same = stream.read().strip() == self.cluster.system_identifier
            return same and os.stat(seal).st_mtime_ns == self.cluster.born_ns
        except (OSError, ValueError):
            return False

    @staticmethod
    def _drop_strangers(above: str, ours: str) -> None:
        """Directories of other systems and boots. One that is in use by a worker is empty the next time."""
        with contextlib.suppress(OSError):
            for name in os.listdir(above):
                path = os.path.join(above, name)
                if os.path.isdir(path) and not ours.startswith(path + "/") and path != ours:
                    shutil.rmtree(path, ignore_errors=True)
        parent = os.path.dirname(ours)
        if parent != above:
            with contextlib.suppress(OSError):
                for name in os.listdir(parent):
                    shutil.rmtree(os.path.join(parent, name), ignore_errors=True)


class Desk:
    """Where one kind of worker is found, woken and kept single."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fifo = os.path.join(path, "poke")
        self._pid = os.path.join(path, "worker.pid")

    @contextlib.contextmanager
    def hold(self) -> Iterator[bool]:
        """True for the one who is the worker now; the kernel takes the lock back however it ends."""
        descriptor = os.open(os.path.join(self.path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give(descriptor)
        try:
            if not _locked(descriptor):
                yield False
                return
            write(self._pid, str(os.getpid()))
            try:
                yield True
            finally:
                forget(self._pid)
        finally:
            os.close(descriptor)

    def has_worker(self) -> bool:
        try:
            descriptor = os.open(os.path.join(self.path, "lock"), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def await_worker(self, limit_s: float = 0.5) -> None:
        """Let a worker arrive that was just started: the server asks for the next file at once, and without a worker
        it would start an interpreter again for nothing."""
        until = time.monotonic() + limit_s
        while not self.has_worker() and time.monotonic() < until:
            time.sleep(0.01)

    def open_fifo(self) -> int:
        """For the worker: readable when somebody poked. Open for writing too, so that it never reads an end of file."""
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self._fifo, 0o600)
        descriptor = os.open(self._fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        give(descriptor)
        return descriptor

    def poke(self) -> None:
        """Wake the worker; nothing happens when there is none, or when it has been woken often enough."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(descriptor, b"\n")
            finally:
                os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Tried for a fifth of a second: who asks whether there is a worker holds the lock for a moment himself."""
    for _try in range(20):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.01)
    return False


def wait_for_poke(fifo: int, timeout_s: float) -> bool:
    readable = select.select([fifo], [], [], max(0.0, timeout_s))[0]
    if readable:
        with contextlib.suppress(BlockingIOError):
            while len(os.read(fifo, 4096)) == 4096:
                continue
    return bool(readable)


def boot_id() -> Optional[str]:
    try:
        with open(_BOOT_ID, encoding="ascii") as stream:
            return stream.read().strip()
    except (OSError, ValueError):
        return None


def make_directory(path: str) -> None:
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_directory(parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
        give_path(path)


def write(path: str, text: str, *, mtime_ns: Optional[int] = None, durable: bool = False) -> None:
    """A small file, there whole or not at all."""
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            data = text.encode("utf-8", "backslashreplace") + b"\n"
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            give(descriptor)
            if mtime_ns is not None:
                os.utime(descriptor, ns=(mtime_ns, mtime_ns))
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except BaseException:
        forget(temporary)
        raise
    if durable:
        parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)


def forget(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def give(descriptor: int) -> None:
    """What root makes here belongs to whom the spool belongs: the server's own user goes on with it."""
    if os.geteuid() == 0:
        owner = os.stat(os.path.dirname(os.readlink(f"/proc/self/fd/{descriptor}")))
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def give_path(path: str) -> None:
    if os.geteuid() == 0:
        owner = os.stat(os.path.dirname(path))
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _text(version: Version) -> str:
    return f"{version.mtime_ns} {version.size_bytes} {version.inode}"
