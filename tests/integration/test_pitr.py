# SPDX-License-Identifier: GPL-3.0-or-later
"""Point-in-time recovery on real servers: the point that was asked for, exactly, or a refusal with the nearest one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import (
    BadInput,
    NotFound,
    Refused,
    Unreachable,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.datadir import control_data
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.wal import lsn_to_int, segments_between
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo import expire, holds
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.info import info
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.wal_retention import GONE, PITR, STANDALONE
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore import (
    adopt,
    physical,
    physical_plan,
    rollback,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore.target import parse
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import RetentionSettings
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal import proof, restore_point
from tests.support.physical import add_tablespace, labels_of, record_of, taken
from tests.support.recovering import Protected, Side, at, wait_until
from tests.support.servers import Installation, Templates


@pytest.fixture
def protected(installation: Installation, templates: Templates, place: Path) -> Iterator[Protected]:
    """Archiving, with a first row; no backup yet."""
    made = Protected(templates.server(installation, place / "pg", summarize_wal=False), place)
    made.row(0)
    yield made
    made.server.stop("immediate")


def test_every_kind_of_target_is_reached_exactly(protected):
    label = protected.backup()
    points = {number: protected.row(number) for number in (1, 2)}
    protected.server.sql("select pg_create_restore_point('release')")
    points[3] = protected.row(3)
    protected.archive()
    points[4] = protected.row(4)
    protected.server.sql("drop table canary")
    protected.archive()

    route = protected.plan(parse({"time": at(points[4])})).preview()["restore"]["recovery"]
    assert (route["base"], route["timeline"]) == (label, 1)
    assert route["wal_segments"] >= 3
    assert route["wal_bytes"] > 0
    assert at(points[3]) < route["expected_last_commit"] <= at(points[4])
    with protected.recovered(time=at(points[4])) as side:  # dropped right after: the second before
        assert side.rows() == [0, 1, 2, 3, 4]
        assert side.recovery["target_reached"]
        assert side.recovery["base"] == label
        assert side.value("select pg_is_in_recovery()") is False
    with protected.recovered(lsn=points[2].lsn) as side:
        assert side.rows() == [0, 1, 2]
    with protected.recovered(xid=points[3].xid) as side:
        assert side.rows() == [0, 1, 2, 3]
    with protected.recovered(xid=points[3].xid, inclusive=False) as side:
        assert side.rows() == [0, 1, 2]
    with protected.recovered(name="release") as side:
        assert side.rows() == [0, 1, 2]
    with protected.recovered(immediate=True) as side:
        assert side.rows() == [0]
    with protected.recovered(latest=True) as side:
        assert side.value("select to_regclass('canary')") is None
        assert side.recovery["expected_last_commit"] == side.recovery["last_transaction"]


def test_what_cannot_be_reached_is_refused_with_the_nearest_instant(protected):
    before = protected.row(1)
    protected.backup()
    inside = protected.row(2)
    protected.row(3)
    protected.archive()
    last = protected.row(4)
    protected.archive()
    after = protected.server.value("select clock_timestamp() + interval '1 minute'")

    for time in (at(before), after.isoformat().replace("+00:00", "Z")):
        with pytest.raises(Refused, match="the nearest instant that can be reached is 20"):
            protected.plan(parse({"time": time}))
    with pytest.raises(Refused, match="the nearest that can is"):
        protected.plan(parse({"lsn": before.lsn}))
    with pytest.raises(Refused, match="the nearest that can is"):
        protected.plan(parse({"lsn": "FF/0"}))
    with pytest.raises(NotFound, match="restore point 'never'"):
        protected.plan(parse({"name": "never"}))
    with pytest.raises(NotFound, match="4000000000"):
        protected.plan(parse({"xid": 4_000_000_000}))
    with pytest.raises(NotFound, match="no timeline 7"):
        protected.plan(parse({"lsn": inside.lsn}, timeline="7"))
    # the nearest one that a refusal names can be asked for
    with pytest.raises(Refused) as refusal:
        protected.plan(parse({"time": "2999-01-01T00:00:00Z"}))
    nearest = str(refusal.value).split("the nearest instant that can be reached is ")[1].split(" ")[0].rstrip(".")
    route = protected.plan(parse({"time": nearest})).recovery.route
    assert route.last_commit is not None
    assert route.last_commit <= last.time


def test_a_gap_is_shown_and_what_lies_in_or_behind_it_is_refused_until_the_next_backup(protected):
    first = protected.backup()
    before = protected.row(1)
    protected.row(2)
    protected.archive()
    inside = protected.row(3)
    lost = protected.archive()
    behind = protected.row(4)
    protected.archive()
    second = protected.backup()
    later = protected.row(5)
    protected.row(6)
    protected.archive()
    protected.archiving.stored(lost).unlink()

    window = info(protected.settings)["recovery_window"][0]["lines"][-1]["intervals"]
    assert [(item["bases"], item["broken_by"]) for item in window] == [([first], lost), ([second], None)]
    assert protected.plan(parse({"lsn": before.lsn})).record.label == first
    assert protected.plan(parse({"lsn": later.lsn})).record.label == second
    for point in (inside, behind):
        for target in ({"lsn": point.lsn}, {"time": at(point)}):
            with pytest.raises(Refused, match="nearest"):
                protected.plan(parse(target))
    with pytest.raises(NotFound):
        protected.plan(parse({"xid": inside.xid}))
    with pytest.raises(Refused, match=f"segment {lost} is missing"):
        protected.plan(parse({"latest": True}), label=first)
    with pytest.raises(Refused, match=f"{second} can"):
        protected.plan(parse({"lsn": later.lsn}), label=first)
    with protected.recovered(lsn=before.lsn) as side:
        assert side.rows() == [0, 1]


def test_in_place_to_before_and_after_the_fork_and_back_again(protected):
    protected.backup()
    early = protected.row(1)
    protected.row(2)
    late = protected.row(3)
    protected.row(4)
    protected.archive()

    recovery = protected.in_place(parse({"lsn": early.lsn}))["recovery"]
    assert (recovery["state"], recovery["target_reached"], recovery["timeline"]) == ("promoted", True, 2)
    server = protected.server
    assert rows(server) == [0, 1]
    assert server.value("show archive_mode") == "on"
    assert not (server.data / "recovery.signal").exists()
    assert "recovery_target" not in (server.data / "postgresql.auto.conf").read_text()
    forked = protected.row(12)
    protected.row(13)
    protected.archive()

    with protected.recovered(time=at(forked)) as side:  # after the fork, on the newest timeline
        assert side.rows() == [0, 1, 12]
    with protected.recovered(lsn=early.lsn) as side:  # before it
        assert side.rows() == [0, 1]
    with protected.recovered(lsn=late.lsn, timeline="1") as side:  # the branch that was left
        assert side.rows() == [0, 1, 2, 3]

    recovery = protected.in_place(parse({"lsn": late.lsn}, timeline="1"))["recovery"]
    assert recovery["timeline"] == 3
    assert rows(server) == [0, 1, 2, 3]
    protected.row(24)
    protected.archive()
    with protected.recovered(latest=True) as side:
        assert side.rows() == [0, 1, 2, 3, 24]
    with protected.recovered(time=at(forked), timeline="2") as side:
        assert side.rows() == [0, 1, 12]


def test_a_store_that_goes_away_stops_the_recovery_unpromoted_and_a_start_resumes_it(protected):
    protected.backup()
    target = protected.row(1)
    for number in range(2, 5):
        protected.archive()
        target = protected.row(number)
    protected.row(5)
    protected.archive()
    plan = protected.plan(parse({"lsn": target.lsn}))
    wal = protected.place / "repo" / "main" / "wal"
    aside = protected.place / "repo" / "away"
    wal.rename(aside)  # after the plan: the backup itself can still be read

    with pytest.raises(Unreachable, match=r"WAL file could not be had.*is its disk mounted") as stopped:
        physical.run(plan, Silent())
    assert "was not promoted" in stopped.value.hint
    data = Path(plan.data.path)
    assert (data / "recovery.signal").exists()
    assert control_data(plan.programs(), str(data))["Latest checkpoint's TimeLineID"] == "1"
    assert not list((data / "pg_wal").glob("00000002*"))

    aside.rename(wal)
    side = Side(protected.server, data, {"recovery": plan.recovery.describe(0)})
    protected.server.run("pg_ctl", "-D", data, "-l", data / "again.log", "-w", "start", keep_output=False)
    try:
        wait_until(lambda: not side.value("select pg_is_in_recovery()"), "it is promoted at its target")
        assert side.rows() == [0, 1, 2, 3, 4]
    finally:
        side.stop()


def test_paused_and_shut_down_at_the_target_are_not_promoted(protected):
    protected.backup()
    target = protected.row(1)
    protected.row(2)
    protected.archive()
    with protected.recovered(lsn=target.lsn, action="pause") as side:
        assert side.recovery["state"] == "paused"
        assert side.recovery["target_reached"]
        assert side.value("select pg_is_in_recovery()")
        assert side.rows() == [0, 1]
        auto_conf = side.data / "postgresql.auto.conf"
        assert "recovery_target_lsn" in auto_conf.read_text()
        assert side.value("select pg_promote()")  # by hand: what had led it there goes all the same
        assert "recovery_" not in auto_conf.read_text()
        assert "archive_mode = 'off'" in auto_conf.read_text()
    with protected.recovered(lsn=target.lsn, action="shutdown") as side:
        assert side.recovery["state"] == "shutdown"
        assert side.recovery["target_reached"]
        assert not (side.data / "postmaster.pid").exists()
        assert (side.data / "recovery.signal").exists()


def test_a_side_instance_is_cut_off_from_the_world_and_stays_so_when_started_by_hand(protected):
    server = protected.server
    server.sql("alter system set synchronous_standby_names = 'nobody'")
    server.sql("alter system set shared_preload_libraries = 'pg_cron'")  # takes effect at a restart
    protected.backup()
    protected.row(1)
    protected.archive()
    stored = sorted(path.name for path in (protected.place / "repo").rglob("*") if path.is_file())
    expected = {
        "archive_mode": "off",
        "archive_command": "(disabled)",
        "listen_addresses": "",
        "synchronous_standby_names": "",
        "shared_preload_libraries": "",
        "max_logical_replication_workers": "0",
        "primary_conninfo": "",
        "max_connections": server.value("show max_connections"),
    }
    with protected.recovered(latest=True) as side:
        for _start in ("by the restore", "by hand"):
            assert {name: side.value(f"show {name}") for name in expected} == expected
            side.sql("insert into canary values (99)")  # no commit waits for a standby
            side.sql("select pg_switch_wal()")
            server.run("pg_ctl", "-D", side.data, "-m", "fast", "-w", "stop")
            server.run("pg_ctl", "-D", side.data, "-l", side.data / "again.log", "-w", "start", keep_output=False)
            side.sql("delete from canary where n = 99")
    assert sorted(path.name for path in (protected.place / "repo").rglob("*") if path.is_file()) == stored
    assert rows(server) == [0, 1]


def test_a_restore_point_is_found_again_by_its_name_and_never_made_twice(protected):
    protected.backup()
    protected.row(1)
    made = restore_point.create(protected.settings, "before release/1.0 ü")["restore_point"]
    assert protected.archiving.stored(made["segment"]) is not None  # archived before anybody is told
    protected.row(2)
    protected.archive()
    with pytest.raises(Refused, match="was made before"):
        restore_point.create(protected.settings, "before release/1.0 ü")
    with protected.recovered(name="before release/1.0 ü") as side:
        assert side.recovery["target_reached"]
        assert side.rows() == [0, 1]
    for path in (protected.place / "repo/main/restore_points").iterdir():
        path.unlink()
    assert protected.plan(parse({"name": "before release/1.0 ü"})).record  # the WAL knows it as well


def test_a_restore_point_that_is_not_archived_is_an_error_that_says_so(protected):
    protected.server.sql("alter system set archive_command = 'false'")
    protected.server.sql("select pg_reload_conf()")
    with pytest.raises(Unreachable, match="did not come into repository 'a' within 1 s"):
        restore_point.create(protected.settings, "lost", wait_s=1)
    assert not (protected.place / "repo/main/restore_points").exists()


def test_expiry_takes_the_wal_that_no_kept_backup_needs_and_nothing_else(protected):
    first = protected.backup()
    protected.row(1)
    between = protected.archive()
    second = protected.backup()
    later = protected.row(2)
    protected.row(3)
    last = protected.archive()
    settings = protected.server.engine_settings(
        None, repositories=[{"name": "a", "path": str(protected.place / "repo")}], retention={"keep_last": 1}
    )
    plan = expire.plan(protected.settings)
    assert not any(item.delete for item in plan.wal)  # no rule, nothing goes
    plan = expire.plan(settings)
    ranges = plan.as_dict()["wal"][0]["ranges"]
    assert [item["keep"] for item in ranges] == [False, True]
    assert plan.delete_order == (first,)
    result = expire.apply(plan, Silent())["expire"]
    assert result["deleted_segments"] == ranges[0]["segments"] > 0
    assert protected.archiving.stored(between) is None
    assert protected.archiving.stored(last) is not None
    assert not expire.plan(settings).needed
    with protected.recovered(lsn=later.lsn) as side:
        assert side.recovery["base"] == second
        assert side.rows() == [0, 1, 2]


def test_a_held_backup_from_before_the_window_keeps_what_makes_it_consistent_and_reaches_that_point_only(protected):
    first = protected.backup()
    stop = record_of(protected.settings, first).wal.stop_lsn
    between = protected.row(1)
    thinned = protected.archive()
    protected.archive()
    protected.backup()
    protected.row(2)
    protected.archive()
    holds.hold(protected.settings, first, reason="audit")
    settings = replace(protected.settings, retention=RetentionSettings(keep_last=1, keep_within="1s"))
    later = protected.server.value("select clock_timestamp() + interval '1 minute'")  # the window begins after both
    plan = expire.plan(settings, now=later)
    fates = {item["reason"].split(":")[0]: item["keep"] for item in plan.as_dict()["wal"][0]["ranges"]}
    assert fates == {STANDALONE: True, GONE: False, PITR: True}
    expire.apply(plan, Silent(), now=later)
    assert protected.archiving.stored(thinned) is None

    with protected.recovered(immediate=True, request={"label": first}) as side:
        assert side.rows() == [0]
    assert protected.plan(parse({"lsn": stop}), label=first).record.label == first
    with pytest.raises(Refused, match="the nearest that can is"):
        protected.plan(parse({"lsn": between.lsn}))
    with protected.recovered(latest=True) as side:
        assert side.rows() == [0, 1, 2]


def test_a_backup_is_listed_when_its_wal_is_archived_and_not_begun_when_archiving_is_broken(protected, monkeypatch):
    record = taken(protected.settings)
    for name in segments_between(1, lsn_to_int(record.wal.start_lsn), lsn_to_int(record.wal.stop_lsn)):
        assert protected.archiving.stored(name) is not None
    assert info(protected.settings)["recovery_window"][0]["lines"][0]["intervals"][0]["bases"] == [record.label]

    monkeypatch.setattr(proof.prove_archiving, "__kwdefaults__", {"limit_s": 2})
    protected.archiving.config.rename(protected.archiving.config.with_suffix(".away"))  # the script cannot work
    with pytest.raises(Unreachable, match=r"archiving does not work\. Nothing was copied"):
        taken(protected.settings)
    assert labels_of(protected.settings) == [record.label]


def test_a_restore_without_a_target_warns_of_the_timeline_that_is_archived_further(protected):
    label = taken(protected.settings).label
    request = physical.Request(label=label, target=str(protected.place / "new"))

    def warns(plan):
        return any(f"WAL beyond {label} is archived" in text for text in plan.warnings)

    assert not warns(physical.plan(protected.settings, request))
    for number in (1, 2):
        protected.row(number)
        protected.archive()
    assert warns(physical.plan(protected.settings, request))
    assert not warns(protected.plan(parse({"immediate": True})))


def test_the_command_plans_recovers_and_refuses(protected, capsys):
    config = protected.place / "settings.json"
    mapping = protected.server.engine_mapping(None, repositories=[{"name": "a", "path": str(protected.place / "repo")}])
    config.write_text(json.dumps(mapping))
    protected.backup()
    target = protected.row(1)
    protected.row(2)
    protected.archive()
    words = ["--config", str(config), "restore", "--time", at(target)]
    assert main([*words, "--in-place", "--stop", "--plan"]) == 0
    assert "along timeline 1" in capsys.readouterr().out
    assert main([*words, "--in-place", "--stop", "--start"]) == Refused.exit_code  # not confirmed
    assert rows(protected.server) == [0, 1, 2]
    assert main([*words, "--lsn", target.lsn, "--in-place"]) == BadInput.exit_code
    late = ["--config", str(config), "restore", "--time", "2999-01-01T00:00:00Z", "--in-place", "--stop", "--plan"]
    capsys.readouterr()
    assert main(late) == Refused.exit_code
    assert "the nearest instant that can be reached is" in capsys.readouterr().err
    assert main([*words, "--in-place", "--stop", "--start", "--confirm", "main"]) == 0
    assert "reached, promoted" in capsys.readouterr().out
    assert rows(protected.server) == [0, 1]
    assert main(["--config", str(config), "info"]) == 0
    assert re.search(r"recovery window of timeline \d: 20\S+ \(\S+\) to 20\S+Z \(", capsys.readouterr().out)


def rows(server):
    return [number for (number,) in server.sql("select n from canary order by n")]


def test_a_chain_with_a_tablespace_comes_back_beside_the_cluster_and_takes_nothing_from_it(
    installation, templates, place
):
    """From 17 on the backup is a chain of two, put together before replay."""
    incremental = installation.major >= 17
    protected = Protected(templates.server(installation, place / "pg", summarize_wal=incremental), place)
    server = protected.server
    oid = add_tablespace(server, place / "fast", "fast")
    server.os_user.own_directory(place / "spaces", 0o755)
    server.sql("create table spaced (n int) tablespace fast")
    full = protected.backup()
    protected.row(1)
    server.sql("insert into spaced select generate_series(1, 1000)")
    label = taken(protected.settings, type="incremental").label if incremental else full
    server.sql("insert into spaced select generate_series(1, 10)")
    target = protected.row(2)
    protected.row(3)
    server.sql("drop table spaced")
    protected.archive()

    with pytest.raises(Refused, match="fast"):  # where the running cluster has it
        protected.plan(parse({"time": at(target)}))
    with protected.recovered(time=at(target), request={"tablespace_root": str(place / "spaces")}) as side:
        assert side.result["chain"] == [full, label][: 2 if incremental else 1]
        assert side.rows() == [1, 2]
        assert side.value("select count(*) from spaced") == 1010
        assert side.value(f"select pg_tablespace_location({oid})") == str(place / "spaces" / str(oid))
    assert server.value(f"select pg_tablespace_location({oid})") == str(place / "fast")
    assert rows(server) == [1, 2, 3]
    server.stop("immediate")


def configured_outside(protected: Protected, *settings: str) -> Path:
    """The running server with its configuration outside of its data directory, as Debian has it; that directory."""
    server, etc = protected.server, protected.server.os_user.own_directory(protected.place / "etc", 0o755)
    server.stop()
    for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf", "throwaway.conf"):
        (server.data / name).rename(etc / name)
    with open(etc / "postgresql.conf", "a") as stream:
        stream.write(f"hba_file = '{etc}/pg_hba.conf'\nident_file = '{etc}/pg_ident.conf'\n")
        stream.write(f"data_directory = '{server.data}'\n")
        stream.writelines(f"{line}\n" for line in settings)
    outside = f"-c config_file={etc}/postgresql.conf"
    server.run("pg_ctl", "-D", server.data, "-l", server.log, "-w", "start", "-o", outside, keep_output=False)
    return etc


def test_configuration_outside_the_data_directory_is_not_needed_beside_but_before_an_adoption(protected):
    configured_outside(protected, "max_connections = 137")  # with the server's default replay would stand still
    protected.backup()
    protected.row(1)
    protected.archive()
    with protected.recovered(latest=True) as side:
        assert side.rows() == [0, 1]
        assert side.value("show config_file") == str(side.data / "postgresql.conf")
        assert side.value("show max_connections") == "137"
        settings = replace(protected.settings, host=replace(protected.settings.host, data_directory=str(side.data)))
        with pytest.raises(Refused, match=r"postgresql\.conf lay outside its data directory"):
            adopt.plan(settings, adopt.Request())


def test_configuration_outside_the_data_directory_is_found_in_place(protected, monkeypatch):
    """By how the server was last started, after a total loss by what the backup says; else nothing is touched."""
    server, etc = protected.server, configured_outside(protected)
    label = protected.backup()
    assert record_of(protected.settings, label).extra["config_file"] == str(etc / "postgresql.conf")
    early = protected.row(1)
    protected.row(2)
    protected.archive()

    def state() -> tuple[list[int], str]:
        return rows(server), str(server.value("show config_file"))

    etc.rename(protected.place / "away")
    with pytest.raises(Refused, match=r"its configuration, .*/etc/postgresql\.conf, is not on this host"):
        protected.plan(parse({"lsn": early.lsn}), in_place=True, stop=True)
    (protected.place / "away").rename(etc)
    assert state() == ([0, 1, 2], f"{etc}/postgresql.conf")

    protected.in_place(parse({"lsn": early.lsn}))
    assert state() == ([0, 1], f"{etc}/postgresql.conf")
    rollback.run(rollback.plan(protected.settings, stop=True, start=True))
    assert state() == ([0, 1, 2], f"{etc}/postgresql.conf")

    server.kill()
    shutil.rmtree(server.data)
    told = "beside the service of systemd, which then cannot start it"
    for runs in (True, False):
        monkeypatch.setattr(physical_plan, "systemd_runs", lambda answer=runs: answer)
        plan = protected.plan(parse({"latest": True}), in_place=True, start=True)
        assert any(told in line for line in plan.warnings) is runs
    protected.in_place(parse({"latest": True}))
    assert state()[1] == f"{etc}/postgresql.conf"
    assert rows(server)[:2] == [0, 1]
    assert server.value("select timeline_id from pg_control_checkpoint()") > 1
