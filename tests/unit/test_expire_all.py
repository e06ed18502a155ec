# SPDX-License-Identifier: GPL-3.0-or-later
"""Each repository expires by its own rules, and one that is away does not keep the others full."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, Unreachable
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo import expire_all
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings, from_mapping
from tests.support.backups import DAY, START, backed_up

NOW = START + 30 * DAY


def filled(tmp_path: Path, *, far_required: bool = True) -> tuple[Settings, list[str]]:
    """Five backups in each of two repositories; all keep two, but far keeps four."""
    repositories = [
        {"name": "near", "path": str(tmp_path / "near")},
        {"name": "far", "path": str(tmp_path / "far"), "required": far_required, "retention": {"keep_last": 4}},
    ]
    settings = from_mapping({"cluster": "main", "repositories": repositories, "retention": {"keep_last": 2}})
    (tmp_path / "near").mkdir()
    labels = [backed_up(settings, START + number * DAY) for number in range(5)]
    shutil.copytree(tmp_path / "near", tmp_path / "far")
    return settings, labels


def kept(settings: Settings, name: str) -> int:
    return len(open_repository(settings, name).catalog().entries)


def apply(settings: Settings, **options: Any) -> dict[str, Any]:
    return expire_all.apply(expire_all.plan(settings, now=NOW, **options), Silent(), now=NOW)


def test_each_repository_keeps_what_its_own_rules_say(tmp_path: Path):
    settings, _labels = filled(tmp_path)
    preview = expire_all.plan(settings, now=NOW).preview()
    assert [(item["repository"], len(item["delete"])) for item in preview["repositories"]] == [("near", 3), ("far", 1)]
    assert preview["expire"] == preview["repositories"][0]
    result = apply(settings)
    assert (kept(settings, "near"), kept(settings, "far")) == (2, 4)
    assert result["changed"]
    assert "near: Deleted 3" in result["msg"]
    assert "far: Deleted 1" in result["msg"]
    assert apply(settings)["changed"] is False


def test_a_named_one_is_the_only_one_touched(tmp_path: Path):
    settings, _labels = filled(tmp_path)
    apply(settings, repository="far")
    assert (kept(settings, "near"), kept(settings, "far")) == (5, 4)


def test_rules_that_are_given_hold_for_all_and_leave_the_others_as_they_were(tmp_path: Path):
    settings, _labels = filled(tmp_path)
    apply(settings, rules={"keep_last": 3})
    assert (kept(settings, "near"), kept(settings, "far")) == (3, 3)
    with pytest.raises(BadInput, match=r"retention\.keep_last"):
        expire_all.plan(settings, rules={"keep_last": 0})


@pytest.mark.parametrize("required", [True, False])
def test_one_that_is_away_costs_the_others_nothing(tmp_path: Path, required: bool):
    settings, _labels = filled(tmp_path, far_required=required)
    shutil.rmtree(tmp_path / "far")
    assert any("'far'" in text for text in expire_all.plan(settings, now=NOW).preview()["warnings"])
    if required:
        with pytest.raises(Unreachable, match="'far' is not there"):
            apply(settings)
    else:
        assert any("'far' is left out" in text for text in apply(settings)["warnings"])
    assert kept(settings, "near") == 2


def test_when_all_are_away_nothing_is_decided(tmp_path: Path):
    settings, _labels = filled(tmp_path)
    for name in ("near", "far"):
        shutil.rmtree(tmp_path / name)
    with pytest.raises(Unreachable):
        expire_all.plan(settings, now=NOW)
