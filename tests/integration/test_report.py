# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a cluster that lived: three days of real backups under a moved clock, and what goes wrong in them."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.report import files
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.report.model import Report
from tests.support.history import DAY, EVIL, HOUR, Clock, History
from tests.support.module_runs import run_module
from tests.support.servers import Templates, installations


@pytest.fixture(scope="module")
def lived(base_directory: Path, templates: Templates) -> Iterator[tuple[History, datetime, str]]:
    """A full backup, a lost segment, another full backup that is proven, an incremental, and a commit that waits."""
    place = base_directory / "report"
    place.mkdir(mode=0o755)
    server = templates.server(installations()[-1], place / "pg")
    now = datetime.now(timezone.utc)
    clock = Clock(place / "clock")
    clock.set(now - 3 * DAY)
    with clock.running():
        history = History(server, place, clock, {"rto": "10m", "min_window": "2d"})
        try:
            history.backup(now - 70 * HOUR, "--type", "full")
            history.work(now - 60 * HOUR, 100)
            lost = history.work(now - 55 * HOUR, 100)
            history.lose(lost)
            history.work(now - 50 * HOUR, 100)
            label = history.backup(now - 40 * HOUR, "--type", "full")
            history.backup(now - 39 * HOUR, "--method", "logical")
            history.work(now - 30 * HOUR, 100)
            history.point(now - 25 * HOUR, "before release 7")
            assert history.verify(now - 24 * HOUR, label, "--until", "restore") == "pass"
            history.backup(now - 12 * HOUR, "--type", "incremental")
            history.work(now - 6 * HOUR, 100)
            history.at(now)
            yield history, now, lost
        finally:
            server.stop("immediate")


@pytest.fixture(scope="module")
def told(lived: tuple[History, datetime, str]) -> tuple[dict[str, Any], Report]:
    history, _now, _lost = lived
    result = history.dbops("report", "--directory", str(history.place / "out"))
    return result, files.load(str(history.place / "out" / "report.json"))


def test_the_window_is_told_with_its_gap_and_its_proof(lived, told):
    _history, now, lost = lived
    _result, report = told
    (cluster,) = report.clusters
    disk, vault = cluster.repositories
    broken, whole = disk.spans
    assert broken.broken_by == lost
    assert abs(broken.end - (now - 60 * HOUR)) < HOUR / 10  # the last commit before the segment that is missing
    assert abs(whole.start - (now - 40 * HOUR)) < HOUR / 10
    # Nobody committed for six hours, so all is archived: what the server notes by itself meanwhile is nobody's loss.
    assert disk.tail is not None
    assert (disk.tail.since, disk.tail.exposure_s) == (None, 0)
    assert whole.end == cluster.seen
    assert [backup.type for backup in disk.backups] == ["incremental", "dump", "full", "full"]
    assert [backup.proven_level for backup in disk.backups] == [None, None, "restore", None]
    assert EVIL in disk.backups[1].databases
    assert [point.name for point in disk.points] == ["before release 7"]
    assert vault.spans[-1].newest_timeline
    (proof,) = disk.verifications
    assert proof.copy_bytes_per_s
    assert proof.replay_segments_per_s
    targets = {item.name: item for item in cluster.targets}
    assert targets["rpo"].met is True
    assert targets["rto"].met is True
    assert (targets["window"].met, round((targets["window"].actual_s or 0) / 3600)) == (False, 40)


def test_every_command_of_the_report_finds_its_way(lived, told):
    """Each is run as it stands, and plans what the report had promised."""
    history, _now, _lost = lived
    _result, report = told
    reaches = report.clusters[0].repositories[0].reaches
    assert len(reaches) == 3
    for reach in reaches:
        _dbops, *words = shlex.split(reach.command)
        planned = history.dbops(*words)["restore"]
        assert planned["label"] == reach.base
        assert planned["recovery"]["base"] == reach.base
        assert planned["recovery"]["wal_segments"] <= reach.wal_files


def test_the_module_returns_what_the_command_writes_and_joins_what_others_saw(lived, told, tmp_path):
    history, _now, _lost = lived
    mine = told[0]["report"]
    looked = run_module(
        "pg_report", cluster="main", config=str(history.config), directory=str(tmp_path / "m"), check=True
    )
    assert not (tmp_path / "m").exists()
    assert [item["name"] for item in looked["report"]["clusters"][0]["repositories"]] == ["disk", "vault"]
    other = json.loads(json.dumps(mine).replace('"name": "main"', '"name": "other"'))
    joined = run_module(
        "pg_report", cluster="fleet", reports=[mine, other], directory=str(tmp_path / "all"),
        repositories=[{"path": str(tmp_path)}],
    )  # fmt: skip
    assert sorted(os.listdir(tmp_path / "all")) == ["junit.xml", "report.html", "report.json"]
    assert [item["name"] for item in joined["report"]["clusters"]] == ["main", "other"]
    bad = run_module("pg_report", cluster="fleet", reports=[{"x": 1}])
    assert (bad["failed"], bad["error_code"]) == (True, "bad_input")
