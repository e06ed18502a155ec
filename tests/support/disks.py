# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that can be full or read-only: a small tmpfs, which only root can mount."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@functools.cache
def can_mount() -> bool:
    """Whether we may mount here: as root, and not in a container that forbids it."""
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as path:
        mount = ["mount", "-t", "tmpfs", "none", path]
        if subprocess.run(mount, check=False, stderr=subprocess.DEVNULL).returncode != 0:
            return False
        subprocess.run(["umount", path], check=True)
    return True


@contextlib.contextmanager
def mounted(path: Path, megabytes: int, *, uid: int, gid: int) -> Iterator[Path]:
    """A tmpfs of that size; skips with the reason where mounting is not for us."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk to fill")
    path.mkdir()
    options = f"size={megabytes}m,uid={uid},gid={gid},mode=0750"
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(path)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"root may not mount a tmpfs here: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def make_read_only(path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(path)], check=True)


def make_writable(path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,rw", str(path)], check=True)
