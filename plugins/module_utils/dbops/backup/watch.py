# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress of a base backup as the server itself tells it (pg_stat_progress_basebackup)."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from ..errors import DbopsError
from ..pg.connection import Connection, connected
from ..pg.server import Server
from ..progress import Progress, Step

_EVERY_S = 1.0
_QUERY = """
select p.phase, p.backup_streamed, p.backup_total, p.tablespaces_streamed, p.tablespaces_total
from pg_stat_progress_basebackup p join pg_stat_activity a using (pid)
where a.application_name = %s
"""


@contextlib.contextmanager
def watched(server: Server, application_name: str, progress: Progress) -> Iterator[None]:
    """Report a step each second while the block runs. Watching that fails stops watching, never the backup."""
    with contextlib.ExitStack() as stack:
        try:
            session = stack.enter_context(connected(server.connection, server.identity))
        except DbopsError as error:
            progress.warn(f"No progress can be shown: {error.message}")
        else:
            stack.enter_context(_watching(session, application_name, progress))
        yield


@contextlib.contextmanager
def _watching(session: Connection, application_name: str, progress: Progress) -> Iterator[None]:
    done = threading.Event()

    def watch() -> None:
        started = time.monotonic()
        with contextlib.suppress(DbopsError):
            while not done.wait(_EVERY_S):
                for step in _steps(session, application_name, time.monotonic() - started):
                    progress.report(step)

    thread = threading.Thread(target=watch, name="dbops-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _steps(session: Connection, application_name: str, elapsed_s: float) -> Iterator[Step]:
    for row in session.rows(_QUERY, (application_name,)):
        done, total = row["backup_streamed"] or 0, row["backup_total"]
        rate = done / elapsed_s if elapsed_s > 0 else 0.0
        eta = (total - done) / rate if total and rate > 0 and total > done else None
        yield Step("base backup", done, total, rate, eta, row["phase"])
