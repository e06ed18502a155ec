# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster whose host can only write: everything in its repository is encrypted, and comes back where the key is."""

from __future__ import annotations

import itertools
import os
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup import take
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, NoKey
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo import rekey
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore import logical, physical
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal import roundtrip
from tests.support.dumps import dumped
from tests.support.dumps import restored as restored_dump
from tests.support.keys import KeyMaker, KeyPair, opening
from tests.support.physical import add_rows, assert_same_content, repository_of, restored, taken, untouched, validated
from tests.support.recovering import Protected
from tests.support.servers import Installation, PgServer, Templates, cluster_hashes, content_hashes, differences
from tests.support.watching import CommandLines

METHODS = ["gpg", "age"]
PASSPHRASE = "staple battery 1729"


@pytest.fixture(scope="session")
def maker(base_directory: Path) -> KeyMaker:
    return KeyMaker(base_directory / "keys")


@pytest.fixture(scope="session")
def pairs(maker: KeyMaker) -> dict[str, KeyPair]:
    made = {f"{method} {name}": maker.make(method, name) for method in METHODS for name in ("one", "two")}
    return {**made, "gpg one": maker.gpg("locked", passphrase=PASSPHRASE)}


@pytest.fixture
def stopped(installation: Installation, templates: Templates, place: Path) -> PgServer:
    """A server with the sample database that runs once it is protected."""
    return templates.server(installation, place / "pg")


@pytest.fixture
def readable(pairs: dict[str, KeyPair], stopped: PgServer) -> dict[str, KeyPair]:
    """The keys in files that the servers' OS user may read, as where a recovery is to run."""
    for pair in pairs.values():
        for path in filter(None, (pair.secret, pair.passphrase)):
            os.chown(path, stopped.os_user.uid, stopped.os_user.gid)
    return pairs


def with_keys(settings: Settings, *pairs: KeyPair) -> Settings:
    """The same host with these private keys brought to it, and no others."""
    keys = {name: tuple(value) if isinstance(value, list) else value for name, value in opening(*pairs).items()}
    return replace(settings, encryption=replace(settings.encryption, **keys))


@pytest.mark.parametrize("method", METHODS)
def test_full_incremental_wal_and_dump_come_back_where_the_key_is(stopped, place, readable, method, caplog):
    pair = readable[f"{method} one"]
    with CommandLines() as watched:
        here = Protected(stopped, place, encryption=pair.settings)
        here.backup()
        stopped.sql("insert into canary values (1)")
        if stopped.installation.major >= 17:
            add_rows(stopped)
            assert taken(here.settings, type="incremental").type == "incremental"
        record = dumped(here.settings)
        here.row(2)
        here.archive()
        here.settings = with_keys(here.settings, pair)
        with here.recovered(latest=True) as side:
            assert side.rows() == [1, 2]
        shop = content_hashes(stopped, "shop")
        restored_dump(here.settings, databases={"shop": "again"})
        assert differences(shop, content_hashes(stopped, "again")) == []
    stored = [path for path in repository_of(here.settings).rglob("*") if path.is_file()]
    for path in stored:
        clear = path.suffix in (".json", ".md") or ".history" in path.name or path.name.startswith(".lock")
        assert clear or path.name.endswith(f".{method}"), path
    assert all(item.keys == (pair.key_id,) for item in record.objects)
    secrets = [PASSPHRASE.encode(), *pair.secret.read_bytes().splitlines()[-3:-1]]
    told = [watched.seen, caplog.text.encode(), *(path.read_bytes() for path in stored)]
    told += [path.read_bytes() for path in stopped.base.glob("*.log")]
    assert b"--decrypt" in watched.seen
    assert not [secret for secret in secrets for text in told if secret in text]


@pytest.mark.parametrize("method", METHODS)
def test_without_the_right_key_nothing_is_touched(server, settings, pairs, place, method):
    right, wrong = pairs[f"{method} one"], pairs[f"{method} two"]
    writer = encrypting(settings, right)
    record = taken(writer)
    dumped(writer)
    target = place / "new"
    for host in (writer, with_keys(writer, wrong)):
        with untouched(repository_of(settings)):
            with pytest.raises(NoKey, match=r"base\.tar|\d+\.tar") as caught:
                physical.plan(host, physical.Request(target=str(target)))
            assert right.key_id in str(caught.value)
            with pytest.raises(NoKey):
                logical.plan(host, logical.Request(databases={"shop": "again"}))
            with pytest.raises(NoKey):
                validated(host, label=record.label)
    assert not target.exists()
    assert validated(with_keys(writer, right), label=record.label)["verdict"] == "pass"


