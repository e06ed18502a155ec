# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of the servers below one directory. A postmaster and all its children work in their data directory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

_IPC_RMID = 0  # sys/ipc.h


def wait_until(condition: Callable[[], object], what: str, *, limit_s: float = 30) -> None:
    """Return as soon as `condition` holds; TimeoutError says what was waited for."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {limit_s:g} s in vain until {what}.")
        time.sleep(0.02)


def working_below(directory: Path) -> list[int]:
    """Process ids of the servers whose data directory is `directory` or lies below it."""
    top = os.path.realpath(directory)
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            cwd = os.readlink(f"/proc/{entry}/cwd").removesuffix(" (deleted)")
            program = os.path.basename(os.readlink(f"/proc/{entry}/exe").removesuffix(" (deleted)"))
            if program == "postgres" and (cwd == top or cwd.startswith(top + "/")):
                found.append(int(entry))
    return found


def kill_below(directory: Path) -> set[int]:
    """SIGKILL every server process below the directory, until there is none; which ones there were.

    Backends too: they would end by themselves a moment after their postmaster, and until then the next start
    refuses because of their shared memory.
    """
    killed: set[int] = set()
    segments: set[int] = set()

    def none_left() -> bool:
        alive = working_below(directory)
        for pid in alive:
            segments.update(_shared_memory_of(pid))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed.update(alive)
        return not alive

    wait_until(none_left, f"the servers in {directory} are gone")
    _forget(segments)
    return killed


def _shared_memory_of(pid: int) -> set[int]:
    """Ids of the System V segments that a process has mapped: /proc shows them where a file's inode stands."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines():
            words = line.split()
            if len(words) > 5 and words[5].startswith("/SYSV"):
                found.add(int(words[4]))
    return found


def _forget(segments: set[int]) -> None:
    """Remove what a killed postmaster could not: the kernel keeps a segment for ever, and has room for 4096."""
    libc = ctypes.CDLL(None, use_errno=True)
    for segment in segments:
        libc.shmctl(segment, _IPC_RMID, None)  # gone already is fine
