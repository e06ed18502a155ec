# SPDX-License-Identifier: GPL-3.0-or-later
"""The operating-system user that a cluster belongs to, and acting as it.

PostgreSQL's programs refuse to run as root, and peer authentication asks who connects. A root process keeps being
root (its libraries may lie where nobody else can read), starts PostgreSQL's programs as the cluster's user, and takes
that user's effective id just for the moment of connecting.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import BadInput

_switching = threading.Lock()


@dataclass(frozen=True)
class Identity:
    name: str
    uid: int
    gid: int
    home: str

    @property
    def needs_switch(self) -> bool:
        return os.geteuid() == 0 and self.uid != 0

    def for_subprocess(self) -> dict[str, Any]:
        """Keyword arguments that make `subprocess.Popen` start a child as this user, with its groups."""
        if not self.needs_switch:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": os.getgrouplist(self.name, self.gid)}

    def give(self, path: str) -> None:
        """Hand a file or directory that we made over to this user."""
        if self.needs_switch:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def make_private_directory(self, path: str) -> str:
        """The directory, made with its parents if missing, readable by this user alone."""
        parent = os.path.dirname(path.rstrip("/"))
        if parent and not os.path.isdir(parent):
            os.makedirs(parent, 0o755)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not os.path.isdir(path):
                raise BadInput(
                    f"{path} is not a directory.", hint="Move it away; a directory is needed there."
                ) from None
        else:
            self.give(path)
        return path


def identity_of(name: str) -> Identity:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise BadInput(
            f"This host has no OS user {name!r}.", hint="Set host.os_user to the user that PostgreSQL runs as."
        ) from None
    return _identity(entry)


def current_identity() -> Identity:
    return _identity(pwd.getpwuid(os.geteuid()))


def owner_of(path: str) -> Identity:
    try:
        return _identity(pwd.getpwuid(os.stat(path).st_uid))
    except (OSError, KeyError) as exc:
        raise BadInput(
            f"Cannot tell who owns {path}: {exc}.", hint="Set host.os_user to the user that PostgreSQL runs as."
        ) from exc


def cluster_identity(os_user: str | None, data_directory: str | None) -> Identity:
    """The named user; else, as root, the data directory's owner or `postgres`; else whoever we are."""
    if os_user:
        wanted = identity_of(os_user)
        if os.geteuid() not in (0, wanted.uid):
            raise BadInput(
                f"This cluster belongs to the OS user {os_user!r}, and we run as {current_identity().name!r}.",
                hint=f"Run as root or as {os_user}: sudo -u {os_user} dbops ...",
            )
        return wanted
    if os.geteuid() != 0:
        return current_identity()
    if data_directory and os.path.isdir(data_directory):
        return owner_of(data_directory)
    return identity_of("postgres")


@contextlib.contextmanager
def acting_as(identity: Identity) -> Iterator[None]:
    """Take the identity's effective ids, and its home, for a moment.

    They belong to the whole process: connect from the thread that does the work, not beside it, or another thread's
    open() may meet the wrong user.
    """
    if not identity.needs_switch:
        yield
        return
    with _switching:
        home = os.environ.get("HOME")
        os.environ["HOME"] = identity.home  # libpq looks there for .pgpass and .postgresql
        os.setegid(identity.gid)
        os.seteuid(identity.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)
            if home is None:
                del os.environ["HOME"]
            else:
                os.environ["HOME"] = home


@contextlib.contextmanager
def steady() -> Iterator[None]:
    """No switch happens in this block: a child started in the middle of one would count as set-uid."""
    with _switching:
        yield


def _identity(entry: pwd.struct_passwd) -> Identity:
    return Identity(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)
