# SPDX-License-Identifier: GPL-3.0-or-later
"""The same from end to end on every kind of store, plain and encrypted: full, incremental, dump, WAL, a point in time.

One server of PostgreSQL 18 moves from repository to repository. CI goes through every cloud and every codec once; with
DBOPS_TEST_PRODUCT=1 through all of their combinations. A directory, which test_encrypted.py takes through the same with
both ciphers, is here in CI beside a cloud.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup import take
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import DbopsError
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.info import info
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import from_mapping
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal import runnable
from tests.support.agent import Agent, installed
from tests.support.clouds import AZURE_KEY, SECRET_KEY, Cloud, readable_by, write_secret
from tests.support.dumps import dumped
from tests.support.dumps import restored as restored_dump
from tests.support.fault_proxy import FaultProxy
from tests.support.keys import KeyMaker, KeyPair
from tests.support.physical import add_rows, taken
from tests.support.recovering import Protected, at
from tests.support.servers import PgServer, Templates, content_hashes, differences, installations, kill_below
from tests.support.watching import CommandLines

STORES = ("local", "s3 with TLS", "gcs", "azure")
CODECS = ("plain", "gpg", "age")
PASSPHRASE = "staple battery 1729"
IN_CI = [("s3 with TLS", "gpg"), ("gcs", "age"), ("azure", "plain")]
WANTED = list(itertools.product(STORES, CODECS)) if os.environ.get("DBOPS_TEST_PRODUCT") else IN_CI
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def here(base_directory: Path, templates: Templates, agent: Agent) -> Iterator[Protected]:
    place = base_directory / "matrix"
    place.mkdir(mode=0o755)
    server = templates.server(installations()[-1], place / "pg")
    yield Protected(server, place, agent=agent)
    server.stop("immediate")
    kill_below(place)


@pytest.fixture(scope="module")
def agent(base_directory: Path) -> Agent:
    user = PgServer(installations()[-1], base_directory / "nobody").os_user
    return installed(base_directory / "agent", user.for_subprocess())


@pytest.fixture(scope="module")
def keys(base_directory: Path, agent: Agent) -> dict[str, KeyPair]:
    user = PgServer(installations()[-1], base_directory / "nobody").os_user
    maker = KeyMaker(base_directory / "matrix-keys", user)
    return {"gpg": maker.gpg("matrix", passphrase=PASSPHRASE), "age": maker.age("matrix")}


@pytest.fixture(autouse=True)
def _engine_of_the_agent(monkeypatch: pytest.MonkeyPatch, agent: Agent) -> None:
    """What restore_command runs is a copy of the installed engine, as on a host."""
    monkeypatch.setattr(runnable, "running_lib_path", lambda: str(agent.lib))


@pytest.fixture
def reached(clouds: Callable[[str], Cloud], here: Protected) -> Callable[[str], Cloud]:
    """A cloud whose credentials the server's OS user can read."""

    def cloud(kind: str) -> Cloud:
        return readable_by(clouds(kind), here.server.os_user, here.place / f"secrets{next(_numbers)}")

    return cloud


def repository(here: Protected, reached: Callable[[str], Cloud], store: str, name: str, **more: Any) -> dict[str, Any]:
    if store == "local":
        path = here.server.os_user.own_directory(here.place / f"repository{next(_numbers)}", 0o750)
        return {"name": name, "type": "local", "path": str(path), **more}
    cloud = reached(store)
    return {**cloud.repository(cloud.new_bucket(), prefix="clusters/a", name=name), **more}


def history(here: Protected) -> tuple[int, Any, str]:
    """Backups of every kind with rows between them; the last row to come back, the moment after it, and the dump."""
    begin = next(_numbers) * 10
    here.server.sql("truncate canary")
    taken(here.settings)
    here.row(begin)
    add_rows(here.server)
    assert taken(here.settings, type="incremental").type == "incremental"
    dump = dumped(replace(here.settings, backup=replace(here.settings.backup, databases=("shop",))))
    point = here.row(begin + 1)
    here.row(begin + 2)
    here.archive()
    return begin, point, dump.label


def comes_back(here: Protected, begin: int, point: Any, dump: str, *, repository: str | None = None) -> None:
    with here.recovered(time=at(point), request={"repository": repository}) as side:
        assert side.rows() == [begin, begin + 1]
        assert side.recovery["base"].endswith("-incr")
    shop = content_hashes(here.server, "shop")
    again = f"again_{begin}"
    restored_dump(here.settings, label=dump, databases={"shop": again})
    assert differences(shop, content_hashes(here.server, again)) == []
    here.server.sql(f"drop database {again}")


