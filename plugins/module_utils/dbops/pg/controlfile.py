# SPDX-License-Identifier: GPL-3.0-or-later
"""The few fields of `global/pg_control` that archiving asks for at every call, read without starting a program.

Source: PostgreSQL's catalog/pg_control.h; the offsets are those of versions 13 to 18, on 64-bit and little-endian.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from ..errors import Corrupt, NotFound, Unreachable

_FIELDS = struct.Struct("<QI28xQI")  # system identifier, format; at 40 the checkpoint's redo and timeline
_VERSIONS = range(1300, 1900)


@dataclass(frozen=True)
class ControlFile:
    system_identifier: str
    timeline: int  # of the last checkpoint: a promotion that has just happened is not in it yet
    redo: int  # where replay begins, as a byte position, unless a backup_label says otherwise


def control_file(data_directory: str) -> ControlFile:
    path = os.path.join(data_directory, "global", "pg_control")
    try:
        with open(path, "rb") as stream:
            head = stream.read(_FIELDS.size)
    except FileNotFoundError as exc:
        raise NotFound(
            f"{data_directory} holds no cluster: {path} is missing.", hint="Name the server's data directory."
        ) from exc
    except OSError as exc:
        raise Unreachable(f"Cannot read {path}: {exc.strerror}.", hint="Run as the cluster's OS user.") from exc
    if len(head) < _FIELDS.size:
        raise Corrupt(f"{path} is cut off.", hint="Restore the cluster; pg_resetwal loses data.")
    system, version, redo, timeline = _FIELDS.unpack(head)
    if version not in _VERSIONS or not system or not timeline:
        raise Corrupt(
            f"{path} has the unknown format {version}.", hint="PostgreSQL 14 to 18 on a little-endian host are known."
        )
    return ControlFile(str(system), timeline, redo)
