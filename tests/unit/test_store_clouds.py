# SPDX-License-Identifier: GPL-3.0-or-later
"""The stores of three clouds, over HTTP to real servers on loopback: the contract of all stores, each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.schema import build
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import RepositorySettings
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store import open_store
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store.cloud import CloudStore
from tests.support.cloud_contract import CloudStoreContract, two_ways_into
from tests.support.clouds import Cloud

KINDS = ["s3", "gcs", "azure"]


@pytest.fixture(scope="module", params=KINDS)
def cloud(request: pytest.FixtureRequest, clouds: Callable[[str], Cloud]) -> Cloud:
    return clouds(request.param)


@pytest.fixture(scope="module")
def stores(cloud: Cloud) -> tuple[CloudStore, CloudStore]:
    return two_ways_into(cloud)


class TestCloudStore(CloudStoreContract):
    pass


@pytest.mark.parametrize(("kind", "checksums"), [("s3", True), ("s3 with TLS", True), ("s3 with TLS", False)])
def test_a_body_is_sent_as_it_is_and_protected_once(clouds: Callable[[str], Cloud], kind: str, checksums: bool) -> None:
    """No chunks with a checksum behind them, which some servers refuse; no sha256 where TLS and a checksum are."""
    cloud = clouds(kind)
    more = {} if checksums else {"request_checksums": "when_required"}
    store = open_store(build(RepositorySettings, cloud.repository(cloud.new_bucket(), **more), where="test"))
    assert isinstance(store, CloudStore)
    sent = []
    store.bucket.client.meta.events.register("before-send.s3", lambda request, **_more: sent.append(request.headers))  # type: ignore[attr-defined]
    content = bytes(6 << 20)
    store.put("small", [b"x"])
    store.put("large", [content])  # in two parts
    read = list(store.get("large"))
    assert b"".join(read) == content
    assert max(map(len, read)) <= 1 << 20  # whoever has four of them in a queue must not have four parts
    puts = [
        headers
        for headers in sent
        if "Content-Length" in headers and int(headers["Content-Length"]) in (1, 1 << 20, 5 << 20)
    ]
    assert len(puts) == 3
    for headers in puts:
        assert "Content-Encoding" not in headers
        assert "Transfer-Encoding" not in headers
        assert ("x-amz-checksum-crc32" in headers) is checksums
        unsigned = headers["X-Amz-Content-SHA256"] in ("UNSIGNED-PAYLOAD", b"UNSIGNED-PAYLOAD")
        assert unsigned is (checksums and kind == "s3 with TLS")


_AFTER_PRELOAD = """
import json, sys
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.schema import build
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import RepositorySettings
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store import open_store, preload

settings = build(RepositorySettings, json.loads(sys.argv[1]), where="test")
preload(settings)
late = []
told = ("site-packages", "dbops/store")
sys.addaudithook(
    lambda event, args: late.append(args[0]) if event == "open" and any(part in str(args[0]) for part in told) else None
)
store = open_store(settings)
store.put("a", [b"x"])
assert b"".join(store.get("a")) == b"x"
assert [item.key for item in store.list("")] == ["a"]
small = ("azure/core/rest", "google_crc32c")  # these libraries read them late, in 2 ms
print([name for name in late if not any(part in name for part in small)])
"""


def test_a_child_of_a_process_that_preloaded_imports_and_reads_nothing_more(cloud: Cloud) -> None:
    """Each push of WAL forks: what is read after that is read each time."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _AFTER_PRELOAD, json.dumps(cloud.repository(cloud.new_bucket()))]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n"
