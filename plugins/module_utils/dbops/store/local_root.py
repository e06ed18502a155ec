# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory in which a local store lies, and the way from it down to others.

Each step is taken through the descriptor of the directory above and follows no symbolic link, because root may be
walking through a tree that another user owns.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from ..errors import BadInput, DbopsError, Refused, Unreachable
from . import beneath


class Root:
    """`path` must exist: a store that creates its own root would hide an unmounted disk. `name` is for messages."""

    def __init__(self, path: str, name: str) -> None:
        self.path = path
        self.name = name
        self._settled: set[str] = set()  # directories whose names are known to be durable
        self._seen: tuple[int, int] | None = None  # the root's device and inode when we first looked

    @contextlib.contextmanager
    def directory(self, path: str, *, create: bool = False) -> Iterator[int]:
        """Descriptor of a directory below the root, as long as the block lasts."""
        descriptor = self.open(path, create=create)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def existing(self, path: str) -> Iterator[int | None]:
        """The same, or None where there is no such directory; what vanishes inside the block is not taken for that."""
        try:
            descriptor = self.open(path)
        except FileNotFoundError:
            if not os.path.isdir(self.path):
                raise self.away() from None
            yield None
            return
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def settle_above(self, directory: str) -> None:
        """The directory's own name, up to the root, once for each: whoever made it may have died before his fsync."""
        above = directory
        while above and above not in self._settled:
            above = os.path.dirname(above)
            with self.directory(above) as descriptor:
                os.fsync(descriptor)
        self._settled.add(directory)

    def open(self, path: str, *, create: bool = False) -> int:
        """Descriptor, the caller's, of a directory below the root: component by component, no link followed."""
        parts = [part for part in path.split("/") if part]
        if any(part.startswith(".") for part in parts):
            raise BadInput(f"{path!r} cannot lead to a key.", hint="Use plain path components joined by slashes.")
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # the root itself may be a link
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
                f"Repository {self.name!r} is not where it was: {self.path} is another directory now.",
                hint="Mount its disk, then run again.",
            )

    def reopened(self, path: str, old: int) -> int:
        """Descriptor of another directory instead of the old one; -1 when it does not exist."""
        with self.existing(path) as descriptor:
            new = -1 if descriptor is None else os.dup(descriptor)
        if old >= 0:
            os.close(old)
        return new

    def prune(self, path: str) -> None:
        """Drop directories that have become empty, upwards; a neighbour's new file makes rmdir stop by itself."""
        while path:
            above, leaf = os.path.split(path)
            try:
                with self.directory(above) as parent:
                    os.rmdir(leaf, dir_fd=parent)
            except OSError:
                return
            path = above

    def away(self) -> Unreachable:
        """The error for a root that is not there."""
        return Unreachable(
            f"Repository {self.name!r} is not there: {self.path} does not exist.",
            hint="Mount the disk, or run playbooks/setup.yml if this host is new.",
        )

    @contextlib.contextmanager
    def explained(self, verb: str) -> Iterator[None]:
        """What the file system refuses, as Unreachable or Refused, with what was tried and the next step."""
        try:
            yield
        except OSError as exc:
            raise self.refusal(verb, exc) from exc

    def refusal(self, verb: str, exc: OSError) -> DbopsError:
        """The same as an error to hand over."""
        if not os.path.isdir(self.path):
            return self.away()
        if exc.errno in (errno.ELOOP, errno.ENOTDIR):
            return Refused(
                f"Repository {self.name!r} cannot {verb}: something on the way is a symbolic link or a file.",
                hint=f"Only plain directories may lie below {self.path}.",
            )
        return Unreachable(
            f"Repository {self.name!r} at {self.path} cannot {verb}: {exc.strerror or exc}.", hint=_advice(exc)
        )


def _advice(exc: OSError) -> str:
    advice: dict[int | None, str] = {
        errno.ENOSPC: "Free space there or expire old backups (dbops expire), then run again.",
        errno.EDQUOT: "The quota is used up: raise it or expire old backups (dbops expire), then run again.",
        errno.EROFS: "The file system is read-only: remount it read-write (see dmesg for why it became so).",
        errno.EACCES: "Give the cluster's OS user the directory: chown it, or run playbooks/setup.yml.",
        errno.EPERM: "Give the cluster's OS user the directory: chown it, or run playbooks/setup.yml.",
    }
    return advice.get(exc.errno, "Check the disk (dmesg), then run again.")
