# SPDX-License-Identifier: GPL-3.0-or-later
"""The repositories that WAL goes to: all required ones before anything is acknowledged, optional ones afterwards."""

from __future__ import annotations

import threading

from ..codec.ciphers import cipher
from ..codec.stream import Shape
from ..errors import BadInput, DbopsError
from ..repo.archive import PackedFile, Stored, WalArchive
from ..repo.ownership import check_owner
from ..repo.repository import open_repository
from ..settings import Settings
from .attached import check_attached, remember_attached


def archives(settings: Settings, system_identifier: str) -> list[WalArchive]:
    """One for each configured repository, in order."""
    if not settings.repositories:
        settings.repository()  # says what is missing
    return [WalArchive(open_repository(settings, item.name), system_identifier) for item in settings.repositories]


class Targets:
    def __init__(self, settings: Settings, system_identifier: str) -> None:
        required = {item.name for item in settings.repositories if item.required}
        every = archives(settings, system_identifier)
        self._settings = settings
        self.system_identifier = system_identifier
        self.required = [archive for archive in every if archive.name in required]
        self.optional = [archive for archive in every if archive.name not in required]
        self.shape = Shape(
            settings.archiving.codec, settings.archiving.level, threads=1, cipher=cipher(settings.encryption)
        )
        # One of several waits for the interpreter now and then, which who sends holds: one more keeps the cores busy.
        # But who wants one segment at a time, to spare the host, gets one.
        workers = settings.archiving.workers
        self.packing = threading.BoundedSemaphore(workers + 1 if workers > 1 else 1)
        self._checked: set[str] = set()
        if not self.required:
            raise BadInput(
                f"No repository of cluster {settings.cluster!r} is required: WAL would be acknowledged and lost.",
                hint="Set required: true for at least one of repositories.",
            )

    def store(self, packed: PackedFile) -> Stored:
        """Durable in every required repository, or the first error; the others were tried all the same."""
        answers = []
        errors: list[DbopsError] = []
        for archive in self.required:
            try:
                self.check(archive)
                answers.append(archive.put_packed(packed))
                remember_attached(self._settings, archive)
            except DbopsError as exc:
                errors.append(exc)
        if errors:
            raise errors[0]
        return Stored.NEW if Stored.NEW in answers else Stored.IDENTICAL

    def check(self, archive: WalArchive) -> None:
        """Refused when the repository belongs to another system, Unreachable when it has lost its disk; asked once."""
        if archive.name not in self._checked:
            check_attached(self._settings, archive)
            check_owner(archive.repository, self.system_identifier)
            self._checked.add(archive.name)
