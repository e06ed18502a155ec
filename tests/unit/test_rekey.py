# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotation: what was encrypted for old keys is encrypted anew, and at no moment is anything lost to its readers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.ciphers import cipher
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.stream import Shape
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, NoKey
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.walfile import wal_name
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo import rekey
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.archive import WalArchive, pack
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from tests.support.backups import DAY, START, backed_up, listed, read_in_full, repository_settings
from tests.support.keys import KeyMaker, KeyPair, opening

SYSTEM = "7500000000000000001"
SEGMENTS = [f"{number:024X}" for number in (1, 2, 3)]
MOST_STEPS = 200


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, KeyPair]:
    maker = KeyMaker(tmp_path_factory.mktemp("keys"))
    return {f"{method} {name}": maker.make(method, name) for method in ("gpg", "age") for name in ("old", "new")}


class Killed(BaseException):
    """As after SIGKILL: nothing that the engine catches."""


def filled(path: Path, section: dict, *, backups: int = 2, files: int = 3, segments: int = 3) -> None:
    """Backups and segments for these recipients."""
    settings = repository_settings(path, encryption=section)
    shape = Shape("gzip", cipher=cipher(settings.encryption))
    for number in range(backups):
        backed_up(settings, START + number * DAY, shape=shape, files=files)
    archive = WalArchive(open_repository(settings), SYSTEM)
    for text in SEGMENTS[:segments]:
        archive.put_packed(pack(wal_name(text), [text.encode()], shape))
    archive.put_packed(pack(wal_name("00000002.history"), [b"1\t0/3000000\tno reason\n"], shape))


def all_read(path: Path, section: dict, *, backups: int = 2, segments: int = 3) -> None:
    """Every object of every backup and all WAL, with the keys of this section."""
    settings = repository_settings(path, encryption=section)
    repository = open_repository(settings)
    labels = listed(settings)
    assert len(labels) == backups
    read_in_full(repository, labels)
    archive = WalArchive(repository, SYSTEM)
    for text in SEGMENTS[:segments]:
        assert archive.get(wal_name(text)) == text.encode()
    assert list(archive.histories()) == [2]


def objects(path: Path) -> dict[str, bytes]:
    files = (item for item in path.rglob("*") if item.is_file() and ".lock" not in item.name)
    return {str(item.relative_to(path)): item.read_bytes() for item in files}


def rekeyed(path: Path, old: KeyPair, new: KeyPair, **options) -> dict:
    settings = repository_settings(path, encryption={**new.settings, **opening(old)})
    return rekey.run(rekey.plan(settings), Silent(), **options)


PAIRS = [("gpg old", "gpg new"), ("age old", "age new"), ("gpg old", "age new"), (None, "gpg new")]


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_afterwards_the_new_key_opens_all_of_it_and_the_old_one_nothing(keys, tmp_path, old, new):
    before = keys[old].settings if old else {}
    filled(tmp_path, before)
    first = {name: content for name, content in objects(tmp_path).items() if name.endswith("backup.json")}
    settings = repository_settings(tmp_path, encryption={**keys[new].settings, **(opening(keys[old]) if old else {})})
    plan = rekey.plan(settings)
    shown = objects(tmp_path)
    assert plan.preview()["rekey"]["wal_files"] == 3
    assert objects(tmp_path) == shown
    result = rekey.run(plan, Silent())
    assert result["changed"]
    assert result["warnings"] == []
    all_read(tmp_path, keys[new].opening)
    for name, content in objects(tmp_path).items():
        if name in first:
            assert content == first[name], "a record was changed"
        elif not name.endswith((".json", ".history.gz")):
            assert name.endswith(f".{keys[new].method}"), name
    if old:
        with pytest.raises(NoKey):
            all_read(tmp_path, keys[old].opening)
    again = rekey.run(rekey.plan(settings), Silent())
    assert not again["changed"]