@pytest.mark.parametrize(("store", "codec"), WANTED, ids=lambda word: word.replace(" ", "-"))
def test_full_incremental_dump_wal_and_a_point_in_time(
    store: str, codec: str, here: Protected, keys: dict[str, KeyPair], reached: Callable[[str], Cloud], caplog: Any
):
    with CommandLines() as watched:
        here.move_to(
            [repository(here, reached, store, f"its{next(_numbers)}")], keys[codec].private if codec != "plain" else {}
        )
        begin, point, dump = history(here)
        comes_back(here, begin, point, dump)
        told = info(here.settings)
        wrong = denied(here) if store in ("s3 with TLS", "azure") else ""
    objects = open_repository(here.settings).store
    stored = {item.key: b"".join(objects.get(item.key)) for item in objects.list()}
    encrypted = [key for key in stored if codec in ("gpg", "age") and key.endswith((".zst", ".gz", ".dump"))]
    assert encrypted == []
    seen = [watched.seen, caplog.text.encode(), json.dumps(told).encode(), wrong.encode(), *stored.values()]
    seen += [path.read_bytes() for path in (*here.server.base.glob("*.log"), *here.archiving.spool.glob("*.log"))]
    assert b"dbops" in watched.seen
    assert [secret for secret in secrets(keys) for text in seen if secret in text] == []


def secrets(keys: dict[str, KeyPair]) -> list[bytes]:
    """Whatever must be seen nowhere."""
    private = [line for pair in keys.values() for line in pair.secret.read_bytes().splitlines()[-4:-1]]
    return [SECRET_KEY.encode(), AZURE_KEY.encode(), PASSPHRASE.encode(), *(line for line in private if len(line) > 30)]


def denied(here: Protected) -> str:
    """All that is said where the credentials are wrong: another secret, which must not be shown either."""
    item = here.mapping["repositories"][0]
    section = dict(item[item["type"]])
    name = "credentials_file" if item["type"] == "s3" else "connection_string_file"
    original = Path(section[name])
    wrong = write_secret(original.with_name("wrong"), original.read_text().replace(AZURE_KEY, "d3Jvbmc="))
    if item["type"] == "s3":
        section["ca_bundle"] = str(here.place / "pg" / "data" / "PG_VERSION")  # moto knows no wrong secrets
    section[name] = str(wrong)
    mapping = {**here.mapping, "repositories": [{**item, item["type"]: section, "transfer": {"retry_budget_s": 0}}]}
    with pytest.raises(DbopsError, match="cannot") as caught:
        info(from_mapping(mapping))
    return f"{caught.value} {getattr(caught.value, 'hint', '')} {caught.value.__cause__!r}"


def test_an_authority_that_nobody_knows_is_not_trusted(clouds: Callable[[str], Cloud]):
    cloud = clouds("s3 with TLS")
    item = replace(cloud, ca_bundle=None).repository("dbops-any")
    settings = from_mapping({"cluster": "main", "repositories": [{**item, "transfer": {"retry_budget_s": 5}}]})
    with pytest.raises(DbopsError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        info(settings)
    assert "s3.ca_bundle" in caught.value.hint


def test_of_two_kinds_the_optional_one_dies_half_way_and_later_the_other(
    here: Protected, keys: dict[str, KeyPair], clouds: Callable[[str], Cloud], reached: Callable[[str], Cloud]
):
    with FaultProxy(clouds("s3").url) as proxy:
        near = repository(here, reached, "local", "near")
        far = repository(here, reached, "s3", "far", required=False)
        far["s3"] = {**far["s3"], "endpoint_url": proxy.url}
        far["transfer"] = {**far["transfer"], "retry_budget_s": 1}
        here.move_to([near, far], keys["age"].private)
        taken(here.settings)
        proxy.plan = lambda request: "reset" if request.method == "PUT" and "base.tar" in request.path else None
        progress = Silent()
        take.run(take.plan(here.settings, take.Request(method="physical", type="full")), progress)
        assert any("'far' is left out" in text for text in progress.warnings)
        proxy.plan = lambda request: "reset"
        here.row(901)
        here.archive()  # acknowledged without it
        proxy.plan = lambda request: None
        begin, point, dump = history(here)
        here.archiving.rest()
        lags = {item["name"]: item["lacks"] for item in info(here.settings)["repositories"]}
        assert lags == {"near": [], "far": []}
        os.rename(near["path"], near["path"] + ".gone")
        with pytest.raises(DbopsError, match="nothing is promoted"):  # near may have had more: nobody can know
            comes_back(here, begin, point, dump)
        comes_back(here, begin, point, dump, repository="far")
