# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL, dead servers and full disks in the middle of things: what is listed is whole, and a second run works."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup import take
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup.attempt import last
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import DbopsError, ToolFailed, Unreachable
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from tests.support.physical import (
    add_rows,
    add_tablespace,
    assert_same_content,
    catalog_of,
    labels_of,
    repository_of,
    restored,
    taken,
    validated,
)
from tests.support.processes import dbops, dbops_done, killed_when, running_programs, settings_file
from tests.support.servers import PgServer, cluster_hashes, differences, wait_until


@pytest.fixture
def config(server, repository_path, place):
    return settings_file(place / "main.json", server.engine_mapping(repository_path))


@pytest.fixture
def chance():
    """Random moments that a failure names, so that it can be had again."""
    seed = int(os.environ.get("DBOPS_TEST_SEED", time.time_ns()))
    print(f"DBOPS_TEST_SEED={seed}")
    return random.Random(seed)


def assert_no_orphan(server: PgServer) -> None:
    """Nobody reads for a dead backup any more, and the server holds nothing back for it."""
    wait_until(lambda: not running_programs("pg_basebackup", str(server.base)), "no orphan of pg_basebackup runs")
    wait_until(lambda: not server.value("select count(*) from pg_stat_replication"), "no walsender is left")
    assert server.value("select count(*) from pg_replication_slots") == 0


def assert_all_listed_is_whole(settings) -> None:
    catalog = catalog_of(settings)
    assert catalog.unreadable == {}
    for entry in catalog.entries:
        assert validated(settings, label=entry.record.label)["verdict"] == "pass"


def assert_next_backup_cleans(server, settings) -> None:
    """It works, and leaves nothing of those that died: no unfinished backup, no part, no staging."""
    label = taken(settings).label
    catalog = catalog_of(settings)
    assert catalog.entries[0].record.label == label
    assert catalog.unfinished == ()
    assert list(repository_of(settings).rglob(".part-*")) == []
    assert [path.name for path in server.state.iterdir()] == ["last-physical.json"]  # how it went


# -- backups


def test_a_backup_killed_at_random_moments_leaves_nothing_that_counts(server, settings, config, chance):
    """At least once before, in and after each phase: the moments are spread over the time that a backup takes."""
    server.sql("alter system set log_min_messages = 'error'")
    started = time.monotonic()
    dbops_done(config, "backup")
    took = time.monotonic() - started
    rounds = 6
    for number in range(rounds):
        moment = took * (number + chance.random()) / rounds
        with dbops(config, "backup") as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=moment)
            process.kill()
            process.wait()
        assert_no_orphan(server)
        assert_all_listed_is_whole(settings)
    assert_next_backup_cleans(server, settings)
    assert_all_listed_is_whole(settings)


@pytest.mark.parametrize("point", ["fifos made", "data arrives", "data stored", "manifest stored"])
def test_a_backup_killed_at_a_known_point_leaves_nothing_that_counts(server, settings, config, point):
    """The first is the one that hung for ever: pg_basebackup opens a FIFO that has lost its reader."""
    backups = repository_of(settings) / "backups"
    staging = server.state

    def reached():
        stored = [path.name for path in backups.rglob("*")] if backups.is_dir() else []
        return {
            "fifos made": any(path.is_fifo() for path in staging.rglob("base.tar*")) if staging.is_dir() else False,
            "data arrives": any(name.startswith(".part-") for name in stored),
            "data stored": any(name.startswith("base.tar") for name in stored),
            "manifest stored": any(name.startswith("backup_manifest") for name in stored),
        }[point]

    checkpoint = ["--max-rate", "8192", "--codec", "gzip"] if point == "data arrives" else []
    with dbops(config, "backup", *checkpoint) as process:
        killed = killed_when(process, reached, point)
    assert_no_orphan(server)
    assert_all_listed_is_whole(settings)
    assert len(labels_of(settings)) == (0 if killed else 1)
    assert last(settings, "physical").ok is not killed
    assert_next_backup_cleans(server, settings)
    assert last(settings, "physical").ok


def test_while_it_waits_for_a_checkpoint_a_killed_backup_leaves_no_orphan(server, repository_path, place):
    """A spread checkpoint takes minutes: all that time pg_basebackup has not even opened its first FIFO."""
    server.settings["checkpoint_timeout"] = "1h"
    server.restart()
    add_rows(server)
    mapping = server.engine_mapping(repository_path, backup={"checkpoint": "spread"})
    config = settings_file(place / "spread.json", mapping)
    with dbops(config, "backup") as process:
        assert killed_when(process, lambda: list(server.state.rglob("base.tar*")), "pg_basebackup has begun")
    wait_until(lambda: not running_programs("pg_basebackup", str(server.base)), "no orphan of pg_basebackup runs")


