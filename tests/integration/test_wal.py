# SPDX-License-Identifier: GPL-3.0-or-later
"""Continuous archiving with real servers that call the real scripts: nothing acknowledged is lost, nothing is a lie."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import load
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal.cluster import cluster_in
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal.prefetch import run_worker, take, want
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal.spool import Spool
from tests.support.archiving import Archiving
from tests.support.servers import Installation, PgServer, Templates, copy_tree, wait_until


@pytest.fixture
def quiet(installation: Installation, templates: Templates, place: Path) -> PgServer:
    """A server with the sample database that is not running."""
    return templates.server(installation, place / "pg", summarize_wal=False)


@pytest.fixture
def archiving(quiet: PgServer, place: Path) -> Archiving:
    """The server runs, and archives into repository a."""
    archiving = Archiving(quiet, place / "arch", {"a": place / "a"})
    archiving.switch_on()
    quiet.start()
    return archiving


@pytest.fixture
def idle(quiet: PgServer, place: Path) -> tuple[Archiving, str]:
    """The server runs and leaves archiving to the test; the name of a finished segment."""
    archiving = Archiving(quiet, place / "arch", {"a": place / "a"})
    quiet.settings.update(archive_mode="on", archive_command="")
    quiet.start()
    return archiving, archiving.switch_wal()


def replace(path: Path, content: bytes) -> None:
    """Whole at once, as no worker should read half of it."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(content)
    shutil.copystat(path, fresh)
    os.chown(fresh, path.stat().st_uid, path.stat().st_gid)
    os.utime(fresh)
    fresh.rename(path)


def base_copy(server: PgServer, target: Path) -> Path:
    """What pg_basebackup makes, without WAL."""
    server.os_user.own_directory(target)
    server.run("pg_basebackup", "-h", server.sockets, "-p", str(server.port), "-U", "postgres", "-D", target,
               "-X", "none", "-c", "fast", "--no-sync")  # fmt: skip
    return target


def recover(archiving: Archiving, copy: Path, base: Path, *, start: bool = True, **settings: str) -> PgServer:
    """A server over the copy, told to replay everything from the archive."""
    (copy / "recovery.signal").touch()
    other = archiving.server.over(copy, base)
    other.settings.update({"restore_command": f"{archiving.get_script} %f %p", "archive_mode": "off", **settings})
    if start:
        other.begin()
        other.wait_until_recovered()
    return other


def archived_files(archiving: Archiving) -> list[Path]:
    """Without what is on its way just now."""
    return sorted(path for path in archiving.repositories["a"].rglob("[!.]*") if path.is_file())


def canary(server: PgServer, count: int = 1) -> None:
    server.sql("create table if not exists canary (n bigint generated always as identity, h text)")
    server.sql("insert into canary (h) select md5(n::text) from generate_series(1, %s) n", (count,))


def rows(server: PgServer) -> int:
    return int(server.value("select count(*) from canary"))


def test_everything_that_the_server_writes_arrives_and_replays_to_the_end(archiving: Archiving, place: Path):
    server = archiving.server
    copy = base_copy(server, place / "copy")
    for _number in range(12):
        canary(server, 500)
        last = archiving.switch_wal()
    archiving.wait_until_stored(last)
    wait_until(lambda: server.value("select last_archived_wal from pg_stat_archiver") >= last, "the server knows")
    assert server.value("select failed_count from pg_stat_archiver") == 0
    server.stop()

    other = recover(archiving, copy, place / "other")
    assert rows(other) == 6000
    assert not list((copy / "pg_wal").glob("*.dbops*"))


def test_what_is_archived_opens_by_hand_and_is_the_segment(idle: tuple[Archiving, str]):
    archiving, name = idle
    assert archiving.push(f"pg_wal/{name}").code == 0
    stored = archiving.stored(name)
    assert stored is not None
    program = {"zstd": "zstd", "gzip": "gzip"}[archiving.codec]
    plain = subprocess.run([program, "-dc", stored], capture_output=True, check=True).stdout
    assert plain == archiving.segment(name).read_bytes()


