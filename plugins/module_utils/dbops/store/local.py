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
from io import FileIO

from ..errors import BadInput, Busy, Corrupt, DbopsError, NotFound, Refused, Unreachable
from . import beneath
from .protocol import AlreadyThere, Folder, ObjectInfo, check_key
from .writeback import Writeback

CHUNK = 1 << 20


class LocalStore:
    """`root` must exist: a store that creates its own root would hide an unmounted disk."""

    def __init__(self, root: str, *, name: str = "local") -> None:
        self.root = root
        self.name = name
        self._settled: set[str] = set()  # directories whose names are known to be durable
        self._seen: tuple[int, int] | None = None  # the root's device and inode when we first looked

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
        with self._explained(verb):
            parent, part, descriptor = self._begin(directory)
        remains = [part]
        try:
            if if_absent and beneath.exists(parent, leaf):
                raise self._taken(key)
            writeback = Writeback(descriptor)
            for chunk in chunks:  # what goes wrong in there is the producer's affair, and keeps its own words
                with self._explained(verb):
                    beneath.write_all(descriptor, chunk)
                    writeback.wrote(len(chunk))
            with self._explained(verb):
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
                    self._settle_above(directory)
            return info
        except BaseException:
            for name in remains:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=parent)
            self._prune(directory)
            raise
        finally:
            os.close(descriptor)
            os.close(parent)

    def settle(self, key: str) -> None:
        directory, _leaf = os.path.split(check_key(key))
        descriptor = self._open(key)
        try:
            with self._explained(f"make {key} durable"):
                os.fsync(descriptor)
                with self._directory(directory) as parent:
                    os.fsync(parent)
                self._settle_above(directory)
        finally:
            os.close(descriptor)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        # opened here, so that NotFound comes at once, and a reader that never starts still closes it
        return self._read(os.fdopen(self._open(key), "rb", buffering=0), key, start, length)

    def _read(self, stream: FileIO, key: str, start: int, length: int | None) -> Iterator[bytes]:
        left = length
        with stream as file, self._explained(f"read {key}"):
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
                folder, leaf = os.path.split(check_key(key))
                top, name = os.path.split(folder)
                content: bytes | DbopsError | None
                try:
                    with self._explained(f"read {key}"):
                        if top != above:  # one walk down for all neighbours
                            above, directory = top, self._reopened(top, directory)
                        content = beneath.content(directory, name, leaf)
                except DbopsError as exc:
                    content = exc
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
        entries: list[ObjectInfo] = []
        with self._explained(f"list {prefix!r}"), self._existing(base) as descriptor:
            if descriptor is not None:
                entries = list(self._walk(descriptor, f"{base}/" if base else "", prefix))
        return iter(sorted(entries, key=lambda info: info.key))

    def children(self, prefix: str) -> Iterator[str]:
        names: list[str] = []
        with self._explained(f"list {prefix!r}"), self._existing(prefix) as descriptor:
            if descriptor is not None:
                with os.scandir(descriptor) as entries:
                    folders = (entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
                    names = [name for name in folders if not name.startswith(".")]
        return iter(sorted(names))

    def folder(self, prefix: str) -> Folder | None:
        objects: dict[str, ObjectInfo] = {}
        folders: dict[str, str] = {}
        with self._explained(f"list {prefix!r}"), self._existing(prefix) as descriptor:
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
        with self._explained(f"clean {prefix!r}"), self._existing(base) as descriptor:
            for directory, parts in beneath.parts_below(descriptor, base) if descriptor is not None else ():
                with self._directory(directory) as parent:
                    for part in parts:
                        os.unlink(part, dir_fd=parent)
                        swept += 1
                self._prune(directory)
        return swept

    def caveats(self) -> tuple[str, ...]:
        return ()

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
                    descriptor = os.open(leaf, beneath.READ, dir_fd=parent)
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
        descriptor = self._open_directory(path, create=create)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _existing(self, path: str) -> Iterator[int | None]:
        """The same, or None where there is no such directory; what vanishes inside the block is not taken for that."""
        try:
            descriptor = self._open_directory(path)
        except FileNotFoundError:
            if not os.path.isdir(self.root):
                raise self._away() from None
            yield None
            return
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _settle_above(self, directory: str) -> None:
        """The directory's own name, up to the root, once for each: whoever made it may have died before his fsync."""
        above = directory
        while above and above not in self._settled:
            above = os.path.dirname(above)
            with self._directory(above) as descriptor:
                os.fsync(descriptor)
        self._settled.add(directory)

    def _open_directory(self, path: str, *, create: bool = False) -> int:
        """Descriptor of a directory below the root, walked down component by component, no link followed."""
        parts = [part for part in path.split("/") if part]
        if any(part.startswith(".") for part in parts):
            raise BadInput(f"{path!r} cannot lead to a key.", hint="Use plain path components joined by slashes.")
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # the root itself may be a link
        try:
            self._note_root(os.fstat(descriptor), writing=create)
            for part in parts:
                if create:
                    beneath.make_directory(part, descriptor)
                below = os.open(part, beneath.DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _note_root(self, root: os.stat_result, *, writing: bool) -> None:
        """A disk that was unmounted under our feet leaves a directory that would take, and hide, what we write."""
        if self._seen is None:
            self._seen = (root.st_dev, root.st_ino)
        if writing and self._seen != (root.st_dev, root.st_ino):
            raise Unreachable(
                f"Repository {self.name!r} is not where it was: {self.root} is another directory now.",
                hint="Mount its disk, then run again.",
            )

    def _reopened(self, path: str, old: int) -> int:
        """Descriptor of another directory instead of the old one; -1 when it does not exist."""
        with self._existing(path) as descriptor:
            new = -1 if descriptor is None else os.dup(descriptor)
        if old >= 0:
            os.close(old)
        return new

    def _begin(self, directory: str) -> tuple[int, str, int]:
        """Descriptor of the directory, and name and descriptor of a new part in it."""
        part = f"{beneath.PART}{secrets.token_hex(8)}"
        for last_try in (False, False, False, True):
            parent = -1
            try:
                parent = self._open_directory(directory, create=True)
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
        with self._explained(f"lock {name}"):
            try:
                with self._directory(directory, create=True) as parent:
                    descriptor = os.open(f".lock-{leaf}", os.O_RDWR | os.O_CREAT | flags, 0o640, dir_fd=parent)
                    with contextlib.suppress(PermissionError):  # somebody else's, and open for us all the same
                        beneath.take_owner(descriptor, parent)
                    return descriptor
            except OSError as exc:
                if not shared or exc.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                    raise
            try:
                with self._directory(directory) as parent:
                    return os.open(f".lock-{leaf}", os.O_RDONLY | flags, dir_fd=parent)
            except (FileNotFoundError, PermissionError):
                return None

    def _walk(self, directory: int, path: str, prefix: str) -> Iterator[ObjectInfo]:
        with os.scandir(directory) as entries:
            for entry in entries:
                key = path + entry.name
                # deleted between the two looks: it is gone, and the rest of the list is none the worse
                with contextlib.suppress(FileNotFoundError):
                    if entry.name.startswith("."):
                        continue  # a part, a lock, a file server's .snapshot: no key begins with a dot
                    if entry.is_dir(follow_symlinks=False):
                        if f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/"):
                            yield from self._below(directory, entry.name, key, prefix)
                    elif key.startswith(prefix) and entry.is_file(follow_symlinks=False):
                        yield self._info(key, entry.stat(follow_symlinks=False), {})

    def _below(self, directory: int, name: str, key: str, prefix: str) -> Iterator[ObjectInfo]:
        descriptor = os.open(name, beneath.DIRECTORY, dir_fd=directory)
        try:
            yield from self._walk(descriptor, f"{key}/", prefix)
        finally:
            os.close(descriptor)

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
            if exc.errno in (errno.ELOOP, errno.ENOTDIR):
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
