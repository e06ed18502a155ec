# SPDX-License-Identifier: GPL-3.0-or-later
"""Stores behind a network that fails: what is said to be stored is, what fails says why, and nothing is left over."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.stream import Shape
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import Corrupt, DbopsError, NotFound
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.walfile import wal_name
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.archive import WalArchive, pack
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import Repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.schema import build
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import RepositorySettings
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store import AlreadyThere, Trouble, open_store
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store.cloud import CloudStore
from tests.support.clouds import Cloud
from tests.support.fault_proxy import FAULTS, FaultProxy, Request

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))
BIG = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(12 << 15))  # 12 MiB: three parts
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def s3(clouds: Callable[[str], Cloud]) -> Cloud:
    return clouds("s3")


@pytest.fixture(scope="module")
def bucket(s3: Cloud) -> str:
    return s3.new_bucket()


@pytest.fixture
def proxy(s3: Cloud) -> Iterator[FaultProxy]:
    with FaultProxy(s3.url) as running:
        yield running


def settings_of(s3: Cloud, bucket: str, **more: Any) -> RepositorySettings:
    transfer = {"read_timeout_s": 1, "connect_timeout_s": 1, "retry_budget_s": 15, **more.pop("transfer", {})}
    return build(RepositorySettings, s3.repository(bucket, transfer=transfer, **more), where="test")


@pytest.fixture
def behind(s3: Cloud, bucket: str, proxy: FaultProxy) -> CloudStore:
    """A store whose requests pass through the proxy, below a prefix of its own."""
    store = open_store(settings_of(s3, bucket, endpoint_url=proxy.url, prefix=f"faults/{next(_numbers)}"))
    assert isinstance(store, CloudStore)
    return store


@pytest.fixture
def direct(s3: Cloud, bucket: str, behind: CloudStore) -> CloudStore:
    """The same place without the proxy."""
    store = open_store(settings_of(s3, bucket, prefix=behind.bucket.prefix.rstrip("/")))
    assert isinstance(store, CloudStore)
    return store


def every_first(fault: str) -> Callable[[Request], str | None]:
    """The first attempt of each different request meets the fault; the second one gets through."""
    met: set[tuple[str, str]] = set()

    def plan(request: Request) -> str | None:
        known = (request.method, request.path)
        if known in met:
            return None
        met.add(known)
        return fault

    return plan


@pytest.mark.parametrize("fault", ["reset", "lost", "503", "truncated", "hang", "slow"])
def test_one_fault_on_every_request_is_survived(behind: CloudStore, direct: CloudStore, proxy: FaultProxy, fault: str):
    proxy.plan = every_first(fault)
    behind.put("small", [b"x" * 1000], if_absent=True)
    behind.put("big", [BIG], if_absent=True)
    assert b"".join(behind.get("big")) == BIG
    assert [info.key for info in behind.list()] == ["big", "small"]
    behind.delete("small")
    behind.sweep("")  # a begun upload whose answer was lost is nobody's, until the next run sweeps
    assert direct.bucket.unfinished(direct.bucket.prefix) == []
    assert proxy.faults() > 5
    proxy.plan = lambda request: None
    assert b"".join(direct.get("big")) == BIG
    assert [info.key for info in direct.list()] == ["big"]
    with pytest.raises(AlreadyThere):
        direct.put("big", [b"other"], if_absent=True)


def test_a_range_is_not_compared_with_the_whole_objects_checksum(behind: CloudStore, proxy: FaultProxy):
    """The server that says it is found out once."""
    behind.put("small", [BIG[:1000]])
    proxy.plan = lambda request: "whole checksum"
    assert b"".join(behind.get("small")) == BIG[:1000]
    assert b"".join(behind.get("small", length=100)) == BIG[:100]
    asked = len(proxy.seen)
    assert b"".join(behind.get("small", start=100, length=100)) == BIG[100:200]
    assert len(proxy.seen) == asked + 1


def test_a_body_is_sent_at_once(behind: CloudStore):
    """Not as a file that is read in pieces of 16 KiB, which is what botocore makes of it."""
    sent: list[Any] = []
    events = behind.bucket.client.meta.events
    events.register_last("before-send.s3", lambda request, **_more: sent.append(request.body))
    behind.put("small", [BIG[:1000]])
    assert sent == [BIG[:1000]]


def test_a_whole_object_that_differs_from_its_checksum_is_damaged(behind: CloudStore, proxy: FaultProxy):
    behind.put("small", [BIG[:1000]])
    proxy.plan = lambda request: "spoiled"
    with pytest.raises(Corrupt):
        b"".join(behind.get("small"))


@pytest.mark.parametrize("fault", ["lost", "503", "hang"])
def test_an_upload_that_cannot_be_ended_is_told_and_swept_by_the_next_run(
    s3: Cloud, bucket: str, direct: CloudStore, behind: CloudStore, proxy: FaultProxy, fault: str
):
    behind._transfer = settings_of(s3, bucket, transfer={"retry_budget_s": 1}).transfer
    begun = []

    def plan(request: Request) -> str | None:
        begun.append(request.method == "POST" and "uploads" in request.path)
        return fault if any(begun[:-1]) else None  # from the first part on, the abort included

    proxy.plan = plan
    with pytest.raises(Trouble) as caught:
        behind.put("big", [BIG])
    assert caught.value.reason in ("network", "busy", "server")
    assert fault == "hang" or "tried" in caught.value.message  # which alone takes longer than it may be tried
    assert [info.key for info in direct.list()] == []
    assert len(direct.bucket.unfinished(direct.bucket.prefix)) <= 1  # an abort whose answer was lost did its work
    direct.sweep("")
    assert direct.bucket.unfinished(direct.bucket.prefix) == []


def test_wrong_bytes_on_their_way_out_are_noticed(behind: CloudStore, direct: CloudStore):
    """A real server answers BadDigest, and and they are sent again; moto keeps them with the right checksum."""
    client = behind.bucket.client  # type: ignore[attr-defined]
    spoiled = []

    def spoil(request: Any, **_more: Any) -> None:
        if request.method == "PUT" and not spoiled:  # after it was signed and summed up
            spoiled.append(request.url)
            request.body = b"y" + b"x" * 999

    client.meta.events.register_last("before-send.s3", spoil)
    behind.put("a", [b"x" * 1000])
    assert spoiled
    with pytest.raises(Corrupt, match="checksum"):
        direct.get("a")


@pytest.mark.parametrize(
    ("broken", "reason", "hint"),
    [
        ({"endpoint_url": "http://127.0.0.1:9"}, "network", "endpoint"),
        ({"bucket": "there-is-no-such-bucket"}, "no_bucket", "Make the bucket"),
        ({"profile": "nobody"}, "credentials", "credentials"),
    ],
)
def test_what_is_wrong_is_told_apart(
    s3: Cloud, bucket: str, broken: dict[str, Any], reason: str, hint: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    store = open_store(settings_of(s3, **{"bucket": bucket, "transfer": {"retry_budget_s": 0}, **broken}))
    for call in (
        lambda: store.head("a"),
        lambda: store.get("a"),
        lambda: store.put("a", [b"x"]),
        lambda: list(store.list("a")),
    ):
        with pytest.raises(Trouble) as caught:
            call()
        assert caught.value.reason == reason
        assert hint in caught.value.hint


def test_a_denied_request_is_never_an_absence(behind: CloudStore, proxy: FaultProxy):
    proxy.plan = lambda request: "403"
    for call in (lambda: behind.get("a"), lambda: behind.head("a"), lambda: list(behind.list("a"))):
        with pytest.raises(Trouble) as caught:
            call()
        assert caught.value.reason == "permission"


def test_archiving_through_a_bad_network_loses_nothing_that_it_acknowledged(
    s3: Cloud, bucket: str, proxy: FaultProxy, direct: CloudStore, behind: CloudStore
):
    chance = random.Random(42)
    archive = WalArchive(Repository(RepositorySettings(path="/"), "main", behind), "73")
    acknowledged = {}
    behind._transfer = settings_of(s3, bucket, transfer={"read_timeout_s": 1, "retry_budget_s": 2}).transfer
    for number in range(30 * ROUNDS):
        proxy.plan = lambda request: chance.choice(FAULTS) if chance.random() < 0.4 else None
        name = wal_name(f"0000000100000000{number:08X}")
        content = chance.randbytes(20_000)
        for _attempt in range(3):  # as the server does
            try:
                archive.put_packed(pack(name, [content], Shape("zstd", 1, threads=1)))
            except DbopsError:
                continue
            acknowledged[name] = content
            break
    assert proxy.faults() > 10 * ROUNDS
    assert len(acknowledged) > 25 * ROUNDS
    there = WalArchive(Repository(RepositorySettings(path="/"), "main", direct), "73")
    for name, content in acknowledged.items():
        assert there.get(name) == content
    with pytest.raises(NotFound):
        there.get(wal_name("0000000900000000000000FF"))


def test_a_segment_is_one_request(behind: CloudStore, proxy: FaultProxy):
    archive = WalArchive(Repository(RepositorySettings(path="/"), "main", behind), "73")
    names = [wal_name(f"0000000100000000{number:08X}") for number in range(20)]
    for name in names:
        archive.put_packed(pack(name, [os.urandom(5000)], Shape("zstd", 1, threads=1)))
    asked = [request.method for request, _fault in proxy.seen]
    assert (asked.count("PUT"), len(asked)) == (20, 21)  # and the list of their directory, once
    proxy.seen.clear()
    for name in names:
        archive.get(name)
    assert len(proxy.seen) == 20