def test_a_killed_pg_basebackup_is_an_error_that_says_so(server, settings, repository_path, place):
    slow = server.engine_settings(repository_path, backup={"max_rate_kib_s": 4096}, compression={"codec": "gzip"})

    class Killing(Silent):
        def report(self, step):
            for pid in sorted(running_programs("pg_basebackup", str(server.base)))[:1]:
                os.kill(pid, signal.SIGKILL)  # not its child, of which the engine has to take care

    with pytest.raises(ToolFailed, match="ended by signal 9"):
        take.run(take.plan(slow, take.Request(method="physical")), Killing())
    assert labels_of(settings) == []
    assert catalog_of(settings).unfinished == (), "what can be cleaned at once is"
    assert_no_orphan(server)
    assert_next_backup_cleans(server, settings)


@pytest.mark.parametrize("how", ["immediate", "fast", "kill"])
def test_a_server_that_goes_away_in_the_middle_is_an_error_and_no_backup(server, settings, repository_path, how):
    slow = server.engine_settings(repository_path, backup={"max_rate_kib_s": 4096}, compression={"codec": "gzip"})

    class Stopping(Silent):
        def report(self, step):
            if server.is_running:
                server.kill() if how == "kill" else server.stop(how)

    with pytest.raises(DbopsError) as caught:
        take.run(take.plan(slow, take.Request(method="physical")), Stopping())
    assert isinstance(caught.value, (ToolFailed, Unreachable))
    assert caught.value.hint
    server.start()
    assert labels_of(settings) == []
    assert_no_orphan(server)
    assert_next_backup_cleans(server, settings)


# -- restores


def test_a_restore_in_place_killed_at_random_moments_loses_nothing(server, settings, config, place, chance):
    """Afterwards the old data is in its place and starts, or the target is absent and the old data lies aside."""
    add_tablespace(server, place / "fast", "fast")
    taken(settings)
    then = cluster_hashes(server)
    add_rows(server, 500, "not in the backup")
    now = cluster_hashes(server)
    server.stop()
    started = time.monotonic()
    plan = ["restore", "--in-place", "--confirm", "main"]
    dbops_done(config, *plan)
    took = time.monotonic() - started
    dbops_done(config, "rollback", "--confirm", "main")
    assert_same_content(server, server.data, place / "rolled-back", now)
    rounds = 6
    for number in range(rounds):
        # The swap itself is over in a moment, so most of the chances go to the last third.
        moment = took * (0.3 + 0.75 * (number + chance.random()) / rounds)
        with dbops(config, *plan) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=moment)
            process.kill()
            process.wait()
        if not list(server.base.glob("data.before-*")):
            assert_same_content(server, server.data, place / f"o{number}", now)
        dbops_done(config, *plan)
        assert_same_content(server, server.data, place / f"n{number}", then)
        while list(server.base.glob("data.before-*")):  # one, or two when the killed one had come to its end
            dbops_done(config, "rollback", "--confirm", "main")
        assert_same_content(server, server.data, place / f"b{number}", now)
    assert not list(server.base.glob("*.dbops-restore*"))


def test_a_disk_that_fills_up_during_a_restore_leaves_nothing_behind(server, settings, small_disk, place):
    """The plan knows only an estimate; here it is made to believe in more space than there is."""
    taken(settings)
    (small_disk / "new").mkdir()
    os.chown(small_disk / "new", server.os_user.uid, server.os_user.gid)
    with pytest.MonkeyPatch.context() as patch:
        real = os.statvfs(place)
        patch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": real.f_bavail * real.f_frsize})())
        with pytest.raises(Unreachable, match="No space left") as caught:
            restored(settings, target=str(small_disk / "data"))
    assert "Free space" in caught.value.hint
    assert sorted(path.name for path in small_disk.iterdir()) == ["new"]
    before = cluster_hashes(server)
    restored(settings, target=str(place / "data"))
    assert_same_content(server, place / "data", place / "over", before)


def test_a_disk_that_fills_up_during_a_backup_leaves_nothing_behind(server, small_disk):
    settings = server.engine_settings(small_disk, compression={"codec": "none"})
    with pytest.raises(Unreachable, match="No space left") as caught:
        taken(settings)
    assert "expire" in caught.value.hint
    assert labels_of(settings) == []
    assert catalog_of(settings).unfinished == ()
    assert list(small_disk.rglob("*.tar*")) == []
    assert_no_orphan(server)
    assert differences(cluster_hashes(server), cluster_hashes(server)) == []
    packed = server.engine_settings(small_disk, compression={"codec": "gzip"})
    with contextlib.suppress(Unreachable):
        taken(packed)
        assert_all_listed_is_whole(packed)
