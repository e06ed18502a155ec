# SPDX-License-Identifier: GPL-3.0-or-later
"""The database host's own credentials, with exactly the rights that docs/repositories.md gives them, enforced by moto.

They are enough to back up, to check, to expire and to clean up, and they are not enough to destroy: every move of the
table in docs/security.md is denied, or leaves what brings the backup back.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import DbopsError
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo import expire
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.check import check
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings, from_mapping
from tests.support.backups import DAY, START, backed_up, read_in_full
from tests.support.clouds import Cloud, moto, write_secret

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "locked"


@dataclass
class Host:
    settings: Settings
    s3: Any  # with the host's credentials
    owner: Any  # the account's owner, who is above all policies
    label: str

    @property
    def key(self) -> dict[str, str]:
        return {"Bucket": BUCKET, "Key": f"main/backups/{self.label}/base.tar.gz"}

    def versions(self) -> list[dict[str, Any]]:
        found = self.owner.list_object_versions(Bucket=BUCKET, Prefix=self.key["Key"])
        return [*found.get("Versions", []), *found.get("DeleteMarkers", [])]


def documented_policy() -> dict[str, Any]:
    """The second column of the row AWS in docs/repositories.md, as a policy."""
    (row,) = re.findall(r"^\| AWS \|(.*?)\|", (ROOT / "docs/repositories.md").read_text(), re.MULTILINE)
    actions = re.findall(r"`(s3:\w+)`", row)
    assert {"s3:ListBucket", "s3:PutObject", "s3:DeleteObject"} <= set(actions)
    resources = [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"]
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": resources}]}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    directory = tmp_path_factory.mktemp("iam")
    with moto(directory) as cloud:
        client = make_client(cloud)
        client("s3").create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
        users = {"host": documented_policy(), "owner": {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "*", "Resource": "*"}]}}  # fmt: skip
        keys = {}
        for name, policy in users.items():
            client("iam").create_user(UserName=name)
            client("iam").put_user_policy(UserName=name, PolicyName="its", PolicyDocument=json.dumps(policy))
            keys[name] = client("iam").create_access_key(UserName=name)["AccessKey"]
        enforced = urllib.request.Request(f"{cloud.url}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"})
        with urllib.request.urlopen(enforced, timeout=10):
            pass
        write_secret(
            directory / "credentials",
            f"[default]\naws_access_key_id = {keys['host']['AccessKeyId']}\n"
            f"aws_secret_access_key = {keys['host']['SecretAccessKey']}\n",
        )
        repository = {**cloud.repository(BUCKET), "lock": {}}
        settings = from_mapping(
            {"cluster": "main", "repositories": [repository], "retention": {"keep_within": "14d", "keep_last": 1}}
        )
        label = backed_up(settings, START)
        yield Host(settings, client("s3", keys["host"]), client("s3", keys["owner"]), label)


def make_client(cloud: Cloud) -> Callable[..., Any]:
    import boto3

    def client(service: str, key: dict[str, str] | None = None) -> Any:
        key = key or {"AccessKeyId": "setup", "SecretAccessKey": "setup"}
        return boto3.client(
            service, endpoint_url=cloud.url, region_name="us-east-1",
            aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"],
        )  # fmt: skip

    return client


def test_the_documented_rights_are_enough_for_everything_that_the_host_does(host: Host):
    newer = backed_up(host.settings, START + DAY)
    repository = open_repository(host.settings)
    read_in_full(repository, [host.label, newer])
    with repository.backing_up():
        repository.clean(repository.unfinished())
    plan = expire.plan(host.settings)
    assert plan.delete_order == ()  # locked
    expire.apply(plan, Silent())
    found = {item["probe"]: item["verdict"] for item in check(host.settings)["checks"]}
    assert found == dict.fromkeys(found, "pass")
    assert "delete denied" in found


MOVES: dict[str, Callable[[Host], Any]] = {
    "delete a version for good": lambda host: host.s3.delete_object(**host.key, VersionId=first_version(host)),
    "the same, asking to bypass governance": lambda host: host.s3.delete_object(
        **host.key, VersionId=first_version(host), BypassGovernanceRetention=True
    ),
    "change the lifecycle": lambda host: host.s3.put_bucket_lifecycle_configuration(
        Bucket=BUCKET,
        LifecycleConfiguration={"Rules": [{"ID": "x", "Status": "Enabled", "Prefix": "", "Expiration": {"Days": 1},
                                           "NoncurrentVersionExpiration": {"NoncurrentDays": 1}}]},
    ),
    "remove the lifecycle": lambda host: host.s3.delete_bucket_lifecycle(Bucket=BUCKET),
    "suspend versioning": lambda host: host.s3.put_bucket_versioning(
        Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"}
    ),
    "write a bucket policy of its own": lambda host: host.s3.put_bucket_policy(Bucket=BUCKET, Policy="{}"),
    "delete the bucket": lambda host: host.s3.delete_bucket(Bucket=BUCKET),
    "look for versions to delete": lambda host: host.s3.list_object_versions(Bucket=BUCKET),
}  # fmt: skip


def first_version(host: Host) -> str:
    return str(min(host.versions(), key=lambda item: item["LastModified"])["VersionId"])


@pytest.mark.parametrize("move", MOVES)
def test_denied(host: Host, move: str):
    with pytest.raises(ClientError, match="AccessDenied"):
        MOVES[move](host)
    read_in_full(open_repository(host.settings), [host.label])


@pytest.mark.parametrize("move", ["overwritten", "deleted", "expired by dbops"])
def test_recoverable(host: Host, move: str):
    """A version or a marker lies on top, and the owner removes it."""
    original = first_version(host)
    if move == "overwritten":
        host.s3.put_object(**host.key, Body=b"other")
    elif move == "deleted":
        host.s3.delete_object(**host.key)
    else:
        open_repository(host.settings).store.delete(host.key["Key"])
    with pytest.raises(DbopsError):
        read_in_full(open_repository(host.settings), [host.label])
    for item in host.versions():
        if item["VersionId"] != original:
            host.owner.delete_object(**host.key, VersionId=item["VersionId"])
    read_in_full(open_repository(host.settings), [host.label])


def test_a_longer_retention_can_be_set(host: Host):
    """A shorter one, which moto lets through: test_seaweedfs.py."""
    until = host.owner.head_object(**host.key)["ObjectLockRetainUntilDate"]
    longer = until + timedelta(days=1)
    host.s3.put_object_retention(**host.key, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": longer})
    assert host.owner.head_object(**host.key)["ObjectLockRetainUntilDate"] == longer
    assert longer > datetime.now(timezone.utc)