def test_a_log_says_what_went_out_came_back_and_failed_and_its_loss_costs_nothing(idle: tuple[Archiving, str]):
    archiving, name = idle
    log = archiving.base / "log"
    archiving.config.with_suffix(".env").write_text(f"DBOPS_ARCHIVING_LOG_PATH={log}\n")
    to = archiving.base / "fetched"
    assert archiving.push(f"pg_wal/{name}").code == 0
    assert archiving.get(name, to).code == 0
    assert archiving.get("0000000100000000000000FF", to).code == 1
    assert archiving.push("pg_wal/not-wal").code > 0
    said = log.read_text()
    for words in (
        f"{name} archived: new",
        f"{name} came back",
        "0000000100000000000000FF is missing",
        "not-wal failed",
    ):
        assert words in said
    assert all(re.match(r"20\d\d-\S+Z [a-z-]+\[\d+\] \S", line) for line in said.splitlines())
    archiving.rest()
    log.unlink()
    log.mkdir()
    assert archiving.push(f"pg_wal/{name}").code == 0


def test_the_last_segment_is_fetched_once_more_since_recovery_reads_it_twice(idle: tuple[Archiving, str]):
    archiving, first = idle
    last = archiving.switch_wal()
    for name in (first, last):
        assert archiving.push(f"pg_wal/{name}").code == 0
    archiving.rest()
    settings = load("main", path=str(archiving.config))
    cluster = cluster_in(str(archiving.server.data))
    spool = Spool(str(archiving.base / "other"), cluster)
    spool.claim()
    want(spool, first, archiving.segment(first).stat().st_size)
    ready = Path(spool.ready) / last
    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(run_worker, settings, spool, cluster)
        for _time in range(2):
            wait_until(ready.exists, "the segment is ready")
            assert take(spool, last, str(archiving.base / "taken"))
            assert (archiving.base / "taken").read_bytes() == archiving.segment(last).read_bytes()
            spool.get.poke()
        wait_until(worker.done, "nobody has asked for more")  # which removes what is left
        worker.result()
    assert not ready.exists()


def test_a_first_timeline_s_history_is_missing_whatever_the_repository_says(idle: tuple[Archiving, str]):
    """PostgreSQL asks for it at each promotion, and there is no such file: no interpreter is started to find out."""
    archiving, _name = idle
    archiving.config.unlink()
    called = archiving.get("00000001.history", archiving.base / "fetched")
    assert (called.code, called.lines) == (1, ())
    assert archiving.get("00000002.history", archiving.base / "fetched").code == 255


def test_the_same_segment_again_is_a_success_and_one_object(idle: tuple[Archiving, str]):
    archiving, name = idle
    assert archiving.push(f"pg_wal/{name}").code == 0
    first = archiving.wait_until_stored(name).stat()
    wait_until(lambda: shutil.rmtree(archiving.spool, ignore_errors=True) or not archiving.spool.exists(), "it is gone")
    again = archiving.push(f"pg_wal/{name}")
    assert again.code == 0
    assert len(again.lines) == 1
    assert "already" in again.lines[0]
    assert archiving.wait_until_stored(name).stat().st_ino == first.st_ino


def test_other_content_under_the_same_name_is_refused_and_the_old_bytes_stay(idle: tuple[Archiving, str]):
    archiving, name = idle
    assert archiving.push(f"pg_wal/{name}").code == 0
    before = archiving.wait_until_stored(name).read_bytes()
    content = bytearray(archiving.segment(name).read_bytes())
    content[100_000] ^= 1
    archiving.rest()
    replace(archiving.segment(name), bytes(content))
    refused = archiving.push(f"pg_wal/{name}")
    assert 1 <= refused.code <= 125
    assert len(refused.lines) == 1
    assert "other content" in refused.lines[0]
    assert archiving.wait_until_stored(name).read_bytes() == before


def test_a_segment_works_from_any_directory_by_its_absolute_name(idle: tuple[Archiving, str]):
    archiving, name = idle
    assert archiving.push(archiving.segment(name), cwd=Path("/")).code == 0
    assert archiving.stored(name)