@pytest.mark.parametrize(("old", "new"), [("age old", "age new"), ("age old", "gpg new")])
def test_killed_at_any_step_nothing_is_lost_and_the_next_run_ends_it(keys, tmp_path, old, new, monkeypatch):
    every = opening(keys[old], keys[new])
    ended = False
    for step in range(MOST_STEPS):
        place = tmp_path / str(step)
        filled(place, keys[old].settings, backups=1, files=2, segments=1)
        settings = repository_settings(place, encryption={**keys[new].settings, **opening(keys[old])})
        plan = rekey.plan(settings)
        with monkeypatch.context() as patch:
            kill_at(plan.repository.store, step, patch)
            try:
                rekey.run(plan, Silent())
                ended = True
            except Killed:
                pass
        all_read(place, every, backups=1, segments=1)
        rekeyed(place, keys[old], keys[new])
        all_read(place, keys[new].opening, backups=1, segments=1)
        assert not rekey.plan(settings).needed
        if ended:
            break
    assert ended
    assert step >= 7  # two objects, record, marker, a segment, two old objects


def kill_at(store, step: int, patch) -> None:
    """Die before the change of that number, in the middle of what is being written if it is a put."""
    left = [step]

    def dying(name):
        original = getattr(store, name)

        def call(key, *arguments, **options):
            if left[0] == 0:
                if name == "put":

                    def half(chunks):
                        yield from list(chunks)[:1]
                        raise Killed

                    original(key, half(arguments[0]), **options)
                raise Killed
            left[0] -= 1
            return original(key, *arguments, **options)

        patch.setattr(store, name, call)

    for name in ("put", "delete"):
        dying(name)


def test_without_the_old_private_key_nothing_is_written(keys, tmp_path):
    filled(tmp_path, keys["gpg old"].settings)
    before = objects(tmp_path)
    settings = repository_settings(tmp_path, encryption=keys["gpg new"].private)
    with pytest.raises(NoKey, match=keys["gpg old"].key_id):
        rekey.plan(settings)
    assert objects(tmp_path) == before


def test_without_encryption_it_is_refused(keys, tmp_path):
    filled(tmp_path, keys["age old"].settings)
    with pytest.raises(BadInput, match="in the clear"):
        rekey.plan(repository_settings(tmp_path, encryption=keys["age old"].opening))


def test_a_restore_that_runs_keeps_the_old_objects_until_the_next_time(keys, tmp_path):
    filled(tmp_path, keys["gpg old"].settings)
    reading = open_repository(repository_settings(tmp_path))
    with reading.restoring():
        result = rekeyed(tmp_path, keys["gpg old"], keys["gpg new"])
    assert "still there" in result["warnings"][0]
    all_read(tmp_path, keys["gpg new"].opening)
    assert rekeyed(tmp_path, keys["gpg old"], keys["gpg new"])["rekey"]["removed"] == 6


def test_a_backup_that_was_rekeyed_expires_without_a_trace(keys, tmp_path):
    filled(tmp_path, keys["gpg old"].settings)
    rekeyed(tmp_path, keys["gpg old"], keys["gpg new"])
    settings = repository_settings(tmp_path)
    label = listed(settings)[-1]
    repository = open_repository(settings)
    with repository.expiring():
        repository.remove(label)
    assert not [name for name in objects(tmp_path) if label in name]
    assert len(listed(settings)) == 1


def test_a_backup_can_be_rekeyed_again_and_again(keys, tmp_path):
    filled(tmp_path, keys["gpg old"].settings)
    for old, new in [("gpg old", "gpg new"), ("gpg new", "age new"), ("age new", "gpg old")]:
        rekeyed(tmp_path, keys[old], keys[new])
    all_read(tmp_path, keys["gpg old"].opening)
    record = open_repository(repository_settings(tmp_path)).catalog().entries[0].record
    assert {item.generation for item in record.objects} == {3}


def test_the_command_shows_a_plan_first(keys, tmp_path, capsys):
    filled(tmp_path / "repo", keys["age old"].settings)
    config = tmp_path / "main.json"
    section = {**keys["age new"].settings, **opening(keys["age old"])}
    repositories = [{"path": str(tmp_path / "repo")}]
    config.write_text(json.dumps({"cluster": "main", "repositories": repositories, "encryption": section}))
    assert main(["--config", str(config), "repo", "rekey"]) == 0
    assert "--apply" in capsys.readouterr().out
    all_read(tmp_path / "repo", keys["age old"].opening)
    assert main(["--config", str(config), "repo", "rekey", "--apply"]) == 0
    assert "2 backups and 3 WAL files" in capsys.readouterr().out
    all_read(tmp_path / "repo", keys["age new"].opening)
