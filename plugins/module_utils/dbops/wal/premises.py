# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker's words rest on besides the repositories. Once that has changed, only a new process knows the truth."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Optional

from ..settings_environment_file import environment_file


@dataclass(frozen=True)
class Premises:
    """The settings, which name all the repositories, and the start of the server, whose environment is ours."""

    settings: tuple[Optional[tuple[int, int]], ...]  # versions of the file and of the environment file beside it
    server: tuple[str, ...]  # process, directory and moment of its start


def premises(config: str, data_directory: str) -> Premises:
    return Premises(settings_stamps(config), _server_of(data_directory))


def settings_stamps(config: str) -> tuple[Optional[tuple[int, int]], ...]:
    return tuple(_stamp(path) for path in (config, environment_file(config)))


def _stamp(path: str) -> Optional[tuple[int, int]]:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _server_of(data_directory: str) -> tuple[str, ...]:
    try:
        with open(os.path.join(data_directory, "postmaster.pid"), encoding="utf-8", errors="replace") as stream:
            return tuple(stream.read().splitlines()[:3])
    except OSError:
        return ()