def test_another_cluster_under_the_same_name_is_refused_until_it_is_adopted(
    archiving: Archiving, templates: Templates, place: Path, capsys: pytest.CaptureFixture[str]
):
    name = archiving.switch_wal()
    archiving.wait_until_stored(name)
    before = archived_files(archiving)
    stranger = templates.server(archiving.server.installation, place / "stranger", fresh=True)
    other = Archiving(stranger, place / "arch2", archiving.repositories, data_directory=stranger.data)
    stranger.settings.update(archive_mode="on", archive_command="")
    stranger.start()
    name = other.switch_wal()
    refused = other.push(f"pg_wal/{name}")
    assert 1 <= refused.code <= 125
    assert "dbops wal adopt" in refused.lines[0]
    assert archived_files(archiving) == before

    assert main(["wal", "adopt", "--config", str(other.config)]) != 0  # not without confirmation
    assert main(["wal", "adopt", "--config", str(other.config), "--confirm", "main"]) == 0
    assert other.push_as_the_server(f"pg_wal/{name}").code == 0
    capsys.readouterr()


def test_a_copy_that_archives_with_the_settings_of_the_original_is_refused(archiving: Archiving, place: Path):
    name = archiving.switch_wal()
    archiving.wait_until_stored(name)
    archiving.data_directory = archiving.server.data
    archiving.write_config()
    copy = place / "copy"
    copy_tree(archiving.server.data, copy)
    os.utime(copy / "pg_wal" / name)
    refused = archiving.push(f"pg_wal/{name}", cwd=copy)
    assert 1 <= refused.code <= 125
    assert "must not archive" in refused.lines[0]
    assert archiving.push_as_the_server(f"pg_wal/{name}").code == 0


def test_damaged_or_foreign_files_never_get_into_the_archive(idle: tuple[Archiving, str]):
    archiving, name = idle
    good = archiving.segment(name).read_bytes()
    wrong = {
        "another system": good[:24] + b"\x01\x02\x03\x04\x05\x06\x07\x08" + good[32:],
        "another version": b"\x06\xd1" + good[2:],
        "another place": good[:8] + b"\0\0\0\x50\0\0\0\0" + good[16:],
        "zeros": bytes(len(good)),
        "cut off": good[: 1 << 20],
        "empty": b"",
    }
    for what, content in wrong.items():
        archiving.rest()
        shutil.rmtree(archiving.spool, ignore_errors=True)  # no worker's error of before is repeated
        replace(archiving.segment(name), content)
        refused = archiving.push(f"pg_wal/{name}")
        assert 1 <= refused.code <= 125, what
        assert len(refused.lines) == 1
        assert archiving.stored(name) is None
    archiving.rest()
    replace(archiving.segment(name), good)
    assert archiving.push_as_the_server(f"pg_wal/{name}").code == 0
    assert 1 <= archiving.push("pg_wal/not-a-segment").code <= 125


def test_a_repository_that_is_away_read_only_or_full_keeps_the_server_trying_until_it_is_back(
    archiving: Archiving, place: Path
):
    server, root = archiving.server, archiving.repositories["a"]
    archiving.wait_until_stored(archiving.switch_wal())
    aside = root.rename(place / "aside")
    lost = archiving.switch_wal()
    wait_until(lambda: server.value("select failed_count > 0 from pg_stat_archiver"), "archiving has failed")
    assert "does not exist" in server.log.read_text()
    called = archiving.push(f"pg_wal/{lost}")
    assert 1 <= called.code <= 125
    assert len(called.lines) == 1
    aside.rename(root)
    wait_until(lambda: archiving.stored(lost), "it is archived after all", limit_s=90)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount; CI runs as root")
def test_a_full_repository_leaves_nothing_half_visible_and_works_once_there_is_room(quiet: PgServer, place: Path):
    root = quiet.os_user.own_directory(place / "small", 0o750)
    owner = f"size=1100k,uid={quiet.os_user.uid},gid={quiet.os_user.gid},mode=750"
    subprocess.run(["mount", "-t", "tmpfs", "-o", owner, "tmpfs", root], check=True)
    try:
        archiving = Archiving(quiet, place / "arch", {"a": root})
        archiving.switch_on()
        quiet.settings["archive_command"] = ""
        quiet.start()
        (root / "ballast").write_bytes(bytes(1_000_000))
        quiet.psql("create table noise as select sha256(n::text::bytea) h from generate_series(1, 30000) n")
        name = archiving.switch_wal()
        full = archiving.push(f"pg_wal/{name}")
        assert 1 <= full.code <= 125
        assert "No space left" in full.lines[0]
        assert archiving.stored(name) is None
        # Still full, so that no worker can archive it in between; busy while one is trying.
        remount = ["mount", "-o", "remount,ro", root]
        wait_until(lambda: subprocess.run(remount, check=False).returncode == 0, "no writer is left")
        read_only = archiving.push_as_the_server(f"pg_wal/{name}")
        assert 1 <= read_only.code <= 125
        assert "ead-only" in read_only.lines[0]
        subprocess.run(["mount", "-o", "remount,rw,size=64m", root], check=True)
        assert archiving.push_as_the_server(f"pg_wal/{name}").code == 0
        assert archiving.stored(name)
    finally:
        archiving.rest()
        subprocess.run(["umount", root], check=True)


