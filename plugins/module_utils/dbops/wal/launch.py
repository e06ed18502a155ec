# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting the detached workers. Whether one is needed is looked up first; that there is only one, its lock sees to."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Optional

from .cluster import Cluster
from .spool import Desk


class Launcher:
    """`code` is what this interpreter runs with `-c`, `options` what stands before the worker's own words."""

    def __init__(self, code: str, options: list[str], spool_path: str) -> None:
        self._code = code
        self._options = options
        self._spool_path = spool_path

    def push_worker(self, cluster: Cluster, *, skip: str = "") -> None:
        self._start("push", ["push-worker", cluster.data_directory, skip])

    def get_worker(self, cluster: Cluster) -> None:
        self._start("get", ["get-worker", cluster.data_directory])

    def optional_worker(self, cluster: Cluster, repository: str) -> None:
        self._start("optional", ["optional-worker", cluster.data_directory, repository], desk=f"optional/{repository}")

    def _start(self, log: str, words: list[str], *, desk: Optional[str] = None) -> None:
        if Desk(os.path.join(self._spool_path, desk or log)).has_worker():
            return
        import subprocess  # milliseconds of every call that starts nothing

        with contextlib.suppress(OSError), open(os.path.join(self._spool_path, f"{log}.log"), "w") as errors:
            subprocess.Popen(  # pylint: disable=ansible-bad-function,consider-using-with  # detached: it outlives us
                [sys.executable, "-I", "-c", self._code, *self._options, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd="/",
                start_new_session=True,  # or the server would end it together with us
            )
