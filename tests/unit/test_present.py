# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository as a state: looked at, made, and brought to what was asked, on a disk and on three clouds."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import NotFound, Refused
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo import layout, present
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.present import Wanted, decide
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings, from_mapping
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store import Trouble
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store.premises import Found
from tests.support.clouds import Cloud
from tests.support.fault_proxy import FaultProxy
from tests.support.playbooks import Controller, changed

_numbers = itertools.count(1)
KNOWN = st.sampled_from([None, False, True])


def settings_of(repository: dict[str, Any]) -> Settings:
    retention = {"keep_within": "7d"}
    return from_mapping({"cluster": "main", "repositories": [repository], "retention": retention})


def new(cloud: Cloud, **more: Any) -> dict[str, Any]:
    """A repository in a bucket that is not there yet."""
    return {**cloud.repository(f"made-{next(_numbers)}"), **more}


def brought(settings: Settings, **wanted: Any) -> present.PresentPlan:
    plan = present.plan(settings, Wanted(**wanted))
    present.run(plan)
    return plan


@given(exists=st.booleans(), versions=KNOWN, locks=KNOWN, wanted=st.builds(Wanted, st.just(True), KNOWN, KNOWN))
def test_the_steps_lead_to_what_was_asked_and_then_there_are_none(exists, versions, locks, wanted):
    steps = decide(Found(exists, versions, locks), "present", wanted)
    assert ("create" in steps) is not exists
    lacks = [
        versions is False and exists and (wanted.versioning or wanted.object_lock),
        not exists and wanted.versioning,
    ]
    assert ("versioning" in steps) == any([lacks[0], lacks[1] and not wanted.object_lock])
    after = Found(
        True,
        True if "versioning" in steps or wanted.object_lock else versions,
        True if "object_lock" in steps or (not exists and wanted.object_lock) else locks,
    )
    assert decide(after, "present", wanted) == ()


def test_a_directory_is_made_and_its_instructions_are_renewed(tmp_path: Path):
    settings = settings_of({"path": str(tmp_path / "repository")})
    with pytest.raises(NotFound, match="is not there"):
        present.plan(settings, Wanted())
    assert brought(settings, create=True).steps == ("create", "recover_md")
    again = present.plan(settings, Wanted(create=True))
    assert (again.steps, again.before.recover_md) == ((), "present")
    file = tmp_path / "repository" / layout.recover_md("main")
    file.write_text("from an older version")
    assert brought(settings).steps == ("recover_md",)
    assert "how to recover" in file.read_text().lower()
    with pytest.raises(Refused, match="keeps no versions"):
        brought(settings, versioning=True)


def test_a_directory_whose_disk_is_not_mounted_is_not_made(tmp_path: Path):
    settings = settings_of({"path": str(tmp_path / "mount" / "repository")})
    with pytest.raises(NotFound, match="mount"):
        brought(settings, create=True)


@pytest.mark.parametrize("kind", ["s3", "gcs", "azure"])
def test_a_bucket_is_made_once_and_explains_itself(clouds: Callable[[str], Cloud], kind: str):
    settings = settings_of(new(clouds(kind)))
    plan = brought(settings, create=True)
    assert plan.steps == ("create", "recover_md")
    again = present.plan(settings, Wanted(create=True))
    assert (again.steps, again.before.exists, again.before.recover_md) == ((), True, "present")
    assert b"".join(open_repository(settings).store.get(layout.recover_md("main")))


def test_an_s3_bucket_is_made_with_a_lock_or_gets_one(clouds: Callable[[str], Cloud]):
    locked = settings_of(new(clouds("s3"), lock={}))
    assert brought(locked, create=True).steps == ("create", "recover_md")
    seen = present.plan(locked, Wanted())
    assert (seen.steps, seen.before.versioning, seen.before.object_lock) == ((), True, True)
    later = clouds("s3").repository(clouds("s3").new_bucket())  # S3 does it for any bucket, moto for an empty one
    assert brought(settings_of({**later, "lock": {}})).steps == ("versioning", "object_lock", "recover_md")
    assert present.plan(settings_of({**later, "lock": {}}), Wanted()).steps == ()


def test_google_versions_are_switched_on_and_what_google_and_azure_refuse_is_told(clouds: Callable[[str], Cloud]):
    google = settings_of(new(clouds("gcs")))
    brought(google, create=True)
    assert brought(google, versioning=True).steps == ("versioning",)
    assert present.plan(google, Wanted(versioning=True)).steps == ()
    azure = settings_of(new(clouds("azure")))
    brought(azure, create=True)
    told = present.plan(azure, Wanted(versioning=True))
    assert told.steps == ()
    assert "cannot see it" in told.warnings[0]
    for cloud, hint in (("gcs", "new bucket"), ("azure", "enable-vlw")):
        there = new(clouds(cloud))
        brought(settings_of(there), create=True)
        with pytest.raises(Refused) as caught:
            brought(settings_of({**there, "lock": {}}))
        assert hint in str(caught.value)


def test_who_may_not_see_the_bucket_s_settings_is_told_so_and_the_network_is_no_answer(clouds: Callable[[str], Cloud]):
    cloud = clouds("s3")
    there = new(cloud)
    brought(settings_of(there), create=True)
    with FaultProxy(cloud.url) as proxy:
        there["s3"] = {**there["s3"], "endpoint_url": proxy.url}
        there["transfer"] = {"retry_budget_s": 0}
        proxy.plan = lambda request: "403" if "versioning" in request.path or "object-lock" in request.path else None
        plan = present.plan(settings_of(there), Wanted(versioning=True, object_lock=True))
        assert (plan.steps, len(plan.warnings)) == ((), 2)
        proxy.plan = lambda request: "503"
        with pytest.raises(Trouble, match="patience"):
            present.plan(settings_of(there), Wanted(create=True))


def test_the_playbook_shows_then_makes_each_repository_and_tells_what_it_costs(
    clouds: Callable[[str], Cloud], tmp_path: Path
):
    bucket = new(clouds("s3"))
    settings = tmp_path / "main.json"
    repositories = [{**bucket, "name": "far"}, {"name": "near", "path": str(tmp_path / "near")}]
    settings.write_text(json.dumps({"cluster": "main", "repositories": repositories}))
    controller = Controller(tmp_path, {"dbops_config_path": str(settings)}, {"db1": {}})
    wanted = {"dbops_repository_create": True}
    assert changed(controller.play("repository", "--check", "--diff", **wanted)) == 1  # one task, which loops
    assert not (tmp_path / "near").exists()
    assert not (tmp_path / "result").exists()
    assert changed(controller.play("repository", **wanted)) == 1
    told = controller.result("repository")
    assert [(item["name"], item["exists"], item["recover_md"]) for item in told["repositories"]] == [
        ("far", True, "present"), ("near", True, "present"),
    ]  # fmt: skip
    assert [item["name"] for item in told["usage"]] == ["far", "near"]
