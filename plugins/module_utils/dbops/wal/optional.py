# SPDX-License-Identifier: GPL-3.0-or-later
"""Repositories that are not required: what they lack is noted, and copied from a required one when they can take it.

<spool>/optional/<repository>/owed/<file>      one empty file per WAL file that it lacks
<spool>/optional/<repository>/compared         there once both archives have been compared as a whole
Each has a process of its own, since a repository that hangs must hold up neither the server nor another repository.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import BadInput, NotFound
from ..pg.walfile import wal_name
from ..repo.archive import WalArchive
from ..settings import Settings
from .cluster import Cluster
from .spool import Desk, Spool, forget, make_directory, wait_for_poke, write
from .targets import Targets

MOST_OWED = 10_000  # beyond that the archives are compared instead


@dataclass(frozen=True)
class Owed:
    """`seconds` is the age of the oldest one; `compared` is False until the archives were compared as a whole."""

    files: int
    seconds: float
    compared: bool


def names(settings: Settings) -> list[str]:
    return [item.name for item in settings.repositories if not item.required]


def note(spool: Spool, settings: Settings, files: Iterable[str]) -> None:
    """These files were acknowledged, and the optional repositories are to have them too."""
    files = list(files)
    for repository in names(settings):
        book = Book(spool, repository)
        for file in files:
            book.add(file)


class Book:
    def __init__(self, spool: Spool, repository: str) -> None:
        self.path = os.path.join(spool.path, "optional", repository)
        self.desk = Desk(self.path)
        self._owed = os.path.join(self.path, "owed")
        self._compared = os.path.join(self.path, "compared")

    def add(self, file: str) -> None:
        make_directory(self._owed)
        if len(self.owed()) >= MOST_OWED:
            forget(self._compared)
            return
        write(os.path.join(self._owed, file), "")

    def owed(self) -> list[str]:
        with contextlib.suppress(OSError):
            return sorted(name for name in os.listdir(self._owed) if not name.endswith(".tmp"))
        return []

    def paid(self, file: str) -> None:
        forget(os.path.join(self._owed, file))

    @property
    def is_compared(self) -> bool:
        return os.path.exists(self._compared)

    def set_compared(self) -> None:
        make_directory(self.path)
        write(self._compared, "")

    def summary(self) -> Owed:
        owed = self.owed()
        oldest = time.time()
        for name in owed:
            with contextlib.suppress(OSError):
                oldest = min(oldest, os.stat(os.path.join(self._owed, name)).st_mtime)
        return Owed(len(owed), round(max(0.0, time.time() - oldest), 1) if owed else 0.0, self.is_compared)


def run_worker(settings: Settings, spool: Spool, cluster: Cluster, repository: str) -> None:
    """Bring one optional repository up to date, then wait a while for more. Errors end it; the next start goes on."""
    targets = Targets(settings, cluster.system_identifier)
    there = next((archive for archive in targets.optional if archive.name == repository), None)
    if there is None:
        raise BadInput(f"{repository!r} is not an optional repository.", hint="See repositories in the settings.")
    book = Book(spool, repository)
    make_directory(book.path)
    with book.desk.hold() as held:
        if not held:
            return
        fifo = book.desk.open_fifo()
        try:
            targets.check(there)
            while True:
                if not book.is_compared:
                    _compare(targets.required[0], there, book)
                for file in book.owed():
                    _copy(targets, there, file)
                    book.paid(file)
                if not wait_for_poke(fifo, settings.archiving.linger_s) or not cluster.is_still_there():
                    return
        finally:
            os.close(fifo)


def _compare(source: WalArchive, target: WalArchive, book: Book) -> None:
    present = {item.name.text for item in target.files()}
    for item in source.files():
        if item.name.text not in present:
            make_directory(os.path.join(book.path, "owed"))
            write(os.path.join(book.path, "owed", item.name.text), "")
    book.set_compared()


def _copy(targets: Targets, there: WalArchive, file: str) -> None:
    """From the first required repository that has it; one that has expired since is owed no more."""
    name = wal_name(file)
    for source in targets.required:
        with contextlib.suppress(NotFound):
            there.put_packed(source.as_it_lies(name))  # encrypted, it needs no private key here
            return
