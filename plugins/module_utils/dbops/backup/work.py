# SPDX-License-Identifier: GPL-3.0-or-later
"""What one backup run has in hand, passed from `take` to the method that does it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from ..codec.ciphers import cipher
from ..codec.stream import Shape
from ..pg.server import Server
from ..progress import Progress
from ..repo.repository import Repository
from ..repo.several import Destinations
from ..settings import Settings


@dataclass(frozen=True)
class Work:
    """The locks are held, the server has been looked at, the label is ours; nothing has been copied yet."""

    settings: Settings
    server: Server
    goes_to: Destinations
    progress: Progress
    label: str
    started: datetime
    reason: str = ""

    @property
    def repository(self) -> Repository:
        """All that this backup goes to, as one to write to; it is read from the first that is required."""
        return self.goes_to.whole

    @property
    def shape(self) -> Shape:
        compression = self.settings.compression
        return Shape(compression.codec, compression.level, compression.threads, cipher=cipher(self.settings.encryption))

    @contextmanager
    def staging(self, purpose: str) -> Iterator[str]:
        """An empty private directory of the cluster's OS user on this host; what a killed run left is removed first.

        One per purpose and repository: the backup lock is held, so nobody else is using it.
        """
        identity = self.server.identity
        base = identity.make_private_directory(self.settings.state_path)
        path = os.path.join(base, f"staging-{purpose}-{self.repository.name}")
        shutil.rmtree(path, ignore_errors=True)
        identity.make_private_directory(path)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
