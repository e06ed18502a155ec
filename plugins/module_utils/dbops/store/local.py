# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory as a store: a local disk, or a mounted one.

Order of a put: temporary file in the same directory → write → fsync → rename, or link for the first writer →
fsync of the directory and of each directory made on the way. All steps go through directory descriptors that
follow no symbolic link, because root may be writing into a tree that another user owns.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import socket
import stat
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Callable

from ..errors import Busy, Corrupt, DbopsError, NotFound, Refused, Unreachable
from .protocol import AlreadyThere, ObjectInfo, check_key

CHUNK = 1 << 20
_PART = ".part-"
_XATTR = "user.dbops."
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalStore:
    """`root` must exist: a store that creates its own root would hide an unmounted disk."""

    def __init__(self, root: str, *, name: str = "local") -> None:
        self.root = root
        self.name = name

    def put(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        if_absent: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        directory, leaf = os.path.split(check_key(key))
        with self._explained(f"write {key}"), self._directory(directory, create=True) as parent:
            if if_absent and _exists(parent, leaf):
                raise self._taken(key)
            temporary = f"{_PART}{secrets.token_hex(8)}"
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640, dir_fd=parent)
            try:
                with os.fdopen(descriptor, "wb", buffering=0) as file:
                    _take_owner(file.fileno(), parent)
                    for chunk in chunks:
                        _write_all(file.fileno(), chunk)
                    _keep_metadata(file.fileno(), metadata or {})
                    os.fsync(file.fileno())
                    info = self._info(key, os.fstat(file.fileno()), dict(metadata or {}))
                if if_absent:
                    os.link(temporary, leaf, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
                else:
                    os.rename(temporary, leaf, src_dir_fd=parent, dst_dir_fd=parent)
                    temporary = ""
            except FileExistsError as exc:
                raise self._taken(key) from exc
            finally:
                if temporary:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(temporary, dir_fd=parent)
            os.fsync(parent)
        return info

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        descriptor = self._open(key)
        return self._read(descriptor, key, start, length)

    def _read(self, descriptor: int, key: str, start: int, length: int | None) -> Iterator[bytes]:
        left = length
        with os.fdopen(descriptor, "rb", buffering=0) as file, self._explained(f"read {key}"):
            os.posix_fadvise(file.fileno(), start, length or 0, os.POSIX_FADV_SEQUENTIAL)
            file.seek(start)
            while left is None or left > 0:
                chunk = file.read(CHUNK if left is None else min(CHUNK, left))
                if not chunk:
                    return
                left = None if left is None else left - len(chunk)
                yield chunk

    def head(self, key: str) -> ObjectInfo:
        descriptor = self._open(key)
        try:
            return self._info(key, os.fstat(descriptor), _metadata(descriptor))
        finally:
            os.close(descriptor)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        base = prefix.rsplit("/", 1)[0] if "/" in prefix else ""
        with self._explained(f"list {prefix!r}"):
            try:
                with self._directory(base) as descriptor:
                    entries = list(self._walk(descriptor, f"{base}/" if base else "", prefix))
            except FileNotFoundError:
                if not os.path.isdir(self.root):
                    raise self._away() from None
                entries = []
        return iter(sorted(entries, key=lambda info: info.key))

    def children(self, prefix: str) -> Iterator[str]:
        names: list[str] = []
        with self._explained(f"list {prefix!r}"):
            try:
                with self._directory(prefix) as descriptor, os.scandir(descriptor) as entries:
                    names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            except FileNotFoundError:
                if not os.path.isdir(self.root):
                    raise self._away() from None
        return iter(sorted(names))

    @contextlib.contextmanager
    def lock(self, name: str, *, shared: bool = False) -> Iterator[None]:
        """flock on a hidden file: the kernel frees it however the process ends."""
        directory, leaf = os.path.split(check_key(name))
        with self._explained(f"lock {name}"), self._directory(directory, create=True) as parent:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(f".lock-{leaf}", flags, 0o640, dir_fd=parent)
            _take_owner(descriptor, parent)
        try:
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
                raise Busy(
                    f"Repository {self.name!r} is in use: {name} is locked by {holder or 'another run'}.",
                    hint="Wait until it has finished, then run again; the lock goes with the process that holds it.",
                ) from exc
            if not shared:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def delete(self, key: str) -> None:
        directory, leaf = os.path.split(check_key(key))
        with self._explained(f"delete {key}"):
            try:
                with self._directory(directory) as parent:
                    os.unlink(leaf, dir_fd=parent)
                    os.fsync(parent)
            except FileNotFoundError:
                if not os.path.isdir(self.root):
                    raise self._away() from None
                return
            self._prune(directory)

    def sweep(self, prefix: str = "") -> int:
        swept = 0
        base = prefix.rstrip("/")
        with self._explained(f"clean {prefix!r}"):
            try:
                with self._directory(base) as descriptor:
                    for directory, parts in _parts_below(descriptor, base):
                        with self._directory(directory) as parent:
                            for part in parts:
                                os.unlink(part, dir_fd=parent)
                                swept += 1
                        self._prune(directory)
            except FileNotFoundError:
                return swept
        return swept

    def free_bytes(self) -> int | None:
        with self._explained("ask for free space"):
            usage = os.statvfs(self.root)
        return usage.f_bavail * usage.f_frsize

    # -- below: how

    def _open(self, key: str) -> int:
        directory, leaf = os.path.split(check_key(key))
        with self._explained(f"read {key}"):
            try:
                with self._directory(directory) as parent:
                    descriptor = os.open(leaf, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            except FileNotFoundError as exc:
                if not os.path.isdir(self.root):
                    raise self._away() from exc
                raise NotFound(
                    f"Repository {self.name!r} has no object {key!r}.", hint=f"Looked below {self.root}."
                ) from exc
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Corrupt(f"{key!r} in repository {self.name!r} is not a file.", hint="See who put it there.")
        return descriptor

    @contextlib.contextmanager
    def _directory(self, path: str, *, create: bool = False) -> Iterator[int]:
        """Descriptor of a directory below the root, walked down component by component, no link followed."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # the root itself may be a link
        try:
            for part in [part for part in path.split("/") if part]:
                if create:
                    _make_directory(part, descriptor)
                below = os.open(part, _DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    def _walk(self, directory: int, path: str, prefix: str) -> Iterator[ObjectInfo]:
        with os.scandir(directory) as entries:
            for entry in entries:
                key = path + entry.name
                if entry.is_dir(follow_symlinks=False):
                    if f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/"):
                        below = os.open(entry.name, _DIRECTORY, dir_fd=directory)
                        try:
                            yield from self._walk(below, f"{key}/", prefix)
                        finally:
                            os.close(below)
                elif key.startswith(prefix) and entry.is_file(follow_symlinks=False) and not entry.name.startswith("."):
                    yield self._info(key, entry.stat(follow_symlinks=False), {})

    def _prune(self, path: str) -> None:
        """Drop directories that have become empty, upwards; a neighbour's new file makes rmdir stop by itself."""
        while path:
            above, leaf = os.path.split(path)
            try:
                with self._directory(above) as parent:
                    os.rmdir(leaf, dir_fd=parent)
            except OSError:
                return
            path = above

    def _info(self, key: str, status: os.stat_result, metadata: dict[str, str]) -> ObjectInfo:
        return ObjectInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, timezone.utc), metadata)

    def _taken(self, key: str) -> AlreadyThere:
        return AlreadyThere(
            f"Repository {self.name!r} already holds {key!r}, and nothing that is stored is ever overwritten.",
            hint="Another writer was first; look at the object before anything else.",
        )

    def _away(self) -> Unreachable:
        return Unreachable(
            f"Repository {self.name!r} is not there: {self.root} does not exist.",
            hint="Mount the disk, or run playbooks/setup.yml if this host is new.",
        )

    @contextlib.contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        try:
            yield
        except DbopsError:
            raise
        except OSError as exc:
            if not os.path.isdir(self.root):
                raise self._away() from exc
            if exc.errno == errno.ELOOP or (exc.errno == errno.ENOTDIR and "write" in verb):
                raise Refused(
                    f"Repository {self.name!r} cannot {verb}: something on the way is a symbolic link or a file.",
                    hint=f"Only plain directories may lie below {self.root}.",
                ) from exc
            raise Unreachable(
                f"Repository {self.name!r} at {self.root} cannot {verb}: {exc.strerror or exc}.", hint=_advice(exc)
            ) from exc