def test_an_empty_directory_in_the_repositorys_place_is_taken_for_a_disk_that_is_not_mounted(
    idle: tuple[Archiving, str], place: Path
):
    """By the worker that had written there before, and by one that begins anew: both would hide WAL in it."""
    archiving, first = idle
    assert archiving.push(f"pg_wal/{first}").code == 0
    root = archiving.repositories["a"]
    aside = root.rename(place / "aside")
    archiving.server.os_user.own_directory(root, 0o750)
    lost = archiving.switch_wal()
    for _time in ("with the worker", "without"):
        refused = archiving.push(f"pg_wal/{lost}")
        assert 1 <= refused.code <= 125
        assert "mounted" in refused.lines[0] or "is not where it was" in refused.lines[0]
        archiving.rest()
    assert list(root.rglob("*")) == []
    root.rmdir()
    aside.rename(root)
    assert archiving.push_as_the_server(f"pg_wal/{lost}").code == 0


def test_a_spool_that_cannot_be_used_costs_speed_and_nothing_else(idle: tuple[Archiving, str], place: Path):
    archiving, name = idle
    shutil.rmtree(archiving.spool, ignore_errors=True)
    archiving.spool.write_text("in the way")
    assert archiving.push(f"pg_wal/{name}").code == 0
    assert archiving.get(name, place / "arch" / "fetched", cwd=archiving.server.data).code == 0


def test_a_required_repository_holds_the_acknowledgement_up_and_an_optional_one_does_not(quiet: PgServer, place: Path):
    archiving = Archiving(
        quiet, place / "arch", {"a": place / "a", "b": place / "b", "c": place / "c"}, optional=("c",),
        data_directory=quiet.data,
    )  # fmt: skip
    quiet.settings.update(archive_mode="on", archive_command="")
    quiet.start()
    c_aside = archiving.repositories["c"].rename(place / "c-aside")
    first = archiving.switch_wal()
    assert archiving.push(f"pg_wal/{first}").code == 0
    b_aside = archiving.repositories["b"].rename(place / "b-aside")
    second = archiving.switch_wal()
    assert 1 <= archiving.push(f"pg_wal/{second}").code <= 125
    assert archiving.stored(second, "a"), "the others are written all the same"
    b_aside.rename(archiving.repositories["b"])
    assert archiving.push_as_the_server(f"pg_wal/{second}").code == 0
    owed = status(archiving)["optional"]["c"]
    assert owed["files"] >= 2
    c_aside.rename(archiving.repositories["c"])
    third = archiving.switch_wal()
    archiving.rest()
    assert archiving.push_as_the_server(f"pg_wal/{third}").code == 0
    for name in (first, second, third):
        archiving.wait_until_stored(name, "c")
    wait_until(lambda: status(archiving)["optional"]["c"]["files"] == 0, "nothing is owed any more")
    paths = [archiving.stored(second, repository) for repository in "abc"]
    assert len({path.read_bytes() for path in paths if path}) == 1