def encrypting(settings: Settings, pair: KeyPair) -> Settings:
    return replace(
        settings,
        encryption=replace(settings.encryption, method=pair.method, recipient_files=(str(pair.public),)),
    )


def test_keys_change_in_the_middle_of_an_archive(stopped, place, readable):
    """Plain, then gpg, then age: the recovery passes through all three, and needs both keys before it starts."""
    gpg, age = readable["gpg one"], readable["age one"]
    here = Protected(stopped, place)
    here.backup()
    for number, pair in enumerate([gpg, age], 1):
        here.archiving.encryption = pair.settings
        here.archiving.write_config()
        here.settings = encrypting(here.settings, pair)
        here.row(number)
        here.archive()
    here.settings = with_keys(here.settings, age)
    with pytest.raises(NoKey, match=gpg.key_id):
        with here.recovered(latest=True):
            pass
    here.settings = with_keys(here.settings, gpg, age)
    with here.recovered(latest=True) as side:
        assert side.rows() == [1, 2]
    chosen = open_repository(here.settings)
    result = rekey.run(rekey.plan(here.settings), Silent())
    assert result["warnings"] == []
    here.settings = with_keys(here.settings, age)
    assert {entry.record.encryption for entry in chosen.catalog().entries} == {"age"}
    with here.recovered(latest=True) as side:
        assert side.rows() == [1, 2]


def test_an_incremental_rests_on_a_parent_that_this_host_cannot_open(server, settings, pairs, place):
    if server.installation.major < 17:
        return  # there are none
    pair = pairs["gpg two"]
    writer = encrypting(settings, pair)
    taken(writer)
    add_rows(server)
    assert taken(writer, type="incremental").type == "incremental"
    before = cluster_hashes(server)
    reader = with_keys(writer, pair)
    restored(reader, target=str(place / "data"))
    for kept in (Path(settings.state_path) / "manifests").iterdir():
        kept.unlink()
    plan = take.plan(writer, take.Request(method="physical", type="incremental"))
    assert plan.type == "full"
    assert "manifest" in plan.why
    assert take.plan(reader, take.Request(method="physical", type="incremental")).type == "incremental"
    server.stop()
    assert_same_content(server, place / "data", place / "over", before)


def test_a_key_that_has_expired_is_told_before_anything_is_copied(settings, place):
    writer = encrypting(settings, KeyMaker(place / "keys").gpg("short", expires="seconds=1"))
    request = take.Request(method="physical")
    until_expired = (take.plan(writer, request) for writer in itertools.repeat(writer, 500))
    with untouched(Path(settings.repositories[0].path)), pytest.raises(BadInput, match="cannot be used"):
        deque(until_expired, maxlen=0)


def test_a_round_trip_says_what_it_could_not_read_back(stopped, place, readable):
    pair = readable["age two"]
    here = Protected(stopped, place, encryption=pair.settings)
    told = roundtrip.prove(here.settings, timeout_s=60)
    assert not told["repositories"][0]["readable"]
    assert "not read back" in told["warnings"][0]
    told = roundtrip.prove(with_keys(here.settings, pair), timeout_s=60)
    assert told["repositories"][0]["readable"]
    assert told["warnings"] == []


def test_a_recovery_whose_server_could_not_read_the_key_is_refused(stopped, place, pairs, tmp_path):
    pair = pairs["age two"]
    here = Protected(stopped, place, encryption=pair.settings)
    here.backup()
    if not stopped.os_user.is_somebody_else:
        return  # what we can read, the server can
    own = tmp_path / "identity"
    own.write_text(pair.secret.read_text())
    own.chmod(0o600)
    here.settings = with_keys(here.settings, replace(pair, secret=own))
    with pytest.raises(NoKey, match="cannot read"):
        with here.recovered(latest=True):
            pass
