# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL on one side, S3 on the other, and between them what networks and clouds do to requests.

Each backup, push and restore either completes, and is then right, or fails and says why. What was acknowledged is there
afterwards, and nothing unfinished is left once the next run is through. CI meets some of the faults, and with
DBOPS_TEST_PRODUCT=1 all of them; docs/reliability.md has the table.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import Busy, DbopsError
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.info import info
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings, from_mapping
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store.cloud import CloudStore
from tests.support.backups import read_in_full
from tests.support.clouds import Cloud, readable_by
from tests.support.fault_proxy import FAULTS, WORSE, FaultProxy, Request
from tests.support.physical import labels_of, restored, taken
from tests.support.recovering import Protected
from tests.support.servers import PgServer, Templates, installations, kill_below

SEED = int(os.environ.get("DBOPS_TEST_SEED", "20261125"))
IN_CI = ("lost", "403")
WANTED = (*FAULTS, *WORSE) if os.environ.get("DBOPS_TEST_PRODUCT") else IN_CI
SHARE = 0.3  # of all requests


class Scene:
    """A server that archives through the proxy, and the same repository as it is without one."""

    def __init__(self, here: Protected, proxy: FaultProxy, direct: Settings) -> None:
        self.here = here
        self.proxy = proxy
        self.direct = direct
        self.chance = random.Random(SEED)
        self.row = 0

    def strike(self, fault: str) -> None:
        def plan(request: Request) -> str | None:
            return fault if self.chance.random() < SHARE else None

        self.proxy.plan = plan

    def heal(self) -> None:
        self.proxy.plan = lambda request: None

    def write_rows(self) -> None:
        self.row += 1
        self.here.row(self.row)
        self.here.archiving.switch_wal()


@pytest.fixture(scope="module")
def scene(base_directory: Path, templates: Templates, clouds: Callable[[str], Cloud]) -> Iterator[Scene]:
    place = base_directory / "faulty"
    place.mkdir(mode=0o755)
    server = PgServer(installations()[-1], place / "pg")
    cloud = readable_by(clouds("s3"), server.os_user, place / "secrets")
    bucket = cloud.new_bucket()
    with FaultProxy(cloud.url) as proxy:
        transfer = {"read_timeout_s": 2, "retry_budget_s": 4}
        through = cloud.repository(bucket, endpoint_url=proxy.url, transfer=transfer)
        here = Protected(templates.server(installations()[-1], place / "pg"), place, cloud=through)
        direct = from_mapping({**here.mapping, "repositories": [cloud.repository(bucket)]})
        taken(here.settings)  # each test begins from a good backup, whichever the worker runs first
        yield Scene(here, proxy, direct)
        here.server.stop("immediate")
    kill_below(place)


@pytest.mark.parametrize("fault", WANTED)
def test_it_is_right_or_it_is_told_and_nothing_acknowledged_is_lost(scene: Scene, fault: str, place: Path):
    here = scene.here
    scene.heal()
    good = labels_of(here.settings)[0]
    met = scene.proxy.faults()

    scene.strike(fault)
    backup_failed = failure_of(lambda: taken(here.settings))
    for _row in range(3):
        scene.write_rows()
    new = place / "new"
    restore_failed = failure_of(lambda: restored(here.settings, label=good, target=str(new), verify=True))
    assert scene.proxy.faults() > met
    for failed in (backup_failed, restore_failed):
        assert failed is None or failed.hint
    assert new.exists() == (restore_failed is None)

    scene.heal()
    here.archive()  # what waited gets in by itself, in order: so the last one says that all are there
    listed = labels_of(scene.direct)
    assert good in listed
    read_in_full(open_repository(scene.direct), listed)  # whatever is listed is whole
    taken(here.settings)
    store = open_repository(scene.direct).store
    assert isinstance(store, CloudStore)
    assert store.bucket.unfinished(store.bucket.prefix) == []
    (window,) = info(scene.direct)["recovery_window"]
    assert all(interval["broken_by"] is None for line in window["lines"] for interval in line["intervals"])
    with here.recovered(latest=True) as side:
        assert side.rows() == list(range(1, scene.row + 1))
    print(f"| {fault} | {name_of(backup_failed)} | {name_of(restore_failed)} |")


def failure_of(call: Callable[[], object]) -> DbopsError | None:
    """How it failed, if it did, in words of ours; anything else fails the test."""
    try:
        call()
    except DbopsError as exc:
        return exc
    return None


def name_of(failed: DbopsError | None) -> str:
    return "completed" if failed is None else f"told: {failed.error_code}"


def test_a_recovery_is_not_promoted_on_a_network_that_fails(scene: Scene, place: Path):
    """WAL is there, and half of it cannot be fetched: the recovery waits or stops, and goes on afterwards."""
    here = scene.here
    scene.heal()
    for _row in range(3):
        scene.write_rows()
    here.archive()
    asked = []

    def plan(request: Request) -> str | None:
        is_wal = request.method == "GET" and "/wal/" in request.path
        asked.append(is_wal)
        return "reset" if is_wal and sum(asked) > 1 else None

    met = scene.proxy.faults()
    scene.proxy.plan = plan
    with pytest.raises(DbopsError) as caught, here.recovered(latest=True):
        pass
    assert scene.proxy.faults() > met
    assert caught.value.hint
    scene.heal()
    with here.recovered(latest=True) as side:
        assert side.rows() == list(range(1, scene.row + 1))


def test_a_lock_that_could_not_be_withdrawn_holds_up_nobody_of_its_own_process(scene: Scene):
    """A module in a play, the exporter: they live on, and so would the claim, for as long as a lease lasts."""
    store = open_repository(scene.here.settings).store
    scene.heal()
    with store.lock("main/left"):
        scene.proxy.plan = lambda request: "403" if request.method == "DELETE" else None
    scene.heal()
    with store.lock("main/left"), pytest.raises(Busy), open_repository(scene.direct).store.lock("main/left"):
        pytest.fail("two hold it")