def status(archiving: Archiving) -> dict[str, object]:
    where = f"import runpy, sys; sys.path.insert(0, {str(archiving.base / 'lib')!r})"
    code = f"{where}; runpy.run_module('dbops', run_name='__main__')"
    command = [archiving.python, "-I", "-c", code, "--config", archiving.config, "--output", "json", "wal", "status"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, **archiving.server.os_user.for_subprocess()
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_the_status_says_what_waits_and_why(quiet: PgServer, place: Path):
    archiving = Archiving(quiet, place / "arch", {"a": place / "a"}, data_directory=quiet.data)
    archiving.switch_on()
    aside = archiving.repositories["a"].rename(place / "aside")
    quiet.start()
    names = [archiving.switch_wal() for _number in range(3)]
    wait_until(lambda: quiet.value("select failed_count > 0 from pg_stat_archiver"), "archiving has failed")
    found = status(archiving)
    assert found["backlog"]["files"] >= 3
    assert found["backlog"]["first"] <= names[0]
    wait_until(lambda: status(archiving)["last_error"], "the worker's error is shown")
    aside.rename(archiving.repositories["a"])
    archiving.wait_until_stored(names[-1])
    wait_until(lambda: status(archiving)["backlog"]["files"] == 0, "nothing waits")


def test_killed_workers_and_commands_lose_nothing(archiving: Archiving, place: Path):
    """Whatever is killed and whenever: in the end all is archived once, and replays."""
    server = archiving.server
    copy = base_copy(server, place / "copy")
    chance = random.Random(4242)
    for _number in range(8):
        canary(server, 200)
        last = archiving.switch_wal()
        time.sleep(chance.random() * 0.25)  # the random moment, not a wait for something
        for pid in archiving.workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: server.value("select last_archived_wal from pg_stat_archiver") >= last, "all is archived", limit_s=150
    )
    wait_until(
        lambda: not list((server.data / "pg_wal" / "archive_status").glob("*.ready")), "nothing waits", limit_s=90
    )
    server.stop()
    other = recover(archiving, copy, place / "other")
    assert rows(other) == 1600


@pytest.mark.parametrize("equal", [True, False])
def test_of_two_writers_at_the_same_instant_one_wins(idle: tuple[Archiving, str], place: Path, equal: bool):
    archiving, name = idle
    server = archiving.server
    copy = place / "copy"
    copy_tree(server.data, copy)
    if not equal:
        content = bytearray((copy / "pg_wal" / name).read_bytes())
        content[200_000] ^= 1
        (copy / "pg_wal" / name).write_bytes(content)
    archiving.spool.mkdir(exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda data: archiving.push(f"pg_wal/{name}", cwd=data).code, [server.data, copy]))
    if equal:
        assert ended == [0, 0]
    else:
        assert sorted(code == 0 for code in ended) == [False, True]
    winner = [server.data, copy][ended.index(0)] / "pg_wal" / name
    target = place / "arch" / "fetched"
    assert archiving.get(name, target).code == 0
    assert target.read_bytes() == winner.read_bytes()
    assert len(list(archiving.repositories["a"].rglob(f"{name}*"))) == 1


# -- restore_command


@pytest.fixture
def two(quiet: PgServer, place: Path) -> tuple[Archiving, str]:
    """One segment in two repositories."""
    archiving = Archiving(quiet, place / "arch", {"a": place / "a", "b": place / "b"})
    quiet.settings.update(archive_mode="on", archive_command="")
    quiet.start()
    name = archiving.switch_wal()
    assert archiving.push(f"pg_wal/{name}").code == 0
    archiving.rest()
    return archiving, name


def flip(path: Path, place: int = -1000) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


def test_a_damaged_copy_is_passed_over_and_named(two: tuple[Archiving, str], place: Path):
    archiving, name = two
    target = place / "arch" / "fetched"
    flip(archiving.wait_until_stored(name, "a"))
    got = archiving.get(name, target)
    assert got.code == 0
    assert "repository 'a'" in got.lines[0]
    assert target.read_bytes() == archiving.segment(name).read_bytes()
    target.unlink()
    flip(archiving.wait_until_stored(name, "b"))
    wait_until(lambda: shutil.rmtree(archiving.spool, ignore_errors=True) or not archiving.spool.exists(), "it is gone")
    assert archiving.get(name, target).code == 255
    assert not target.exists()


