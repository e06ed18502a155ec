# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules about repositories and holds, up to the result that Ansible gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings, from_mapping
from tests.support.backups import START, backed_up
from tests.support.module_runs import run_module


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A settings file of a cluster with an empty repository far beside near."""
    for name in ("near", "far"):
        (tmp_path / name).mkdir()
    repositories = [{"name": name, "path": str(tmp_path / name)} for name in ("near", "far")]
    path = tmp_path / "main.json"
    path.write_text(json.dumps({"cluster": "main", "repositories": repositories}))
    return path


@pytest.fixture
def settings(config: Path) -> Settings:
    return from_mapping(json.loads(config.read_text()))


def run(module: str, config: Path, **arguments: Any) -> dict[str, Any]:
    return run_module(module, cluster="main", config=str(config), **arguments)


def held(settings: Settings) -> list[dict[str, str]]:
    return [open_repository(settings, name).held() for name in ("near", "far")]


def test_sync_tells_first_then_copies_then_has_nothing_to_do(config: Path, settings: Settings):
    label = backed_up(settings, START)
    told = run("pg_repo_sync", config, check=True)
    assert (told["changed"], told["diff"]["after"]["near to far"]) == (True, [label])
    assert open_repository(settings, "far").catalog().entries == ()
    done = run("pg_repo_sync", config, source="near")
    assert done["changed"]
    assert [item["backups"] for item in done["sync"] if item["to"] == "far"] == [[label]]
    again = run("pg_repo_sync", config)
    assert (again["changed"], again["failed"]) == (False, False)


def test_a_hold_is_set_and_released_in_every_repository_that_has_the_backup(config: Path, settings: Settings):
    label = backed_up(settings, START)
    run("pg_repo_sync", config)
    assert run("pg_backup_hold", config, label=label, reason="audit", check=True)["changed"]
    assert held(settings) == [{}, {}]
    done = run("pg_backup_hold", config, label=label, reason="audit")
    assert (done["changed"], done["hold"]["repositories"]) == (True, ["near", "far"])
    assert done["diff"] == {"before": {"held": False}, "after": {"held": True}}
    assert held(settings) == [{label: "audit"}, {label: "audit"}]
    again = run("pg_backup_hold", config, label=label, reason="another")
    assert (again["changed"], again["hold"]["reason"]) == (False, "audit")
    assert again["diff"] == {"before": {"held": True}, "after": {"held": True}}
    assert run("pg_backup_hold", config, label=label, state="absent")["changed"]
    assert held(settings) == [{}, {}]
    gone = run("pg_backup_hold", config, label=label, state="absent")
    assert gone["diff"] == {"before": {"held": False}, "after": {"held": False}}


def test_a_backup_that_only_one_repository_has_is_held_there_and_an_unknown_one_is_an_error(
    config: Path, settings: Settings
):
    label = backed_up(settings, START)
    assert run("pg_backup_hold", config, label=label, reason="audit")["hold"]["repositories"] == ["near"]
    assert run("pg_backup_hold", config, label="20260202T020000Z-full", reason="x")["error_code"] == "not_found"


def test_check_tells_each_verdict_and_fails_only_as_asked(config: Path, settings: Settings, tmp_path: Path):
    backed_up(settings, START)
    told = run("pg_repo_check", config, repository="near")
    assert (told["verdict"], told["failed"], told["changed"]) == ("could_not_verify", False, False)
    assert run("pg_repo_check", config, fail_on="could_not_verify")["failed"]
    before = sorted(tmp_path.rglob("*"))
    read = run("pg_repo_check", config, repository="near", check=True)
    verdicts = {item["probe"]: item["verdict"] for item in read["checks"]}
    assert verdicts == {"list": "pass", "write": "could_not_verify", "decrypt": "pass"}
    assert sorted(tmp_path.rglob("*")) == before


def test_a_repository_is_shown_then_made_then_left_alone(config: Path, tmp_path: Path):
    (tmp_path / "far").rmdir()
    missing = run("pg_repository", config, repository="far")
    assert (missing["failed"], missing["error_code"]) == (True, "not_found")
    shown = run("pg_repository", config, repository="far", create=True, check=True)
    assert (shown["changed"], shown["steps"], (tmp_path / "far").exists()) == (True, ["create", "recover_md"], False)
    assert shown["diff"]["before"] == {"exists": False, "versioning": False, "object_lock": False, "recover_md": None}
    done = run("pg_repository", config, repository="far", create=True)
    assert (done["changed"], done["repository"]["recover_md"]) == (True, "present")
    assert (tmp_path / "far" / "main" / "RECOVER.md").exists()
    again = run("pg_repository", config, repository="far", create=True)
    assert (again["changed"], again["steps"]) == (False, [])
    assert again["diff"]["before"] == again["diff"]["after"]
    assert run("pg_repository", config, repository="far", versioning=True)["error_code"] == "refused"


def test_info_tells_what_is_away_and_what_the_rest_costs(config: Path, settings: Settings, tmp_path: Path):
    label = backed_up(settings, START)
    (tmp_path / "far").rmdir()
    told = run("pg_repository_info", config)
    assert [(item["name"], item["exists"], item["recover_md"]) for item in told["repositories"]] == [
        ("near", True, "missing"), ("far", False, None),
    ]  # fmt: skip
    assert told["msg"] == "1 of 2 repositories of main is there."
    counted = run("pg_repository_info", config, repository="near", usage=True)
    assert [item["label"] for item in counted["usage"][0]["backups"]] == [label]
    assert counted["prices"]["currency"] == "USD"
    assert run("pg_repository_info", config, usage=True, prices=str(tmp_path / "none"))["error_code"] == "not_found"
