# SPDX-License-Identifier: GPL-3.0-or-later
"""Every class of stored object, flipped, truncated, swapped and deleted, on a disk and on S3: all of it is found.

By what reads it on the way to a recovery: a restore reads objects through `read_object`, restore_command WAL through
`fetch`, and a recovery is planned from the window. docs/reliability.md has the table.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.stream import Shape
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import Corrupt, NotFound, Refused
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.walfile import wal_name
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.archive import WalArchive, pack
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.coverage import windows
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.record import WalRange
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings, from_mapping
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal.fetch import FOUND, fetch
from tests.support.backups import DAY, START, backed_up, read_in_full
from tests.support.clouds import Cloud
from tests.support.physical import flip_a_bit

SYSTEM = "7500000000000000001"
SIZE = 1 << 20
HARMS: dict[str, Callable[[bytes, bytes], bytes | None]] = {
    "flipped": lambda raw, other: flip_a_bit(raw),
    "truncated": lambda raw, other: raw[: len(raw) // 2],
    "swapped": lambda raw, other: other,
    "deleted": lambda raw, other: None,
}
_numbers = itertools.count(1)


class Stored:
    """Two full backups, an incremental on the second, two dumps, five segments of WAL and two histories."""

    def __init__(self, settings: Settings, work: Path) -> None:
        self.settings = settings
        self.work = work
        wal = WalRange(1, "0/100028", "0/100100", SIZE)
        self.full = [backed_up(settings, START + number * DAY, wal=wal) for number in range(2)]
        self.incremental = backed_up(settings, START + 2 * DAY, "incremental", parent=self.full[1], wal=wal)
        self.dumps = [backed_up(settings, START + timedelta(hours=number), "dump") for number in range(2)]
        self.repository = open_repository(settings)
        self.archive = WalArchive(self.repository, SYSTEM)
        for number in range(1, 6):
            head = struct.pack("<HHIQI4xQII", 0xD118, 2, 1, number * SIZE, 0, int(SYSTEM), SIZE, 8192)
            self.put(f"0000000100000000{number:08X}", head + bytes([number]) * (SIZE - len(head)))
        self.put("00000002.history", b"1\t0/300000\tno recovery target specified\n")
        self.put("00000003.history", b"1\t0/300000\tbefore\n2\t0/400000\tno recovery target specified\n")

    def put(self, name: str, content: bytes) -> None:
        self.archive.put_packed(pack(wal_name(name), [content], Shape("zstd", 1, threads=1)))

    def classes(self) -> Iterator[tuple[str, str, str, Callable[[], Any]]]:
        """What it is, its key, the key of another one of its kind, and what reads it on the way to a recovery."""
        for label, other in (
            (self.full[1], self.full[0]),
            (self.incremental, self.full[0]),
            (self.dumps[1], self.dumps[0]),
        ):
            goal = self.dumps[1] if label == self.dumps[1] else self.incremental
            prefix = f"main/backups/{label}/"
            for info in list(self.repository.store.list(prefix)):
                name = info.key[len(prefix) :]
                kind = label.rpartition("-")[2]
                yield f"{kind}: {name}", info.key, f"main/backups/{other}/{name}", lambda goal=goal: self.backup(goal)
        segments = ("000000010000000000000003", "000000010000000000000004")
        for kind, (name, other) in (
            ("wal: segment", segments),
            ("wal: history", ("00000002.history", "00000003.history")),
        ):
            yield kind, self.key_of(name), self.key_of(other), lambda name=name: self.wal(name)

    def key_of(self, name: str) -> str:
        return next(info.key for info in self.repository.store.list("main/wal/") if f"/{name}." in info.key)

    def backup(self, label: str) -> None:
        read_in_full(self.repository, [label])

    def wal(self, name: str) -> None:
        """As restore_command asks, and as a recovery to the last of the archive is planned."""
        outcome = fetch([self.archive], wal_name(name), str(self.work / f"fetched{next(_numbers)}"))
        (window,) = windows(self.repository, self.repository.catalog())
        broken = [interval.broken_by for line in window.lines for interval in line.intervals if interval.broken_by]
        if outcome.verdict != FOUND or broken:
            raise Corrupt(f"{outcome.verdict} {outcome.lines} {broken}")


@pytest.fixture(params=["local", "s3"])
def stored(request: pytest.FixtureRequest, clouds: Callable[[str], Cloud], tmp_path: Path) -> Stored:
    if request.param == "s3":
        cloud = clouds("s3")
        repository = cloud.repository(cloud.new_bucket())
    else:
        (tmp_path / "repository").mkdir()
        repository = {"path": str(tmp_path / "repository")}
    return Stored(from_mapping({"cluster": "main", "repositories": [repository]}), tmp_path)


def is_found(check: Callable[[], Any]) -> bool:
    """Told as damage or absence, and not as something else that happened to go wrong."""
    try:
        check()
    except (Corrupt, NotFound, Refused):
        return True
    return False


def test_every_harm_to_every_class_of_object_is_found(stored: Stored):
    """And the untouched repository is good before each harm, so that nothing is found by accident."""
    missed, met, store = [], [], stored.repository.store
    for kind, key, other, check in list(stored.classes()):
        assert not is_found(check), kind
        raw, foreign = b"".join(store.get(key)), b"".join(store.get(other))
        for harm, change in HARMS.items():
            damaged = change(raw, foreign)
            assert damaged != raw, f"{kind} {harm} is no harm"
            store.delete(key)
            if damaged is not None:
                store.put(key, [damaged])
            if not is_found(check):
                missed.append(f"{kind} {harm}")
            met.append(f"{kind} {harm}")
            store.delete(key)
            store.put(key, [raw])
    assert missed == []
    assert len(met) == 56
