# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of Google and Azure to lock an object. Their emulators enforce nothing, so only the words are tested.

https://cloud.google.com/storage/docs/json_api/v1/objects and
https://learn.microsoft.com/rest/api/storageservices/set-blob-immutability-policy say what the words mean.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import DbopsError
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.schema import build
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import RepositorySettings
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store import open_store
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store.cloud import CloudStore
from tests.support.clouds import Cloud
from tests.support.fault_proxy import FaultProxy, Request

UNTIL = (datetime.now(timezone.utc) + timedelta(days=21)).replace(microsecond=0)
BIG = b"x" * (6 << 20)  # two parts


@pytest.fixture
def asked(request: pytest.FixtureRequest, clouds: Callable[[str], Cloud], tmp_path: Any) -> Iterator[tuple[Any, Any]]:
    """A store of that cloud with a lock, and the requests that it makes."""
    kind, mode = request.param
    cloud = clouds(kind)
    with FaultProxy(cloud.url) as proxy:
        item = {**cloud.repository(cloud.new_bucket()), "lock": {"mode": mode}}
        if kind == "gcs":
            item["gcs"] = {**item["gcs"], "api_endpoint": proxy.url}
        else:
            through = tmp_path / "connection-string"
            through.write_text((cloud.directory / "connection-string").read_text().replace(cloud.url, proxy.url))
            item["azure"] = {**item["azure"], "connection_string_file": str(through)}
        store = open_store(build(RepositorySettings, item, where="test"))
        assert isinstance(store, CloudStore)
        yield store, proxy


def locking(proxy: FaultProxy) -> list[Request]:
    return [
        request
        for request, _fault in proxy.seen
        if b'"retention"' in request.body or any("immutability" in name.lower() for name in request.headers)
    ]


@pytest.mark.parametrize("asked", [("gcs", "governance"), ("gcs", "compliance")], indirect=True)
@pytest.mark.parametrize("content", [b"small", BIG], ids=["one request", "parts"])
def test_google_is_asked_to_retain_the_object_with_the_write_itself(asked: tuple[Any, FaultProxy], content: bytes):
    store, proxy = asked
    store.put("a", [content], if_absent=True, retain_until=UNTIL)
    (request,) = locking(proxy)
    words, _end = json.JSONDecoder().raw_decode(request.body[request.body.index(b"{") :].decode("latin-1"))
    mode = "Locked" if store._is_compliance else "Unlocked"
    assert words["retention"]["mode"] == mode
    assert datetime.fromisoformat(words["retention"]["retainUntilTime"].replace("Z", "+00:00")) == UNTIL


@pytest.mark.parametrize("asked", [("azure", "governance"), ("azure", "compliance")], indirect=True)
@pytest.mark.parametrize("content", [b"small", BIG], ids=["one request", "parts"])
def test_azure_is_asked_to_retain_the_blob_with_the_write_itself(asked: tuple[Any, FaultProxy], content: bytes):
    store, proxy = asked
    with contextlib.suppress(DbopsError):  # Azurite may refuse what it does not know
        store.put("a", [content], if_absent=True, retain_until=UNTIL)
    request = locking(proxy)[-1]
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert headers["x-ms-immutability-policy-until-date"] == UNTIL.strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert headers["x-ms-immutability-policy-mode"].lower() == ("locked" if store._is_compliance else "unlocked")
