# SPDX-License-Identifier: GPL-3.0-or-later
"""A bucket with object lock: what the host's own credentials cannot do to it, and how expiry gets along with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, DbopsError
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo import expire, holds
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.check import check
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.immutability import period
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.several import destinations
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.schema import build
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import (
    RepositorySettings,
    RetentionSettings,
    Settings,
    from_mapping,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store import AlreadyThere
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store.cloud import CloudStore
from tests.support.backups import DAY, START, backed_up, repository_settings
from tests.support.clouds import Cloud

_numbers = itertools.count(1)


WORKED_OUT: dict[str, str] = {}  # a lock without a length of its own


def locked(clouds: Callable[[str], Cloud], lock: Any, *, on_bucket: bool = True, **sections: Any) -> Settings:
    """Settings of a cluster whose only repository is a new bucket with object lock."""
    cloud = clouds("s3")
    bucket = f"locked-{next(_numbers)}"
    cloud.s3().create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=on_bucket)
    repository = {**cloud.repository(bucket), "lock": lock}
    retention = {"keep_within": "14d"}
    return from_mapping({"cluster": "main", "repositories": [repository], "retention": retention, **sections})


def whole_key(settings: Settings, label: str, name: str = "base.tar.gz") -> dict[str, str]:
    section = settings.repository().s3
    assert section is not None
    return {"Bucket": section.bucket, "Key": f"main/backups/{label}/{name}"}


def until(clouds: Callable[[str], Cloud], named: dict[str, str]) -> datetime | None:
    return clouds("s3").s3().head_object(**named).get("ObjectLockRetainUntilDate")


@pytest.mark.parametrize(
    ("lock", "rules", "expected"),
    [
        (None, {"keep_within": "14d"}, None),
        ({}, {"keep_within": "14d"}, timedelta(days=21)),
        ({"full_interval": "1d"}, {"keep_within": "2w"}, timedelta(days=15)),
        ({"period": "30d"}, {}, timedelta(days=30)),
        ({"period": "30d"}, {"keep_within": "14d"}, timedelta(days=30)),
    ],
)
def test_a_lock_lasts_for_the_window_and_the_full_backup_before_it(lock: Any, rules: Any, expected: Any):
    data = {"type": "s3", "s3": {"bucket": "bucket"}, "lock": lock}
    repository = build(RepositorySettings, data, where="test")
    assert period(repository, build(RetentionSettings, rules, where="test")) == expected


def test_a_lock_that_nothing_gives_a_length_is_refused_and_so_is_one_on_a_directory(tmp_path: Path):
    repository = build(RepositorySettings, {"type": "s3", "s3": {"bucket": "bucket"}, "lock": {}}, where="test")
    with pytest.raises(BadInput, match="for how long"):
        period(repository, RetentionSettings(keep_last=7))
    with pytest.raises(BadInput, match="directory"):
        build(RepositorySettings, {"path": str(tmp_path), "lock": {}}, where="test")


@pytest.mark.parametrize("mode", ["governance", "compliance"])
def test_what_is_stored_is_locked_for_as_long_as_the_policy_wants_it(clouds: Callable[[str], Cloud], mode: str):
    settings = locked(clouds, {"mode": mode})
    now = datetime.now(timezone.utc)
    label = backed_up(settings, START)
    for name in ("base.tar.gz", "backup.json"):
        found = clouds("s3").s3().head_object(**whole_key(settings, label, name))
        assert found["ObjectLockMode"] == mode.upper()
        assert abs(found["ObjectLockRetainUntilDate"] - now - timedelta(days=21)) < timedelta(minutes=5)
    holds.hold(settings, label, reason="audit")
    hold = {**whole_key(settings, label), "Key": f"main/holds/{label}.json"}
    assert until(clouds, hold) is None
    assert holds.release(settings, label)["changed"]


def test_the_hosts_own_credentials_destroy_nothing(clouds: Callable[[str], Cloud]):
    """Denied, or undone from what the bucket still has: the table in docs/security.md."""
    settings = locked(clouds, WORKED_OUT)
    label = backed_up(settings, START)
    named, s3 = whole_key(settings, label), clouds("s3").s3()
    store = open_repository(settings).store
    assert isinstance(store, CloudStore)
    original = s3.get_object(**named)
    content, version = original["Body"].read(), original["VersionId"]

    with pytest.raises(ClientError, match="AccessDenied"):  # delete the version, for good
        s3.delete_object(**named, VersionId=version)
    with pytest.raises(DbopsError):
        store.expunge(named["Key"])
    with pytest.raises(AlreadyThere):  # overwrite, as dbops writes
        store.put(named["Key"], [b"other"], if_absent=True)
    s3.put_object(**named, Body=b"other")  # overwrite, as anybody can: a new version hides the old one
    s3.delete_object(**named)  # delete: a marker hides it
    # and all that is undone by removing what was put on top
    for item in s3.list_object_versions(Bucket=named["Bucket"], Prefix=named["Key"]).get("DeleteMarkers", []):
        s3.delete_object(**named, VersionId=item["VersionId"])
    for item in s3.list_object_versions(Bucket=named["Bucket"], Prefix=named["Key"])["Versions"]:
        if item["VersionId"] != version:
            s3.delete_object(**named, VersionId=item["VersionId"])
    assert s3.get_object(**named)["Body"].read() == content
    record = open_repository(settings).catalog().entry(label).record
    assert b"".join(open_repository(settings).read_object(label, record.objects[0]))


def test_expiry_skips_what_is_locked_and_says_until_when(clouds: Callable[[str], Cloud]):
    settings = locked(clouds, {"period": "30d"}, retention={"keep_last": 1})
    labels = [backed_up(settings, START), backed_up(settings, START + DAY)]
    plan = expire.plan(settings)
    assert plan.delete_order == ()
    reasons = {line.label: " ".join(line.reasons) for line in plan.lines}
    assert "locked until" in reasons[labels[0]]
    assert expire.apply(plan, Silent())["changed"] is False
    assert len(open_repository(settings).catalog().entries) == 2


def test_without_a_lock_the_same_backup_expires(clouds: Callable[[str], Cloud]):
    settings = locked(clouds, None, retention={"keep_last": 1})
    labels = [backed_up(settings, START), backed_up(settings, START + DAY)]
    assert expire.plan(settings).delete_order == (labels[0],)


def test_an_incremental_prolongs_the_lock_of_what_it_rests_on(clouds: Callable[[str], Cloud]):
    settings = locked(clouds, {"period": "10d"})
    full = backed_up(settings, START)
    longer = locked_longer(settings)
    child = backed_up(longer, START + DAY, "incremental", parent=full)
    goes_to = destinations(longer, None, lambda text: None)
    goes_to.lock_chain(goes_to.primary.read_record(child))
    ends = {
        name: until(clouds, whole_key(settings, full, name))
        for name in ("base.tar.gz", "16384.tar.gz", "backup.json")
    }  # fmt: skip
    assert all(end is not None and end > datetime.now(timezone.utc) + timedelta(days=19) for end in ends.values())


def locked_longer(settings: Settings) -> Settings:
    """As if ten days had passed: the same bucket, and locks that end later."""
    item = settings.repository()
    assert item.lock is not None
    return replace(settings, repositories=(replace(item, lock=replace(item.lock, period="20d")),))


def test_the_check_finds_a_lock_that_holds(clouds: Callable[[str], Cloud]):
    settings = locked(clouds, WORKED_OUT)
    backed_up(settings, START)
    found = check(settings)
    assert {item["probe"]: item["verdict"] for item in found["checks"]} == {
        "list": "pass", "write": "pass", "first writer wins": "pass", "read": "pass", "decrypt": "pass",
        "delete denied": "pass",
    }  # fmt: skip
    assert found["verdict"] == "pass"


def test_the_check_finds_that_nothing_is_protected(tmp_path: Path):
    settings = repository_settings(tmp_path / "repository")
    found = check(settings)
    verdicts = {item["probe"]: item["verdict"] for item in found["checks"]}
    assert (verdicts["decrypt"], verdicts["delete denied"]) == ("could_not_verify", "could_not_verify")
    assert found["verdict"] == "could_not_verify"
    assert all(item["advice"] for item in found["checks"] if item["verdict"] != "pass")
    assert not list((tmp_path / "repository").rglob("probes"))  # nothing is left behind


def test_the_check_tells_a_repository_that_is_away_from_one_that_says_no(
    tmp_path: Path, clouds: Callable[[str], Cloud]
):
    away = repository_settings(tmp_path / "repository")
    (tmp_path / "repository").rmdir()
    assert {item["verdict"] for item in check(away)["checks"]} == {"could_not_verify"}
    cloud = clouds("s3")
    missing = {**cloud.repository("no-such-bucket"), "transfer": {"retry_budget_s": 0}}
    found = check(from_mapping({"cluster": "main", "repositories": [missing]}))
    assert found["verdict"] == "fail"


def test_a_lock_that_the_bucket_does_not_enforce_is_never_taken_for_one(clouds: Callable[[str], Cloud]):
    settings = locked(clouds, WORKED_OUT, on_bucket=False)
    assert check(settings)["verdict"] == "fail"
