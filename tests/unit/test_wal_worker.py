# SPDX-License-Identifier: GPL-3.0-or-later
"""The order in which the push worker archives what waits."""

from __future__ import annotations

import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import Unreachable
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.walfile import WalName, wal_name
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import from_mapping
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal import push
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal.cluster import cluster_in
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal.launch import Launcher
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal.spool import Spool
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal.worker import PushWorker

NAMES = [wal_name(text) for text in ("00000002.history", "000000020000000000000003", "000000020000000000000004")]


@pytest.fixture
def worker(tmp_path: Path) -> PushWorker:
    return worker_at(tmp_path)


def worker_at(tmp_path: Path, **archiving: Any) -> PushWorker:
    data, repository = tmp_path / "data", tmp_path / "repository"
    (data / "pg_wal").mkdir(parents=True)
    (data / "global").mkdir()
    repository.mkdir()
    (data / "PG_VERSION").write_text("15\n")
    (data / "global" / "pg_control").write_bytes(struct.pack("<QI36xI", 7, 1300, 1) + bytes(8000))
    mapping = {"cluster": "main", "repositories": [{"name": "a", "path": str(repository)}], "archiving": archiving}
    cluster = cluster_in(str(data))
    spool = Spool(str(tmp_path / "spool"), cluster)
    spool.claim()
    settings = from_mapping(mapping, where="test settings")
    return PushWorker(settings, spool, cluster, Launcher("", [], str(tmp_path / "spool"), lambda _words: 0), "")


def pushed(worker: PushWorker, monkeypatch: pytest.MonkeyPatch, *, failing: bool) -> list[str]:
    """What was begun and ended, in order, when the history takes longer than a segment."""
    said: list[str] = []

    def push(name: WalName) -> None:
        said.append(f"begin {name.text}")
        if name is NAMES[0]:
            threading.Event().wait(0.1)  # time for others to overtake it, if they could
            if failing:
                raise Unreachable("It is away.", hint="Wait.")
        said.append(f"end {name.text}")

    monkeypatch.setattr(worker, "_push", push)
    with ThreadPoolExecutor(4) as pool:
        assert worker._push_all(pool, NAMES) is not failing
    return said


def test_no_segment_is_archived_before_the_history_of_its_timeline(worker: PushWorker, monkeypatch):
    said = pushed(worker, monkeypatch, failing=False)
    assert said[:2] == [f"begin {NAMES[0].text}", f"end {NAMES[0].text}"]
    assert len(said) == 6


def test_a_history_that_cannot_be_archived_keeps_its_segments_back(worker: PushWorker, monkeypatch):
    assert pushed(worker, monkeypatch, failing=True) == [f"begin {NAMES[0].text}"]


@pytest.mark.parametrize(("workers", "packed_at_once"), [(1, 1), (2, 3)])
def test_who_wants_one_segment_at_a_time_gets_one(tmp_path: Path, monkeypatch, workers: int, packed_at_once: int):
    """More than one worker packs one segment more than there are cores to keep busy."""
    worker = worker_at(tmp_path, workers=workers)
    targets = push.Targets(worker._settings, worker._cluster.system_identifier)
    full = threading.Barrier(packed_at_once)  # that many must be there at once, or the wait fails
    within, most = [], []

    def packed_file(_cluster: Any, _path: str, name: WalName, _shape: Any) -> tuple[WalName, None]:
        within.append(name)
        most.append(len(within))
        full.wait(5)
        threading.Event().wait(0.05)  # time for one more to come, if it could
        within.remove(name)
        return name, None

    monkeypatch.setattr(push, "packed_file", packed_file)
    monkeypatch.setattr(targets, "store", lambda packed: packed)
    names = [wal_name(f"{1:08X}{0:08X}{number:08X}") for number in range(2 * packed_at_once)]
    with ThreadPoolExecutor(len(names)) as pool:
        done = list(pool.map(lambda name: push.push_one(targets, worker._cluster, "", name), names))
    assert [name for name, _version in done] == names
    assert max(most) == packed_at_once
