# SPDX-License-Identifier: GPL-3.0-or-later
"""The stores of three clouds, over HTTP to real servers on loopback: the contract of all stores, each."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.schema import build
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import RepositorySettings
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store import open_store
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store.cloud import CloudStore
from tests.support.clouds import Cloud
from tests.support.store_contract import StoreContract

KINDS = ["s3", "gcs", "azure"]
_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=KINDS)
def cloud(request: pytest.FixtureRequest, clouds: Callable[[str], Cloud]) -> Cloud:
    return clouds(request.param)


@pytest.fixture(scope="module")
def stores(cloud: Cloud) -> tuple[CloudStore, CloudStore]:
    """Two ways into one bucket; made once, since a client takes longer to make than a test takes to run."""
    settings = build(RepositorySettings, cloud.repository(cloud.new_bucket()), where="test")
    first, second = open_store(settings), open_store(settings)
    assert isinstance(first, CloudStore)
    assert isinstance(second, CloudStore)
    return first, second


@pytest.fixture
def store(stores: tuple[CloudStore, CloudStore]) -> CloudStore:
    for one in stores:
        one.bucket.prefix = f"test/{next(_numbers)}/"
    stores[1].bucket.prefix = stores[0].bucket.prefix
    return stores[0]


@pytest.fixture
def second_store(store: CloudStore, stores: tuple[CloudStore, CloudStore]) -> CloudStore:
    return stores[1]


class TestCloudStore(StoreContract):
    pass
