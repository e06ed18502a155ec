# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/pitr.yml and restore_point.yml as an operator runs them: the point that was asked for, or why not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.playbooks import Controller, changed, unfolded
from tests.support.recovering import Protected, Side, at
from tests.support.servers import Installation, Templates, installations


def protected_by(installation: Installation, templates: Templates, place: Path) -> Iterator[Protected]:
    made = Protected(templates.server(installation, place / "pg", summarize_wal=False), place)
    made.row(0)
    yield made
    made.server.stop("immediate")


@pytest.fixture
def protected(installation: Installation, templates: Templates, place: Path) -> Iterator[Protected]:
    yield from protected_by(installation, templates, place)


@pytest.fixture
def newest(templates: Templates, place: Path) -> Iterator[Protected]:
    yield from protected_by(installations()[-1], templates, place)


def controller_of(protected: Protected, hosts: dict[str, dict[str, object]]) -> Controller:
    config = protected.place / "settings.json"
    mapping = protected.server.engine_mapping(
        None,
        repositories=[{"name": "a", "path": str(protected.place / "repo")}],
        archiving={"codec": protected.archiving.codec, "get_retry_s": 1, "timeout_s": 20, "linger_s": 2},
    )
    config.write_text(json.dumps(mapping))
    variables = {"dbops_config_path": str(config), "dbops_live_progress": False}
    return Controller(protected.place, {**variables, "dbops_lib_path": str(protected.place / "arc/lib")}, hosts)


def rows(protected: Protected) -> list[int]:
    return [number for (number,) in protected.server.sql("select n from canary order by n")]


@pytest.mark.slow
def test_time_name_lsn_and_xid_are_reached_beside_the_cluster(protected):
    label = protected.backup()
    points = {1: protected.row(1)}
    controller = controller_of(protected, {"db1": {}})
    named = controller.play("restore_point", dbops_restore_point="before release")
    assert changed(named) == 1
    assert '{"dbops_pitr_name": "before release"}' in unfolded(named)
    points[2], points[3] = protected.row(2), protected.row(3)
    points[4] = protected.row(4)
    protected.server.sql("drop table canary")
    protected.archive()

    wanted = {
        "time": ({"dbops_pitr_time": at(points[4])}, [0, 1, 2, 3, 4]),
        "name": ({"dbops_pitr_name": "before release"}, [0, 1]),
        "lsn": ({"dbops_pitr_lsn": points[2].lsn}, [0, 1, 2]),
        "xid": ({"dbops_pitr_xid": points[3].xid, "dbops_pitr_exclusive": True}, [0, 1, 2]),
    }
    hosts = {
        host: {**how, "dbops_restore_target": str(protected.place / host), "dbops_pitr_port": 5990 + number}
        for number, (host, (how, _rows)) in enumerate(wanted.items())
    }
    controller = controller_of(protected, hosts)
    screen = controller.play("pitr", dbops_pitr_mode="side")
    for host, (_how, expected) in wanted.items():
        assert changed(screen, host) == 1
        restore = controller.result("pitr", host)["restore"]
        side = Side(protected.server, protected.place / host, restore)
        try:
            assert (restore["label"], restore["recovery"]["target_reached"]) == (label, True)
            assert side.rows() == expected
        finally:
            side.stop()
    assert protected.server.is_running


@pytest.mark.slow
def test_in_place_the_check_tells_the_plan_or_what_could_be_reached_and_the_name_confirms(newest):
    label = newest.backup()
    target = newest.row(1)
    newest.row(2)
    newest.archive()
    controller = controller_of(newest, {"db1": {}})

    plan = unfolded(controller.play("pitr", "--check", dbops_pitr_time=at(target)))
    assert f"Would restore {label}" in plan
    assert "segments of WAL are replayed along timeline 1" in plan
    assert "the last commit that comes back is of 20" in plan
    beyond = controller.play("pitr", "--check", fails=True, dbops_pitr_time="2999-01-01T00:00:00Z")
    assert "the nearest instant that can be reached is" in unfolded(beyond)
    assert "Refusing to move" in unfolded(controller.play("pitr", fails=True, dbops_pitr_time=at(target)))
    assert rows(newest) == [0, 1, 2]

    done = controller.play("pitr", dbops_pitr_time=at(target), dbops_confirm="main")
    assert changed(done) == 1
    assert "was reached and the server is promoted" in unfolded(done)
    assert controller.result("pitr")["restore"]["recovery"]["timeline"] == 2
    assert rows(newest) == [0, 1]
    assert newest.server.value("show archive_mode") == "on"
