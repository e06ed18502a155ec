# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting the detached workers. Whether one is needed is looked up first; that there is only one, its lock sees to.

A command that runs no thread becomes a worker by forking, with all modules at hand: a new interpreter would take a
tenth of a second more, at the beginning of each recovery and each drain.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Callable, NoReturn

from ..codec.keyring import forget_keyrings
from .cluster import Cluster
from .spool import Desk


class Launcher:
    """`code` is what this interpreter runs with `-c`, `options` what stands before the worker's own words.

    `main` runs the same words in this process, and returns the exit code.
    """

    def __init__(
        self, code: str, options: Sequence[str], spool_path: str, main: Callable[[Sequence[str]], int]
    ) -> None:
        self._code = code
        self._options = options
        self._spool_path = spool_path
        self._main = main

    def push_worker(self, cluster: Cluster, *, skip: str = "") -> None:
        self._fork("push", ["push-worker", cluster.data_directory, skip])

    def get_worker(self, cluster: Cluster) -> None:
        self._fork("get", ["get-worker", cluster.data_directory])

    def optional_worker(self, cluster: Cluster, repository: str) -> None:
        """Started by the push worker, whose threads no fork survives."""
        if self._has_worker(f"optional/{repository}"):
            return
        import subprocess  # milliseconds of every call that starts nothing

        words = ["optional-worker", cluster.data_directory, repository]
        with contextlib.suppress(OSError), open(self._log("optional"), "w") as errors:
            subprocess.Popen(  # pylint: disable=ansible-bad-function,consider-using-with  # detached: it outlives us
                [sys.executable, "-I", "-c", self._code, *self._options, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd="/",
                start_new_session=True,  # or the server would end it together with us
            )

    def _fork(self, desk: str, words: Sequence[str]) -> None:
        if not self._has_worker(desk):
            with contextlib.suppress(OSError):
                if os.fork() == 0:
                    self._be_the_worker(self._log(desk), words)

    def _be_the_worker(self, log: str, words: Sequence[str]) -> NoReturn:
        """What follows in our caller's caller is the command's affair, and so is whatever it holds open."""
        code = 1
        try:
            os.setsid()  # or the server would end it together with the command
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.chdir("/")
            _reopen_all(log)
            code = self._main([*self._options, *words])
        finally:
            try:
                forget_keyrings()
            finally:
                os._exit(code)

    def _has_worker(self, desk: str) -> bool:
        return Desk(os.path.join(self._spool_path, desk)).has_worker()

    def _log(self, name: str) -> str:
        return os.path.join(self._spool_path, f"{name}.log")


def _reopen_all(log: str) -> None:
    """Nothing of the server's stays open: not its log, nor what it forgot to close before it called us."""
    nothing = os.open(os.devnull, os.O_RDWR)
    errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for source, target in ((nothing, 0), (nothing, 1), (errors, 2)):
        os.dup2(source, target)
    os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1)
