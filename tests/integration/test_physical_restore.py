# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores of real clusters: into which place, with which tablespaces, moved aside, taken back, started and checked."""

from __future__ import annotations

import os
import shutil

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import (
    BadInput,
    Corrupt,
    NotFound,
    Refused,
    ToolFailed,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.datadir import RESTORED
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore import physical, physical_plan, rollback
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore import place as place_module
from tests.support.physical import (
    add_rows,
    add_tablespace,
    assert_same_content,
    objects_of,
    repository_of,
    restored,
    running,
    taken,
    untouched,
)
from tests.support.processes import dbops, dbops_done, settings_file
from tests.support.servers import cluster_hashes, differences


def rolled_back(settings, **options):
    return rollback.run(rollback.plan(settings, **options))["rollback"]


# -- places


def test_a_restore_into_a_missing_or_an_empty_directory(server, settings, place):
    taken(settings)
    before = cluster_hashes(server)
    (place / "empty").mkdir()
    for name in ("missing", "empty"):
        result = restored(settings, target=str(place / name))
        assert result["moved_aside"] is None
        assert (place / name).stat().st_mode & 0o777 == 0o700
        assert {path.lstat().st_uid for path in (place / name).rglob("*")} == {server.os_user.uid}
        assert_same_content(server, place / name, place / f"over-{name}", before)
    assert not list(place.glob("*.dbops-restore"))


def test_the_plan_of_a_restore_says_what_would_be_done_and_does_nothing(server, settings):
    record = taken(settings)
    server.stop()
    with untouched(server.data, repository_of(settings), settings=settings):
        shown = physical.plan(settings, physical.Request(in_place=True)).preview()
    assert shown["restore"]["label"] == record.label
    assert shown["restore"]["move_aside"] is True
    assert shown["restore"]["needed_bytes"] >= record.database_bytes


def test_in_place_the_old_moves_aside_and_starts_from_there_and_a_rollback_brings_it_back(server, settings, place):
    oid = add_tablespace(server, place / "fast", "fast")
    taken(settings)
    then = cluster_hashes(server)
    add_rows(server, 400, "after the backup")
    server.sql('delete from "in fast" where n < 100', database="shop")
    now = cluster_hashes(server)
    server.stop()
    result = restored(settings, in_place=True)
    aside = place / "pg" / os.path.basename(result["moved_aside"])
    assert result["moved"][str(place / "fast")].startswith(f"{place / 'fast'}.before-")
    assert_same_content(server, server.data, place / "o1", then)
    assert_same_content(server, aside, place / "o2", now)
    assert os.readlink(server.data / "pg_tblspc" / str(oid)) == str(place / "fast")
    undone = rolled_back(settings)
    assert_same_content(server, server.data, place / "o3", now)
    with running(server, place / "pg" / os.path.basename(undone["moved"][str(server.data)]), place / "o4") as copy:
        assert differences(then, cluster_hashes(copy)) == [], "what had been restored is still there"


def test_a_running_server_is_refused_and_stopped_when_asked_to(server, settings):
    taken(settings)
    before = cluster_hashes(server)
    with untouched(repository_of(settings)):
        with pytest.raises(Refused, match="server runs in") as caught:
            restored(settings, in_place=True)
        assert "stop" in caught.value.hint
        assert server.is_running
    add_rows(server)
    result = restored(settings, in_place=True, stop=True, start=True)
    assert result["started"]
    assert result["server_version"].split(".")[0] == str(server.installation.major)
    assert differences(before, cluster_hashes(server)) == []


def test_a_server_of_a_service_is_not_started_beside_it_without_a_word(server, settings, monkeypatch):
    """No systemd here: what the control group would say is put into the mouth of the one who asks."""
    taken(settings)
    restored(settings, in_place=True, stop=True, start=True)  # so that there is something to roll back
    for module in (place_module, physical_plan):
        monkeypatch.setattr(module, "service_of", lambda _path: "postgresql@17-main.service")
    told = physical.plan(settings, physical.Request(in_place=True, stop=True, start=True)).warnings
    assert any("beside postgresql@17-main.service" in line for line in told)
    told = physical.plan(settings, physical.Request(in_place=True, stop=True)).warnings
    assert not any("by pg_ctl" in line for line in told)
    monkeypatch.setattr(place_module, "service_of", lambda _path: "patroni.service")
    with pytest.raises(Refused, match=r"patroni\.service, which would start it again"):
        restored(settings, in_place=True, stop=True)
    with pytest.raises(Refused, match=r"patroni\.service"):
        rolled_back(settings, stop=True, start=True)
    assert server.is_running


def test_a_rollback_stops_and_starts_when_asked_to(server, settings):
    taken(settings)
    add_rows(server)
    now = cluster_hashes(server)
    restored(settings, in_place=True, stop=True, start=True)
    with pytest.raises(Refused, match="server runs in"):
        rolled_back(settings)
    assert rolled_back(settings, stop=True, start=True)["started"]
    assert differences(now, cluster_hashes(server)) == []


def test_a_restored_server_is_started_with_options_and_checked(server, settings, place):
    taken(settings)
    (place / "s").mkdir()
    shutil.chown(place / "s", server.os_user.uid, server.os_user.gid)
    result = restored(
        settings, target=str(place / "new"), start=True, start_options=f"-c unix_socket_directories={place / 's'}"
    )
    assert result["started"]
    assert result["phases"]["start_s"] > 0
    with server.connection(host=str(place / "s")) as connection, connection.cursor() as cursor:
        cursor.execute("select count(*) from pg_class")
        assert cursor.fetchone()[0] > 300


def test_a_server_that_does_not_start_says_why_and_the_data_is_there(server, settings, place):
    taken(settings)
    with pytest.raises(ToolFailed, match="no_such_setting") as caught:
        restored(settings, target=str(place / "new"), start=True, start_options="-c no_such_setting=1")
    assert "restored data is complete" in caught.value.hint
    assert_same_content(server, place / "new", place / "over", cluster_hashes(server))


def test_verifying_asks_postgresql_itself(server, settings, place):
    add_tablespace(server, place / "fast", "fast")
    taken(settings)
    (place / "spaces").mkdir()
    before = cluster_hashes(server)
    result = restored(settings, target=str(place / "new"), tablespace_root=str(place / "spaces"), verify=True)
    assert result["verified_manifest"] is True
    assert_same_content(server, place / "new", place / "over", before)


def test_a_restored_data_directory_is_marked_with_its_backup(server, settings, place):
    record = taken(settings)
    restored(settings, target=str(place / "new"))
    assert record.label in (place / "new" / RESTORED).read_text()


def test_a_chosen_label_and_a_chosen_time(server, settings, place):
    first = taken(settings)
    then = cluster_hashes(server)
    add_rows(server)
    second = taken(settings)
    assert restored(settings, target=str(place / "a"))["label"] == second.label
    assert restored(settings, label=first.label, target=str(place / "b"))["label"] == first.label
    time = first.stopped.isoformat(timespec="milliseconds")
    found = physical.plan(settings, physical.Request(before=time, target=str(place / "c")))
    assert found.record.label == first.label
    assert_same_content(server, place / "b", place / "over", then)


# -- tablespaces


def test_tablespaces_come_back_where_they_were(server, settings, place):
    oids = {name: add_tablespace(server, place / name, name) for name in ("fast", "slow")}
    record = taken(settings)
    assert {space.oid for space in record.tablespaces} == set(oids.values())
    assert {item.tablespace_oid for item in record.of_kind("tablespace")} == set(oids.values())
    before = cluster_hashes(server)
    server.stop()
    for path in (server.data, place / "fast"):
        shutil.rmtree(path)
    with pytest.raises(Refused, match="slow is not empty"):
        restored(settings)
    result = restored(settings, in_place=True)
    assert result["tablespaces"] == {str(oid): str(place / name) for name, oid in oids.items()}
    assert_same_content(server, server.data, place / "over", before)


def test_the_command_wants_a_yes_when_only_a_tablespace_would_be_moved_aside(server, settings, place, repository_path):
    add_tablespace(server, place / "fast", "fast")
    taken(settings)
    server.stop()
    shutil.rmtree(server.data)
    before = sorted(os.listdir(place / "fast"))
    config = settings_file(place / "main.json", server.engine_mapping(repository_path))
    with dbops(config, "restore", "--in-place") as asked:
        said, _nothing = asked.communicate(timeout=120)
    assert asked.returncode == 6, said
    assert f"{place / 'fast'} would be moved aside" in said
    assert sorted(os.listdir(place / "fast")) == before
    assert not server.data.exists()
    dbops_done(config, "restore", "--in-place", "--confirm", "main")
    assert (server.data / "PG_VERSION").exists()


def test_tablespaces_are_mapped_by_name_by_oid_and_all_under_one_root(server, settings, place):
    fast, slow = add_tablespace(server, place / "fast", "fast"), add_tablespace(server, place / "slow", "slow é")
    taken(settings)
    before = cluster_hashes(server)
    (place / "disk").mkdir()
    mapping = {"slow é": str(place / "disk" / "s"), str(fast): str(place / "disk" / "f")}
    result = restored(settings, target=str(place / "a"), tablespace_map=mapping)
    assert result["tablespaces"] == {str(slow): mapping["slow é"], str(fast): mapping[str(fast)]}
    result = restored(settings, target=str(place / "b"), tablespace_root=str(place / "disk"))
    assert result["tablespaces"] == {str(oid): str(place / "disk" / str(oid)) for oid in (fast, slow)}
    server.stop()
    for name in ("a", "b"):
        assert_same_content(server, place / name, place / f"over-{name}", before)
    server.start()
    assert differences(before, cluster_hashes(server)) == [], "the original has lost nothing"


def test_tablespaces_of_a_running_cluster_are_never_taken_from_it(server, settings, place):
    """Even in place of another cluster: what the first one uses stays."""
    add_tablespace(server, place / "fast", "fast")
    taken(settings)
    before = cluster_hashes(server)
    (place / "spaces").mkdir()
    restored(settings, target=str(place / "drill"), tablespace_root=str(place / "spaces"))
    with pytest.raises(Refused, match="is a tablespace of the cluster in"):
        restored(settings, target=str(place / "drill"), in_place=True)
    elsewhere = server.engine_settings(
        repository_of(settings).parent, host={"data_directory": str(place / "drill")}
    )  # the running one is not even the configured one
    with pytest.raises(Refused, match="is a tablespace of the cluster in"):
        restored(elsewhere, in_place=True)
    assert differences(before, cluster_hashes(server)) == []


@pytest.mark.parametrize(
    ("mapping", "error", "words"),
    [
        ({"fats": "{place}/x"}, BadInput, "has no tablespace 'fats'"),
        ({"fast": "x"}, BadInput, "cannot be a target"),
        ({"fast": "{place}/no/such"}, NotFound, "does not exist"),
        ({"fast": "{place}/new"}, BadInput, "cannot both"),
        ({"fast": "{place}/same", "slow": "{place}/same"}, BadInput, "cannot both"),
        ({"fast": "{place}/full"}, Refused, "not empty"),
    ],
)
def test_an_impossible_mapping_is_refused_and_nothing_is_touched(server, settings, place, mapping, error, words):
    for name in ("fast", "slow"):
        add_tablespace(server, place / name, name)
    taken(settings)
    (place / "full").mkdir()
    (place / "full" / "letter").write_text("dear")
    mapping = {"slow": str(place / "slow2"), **{name: path.format(place=place) for name, path in mapping.items()}}
    with untouched(place / "full", repository_of(settings), settings=settings):
        with pytest.raises(error, match=words) as caught:
            restored(settings, target=str(place / "new"), tablespace_map=mapping)
    assert caught.value.hint
    assert not (place / "new").exists()


# -- what must be there


def test_without_the_tools_a_plain_restore_needs_none(server, repository_path, place):
    settings = server.engine_settings(repository_path)
    taken(settings)
    toolless = server.engine_settings(repository_path, host={"bin_dir": str(place)})
    restored(toolless, target=str(place / "new"))
    assert_same_content(server, place / "new", place / "over", cluster_hashes(server))
    with pytest.raises(BadInput, match=f"PostgreSQL {server.installation.major}"):
        restored(toolless, target=str(place / "verified"), verify=True)
    assert not (place / "verified").exists()


def test_too_little_space_is_noticed_before_anything_is_written(server, settings, place, monkeypatch):
    taken(settings)
    real = shutil.disk_usage(place)
    monkeypatch.setattr("shutil.disk_usage", lambda path: real._replace(free=1 << 20))
    with pytest.raises(Refused, match="needs about") as caught:
        restored(settings, target=str(place / "new"))
    assert "Free space" in caught.value.hint
    assert not list(place.glob("new*"))


def test_damaged_data_is_removed_again_and_the_old_stays(server, settings):
    record = taken(settings)
    before = cluster_hashes(server)
    server.stop()
    path = objects_of(settings, record.label)[record.of_kind("base")[0].name]
    path.write_bytes(path.read_bytes()[:-100])
    with untouched(server.data):
        with pytest.raises(Corrupt, match=path.name):
            restored(settings, in_place=True)
    assert [entry.name for entry in server.base.iterdir() if "dbops-restore" in entry.name] == []
    server.start()
    assert differences(before, cluster_hashes(server)) == []
