# SPDX-License-Identifier: GPL-3.0-or-later
"""The get worker: fetches the segments that replay will ask for next, verified, into the spool.

What it cannot fetch is left for the command to judge; whether a file is proven missing, it tells a script that asks
(questions.py). It holds nothing that a command waits for longer than a moment, so another timeline, a killed worker or
a lost spool cost time only.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Optional

from ..errors import BadInput, DbopsError
from ..pg.controlfile import control_file
from ..pg.wal import DEFAULT_SEGMENT_SIZE, segment_name
from ..pg.walfile import Kind, WalName, wal_name
from ..settings import Settings
from .cluster import Cluster
from .fetch import FOUND, fetch
from .questions import ASK, answer, is_dialogue
from .spool import OK, Spool, forget, version_of, wait_for_poke, write
from .targets import archives

BUSY, PART = ".busy", ".part"
_START = re.compile(r"^START WAL LOCATION: \S+ \(file ([0-9A-F]{24})\)$", re.MULTILINE)
_UNKNOWN_SIZE = 0  # that segment itself is wanted first, and its header says how large they are
FAR = "far"  # there when the spool is on another file system than pg_wal, so that mv would not be one step


def take(spool: Spool, name: str, to: str) -> bool:
    """Move a prefetched file that is as it was verified to `to`; False when there is none."""
    ready = os.path.join(spool.ready, name)
    try:
        if os.stat(ready + OK).st_mtime_ns != os.stat(ready).st_mtime_ns:
            return False
        try:
            os.rename(ready, to)
        except OSError:
            temporary = f"{to}.dbops-{os.getpid()}"
            try:
                shutil.copyfile(ready, temporary)
                os.rename(temporary, to)
            finally:
                forget(temporary)
            forget(ready)
    except OSError:
        return False
    return True


def want(spool: Spool, name: str, segment_size: int) -> None:
    """Tell the worker, this one or the next, where replay is."""
    write(os.path.join(spool.get.path, "want"), f"{name} {segment_size}")


def want_from_start(spool: Spool, cluster: Cluster) -> None:
    """Tell it where replay will begin, before anything was asked for. A wrong guess costs one look for nothing."""
    text = ""
    with contextlib.suppress(OSError):
        with open(os.path.join(cluster.data_directory, "backup_label"), encoding="ascii", errors="replace") as stream:
            text = stream.read(4096)
    found = _START.search(text)
    if found:
        first = found.group(1)
    else:
        control = control_file(cluster.data_directory)
        first = segment_name(control.timeline, control.redo, DEFAULT_SEGMENT_SIZE)
    write(os.path.join(spool.get.path, "want"), f"{first} {_UNKNOWN_SIZE}")


def await_first(spool: Spool, limit_s: float = 1.0) -> None:
    """Let the worker that was just told of the start get at the first segment, for which the server asks next.

    Its script then waits for that, where it would start an interpreter to do the same.
    """
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            if any(entry.endswith((BUSY, OK)) for entry in os.listdir(spool.ready)):
                return
        time.sleep(0.01)


def run_worker(
    settings: Settings, spool: Spool, cluster: Cluster, *, still_true: Callable[[], bool] = lambda: True
) -> None:
    """Fetch and answer until nobody has asked for `linger_s`, or what `still_true` stands for has changed."""
    spool.claim()
    with spool.get.hold() as held:
        if not held:
            return
        fifo = spool.get.open_fifo()
        try:
            GetWorker(settings, spool, cluster, still_true).run(fifo)
        finally:
            os.close(fifo)


class GetWorker:
    def __init__(self, settings: Settings, spool: Spool, cluster: Cluster, still_true: Callable[[], bool]) -> None:
        self._settings = settings
        self._still_true = still_true
        self._spool = spool
        self._cluster = cluster
        self._window_bytes = min(settings.archiving.prefetch_bytes, settings.archiving.spool_max_bytes)
        self._segment_size = DEFAULT_SEGMENT_SIZE
        self._archives = archives(settings, cluster.system_identifier)
        self._running: dict[str, Future[Optional[int]]] = {}
        self._asked: dict[str, Future[None]] = {}
        self._absent: Optional[str] = None
        self._wanted = ""
        self._start = ""  # where replay will begin, as long as it has taken nothing
        self._position = ""  # the last segment that replay has taken
        self._again = ""  # the one that was fetched a second time

    def run(self, fifo: int) -> None:
        linger_s = self._settings.archiving.linger_s
        _note_distance(self._spool, self._cluster)
        # One more than fetch: an answer does not wait for a segment.
        with ThreadPoolExecutor(self._settings.archiving.workers + 1, thread_name_prefix="dbops-get") as pool:
            until = time.monotonic() + linger_s
            while self._cluster.is_still_there() and self._still_true():
                self._answer(pool)
                self._follow()
                self._fill(pool)
                if self._running:
                    wait_for_poke(fifo, 0.05)  # also by what is done
                    self._collect()
                    until = time.monotonic() + linger_s
                elif wait_for_poke(fifo, until - time.monotonic()):
                    self._absent = None  # somebody goes on asking: it may have arrived
                    until = time.monotonic() + linger_s
                else:
                    break
            for future in self._running.values():
                future.cancel()
        shutil.rmtree(self._spool.ready, ignore_errors=True)

    def _answer(self, pool: ThreadPoolExecutor) -> None:
        self._asked = {question: future for question, future in self._asked.items() if not future.done()}
        for entry in self._entries():
            if entry.endswith(ASK) and entry not in self._asked:
                path = os.path.join(self._spool.ready, entry)
                self._asked[entry] = pool.submit(answer, path, self._settings, self._archives, self._still_true)

    def _follow(self) -> None:
        """Where replay is: at what a command asked for last, or past what was taken from here since."""
        with contextlib.suppress(OSError, ValueError, BadInput):
            with open(os.path.join(self._spool.get.path, "want"), encoding="ascii") as stream:
                asked, size = stream.read().split()
            if wal_name(asked).kind is Kind.SEGMENT and f"{asked} {size}" != self._wanted:
                self._wanted = f"{asked} {size}"
                self._absent = None
                if int(size) == _UNKNOWN_SIZE:
                    self._start, self._position, self._segment_size = asked, "", _UNKNOWN_SIZE
                else:
                    self._start, self._position, self._segment_size = "", asked, max(1 << 20, int(size))
        window = self._window()
        for entry in self._entries():
            name = entry[: -len(OK)] if entry.endswith(OK) else ""
            if name and name not in self._running and self._is_taken(name):
                forget(os.path.join(self._spool.ready, name))
                forget(os.path.join(self._spool.ready, entry))
                if name in window and name > self._position:
                    self._position = name
        self._drop_all_but({*self._window(), self._again if self._again == self._position else ""})

    def _is_taken(self, name: str) -> bool:
        """Moved away; or linked, and its seal broken."""
        ready = os.path.join(self._spool.ready, name)
        try:
            return version_of(ready).mtime_ns != version_of(ready + OK).mtime_ns
        except OSError:
            return True

    def _fill(self, pool: ThreadPoolExecutor) -> None:
        for number, text in enumerate(self._window()):
            if text == self._absent:
                if number == 0:
                    self._fetch_again(pool)
                return  # and what comes after it is of no use yet
            if text in self._running or os.path.exists(os.path.join(self._spool.ready, text + OK)):
                continue
            if len(self._running) >= self._settings.archiving.workers:
                return
            self._begin(pool, text)

    def _fetch_again(self, pool: ThreadPoolExecutor) -> None:
        """At the end of the WAL recovery reads its last segment once more before it promotes; a standby does not."""
        last = self._position
        if last and last != self._again and not self._cluster.is_standby:
            self._again = last
            self._begin(pool, last)

    def _begin(self, pool: ThreadPoolExecutor, text: str) -> None:
        with contextlib.suppress(OSError):
            write(os.path.join(self._spool.ready, text + BUSY), "")
        self._running[text] = pool.submit(self._fetch, wal_name(text))
        self._running[text].add_done_callback(lambda _done: self._spool.get.poke())

    def _fetch(self, name: WalName) -> Optional[int]:
        """The segment size that its header tells, when it is there now."""
        ready = os.path.join(self._spool.ready, name.text)
        part = f"{ready}{PART}"
        try:
            forget(part)
            outcome = fetch(self._archives, name, part)
            if outcome.verdict != FOUND:
                return None
            # The seal first: once the file has its name, a script may take it.
            write(ready + OK, "", mtime_ns=version_of(part).mtime_ns)
            os.rename(part, ready)
            return outcome.segment_size
        except (DbopsError, OSError):
            return None
        finally:
            forget(part)
            forget(ready + BUSY)

    def _collect(self) -> None:
        for text in [text for text, future in self._running.items() if future.done()]:
            size = self._running.pop(text).result()
            if size is None and text != self._again and (self._absent is None or text < self._absent):
                self._absent = text
            elif size is not None and text == self._start:
                self._segment_size = size

    def _window(self) -> list[str]:
        """The names after the position, or from the start on, as many as there is room for."""
        known = self._position or self._start
        if not known or self._segment_size == _UNKNOWN_SIZE:
            return [known] if known else []
        timeline = int(known[:8], 16)
        per_log = 0x100000000 // self._segment_size
        first = int(known[8:16], 16) * per_log + int(known[16:], 16) + (1 if self._position else 0)
        count = self._window_bytes // self._segment_size
        return [
            segment_name(timeline, number * self._segment_size, self._segment_size)
            for number in range(first, first + count)
        ]

    def _drop_all_but(self, wanted: set[str]) -> None:
        for entry in self._entries():
            name = entry.split(".", 1)[0]
            if name not in wanted and name not in self._running and entry != FAR and not is_dialogue(entry):
                forget(os.path.join(self._spool.ready, entry))

    def _entries(self) -> list[str]:
        try:
            return os.listdir(self._spool.ready)
        except OSError:
            return []


def _note_distance(spool: Spool, cluster: Cluster) -> None:
    if os.stat(spool.ready).st_dev != os.stat(cluster.wal_directory).st_dev:
        write(os.path.join(spool.ready, FAR), "")
