# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that a server reads or runs: written whole or not at all, with the owner and mode that it needs."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from dataclasses import dataclass
from typing import Optional

from ..errors import Unreachable
from ..pg.config_files import read
from ..pg.osuser import Identity


@dataclass(frozen=True)
class File:
    """Owner and mode are given, or those of the file that it is to be `like`."""

    path: str
    content: str
    mode: int = 0o644
    owner: Optional[Identity] = None
    like: Optional[str] = None

    def access(self) -> tuple[int, Optional[tuple[int, int]]]:
        """The mode, and the owner's ids where we may set them."""
        if self.like is not None:
            found = os.stat(self.like)
            ids = (found.st_uid, found.st_gid)
            return stat.S_IMODE(found.st_mode), ids if os.geteuid() == 0 else None
        if self.owner is not None and self.owner.needs_switch:
            return self.mode, (self.owner.uid, self.owner.gid)
        return self.mode, None

    def differs(self) -> bool:
        if os.path.islink(self.path) or read(self.path) != self.content:
            return True
        mode, ids = self.access()
        found = os.stat(self.path)
        return stat.S_IMODE(found.st_mode) != mode or (ids is not None and (found.st_uid, found.st_gid) != ids)


def put(file: File) -> None:
    """Replace it; its directory is made like the one above when it is missing."""
    directory = os.path.dirname(file.path)
    temporary = ""
    try:
        _make_like_parent(directory)
        descriptor, temporary = tempfile.mkstemp(prefix=".dbops-", dir=directory)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(file.content)
            mode, ids = file.access()
            if ids is not None:
                os.fchown(stream.fileno(), *ids)
            os.fchmod(stream.fileno(), mode)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file.path)
        _sync(directory)
    except OSError as exc:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise Unreachable(
            f"Cannot write {file.path}: {exc.strerror or exc}.", hint="Run as root or as the cluster's OS user."
        ) from exc


def remove(path: str) -> None:
    try:
        os.unlink(path)
        _sync(os.path.dirname(path))
    except OSError as exc:
        raise Unreachable(
            f"Cannot remove {path}: {exc.strerror}.", hint="Run as root or as the cluster's OS user."
        ) from exc


def _make_like_parent(directory: str) -> None:
    if os.path.isdir(directory):
        return
    parent = os.stat(os.path.dirname(directory))
    os.mkdir(directory)
    if os.geteuid() == 0:
        os.chown(directory, parent.st_uid, parent.st_gid)
    os.chmod(directory, stat.S_IMODE(parent.st_mode))


def _sync(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
