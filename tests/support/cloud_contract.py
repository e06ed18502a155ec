# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract of all stores, for those in a cloud's bucket."""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.schema import build
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import RepositorySettings
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store import open_store
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store.cloud import CloudStore
from tests.support.clouds import Cloud
from tests.support.store_contract import StoreContract

_numbers = itertools.count(1)


def two_ways_into(cloud: Cloud) -> tuple[CloudStore, CloudStore]:
    """Of one new bucket; made once for many tests, since a client takes longer to make than a test takes to run."""
    settings = build(RepositorySettings, cloud.repository(cloud.new_bucket()), where="test")
    first, second = open_store(settings), open_store(settings)
    assert isinstance(first, CloudStore)
    assert isinstance(second, CloudStore)
    return first, second


class CloudStoreContract(StoreContract):
    """The same over a fixture `stores`, which is `two_ways_into` a cloud: each test has a place of its own there."""

    @pytest.fixture
    def store(self, stores: tuple[CloudStore, CloudStore]) -> CloudStore:
        for one in stores:
            one.bucket.prefix = f"test/{next(_numbers)}/"
        stores[1].bucket.prefix = stores[0].bucket.prefix
        return stores[0]

    @pytest.fixture
    def second_store(self, store: CloudStore, stores: tuple[CloudStore, CloudStore]) -> CloudStore:
        return stores[1]
