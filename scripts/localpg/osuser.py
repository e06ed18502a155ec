# SPDX-License-Identifier: GPL-3.0-or-later
"""Who runs a throwaway server: PostgreSQL refuses to run as root, so root needs somebody else."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class OsUser:
    name: str
    uid: int
    gid: int

    @property
    def is_somebody_else(self) -> bool:
        return self.uid != os.geteuid()

    def for_subprocess(self) -> dict[str, Any]:
        """Keyword arguments that make `subprocess` start a child as this user."""
        if not self.is_somebody_else:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": os.getgrouplist(self.name, self.gid)}

    def own_directory(self, path: Path, mode: int = 0o700) -> Path:
        """A new directory of this user's."""
        path.mkdir()
        path.chmod(mode)
        os.chown(path, self.uid, self.gid)
        return path

    def run(self, command: Sequence[str | Path], *, text_in: str | None = None, keep_output: bool = True) -> str:
        """Run a program as this user; its standard output. An exit code other than 0 raises, with what it said.

        Without `keep_output` nothing is kept: for programs that leave a daemon behind, which would hold our pipe open.
        """
        words = [str(word) for word in command]
        feed: dict[str, Any] = {"stdin": subprocess.DEVNULL} if text_in is None else {"input": text_in}
        drain = subprocess.PIPE if keep_output else subprocess.DEVNULL
        done = subprocess.run(
            words,
            check=False,
            stdout=drain,
            stderr=drain,
            text=True,
            cwd="/",
            env=environment(),
            **feed,
            **self.for_subprocess(),
        )
        if done.returncode != 0:
            said = f"{done.stdout or ''}{done.stderr or ''}".strip()
            raise ProgramFailed(f"{' '.join(words)} exited with {done.returncode}. {said}")
        return done.stdout or ""


class ProgramFailed(RuntimeError):
    """A program of PostgreSQL's ended badly; the message holds its words."""


def server_user() -> OsUser:
    """Ourselves; as root `postgres`, or `nobody` where no PostgreSQL was ever installed."""
    if os.geteuid() != 0:
        return _user(pwd.getpwuid(os.geteuid()))
    for name in ("postgres", "nobody"):
        try:
            return _user(pwd.getpwnam(name))
        except KeyError:
            continue
    raise ProgramFailed("PostgreSQL does not run as root, and this machine has no OS user postgres or nobody.")


def environment() -> dict[str, str]:
    """No PG* variable of the caller's may redirect us, and programs speak English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C.UTF-8", "LC_MESSAGES": "C", "TZ": "UTC"}


def _user(entry: pwd.struct_passwd) -> OsUser:
    return OsUser(entry.pw_name, entry.pw_uid, entry.pw_gid)