def _advice(exc: OSError) -> str:
    advice: dict[int | None, str] = {
        errno.ENOSPC: "Free space there or expire old backups (dbops expire), then run again.",
        errno.EDQUOT: "The quota is used up: raise it or expire old backups (dbops expire), then run again.",
        errno.EROFS: "The file system is read-only: remount it read-write (see dmesg for why it became so).",
        errno.EACCES: "Give the cluster's OS user the directory: chown it, or run playbooks/setup.yml.",
        errno.EPERM: "Give the cluster's OS user the directory: chown it, or run playbooks/setup.yml.",
    }
    return advice.get(exc.errno, "Check the disk (dmesg), then run again.")


def _exists(parent: int, leaf: str) -> bool:
    try:
        os.stat(leaf, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _make_directory(name: str, parent: int) -> None:
    try:
        os.mkdir(name, 0o750, dir_fd=parent)
    except FileExistsError:
        return
    descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        _take_owner(descriptor, parent)
    finally:
        os.close(descriptor)
    os.fsync(parent)


def _take_owner(descriptor: int, parent: int) -> None:
    """As root, what we make belongs to whom its directory belongs, so that the cluster's own user can go on with it."""
    if os.geteuid() == 0:
        owner = os.fstat(parent)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def _keep_metadata(descriptor: int, metadata: Mapping[str, str]) -> None:
    """Extended attributes where the file system has them: atomic with the file, and no second file to lose."""
    for name, value in metadata.items():
        with contextlib.suppress(OSError):
            os.setxattr(descriptor, _XATTR + name, value.encode())


def _metadata(descriptor: int) -> dict[str, str]:
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for name in os.listxattr(descriptor):
            if name.startswith(_XATTR):
                found[name[len(_XATTR) :]] = os.getxattr(descriptor, name).decode()
    return found


def _parts_below(descriptor: int, base: str) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []

    def fail(exc: OSError) -> None:
        raise exc

    onerror: Callable[[OSError], None] = fail
    for path, _directories, files, _fd in os.fwalk(".", dir_fd=descriptor, onerror=onerror):
        parts = [name for name in files if name.startswith(_PART)]
        if parts or (not files and not _directories):
            found.append((os.path.normpath(os.path.join(base, path)).lstrip("."), parts))
    return found
