# SPDX-License-Identifier: GPL-3.0-or-later
"""wal_archive and wal_archive_info on real servers: from nothing to a proven round trip, and every way to be wrong."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.archiving import host_python
from tests.support.module_runs import run_module
from tests.support.servers import PgServer, wait_until

DROP_IN = "conf.d/50-dbops-archiving.conf"
NAMES = ("archive_mode", "archive_command", "archive_timeout", "restore_command", "wal_level")


class Cluster:
    """A running server that archives nothing yet, its settings file, and two empty repositories."""

    def __init__(self, server: PgServer, place: Path) -> None:
        self.server = server
        self.repositories = {
            name: server.os_user.own_directory(place / f"repository-{name}", 0o750) for name in ("near", "far")
        }
        base = server.os_user.own_directory(place / "host", 0o755)
        self.python, self.libraries, codec = host_python(server.os_user.for_subprocess(), base)
        self.config = base / "main.json"
        self.mapping = {
            **server.engine_mapping(None),
            "repositories": [{"name": name, "path": str(path)} for name, path in self.repositories.items()],
            "archiving": {"codec": codec, "linger_s": 3, "get_retry_s": 1, "timeout_s": 20},
        }
        self.write_config()
        self.drop_in = server.data / DROP_IN

    def write_config(self) -> None:
        self.config.write_text(json.dumps(self.mapping))
        self.config.chmod(0o644)

    def archive(self, *, check: bool = False, **more: Any) -> dict[str, Any]:
        known = {"cluster": "main", "config": str(self.config)}
        programs = {"python": self.python, "lib_path": str(self.libraries[0])}
        return run_module("wal_archive", check=check, **{**known, **programs, **more})

    def info(self, **more: Any) -> dict[str, Any]:
        return run_module("wal_archive_info", cluster="main", config=str(self.config), **more)

    def files(self) -> dict[str, tuple[str, int, int]]:
        """Content, mode and owner of everything that the module may touch."""
        paths = [*self.server.data.glob("*.conf"), *self.server.data.glob("conf.d/*"), *self.server.state.rglob("*")]
        return {
            str(path): (path.read_text(), path.stat().st_mode, path.stat().st_uid)
            for path in paths
            if path.is_file() and path.name != "throwaway.conf" and "spool" not in path.parts
        }

    def shown(self, name: str) -> str:
        return str(self.server.value("select current_setting(%s)", (name,)))


@pytest.fixture
def cluster(server: PgServer, place: Path) -> Cluster:
    return Cluster(server, place)


@pytest.fixture
def archiving(cluster: Cluster) -> Cluster:
    """Set up, restarted, and so archiving."""
    result = cluster.archive()
    assert not result["failed"], result["msg"]
    cluster.server.restart()
    return cluster


def test_from_nothing_to_a_proven_round_trip(cluster):
    before = cluster.files()
    shown = cluster.archive(check=True)
    assert shown["changed"] is True
    assert cluster.files() == before, "check mode writes nothing"
    assert not cluster.server.state.exists()

    done = cluster.archive()
    assert not done["failed"], done["msg"]
    assert done["changed"] is True
    for name in ("written", "settings", "restart_required", "waits_for_restart", "reload_required", "diff"):
        assert done[name] == shown[name], f"check mode told the truth about {name}"
    assert done["restart_required"] is True
    assert "archive_mode" in done["waits_for_restart"]
    assert cluster.shown("archive_mode") == "off", "it never restarts"
    assert cluster.drop_in.stat().st_uid == cluster.server.os_user.uid
    assert cluster.drop_in.stat().st_mode == (cluster.server.data / "postgresql.conf").stat().st_mode

    cluster.server.restart()
    for name in NAMES:
        assert cluster.shown(name) == {"archive_timeout": "5min"}.get(name, done["settings"][name])
    if cluster.server.installation.major >= 17:
        assert cluster.shown("summarize_wal") == "on"

    proven = cluster.archive(verify_round_trip=True, timeout=60)
    assert not proven["failed"], proven["msg"]
    assert proven["changed"] is False
    assert proven["restart_required"] is proven["reload_required"] is False
    assert proven["round_trip"]["segment"] in proven["msg"]
    assert {item["repository"]: item["readable"] for item in proven["round_trip"]["repositories"]} == {
        "near": True,
        "far": True,
    }


def test_a_second_run_changes_nothing_and_a_drifted_file_is_mended(cluster):
    cluster.archive()
    before = cluster.files()
    times = cluster.drop_in.stat().st_mtime_ns
    again = cluster.archive()
    assert again["changed"] is False
    assert again["written"] == []
    assert again["diff"]["before"] == again["diff"]["after"]
    assert (cluster.files(), cluster.drop_in.stat().st_mtime_ns) == (before, times)
    assert (cluster.server.data / "postgresql.conf").read_text().count("include_dir = 'conf.d'") == 1

    cluster.drop_in.write_text("archive_mode = 'off'\n")
    script = Path(again["archive_script"])
    script.chmod(0o600)
    mended = cluster.archive()
    assert set(mended["written"]) == {str(cluster.drop_in), str(script)}
    assert cluster.files() == before


def test_a_change_that_needs_only_a_reload_is_reloaded_when_asked(archiving):
    told = archiving.archive(archive_timeout=77)
    assert told["reload_required"] is True
    assert told["waits_for_reload"] == ["archive_timeout"]
    assert told["restart_required"] is False
    assert archiving.shown("archive_timeout") == "5min"
    shown = archiving.archive(archive_timeout=77, reload=True, check=True)
    assert shown["changed"] is True, "a reload that is due is a change"
    assert archiving.shown("archive_timeout") == "5min"
    done = archiving.archive(archive_timeout=77, reload=True)
    assert done["changed"] is True
    assert done["reload_required"] is shown["reload_required"] is False
    assert archiving.shown("archive_timeout") == "77s"
    assert archiving.archive(archive_timeout=77, reload=True)["changed"] is False


@pytest.mark.parametrize("check", [False, True], ids=["run", "check"])
def test_postgresql_auto_conf_is_named_and_refused(cluster, check):
    cluster.server.sql("alter system set archive_timeout = 5")
    before = cluster.files()
    result = cluster.archive(check=check)
    assert result["error_code"] == "refused"
    assert f"archive_timeout in {cluster.server.data}/postgresql.auto.conf:" in result["msg"]
    assert "ALTER SYSTEM RESET" in result["hint"]
    assert cluster.files() == before
    cluster.server.sql("alter system reset archive_timeout")
    assert not cluster.archive(check=check)["failed"]


def test_a_file_that_is_read_later_is_named_and_refused(cluster):
    cluster.archive()
    later = cluster.drop_in.with_name("60-other.conf")
    later.write_text("# nothing\nArchive_Mode=FALSE # off again\n")
    later.chmod(0o644)
    result = cluster.archive()
    assert result["error_code"] == "refused"
    assert f"archive_mode in {later}:2" in result["msg"]
    later.write_text("archive_mode = yes\narchive_timeout = 5min\n")
    assert not cluster.archive()["failed"], "what says the same does no harm"


def test_another_tools_archive_command_is_not_cut_off_unasked(cluster):
    main = cluster.server.data / "postgresql.conf"
    main.write_text(main.read_text() + "archive_command = 'pgtool push ''%p'''\n")
    result = cluster.archive()
    assert result["error_code"] == "refused"
    assert str(main) in result["msg"]
    assert "pgtool push '%p'" in result["msg"]
    taken = cluster.archive(take_over=True)
    assert not taken["failed"], taken["msg"]
    (line,) = cluster.info()["overrides"]
    assert line["value"] == "pgtool push '%p'"
    assert line["overridden_by"].startswith(f"{cluster.drop_in}:")


def test_logical_replication_keeps_its_wal_level(cluster):
    main = cluster.server.data / "postgresql.conf"
    main.write_text(main.read_text() + "wal_level = logical\n")
    assert cluster.archive()["settings"]["wal_level"] == "logical"


def test_absent_takes_the_file_away_and_says_what_is_left_to_do(archiving):
    before = archiving.files()
    shown = archiving.archive(state="absent", check=True)
    assert shown["changed"] is True
    assert archiving.files() == before
    done = archiving.archive(state="absent")
    assert done["removed"] == shown["removed"] == [str(archiving.drop_in)]
    assert not archiving.drop_in.exists()
    assert done["restart_required"] is True
    assert any("restart" in text for text in done["warnings"])
    archiving.server.restart()
    assert archiving.shown("archive_mode") == "off"
    assert archiving.archive(state="absent")["changed"] is False


def test_a_repository_that_takes_nothing_fails_the_round_trip_by_name(archiving):
    shutil.rmtree(archiving.repositories["far"])
    archiving.repositories["far"].write_text("not a directory")
    result = archiving.archive(verify_round_trip=True, timeout=4)
    assert result["failed"]
    assert "Segment 00000001" in result["msg"]
    assert "repository 'far'" in result["msg"]
    assert "repository 'near'" not in result["msg"]
    wait_until(lambda: archiving.info()["archiver"]["failing"], "the archiver says that it failed")
    told = archiving.info()
    assert told["backlog"]["files"] > 0
    assert {item["name"]: item["error"] is None for item in told["repositories"]} == {"near": True, "far": False}


def test_a_read_only_repository_fails_the_round_trip_and_works_again_afterwards(archiving):
    path = archiving.repositories["far"]
    os.chown(path, os.geteuid(), os.getegid())
    path.chmod(0o555)
    result = archiving.archive(verify_round_trip=True, timeout=4)
    assert result["failed"]
    assert "repository 'far'" in result["msg"]
    assert "It said: " in result["hint"]
    assert "Permission denied" in result["hint"], "the cause stands in the message, not in some log"
    os.chown(path, archiving.server.os_user.uid, archiving.server.os_user.gid)
    path.chmod(0o750)
    archiving.server.restart()  # else the archiver waits a minute before it tries again
    assert archiving.archive(verify_round_trip=True, timeout=60)["round_trip"]["segment"]


def test_a_segment_that_lies_there_and_cannot_be_read_is_no_proof(archiving):
    first = archiving.archive(verify_round_trip=True)["round_trip"]["segment"]
    (stored,) = archiving.repositories["far"].glob(f"main/wal/*/*/{first}.*")
    archiving.server.sql("create table t ()")  # so that the next segment is begun
    segment = archiving.server.value("select pg_walfile_name(pg_current_wal_lsn())")
    assert segment > first
    rubbish = stored.with_name(stored.name.replace(first, segment))
    rubbish.write_bytes(stored.read_bytes()[:1000])
    os.chown(rubbish, archiving.server.os_user.uid, archiving.server.os_user.gid)
    result = archiving.archive(verify_round_trip=True, timeout=4)
    assert result["failed"]
    assert f"Segment {segment}" in result["msg"]
    assert "repository 'far'" in result["msg"]
    assert rubbish.name in result["msg"]


def test_a_round_trip_before_the_restart_is_refused(cluster):
    cluster.archive()
    result = cluster.archive(verify_round_trip=True, timeout=5)
    assert result["error_code"] == "refused"
    assert "archive_mode=off" in result["msg"]
    assert "restart" in result["hint"]


def test_a_standby_is_set_up_and_proves_nothing(archiving, place):
    standby = archiving.server.standby(place / "standby")
    there = {
        "login_unix_socket": str(standby.sockets),
        "login_port": standby.port,
        "data_directory": str(standby.data),
    }
    assert archiving.archive(**there)["changed"] is False, "it came along with the base backup"
    assert archiving.info(**there, repositories_too=False)["in_recovery"] is True
    result = archiving.archive(verify_round_trip=True, timeout=5, **there)
    assert result["error_code"] == "refused"
    assert "primary" in result["hint"]


def test_check_mode_switches_no_segment(archiving):
    before = archiving.server.value("select pg_walfile_name(pg_current_wal_lsn())")
    assert archiving.archive(verify_round_trip=True, check=True)["round_trip"] is None
    assert archiving.server.value("select pg_walfile_name(pg_current_wal_lsn())") == before


def test_info_tells_settings_sources_and_what_lies_in_each_repository(archiving):
    names = [
        archiving.archive(verify_round_trip=True)["round_trip"]["segment"],
        archiving.archive(verify_round_trip=True)["round_trip"]["segment"],
        archiving.archive(verify_round_trip=True)["round_trip"]["segment"],
    ]
    told = archiving.info()
    assert told["enabled"] is True
    assert told["restart_pending"] == []
    assert told["settings"]["archive_mode"]["value"] == "on"
    assert told["settings"]["archive_mode"]["source_file"] == str(archiving.drop_in)
    assert told["archiver"]["last_archived_wal"] == names[-1]
    for item in told["repositories"]:
        assert item["last"] == names[-1]
        assert item["gaps"] == item["missing"] == item["window"] == []
        assert sum(run["count"] for run in item["orphaned"]) == item["segments"], "no backup leads to any of them"

    (gone,) = archiving.repositories["near"].glob(f"main/wal/*/*/{names[1]}.*")
    gone.unlink()
    by_name = {item["name"]: item for item in archiving.info()["repositories"]}
    assert by_name["near"]["gaps"] == [{"first": names[1], "last": names[1], "count": 1}]
    assert by_name["far"]["gaps"] == []


def test_info_says_that_a_restart_is_pending(cluster):
    cluster.archive(reload=True)
    told = cluster.info(repositories_too=False)
    assert told["enabled"] is False
    assert "archive_mode" in told["restart_pending"]
    assert "archive_mode" in told["msg"]
    assert told["repositories"] == []


def test_a_command_that_the_os_user_cannot_run_is_refused_before_anything_is_written(cluster):
    before = cluster.files()
    assert "said" in cluster.archive(lib_path="/nowhere")["msg"]
    assert "/nowhere/python3" in cluster.archive(python="/nowhere/python3")["msg"]
    if os.geteuid() == 0:  # whoever is the OS user himself can give nothing to others
        cluster.config.chmod(0o600)
        os.chown(cluster.config, 0, 0)
        assert cluster.server.os_user.name in cluster.archive()["msg"]
    assert cluster.files() == before


def test_repositories_that_the_scripts_would_not_use_are_refused(cluster):
    result = cluster.archive(repositories=[{"path": "/srv/elsewhere"}])
    assert result["error_code"] == "bad_input"
    assert str(cluster.config) in result["msg"]
