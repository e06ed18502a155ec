# SPDX-License-Identifier: GPL-3.0-or-later
"""The local store's single steps, each relative to an open directory: no path walked twice, no link followed."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from typing import Callable

from ..errors import Corrupt

PART = ".part-"
SETTLED_S = 60
_XATTR = "user.dbops."
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO must not hold us
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def link(part: str, leaf: str, parent: int, descriptor: int) -> bool:
    """Give the part its name, if nobody has that name yet; says whether."""
    try:
        os.link(part, leaf, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
    except FileExistsError:
        # NFS may lose the answer and ask again: then the name is taken, by us
        return os.fstat(descriptor).st_nlink == 2
    return True


def content(directory: int, name: str, leaf: str) -> bytes | None:
    """The whole of `name`/`leaf` below an open directory; None when it is not there."""
    if directory < 0:
        return None
    below = directory
    try:
        if name:
            below = os.open(name, DIRECTORY, dir_fd=directory)
        descriptor = os.open(leaf, READ, dir_fd=below)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Corrupt(f"{name}/{leaf} is not a file.", hint="See who put it there.")
            first = os.read(descriptor, status.st_size + 1)
            if len(first) == status.st_size:  # the whole of it: a byte more was asked for, and did not come
                return first
            return first + b"".join(iter(lambda: os.read(descriptor, status.st_size + 1), b""))
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    finally:
        if below not in (directory, -1):
            os.close(below)


def exists(parent: int, leaf: str) -> bool:
    try:
        os.stat(leaf, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def new_file(name: str, parent: int) -> int:
    """Descriptor of a file that nobody had before."""
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640, dir_fd=parent)
    try:
        take_owner(descriptor, parent)
    except BaseException:
        os.close(descriptor)
        os.unlink(name, dir_fd=parent)
        raise
    return descriptor


def make_directory(name: str, parent: int) -> None:
    try:
        os.mkdir(name, 0o750, dir_fd=parent)
    except FileExistsError:
        return
    descriptor = os.open(name, DIRECTORY, dir_fd=parent)
    try:
        take_owner(descriptor, parent)
    finally:
        os.close(descriptor)
    os.fsync(parent)


def take_owner(descriptor: int, parent: int) -> None:
    """As root, what we make belongs to whom its directory belongs, so that the cluster's own user can go on with it."""
    if os.geteuid() == 0:
        owner = os.fstat(parent)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def keep_metadata(descriptor: int, metadata: Mapping[str, str]) -> None:
    """Extended attributes where the file system has them: atomic with the file, and no second file to lose."""
    for name, value in metadata.items():
        with contextlib.suppress(OSError):
            os.setxattr(descriptor, _XATTR + name, value.encode())


def kept_metadata(descriptor: int) -> dict[str, str]:
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for name in os.listxattr(descriptor):
            if name.startswith(_XATTR):
                found[name[len(_XATTR) :]] = os.getxattr(descriptor, name).decode()
    return found


def parts_below(descriptor: int, base: str) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []

    def fail(exc: OSError) -> None:
        raise exc

    onerror: Callable[[OSError], None] = fail
    for path, directories, files, _fd in os.fwalk(".", dir_fd=descriptor, onerror=onerror):
        directories[:] = [name for name in directories if not name.startswith(".")]
        parts = [name for name in files if name.startswith(PART)]
        if parts or (not files and not directories):
            found.append((os.path.normpath(os.path.join("/", base, path))[1:], parts))
    return found


def entries(directory: int) -> Iterator[tuple[str, os.stat_result]]:
    """Names that are no hidden ones, with what they are; no link is followed."""
    with os.scandir(directory) as found:
        for entry in found:
            if not entry.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):  # gone between the two looks
                    yield entry.name, entry.stat(follow_symlinks=False)


def collect(directory: int, path: str, prefix: str, found: dict[str, os.stat_result]) -> None:
    """Files whose keys begin with the prefix, `path` being the directory's own, with a slash; no link is followed.

    A name that begins with a dot is a part, a lock, a file server's .snapshot: no key does.
    """
    inside = path.startswith(prefix)
    with os.scandir(directory) as listed:
        for entry in listed:
            if entry.name.startswith("."):
                continue
            key = path + entry.name
            try:  # deleted between the two looks: it is gone, and the rest of the list is none the worse
                if entry.is_dir(follow_symlinks=False):
                    if inside or f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/"):
                        below = os.open(entry.name, DIRECTORY, dir_fd=directory)
                        try:
                            collect(below, f"{key}/", prefix, found)
                        finally:
                            os.close(below)
                elif (inside or key.startswith(prefix)) and entry.is_file(follow_symlinks=False):
                    found[key] = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue


def stamp(status: os.stat_result) -> str:
    """Changes whenever a name in the directory comes or goes; empty while that may still show in the same instant.

    Times have the grain of the file server's clock, which may also go a little wrong: a minute is more than both.
    """
    if time.time() - max(status.st_mtime, status.st_ctime) < SETTLED_S:
        return ""
    return f"{status.st_dev}-{status.st_ino}-{status.st_mtime_ns}-{status.st_ctime_ns}"