def test_every_byte_of_a_stored_segment_is_guarded(two: tuple[Archiving, str], place: Path):
    archiving, name = two
    shutil.rmtree(archiving.repositories["b"] / "main")
    stored = archiving.wait_until_stored(name)
    good = stored.read_bytes()
    for position in [0, 5, 40, 84, 86, 100, len(good) // 2, len(good) - 1]:
        flip(stored, position)
        assert archiving.get(name, place / "arch" / "fetched").code == 255, position
        stored.write_bytes(good)
    for length in (0, 50, len(good) // 2, len(good) - 1):
        stored.write_bytes(good[:length])
        assert archiving.get(name, place / "arch" / "fetched").code == 255, length
    assert not (place / "arch" / "fetched").exists()


def test_the_same_name_with_other_content_in_two_repositories_is_no_answer(two: tuple[Archiving, str], place: Path):
    archiving, name = two
    archiving.wait_until_stored(name, "b").unlink()
    original = archiving.segment(name).read_bytes()
    changed = bytearray(original)
    changed[300_000] ^= 1
    replace(archiving.segment(name), bytes(changed))
    only_b = Archiving(archiving.server, place / "arch3", {"b": archiving.repositories["b"]})
    assert only_b.push(f"pg_wal/{name}").code == 0
    replace(archiving.segment(name), original)
    got = archiving.get(name, place / "arch" / "fetched")
    assert got.code == 255
    assert "differs" in got.lines[0]


def test_missing_means_that_every_repository_said_so(two: tuple[Archiving, str], place: Path):
    archiving, _name = two
    absent, target = "0000000100000009000000AA", place / "arch" / "fetched"
    assert archiving.get(absent, target).code == 1
    assert archiving.get("00000002.history", target).code == 1
    aside = archiving.repositories["b"].rename(place / "aside")
    assert archiving.get(absent, target).code == 255
    archiving.repositories["b"].mkdir(mode=0o755)  # a mount point without its disk
    got = archiving.get(absent, target)
    assert got.code == 255
    assert "mounted" in got.lines[0]
    archiving.repositories["b"].rmdir()
    aside.rename(archiving.repositories["b"])
    assert archiving.get(absent, target).code == 1


def test_a_history_is_not_called_missing_when_its_timeline_has_segments(two: tuple[Archiving, str], place: Path):
    """Recovery would take that for the end of the old timeline, promote, and pass over everything on the new one."""
    archiving, name = two
    target = place / "arch" / "fetched"
    stored = archiving.wait_until_stored(name, "b")
    orphan = stored.parent.parent / f"00000002{name[8:16]}" / stored.name.replace("00000001", "00000002", 1)
    orphan.parent.mkdir()
    orphan.write_bytes(stored.read_bytes())
    got = archiving.get("00000002.history", target)
    assert got.code == 255
    assert "00000002.history is lost" in got.lines[0]
    assert archiving.get("00000003.history", target).code == 1
    assert archiving.get("00000001.history", target).code == 1  # the first timeline never has one


def test_exactly_the_name_that_is_asked_for_is_served(two: tuple[Archiving, str], place: Path):
    archiving, name = two
    for repository in "ab":
        stored = archiving.wait_until_stored(name, repository)
        stored.rename(stored.with_name(stored.name.replace(name, f"{name}.00000028.backup")))
    assert archiving.get(name, place / "arch" / "fetched").code == 1


def test_a_standby_that_cannot_know_waits_instead_of_ending(two: tuple[Archiving, str], place: Path):
    archiving, name = two
    copy = place / "copy"
    copy_tree(archiving.server.data, copy)
    (copy / "standby.signal").touch()
    shutil.rmtree(archiving.repositories["a"])
    shutil.rmtree(archiving.repositories["b"])
    assert archiving.get(name, "pg_wal/RECOVERYXLOG", cwd=copy).code == 1
    archiving.options["standby_get_exit"] = 255
    archiving.write_config()
    assert archiving.get(name, "pg_wal/RECOVERYXLOG", cwd=copy).code == 255


def test_a_store_that_goes_away_during_recovery_stops_it_and_promotes_nothing(archiving: Archiving, place: Path):
    server = archiving.server
    copy = base_copy(server, place / "copy")
    for _number in range(6):
        canary(server, 300)
        last = archiving.switch_wal()
    archiving.wait_until_stored(last)
    wait_until(lambda: server.value("select last_archived_wal from pg_stat_archiver") >= last, "all is archived")
    server.stop()
    archiving.rest()
    archiving.options["prefetch_bytes"] = 0
    archiving.write_config()
    gone = archiving.wait_until_stored(last)
    aside = gone.parent.rename(place / "aside")
    gone.parent.symlink_to("/nowhere")  # neither there nor proven missing
    other = recover(archiving, copy, place / "other", start=False)
    with pytest.raises(Exception, match=r"pg_ctl .* exited with"):
        other.start()
    assert not other.is_running
    assert (copy / "recovery.signal").exists()
    assert "promoted" in other.log.read_text()
    gone.parent.unlink()
    aside.rename(gone.parent)
    other.begin()
    other.wait_until_recovered()
    assert rows(other) == 1800


def test_replay_takes_what_was_fetched_ahead_although_its_worker_is_killed(archiving: Archiving, place: Path):
    server = archiving.server
    copy = base_copy(server, place / "copy")
    for _number in range(10):
        canary(server, 100)
        last = archiving.switch_wal()
    archiving.wait_until_stored(last)
    server.stop()
    names = sorted(path.name[:24] for path in archiving.repositories["a"].rglob("0000*.[zg]*") if len(path.name) < 30)
    first = names[0]
    assert archiving.get(first, "pg_wal/RECOVERYXLOG", cwd=copy).code == 0
    wait_until(lambda: list(archiving.spool.glob(f"get/*/*/{names[4]}.ok")), "the worker is ahead")
    for pid in archiving.workers():
        os.kill(pid, signal.SIGKILL)
    for name in names[1:]:
        (copy / "pg_wal" / "RECOVERYXLOG").unlink()
        assert archiving.get(name, "pg_wal/RECOVERYXLOG", cwd=copy).code == 0
    (copy / "pg_wal" / "RECOVERYXLOG").unlink()
    other = recover(archiving, copy, place / "other")
    assert rows(other) == 1000


def test_the_first_question_for_a_history_has_the_backups_first_segments_fetched(archiving: Archiving, place: Path):
    server = archiving.server
    copy = base_copy(server, place / "copy")
    for _number in range(4):
        canary(server)
        last = archiving.switch_wal()
    archiving.wait_until_stored(last)
    first = (copy / "backup_label").read_text().split("(file ")[1][:24]
    for _told_by in ("backup_label", "pg_control"):
        assert archiving.get("00000002.history", "pg_wal/RECOVERYHISTORY", cwd=copy).code == 1
        wait_until(lambda: len(list(archiving.spool.glob("get/*/*/*.ok"))) > 2, "the worker is ahead")
        assert list(archiving.spool.glob(f"get/*/*/{first}.ok"))
        if _told_by == "backup_label":
            (copy / "backup_label").unlink()
            archiving.rest()
    assert archiving.get(first, "pg_wal/RECOVERYXLOG", cwd=copy).code == 0
    wait_until(lambda: not list(archiving.spool.glob(f"get/*/*/{first}*")), "the worker has let go of what was taken")


def test_a_promotion_archives_its_history_and_both_timelines_can_be_followed(archiving: Archiving, place: Path):
    server = archiving.server
    copy = base_copy(server, place / "copy")
    second_copy = place / "copy2"
    copy_tree(copy, second_copy)
    canary(server, 10)
    last = archiving.switch_wal()
    archiving.wait_until_stored(last)
    wait_until(lambda: server.value("select last_archived_wal from pg_stat_archiver") >= last, "it is archived")
    server.stop("immediate")
    promoted = recover(
        archiving, copy, place / "other", archive_mode="on", archive_command=f"{archiving.push_script} %p"
    )
    canary(promoted, 5)
    promoted.sql("checkpoint")
    name = promoted.value("select pg_walfile_name(pg_switch_wal())")
    assert name.startswith("00000002")
    archiving.wait_until_stored(name)
    assert archiving.stored("00000002.history")
    promoted.stop()
    third = recover(archiving, second_copy, place / "third")
    assert rows(third) == 15


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount; CI runs as root")
def test_wal_is_given_up_only_when_that_is_asked_for_and_the_archive_says_so_for_ever(quiet: PgServer, place: Path):
    archiving = Archiving(quiet, place / "arch", {"a": place / "a"})
    quiet.settings.update(archive_mode="on", archive_command="")
    quiet.start()
    lost = archiving.switch_wal()
    aside = archiving.repositories["a"].rename(place / "aside")
    assert 1 <= archiving.push(f"pg_wal/{lost}").code <= 125
    archiving.options["drop_wal_when_free_below"] = 1 << 50  # there is never that much
    archiving.write_config()
    dropped = archiving.push(f"pg_wal/{lost}")
    assert dropped.code == 0
    assert "ALARM" in dropped.lines[0]
    aside.rename(archiving.repositories["a"])
    following = archiving.switch_wal()
    assert archiving.push_as_the_server(f"pg_wal/{following}").code == 0
    assert list(archiving.repositories["a"].glob(f"main/wal/*/dropped/{lost}"))
    assert not list(archiving.base.glob("dropped/*/*"))
