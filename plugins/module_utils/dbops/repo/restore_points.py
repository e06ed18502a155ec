# SPDX-License-Identifier: GPL-3.0-or-later
"""Named restore points, written down beside the backups. The WAL is the truth; this says where to look."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..errors import Corrupt, DbopsError
from ..pg.wal import int_to_lsn, lsn_to_int
from . import layout
from .record import from_iso, iso
from .repository import Repository


@dataclass(frozen=True)
class RestorePoint:
    """`position` is where its record ends."""

    name: str
    system_identifier: str
    timeline: int
    position: int
    time: datetime
    by: str = ""

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "system_identifier": self.system_identifier,
            "timeline": self.timeline,
            "lsn": int_to_lsn(self.position),
            "time": iso(self.time),
            "by": self.by,
        }


def write_point(repository: Repository, point: RestorePoint) -> None:
    """Never over another one; the same again is AlreadyThere."""
    key = layout.restore_point(repository.cluster, point.time, point.name)
    content = json.dumps(point.describe(), indent=1, ensure_ascii=False) + "\n"
    repository.store.put(key, [content.encode("utf-8", "surrogatepass")], if_absent=True)


def read_points(repository: Repository, system_identifier: str) -> list[RestorePoint]:
    """This system's, newest first. What cannot be read is passed over: the point is found in the WAL all the same."""
    keys = [item.key for item in repository.store.list(layout.restore_points(repository.cluster))]
    found = []
    for _key, content in repository.store.read_many(keys):
        if isinstance(content, DbopsError):
            if isinstance(content, Corrupt):
                continue
            raise content
        try:
            data = json.loads(content or b"")
            found.append(
                RestorePoint(
                    name=str(data["name"]),
                    system_identifier=str(data["system_identifier"]),
                    timeline=int(data["timeline"]),
                    position=lsn_to_int(data["lsn"]),
                    time=from_iso(data["time"]),
                    by=str(data.get("by", "")),
                )
            )
        except (ValueError, KeyError, TypeError, AttributeError, DbopsError):
            continue
    found = [point for point in found if point.system_identifier == system_identifier]
    return sorted(found, key=lambda point: (point.time, point.position), reverse=True)
