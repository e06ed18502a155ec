# SPDX-License-Identifier: GPL-3.0-or-later
"""Room for a restore, asked of each file system before anything is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence

from ..errors import Refused
from ..repo.record import BackupRecord
from .place import Place


def require_space(chain: Sequence[BackupRecord], data: Place, tablespaces: Iterable[Place]) -> int:
    """The bytes that a restore needs, estimated from above; Refused where a file system has less.

    A chain lies there twice: its members beside the target, tablespaces included, and what they are combined into.
    Beside a mount point is another file system. How a whole splits over tablespaces on other ones is not known, so
    then only the members are checked.
    """
    whole, apart = _whole(chain), _apart(chain)
    wanted = [(os.path.dirname(data.path), apart)] if apart else []
    if all(_device(item.disk) == _device(data.disk) for item in tablespaces):
        wanted.append((data.disk, whole))
    together: dict[int, int] = {}
    for path, size in wanted:
        device = _device(path)
        together[device] = together.get(device, 0) + size
        free = shutil.disk_usage(path).free
        if free < together[device]:
            raise Refused(
                f"Restoring {chain[-1].label} needs about {together[device]} bytes in {path}, which has {free}.",
                hint="Free space there, or restore to another target.",
            )
    return whole + apart


def needed_bytes(chain: Sequence[BackupRecord]) -> int:
    return _whole(chain) + _apart(chain)


def plain_bytes(chain: Sequence[BackupRecord]) -> int:
    """What the archives unpack to; where the server compressed, the database's own size stands in for it."""
    total = 0
    for record in chain:
        archives = [item for item in record.objects if item.kind in ("base", "tablespace")]
        sizes = [item.plain.size_bytes for item in archives if item.plain]
        if len(sizes) == len(archives):
            total += sum(sizes)
        elif record.type == "full":
            total += record.database_bytes or 0
        else:
            total += 4 * sum(item.stored.size_bytes for item in archives)
    return total


def _whole(chain: Sequence[BackupRecord]) -> int:
    return max(plain_bytes(chain[-1:]), chain[-1].database_bytes or 0)


def _apart(chain: Sequence[BackupRecord]) -> int:
    """What the members take before they are combined."""
    return 0 if len(chain) == 1 else plain_bytes(chain)


def _device(path: str) -> int:
    return os.stat(path).st_dev
