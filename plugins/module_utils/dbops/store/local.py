# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory as a store: a local disk, or a mounted one.

Order of a put: temporary file in the same directory → write → fsync → rename, or link for the first writer →
fsync of the directory and of each directory made on the way (local_root.py).
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
from io import FileIO

from ..errors import BadInput, Busy, Corrupt, DbopsError, NotFound
from . import beneath
from .local_root import Root
from .protocol import AlreadyThere, Folder, ObjectInfo, check_key
from .writeback import Writeback

CHUNK = 1 << 20


class LocalStore:
    """`root` must exist: a store that creates its own root would hide an unmounted disk."""

    def __init__(self, root: str, *, name: str = "local") -> None:
        self.root = root
        self.name = name
        self._root = Root(root, name)

    def put(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        if_absent: bool = False,
        relied_on: bool = False,
        metadata: Mapping[str, str] | None = None,
        retain_until: datetime | None = None,
    ) -> ObjectInfo:
        if retain_until is not None:
            raise BadInput(
                f"Repository {self.name!r} is a directory: it cannot lock {key} against deletion.",
                hint="Lock objects in an object store, or snapshot the file system.",
            )
        directory, leaf = os.path.split(check_key(key))
        verb = f"write {key}"
        with self._root.explained(verb):
            parent, part, descriptor = self._begin(directory)
        remains = [part]
        try:
            if if_absent and beneath.exists(parent, leaf):
                raise self._taken(key)
            writeback = Writeback(descriptor)
            for chunk in chunks:  # what goes wrong in there is the producer's affair, and keeps its own words
                with self._root.explained(verb):
                    beneath.write_all(descriptor, chunk)
                    writeback.wrote(len(chunk))
            with self._root.explained(verb):
                beneath.keep_metadata(descriptor, metadata or {})
                os.fsync(descriptor)
                info = self._info(key, os.fstat(descriptor), dict(metadata or {}))
                if not if_absent:
                    os.rename(part, leaf, src_dir_fd=parent, dst_dir_fd=parent)
                elif not beneath.link(part, leaf, parent, descriptor):
                    raise self._taken(key)
                else:
                    if not relied_on:
                        remains.append(leaf)  # ours, but not durable yet
                    os.unlink(part, dir_fd=parent)
                os.fsync(parent)
                if relied_on:
                    self._root.settle_above(directory)
            return info
        except BaseException:
            for name in remains:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=parent)
            self._root.prune(directory)
            raise
        finally:
            os.close(descriptor)
            os.close(parent)

    def settle(self, key: str) -> None:
        directory, _leaf = os.path.split(check_key(key))
        descriptor = self._open(key)
        try:
            with self._root.explained(f"make {key} durable"):
                os.fsync(descriptor)
                with self._root.directory(directory) as parent:
                    os.fsync(parent)
                self._root.settle_above(directory)
        finally:
            os.close(descriptor)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        # opened here, so that NotFound comes at once, and a reader that never starts still closes it
        return self._read(os.fdopen(self._open(key), "rb", buffering=0), key, start, length)

    def _read(self, stream: FileIO, key: str, start: int, length: int | None) -> Iterator[bytes]:
        left = length
        with stream as file, self._root.explained(f"read {key}"):
            os.posix_fadvise(file.fileno(), start, length or 0, os.POSIX_FADV_SEQUENTIAL)
            file.seek(start)
            while left is None or left > 0:
                chunk = file.read(CHUNK if left is None else min(CHUNK, left))
                if not chunk:
                    return
                left = None if left is None else left - len(chunk)
                yield chunk

    def read_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | DbopsError | None]]:
        above, directory = None, -1
        try:
            for key in keys:
                folder, _slash, leaf = check_key(key).rpartition("/")
                top, _slash, name = folder.rpartition("/")
                content: bytes | DbopsError | None
                try:
                    if top != above:  # one walk down for all neighbours
                        above, directory = top, self._root.reopened(top, directory)
                    content = beneath.content(directory, name, leaf)
                except DbopsError as exc:
                    content = exc
                except OSError as exc:
                    content = self._root.refusal(f"read {key}", exc)
                yield key, content
        finally:
            if directory >= 0:
                os.close(directory)

    def head(self, key: str) -> ObjectInfo:
        descriptor = self._open(key)
        try:
            return self._info(key, os.fstat(descriptor), beneath.kept_metadata(descriptor))
        finally:
            os.close(descriptor)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        base = prefix.rsplit("/", 1)[0] if "/" in prefix else ""
        found: dict[str, os.stat_result] = {}
        with self._root.explained(f"list {prefix!r}"), self._root.existing(base) as descriptor:
            if descriptor is not None:
                beneath.collect(descriptor, f"{base}/" if base else "", prefix, found)
        return (self._info(key, found[key], {}) for key in sorted(found))

    def children(self, prefix: str) -> Iterator[str]:
        names: list[str] = []
        with self._root.explained(f"list {prefix!r}"), self._root.existing(prefix) as descriptor:
            if descriptor is not None:
                with os.scandir(descriptor) as entries:
                    folders = (entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
                    names = [name for name in folders if not name.startswith(".")]
        return iter(sorted(names))

    def folder(self, prefix: str) -> Folder | None:
        objects: dict[str, ObjectInfo] = {}
        folders: dict[str, str] = {}
        with self._root.explained(f"list {prefix!r}"), self._root.existing(prefix) as descriptor:
            if descriptor is not None:
                for name, status in beneath.entries(descriptor):
                    if stat.S_ISDIR(status.st_mode):
                        folders[name] = beneath.stamp(status)
                    elif stat.S_ISREG(status.st_mode):
                        objects[name] = self._info(prefix + name, status, {})
        return Folder(tuple(objects[name] for name in sorted(objects)), dict(sorted(folders.items())))

    @contextlib.contextmanager
    def lock(self, name: str, *, shared: bool = False) -> Iterator[None]:
        """flock on a hidden file: the kernel frees it however the process ends."""
        descriptor = self._lock_file(name, shared=shared)
        if descriptor is None:
            yield  # a reader of a place that nobody here can write to: there is no one to exclude
            return
        try:
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
                raise Busy(
                    f"Repository {self.name!r} is in use: {name} is locked by {holder or 'another run'}.",
                    hint="Wait until it has finished, then run again; the lock goes with the process that holds it.",
                ) from exc
            with contextlib.suppress(OSError):  # read-only for us, or a full disk: the name is only a courtesy
                os.ftruncate(descriptor, 0)  # whoever wrote it is gone
                if not shared:
                    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def delete(self, key: str) -> None:
        directory, leaf = os.path.split(check_key(key))
        with self._root.explained(f"delete {key}"):
            try:
                with self._root.directory(directory) as parent:
                    os.unlink(leaf, dir_fd=parent)
                    os.fsync(parent)
            except FileNotFoundError:
                if not os.path.isdir(self.root):
                    raise self._root.away() from None
                return
            self._root.prune(directory)

    def sweep(self, prefix: str = "") -> int:
        swept = 0
        base = prefix.rstrip("/")
        with self._root.explained(f"clean {prefix!r}"), self._root.existing(base) as descriptor:
            for directory, parts in beneath.parts_below(descriptor, base) if descriptor is not None else ():
                with self._root.directory(directory) as parent:
                    for part in parts:
                        os.unlink(part, dir_fd=parent)
                        swept += 1
                self._root.prune(directory)
        return swept

    def caveats(self) -> tuple[str, ...]:
        return ()

    def free_bytes(self) -> int | None:
        with self._root.explained("ask for free space"):
            usage = os.statvfs(self.root)
        return usage.f_bavail * usage.f_frsize

    # -- below: how

    def _open(self, key: str) -> int:
        directory, leaf = os.path.split(check_key(key))
        with self._root.explained(f"read {key}"):
            try:
                with self._root.directory(directory) as parent:
                    descriptor = os.open(leaf, beneath.READ, dir_fd=parent)
            except FileNotFoundError as exc:
                if not os.path.isdir(self.root):
                    raise self._root.away() from exc
                raise NotFound(
                    f"Repository {self.name!r} has no object {key!r}.", hint=f"Looked below {self.root}."
                ) from exc
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Corrupt(f"{key!r} in repository {self.name!r} is not a file.", hint="See who put it there.")
        return descriptor

    def _begin(self, directory: str) -> tuple[int, str, int]:
        """Descriptor of the directory, and name and descriptor of a new part in it."""
        part = f"{beneath.PART}{secrets.token_hex(8)}"
        for last_try in (False, False, False, True):
            parent = -1
            try:
                parent = self._root.open(directory, create=True)
                return parent, part, beneath.new_file(part, parent)
            except BaseException as exc:
                if parent >= 0:
                    os.close(parent)
                # Somebody who deleted its last object pruned the directory under our feet: make it again.
                if last_try or not isinstance(exc, FileNotFoundError) or not os.path.isdir(self.root):
                    raise
        raise AssertionError("the last try returns or raises")

    def _lock_file(self, name: str, *, shared: bool) -> int | None:
        """The lock's file; for a reader who may not write there, whatever can be locked, or None."""
        directory, leaf = os.path.split(check_key(name))
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        with self._root.explained(f"lock {name}"):
            try:
                with self._root.directory(directory, create=True) as parent:
                    descriptor = os.open(f".lock-{leaf}", os.O_RDWR | os.O_CREAT | flags, 0o640, dir_fd=parent)
                    with contextlib.suppress(PermissionError):  # somebody else's, and open for us all the same
                        beneath.take_owner(descriptor, parent)
                    return descriptor
            except OSError as exc:
                if not shared or exc.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                    raise
            try:
                with self._root.directory(directory) as parent:
                    return os.open(f".lock-{leaf}", os.O_RDONLY | flags, dir_fd=parent)
            except (FileNotFoundError, PermissionError):
                return None

    def _info(self, key: str, status: os.stat_result, metadata: dict[str, str]) -> ObjectInfo:
        return ObjectInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, timezone.utc), metadata)

    def _taken(self, key: str) -> AlreadyThere:
        return AlreadyThere(
            f"Repository {self.name!r} already holds {key!r}, and nothing that is stored is ever overwritten.",
            hint="Another writer was first; look at the object before anything else.",
        )
