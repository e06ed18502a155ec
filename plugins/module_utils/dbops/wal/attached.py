# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository that has lost its disk: an empty mount point takes everything, and hides it once the disk is back.

So this host remembers which repositories it has archived a system's WAL to. One that has nothing of it any more is not
the one that is meant, and nothing is acknowledged on its word.
"""

from __future__ import annotations

import contextlib
import os

from ..errors import Unreachable
from ..repo.archive import WalArchive
from ..settings import Settings
from .spool import make_directory, write


def check_attached(settings: Settings, archive: WalArchive) -> None:
    """Unreachable when WAL was archived there before, and the repository knows nothing of this system now."""
    path = _path(settings, archive)
    if os.path.exists(path) and not archive.is_known():
        raise Unreachable(
            f"Repository {archive.name!r} held WAL of this cluster and is empty now: is its disk mounted?",
            hint=f"Mount it. If it was emptied on purpose, remove {path} and take a full backup.",
        )


def remember_attached(settings: Settings, archive: WalArchive) -> None:
    """Not in the spool, which may vanish. Where it cannot be written down, archiving goes on without the check."""
    path = _path(settings, archive)
    with contextlib.suppress(OSError):
        if not os.path.exists(path):
            make_directory(os.path.dirname(path))
            write(path, archive.system_identifier, durable=True)


def _path(settings: Settings, archive: WalArchive) -> str:
    return os.path.join(settings.state_path, "archived", archive.system_identifier, archive.name)
