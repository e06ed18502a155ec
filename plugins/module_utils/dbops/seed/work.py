# SPDX-License-Identifier: GPL-3.0-or-later
"""Several connections that take statements from one list, until it is empty or one of them fails."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from ..pg.connection import Connection

T = TypeVar("T")


def share(servers: list[Connection], jobs: Iterable[T], run: Callable[[Connection, T], None]) -> None:
    """Run every job on some connection. The first error stops the others after their current job, and is raised."""
    waiting: queue.SimpleQueue[T] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    if len(servers) == 1 or waiting.qsize() <= 1:
        while not waiting.empty():
            run(servers[0], waiting.get())
        return
    errors: list[BaseException] = []

    def work(server: Connection) -> None:
        while not errors:
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                run(server, job)
            except BaseException as exc:  # noqa: BLE001  # handed over to the caller's thread, which raises it
                errors.append(exc)

    threads = [threading.Thread(target=work, args=(server,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
