# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong with archiving and recovery, each as a function that does it, asserts what must hold, and mends it.

A fault strikes while the canary writes and the server archives. It returns when the cause is gone; whether anything
was lost is proven afterwards, the same way for all.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import DbopsError
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.wal import int_to_lsn
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.info import info
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore import physical
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore.target import iso_micro, parse
from localpg.osuser import ProgramFailed
from localpg.processes import working_below
from tests.support.archiving import Archiving
from tests.support.canary import QUERY
from tests.support.fault_scene import SEGMENT, Scene
from tests.support.servers import PgServer, copy_tree, wait_until

FAKETIME = [Path(f"/usr/lib/{machine}-linux-gnu/faketime/libfaketime.so.1") for machine in ("x86_64", "aarch64")]


@dataclass(frozen=True)
class Fault:
    """`lacks` says what this machine cannot do, and so why the fault was not tried; empty where it can."""

    name: str
    strike: Callable[[Scene], None]
    lacks: Callable[[bool], str]


FAULTS: list[Fault] = []


def fault(name: str, lacks: Callable[[bool], str] = lambda _can_mount: "") -> Callable[[Callable[[Scene], None]], None]:
    def add(strike: Callable[[Scene], None]) -> None:
        FAULTS.append(Fault(name, strike, lacks))

    return add


def a_mount(can_mount: bool) -> str:
    return "" if can_mount else "only root can mount a disk to fill, take away or make hang"


def a_false_clock(_can_mount: bool) -> str:
    return "" if _faketime() else "libfaketime is not installed"


# -- processes that are killed


@fault("SIGKILL of the push worker")
def sigkill_push_worker(scene: Scene) -> None:
    for _time in range(3):
        scene.busy(8)
        wait_until(lambda: push_worker(scene), "a push worker runs")
        scene.random_moment(0.1)
        kill(push_worker(scene))


@fault("SIGKILL of archive_command's interpreter")
def sigkill_archivecommand_interpreter(scene: Scene) -> None:
    """The worker too, or there would hardly be one."""
    for _time in range(3):
        kill(scene.archiving.workers())
        scene.busy(8)
        scene.random_moment(0.2)
    kill(scene.archiving.workers())


@fault("SIGKILL of PostgreSQL")
def sigkill_postgresql(scene: Scene) -> None:
    scene.busy()
    scene.random_moment()
    scene.server.kill()
    scene.server.start()


@fault("SIGKILL of the archiver with all that it started")
def sigkill_archiver_with_all_started(scene: Scene) -> None:
    """One process group: archiver, shell, interpreter. The postmaster restarts all its children."""
    kill(scene.archiving.workers())
    scene.busy()
    scene.random_moment(0.1)
    said = scene.server.log.stat().st_size
    archivers = [pid for pid in working_below(scene.server.data) if "archiver" in words_of(pid)]
    assert archivers
    for group in {os.getpgid(pid) for pid in archivers}:
        assert group != os.getpgid(0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    ready = b"database system is ready to accept connections"
    wait_until(lambda: ready in scene.server.log.read_bytes()[said:], "the postmaster has restarted them", limit_s=60)
    scene.canary.wait_for(3)


@fault("crash after our 0 and before .done: files are archived again")
def crash_after_0_before_done_files(scene: Scene) -> None:
    scene.busy()
    scene.busy()
    wait_until(lambda: len(scene.segments()) > 2, "segments are archived")
    scene.server.stop("immediate")
    status = scene.server.data / "pg_wal" / "archive_status"
    for done in status.glob("*.done"):
        if scene.chance.random() < 0.7 and (done.parent.parent / done.stem).exists():
            done.rename(done.with_suffix(".ready"))
    if scene.chance.random() < 0.5:
        shutil.rmtree(scene.archiving.spool)
    before = {path: path.read_bytes() for path in scene.segments()}
    scene.server.start()
    scene.busy()
    assert {path: path.read_bytes() for path in before} == before, "nothing that was archived changes"


@fault("the push worker stops for a while, and goes on")
def push_worker_stops_while_goes_on(scene: Scene) -> None:
    """As one that a slow disk or store holds up, at any point of its work."""
    for _time in range(3):
        scene.busy(8)
        stopped = scene.archiving.workers()
        signal_all(stopped, signal.SIGSTOP)
        scene.busy(8)
        scene.random_moment(0.4)
        signal_all(stopped, signal.SIGCONT)


# -- the spool


@fault("the spool is deleted")
def spool_deleted(scene: Scene) -> None:
    for _time in range(3):
        scene.busy(8)
        scene.random_moment(0.1)
        shutil.rmtree(scene.archiving.spool, ignore_errors=True)


@fault("the spool's disk is full", a_mount)
def spool_disk_full(scene: Scene) -> None:
    with small_disk(scene, scene.archiving.spool, "64k"):
        (scene.archiving.spool / "ballast").write_bytes(bytes(60 << 10))
        scene.busy()
        scene.settle()
    scene.canary.resume()


@fault("the spool's disk is read-only", a_mount)
def spool_disk_readonly(scene: Scene) -> None:
    with small_disk(scene, scene.archiving.spool, "1m"):
        scene.busy(8)
        remount(scene.archiving.spool, "ro")
        scene.busy(8)
        scene.settle()
    scene.canary.resume()


# -- the repository


@fault("the repository's disk is full", a_mount)
def repository_disk_full(scene: Scene) -> None:
    used = int(subprocess.run(["du", "-sk", scene.disk], capture_output=True, text=True, check=True).stdout.split()[0])
    subprocess.run(["mount", "-o", f"remount,size={used + 64}k", scene.disk], check=True)
    failed = failures(scene)
    fill = scene.disk / "ballast"
    with contextlib.suppress(OSError):
        fill.write_bytes(bytes(1 << 20))
    scene.busy()
    wait_until(lambda: failures(scene) > failed, "archiving fails")
    assert no_half_files(scene)
    fill.unlink()
    subprocess.run(["mount", "-o", "remount,size=1g", scene.disk], check=True)


@fault("the repository's disk becomes read-only", a_mount)
def repository_disk_becomes_readonly(scene: Scene) -> None:
    scene.busy()
    scene.random_moment(0.1)
    remount(scene.disk, "ro")
    failed = failures(scene)
    scene.busy()
    wait_until(lambda: failures(scene) > failed, "archiving fails")
    remount(scene.disk, "rw")


@fault("the repository's disk is not mounted any more", a_mount)
def repository_disk_not_mounted_any_more(scene: Scene) -> None:
    """What is left is an empty directory that the server's user may write to."""
    scene.busy()
    scene.random_moment(0.1)
    scene.detach()
    failed = failures(scene)
    scene.busy()
    wait_until(lambda: failures(scene) > failed, "archiving fails")
    assert not list(scene.repository.rglob("0000*")), "nothing is archived into the empty mount point"
    scene.attach()


@fault("the repository hangs", a_mount)
def repository_hangs(scene: Scene) -> None:
    """A file system that never answers. The server must not wait for ever, and learns what is wrong."""
    scene.busy()
    scene.random_moment(0.1)
    said = scene.server.log.stat().st_size
    with hanging(scene.repository):
        scene.busy()

        def told() -> bool:
            return b"has not ended within" in scene.server.log.read_bytes()[said:]

        wait_until(told, "the server is told that it hangs", limit_s=60)


@fault("a segment in the archive is cut off")
def segment_archive_cut_off(scene: Scene) -> None:
    damage(scene, lambda path: os.truncate(path, scene.chance.randrange(path.stat().st_size)))


@fault("a byte in the archive is flipped")
def byte_archive_flipped(scene: Scene) -> None:
    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[scene.chance.randrange(len(content))] ^= 1 << scene.chance.randrange(8)
        path.write_bytes(content)

    damage(scene, flip)


@fault("two segments in the archive are swapped")
def two_segments_archive_are_swapped(scene: Scene) -> None:
    def swap(path: Path) -> None:
        others = [item for item in scene.segments() if item.read_bytes() != path.read_bytes()]
        path.write_bytes(scene.chance.choice(others).read_bytes())

    damage(scene, swap)


@fault("a segment in the middle of the archive is deleted")
def segment_middle_archive_deleted(scene: Scene) -> None:
    """The window shows the gap, a plan to the end refuses and names it, what lies before it can be reached."""
    scene.busy()
    scene.busy()
    scene.settle()
    base = base_segment(scene)
    here = [path for path in scene.segments() if path.name[:8] == f"{scene.ledger.now.timeline:08X}"]
    middle = [path for path in here if path.name[8:24] > base][1:-1]
    lost = scene.chance.choice(middle)
    with without(lost):
        lines = info(scene.settings)["recovery_window"][0]["lines"]
        broken = [item["broken_by"] for line in lines for item in line["intervals"] if item["broken_by"]]
        assert lost.name.split(".")[0] in broken
        with pytest.raises(DbopsError, match=lost.name.split(".")[0]):
            physical.plan(scene.settings, side_request(scene, {"latest": True}))
        behind = scene.ledger.now.rows[-1]
        assert behind.lsn is not None
        with pytest.raises(DbopsError, match="nearest"):
            physical.plan(scene.settings, side_request(scene, {"lsn": int_to_lsn(behind.lsn)}))


@fault("a timeline's history file is missing")
def timeline_history_file_missing(scene: Scene) -> None:
    """Without it recovery would follow the old timeline to its end and promote: rows would be lost in silence."""
    scene.busy()
    scene.settle()
    scene.recover_in_place(parse({"latest": True}), scene.ledger.now)
    scene.busy()
    scene.settle()
    history = next(scene.disk.glob(f"main/wal/*/{scene.ledger.now.timeline:08X}.history.*"))
    with without(history):
        with pytest.raises(DbopsError):
            physical.plan(scene.settings, side_request(scene, {"latest": True}))
        never_promoted(scene)
    scene.canary.resume()


# -- timelines


@fault("a copy of the cluster archives into the same repository")
def copy_cluster_archives_into_same_repository(scene: Scene) -> None:
    """It has the same identifier and settings, and goes its own way."""
    scene.busy()
    scene.settle()
    copy = PgServer(scene.server.installation, scene.place / "copy", settings=dict(scene.server.settings))
    copy.make_directories()
    scene.server.stop()
    copy_tree(scene.server.data, copy.data)
    scene.server.start()
    before = {path: path.read_bytes() for path in scene.segments()}
    try:
        copy.start()
        archived = copy.value("select archived_count from pg_stat_archiver")
        copy.sql("select pg_logical_emit_message(true, 'copy', repeat('x', 3000)), pg_switch_wal()")
        wait_until(lambda: "must not archive" in copy.log.read_text(), "the copy is refused")
        assert copy.value("select archived_count from pg_stat_archiver") == archived
    finally:
        copy.stop("immediate")
        shutil.rmtree(copy.base)
    assert {path: path.read_bytes() for path in before} == before


@fault("the host is lost: recovered in place to the end, on a new timeline")
def host_lost_recovered_place_end_on(scene: Scene) -> None:
    """What was acknowledged and not yet archived may go with the host; nothing else may."""
    scene.busy()
    scene.random_moment()
    scene.canary.pause()
    scene.server.kill()
    kill(scene.archiving.workers())
    end = archived_end(scene)
    branch = scene.ledger.now
    gone = [row for row in branch.rows if row.lsn is None or row.lsn > end]
    branch.maybe |= {row.number for row in gone}
    branch.rows = [row for row in branch.rows if row not in gone]
    scene.recover_in_place(parse({"latest": True}), branch)
    found = {number for (number,) in scene.server.sql("select n from canary")}
    branch.maybe &= found


@fault("in place to before the fork, and from there on a new timeline")
def place_before_fork_there_on_new(scene: Scene) -> None:
    scene.busy()
    scene.busy()
    scene.settle()
    branch = scene.ledger.now
    row = scene.some_row(branch)
    scene.recover_in_place(target_at(scene, row), branch, until=row)


@fault("back to a timeline that had been left, and on from there")
def back_timeline_had_been_left_on(scene: Scene) -> None:
    """Three timelines deep: the second leaves the first, the third returns to what only the first has."""
    scene.busy()
    scene.busy()
    scene.settle()
    first = scene.ledger.now
    row = scene.some_row(first)
    scene.recover_in_place(target_at(scene, row), first, until=row)
    scene.busy()
    scene.settle()
    second = scene.ledger.now
    later = max(first.rows[:-2], key=lambda item: item.lsn or 0)
    scene.recover_in_place(target_at(scene, later, timeline=first.timeline), first, until=later)
    scene.busy()
    scene.settle()
    there = scene.some_row(second)
    scene.recover_beside(target_at(scene, there, timeline=second.timeline), second, until=there)
    scene.canary.resume()


@fault("a random point of a random timeline, beside")
def random_point_random_timeline_beside(scene: Scene) -> None:
    scene.busy()
    scene.settle()
    branch = scene.chance.choice([item for item in scene.ledger.branches if len(item.rows) > 5])
    row = scene.some_row(branch)
    recovery = scene.recover_beside(target_at(scene, row, timeline=branch.timeline), branch, until=row)
    assert recovery["timeline"] > branch.timeline
    scene.canary.resume()


# -- the clock


@fault("the clock is set back by an hour", a_false_clock)
def clock_set_back_an_hour(scene: Scene) -> None:
    """The server and all that it starts believe it, before and after a restart."""
    scene.busy()
    scene.server.stop()
    kill(scene.archiving.workers())
    with clock(-3600):
        scene.server.start()
    scene.busy()
    scene.busy()
    scene.settle()
    scene.server.stop()
    kill(scene.archiving.workers())
    scene.server.start()
    forget_clocks()
    scene.canary.resume()
    for row in scene.ledger.now.rows:
        row.moment = None  # no time says any more which row came before which


# -- recovery


@fault("the repository goes away during recovery")
def repository_goes_away_during_recovery(scene: Scene) -> None:
    """Recovery stops and nothing is promoted; once it is back, a start goes on to the end."""
    scene.busy()
    scene.busy()
    scene.settle()
    wal = scene.disk / "main" / "wal"
    aside = scene.disk / "main" / "aside"
    with scene.recovering() as other:
        other.settings["restore_command"] = f"{scene.archiving.get_script} %f %p"
        other.begin()
        scene.random_moment(0.5)
        wal.rename(aside)
        try:
            stopped = ended(other)
        finally:
            aside.rename(wal)
        if stopped:  # else it was at its end already
            assert_unpromoted(other)
            other.start()
        other.wait_until_recovered()
        scene.ledger.check(other.sql(QUERY), scene.ledger.now)
    scene.canary.resume()


@fault("the repository hangs during recovery", a_mount)
def repository_hangs_during_recovery(scene: Scene) -> None:
    scene.busy()
    scene.settle()
    kill(scene.archiving.workers())
    with scene.recovering() as other:
        with hanging(scene.repository):
            other.begin()
            assert ended(other, limit_s=30), "it stops, for it cannot know what is archived"
            assert_unpromoted(other)
        other.start()
        other.wait_until_recovered()
        scene.ledger.check(other.sql(QUERY), scene.ledger.now)
    scene.canary.resume()


@fault("SIGKILL of restore_command and its worker during recovery")
def sigkill_restorecommand_its_worker_during_recovery(scene: Scene) -> None:
    """A worker's death costs time; a command's stops recovery, and a start goes on."""
    for _time in range(4):
        scene.busy(8)
    scene.settle()
    with scene.recovering() as other:
        other.begin()
        for _time in range(4):
            scene.random_moment(0.2)
            kill(scene.archiving.workers())
        finish(scene, other)
    scene.canary.resume()


@fault("SIGKILL of the recovering server")
def sigkill_recovering_server(scene: Scene) -> None:
    for _time in range(3):
        scene.busy(8)
    scene.settle()
    with scene.recovering() as other:
        for _time in range(2):
            other.begin()
            scene.random_moment(0.5)
            other.kill()
        other.begin()  # it may have been at its end already and promoted: then this is a crash's recovery
        finish(scene, other)
    scene.canary.resume()


# -- how


def words_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def push_worker(scene: Scene) -> list[int]:
    """It was a command a moment ago, and looks like one: only its desk knows it."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((scene.archiving.spool / "push/worker.pid").read_text())
        return [pid] if pid in scene.archiving.workers() else []
    return []


def kill(pids: object) -> None:
    signal_all(pids, signal.SIGKILL)


def signal_all(pids: object, number: int) -> None:
    for pid in list(pids):  # type: ignore[call-overload]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def failures(scene: Scene) -> int:
    return int(scene.server.value("select failed_count from pg_stat_archiver"))


def no_half_files(scene: Scene) -> bool:
    """Everything that has a segment's name opens to its end."""
    programs = {".zst": "zstd", ".gz": "gzip"}
    for path in scene.segments():
        done = subprocess.run([programs[path.suffix], "-t", "-q", path], check=False)
        assert done.returncode == 0, path
    return True


def target_at(scene: Scene, row: object, *, timeline: int | None = None) -> object:
    """Just after that row, told as an LSN or a time."""
    more = {} if timeline is None else {"timeline": str(timeline)}
    if row.moment is not None and scene.chance.random() < 0.5:
        return parse({"time": iso_micro(row.moment)}, **more)
    return parse({"lsn": int_to_lsn(row.lsn)}, **more)


def side_request(scene: Scene, target: dict[str, object]) -> physical.Request:
    return physical.Request(recovery=parse(target), side=True, target=str(scene.place / "never"), port=1)


def base_segment(scene: Scene) -> str:
    """Log and segment of the base backup's start: what is older, no recovery asks for."""
    words = (scene.base / "backup_label").read_text().split("(file ", 1)[1]
    return words[8:24]


def archived_end(scene: Scene) -> int:
    """The byte position up to which the archive goes without a gap on the newest timeline."""
    timeline = f"{scene.ledger.now.timeline:08X}"
    numbers = sorted(int(path.name[8:16], 16) * 4096 + int(path.name[16:24], 16)
                     for path in scene.segments() if path.name[:8] == timeline)  # fmt: skip
    end = numbers[-1]
    for before, after in zip(reversed(numbers[:-1]), reversed(numbers)):
        if after != before + 1:
            end = before
    return (end + 1) * SEGMENT


def damage(scene: Scene, spoil: Callable[[Path], None]) -> None:
    """A random segment that recovery needs: it is not served, nothing is promoted; then it is put right again."""
    scene.busy()
    scene.settle()
    kill(scene.archiving.workers())
    shutil.rmtree(
        scene.archiving.spool, ignore_errors=True
    )  # what an earlier recovery had fetched ahead is good, and would be handed out
    path = scene.chance.choice(needed(scene))
    good = path.read_bytes()
    spoil(path)
    try:
        to = scene.archiving.base / "fetched"
        got = scene.archiving.get(path.name.split(".")[0], to)
        assert got.code == 255, got
        assert not to.exists()
        never_promoted(scene)
    finally:
        path.write_bytes(good)
    scene.canary.resume()


def needed(scene: Scene) -> list[Path]:
    """The newest timeline's segments after the base's start, but those at a fork, of which only a part is replayed."""
    base = base_segment(scene)
    timeline = f"{scene.ledger.now.timeline:08X}"
    found = [path for path in scene.segments() if path.name[:8] == timeline and path.name[8:24] >= base]
    return found[1:] or found


def never_promoted(scene: Scene) -> None:
    """A recovery from the archive as it is now stops, and writes no timeline of its own."""
    with scene.recovering() as other:
        other.begin()
        assert ended(other), "recovery stops"
        assert_unpromoted(other)


def ended(server: PgServer, limit_s: float = 30) -> bool:
    """True when the server has stopped, False when it has finished its recovery instead."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        phase = server.phase
        if phase == "gone" and not server.is_running:
            return True
        if phase == "ready":
            return False
        time.sleep(0.02)
    raise TimeoutError(f"neither stopped nor recovered:\n{server.log_tail()}")


def assert_unpromoted(server: PgServer) -> None:
    assert (server.data / "recovery.signal").exists()
    assert "archive recovery complete" not in server.log.read_text()


def finish(scene: Scene, other: PgServer) -> None:
    """Start it again as often as a killed command had stopped it; then all rows are there."""
    for _time in range(6):
        if not ended(other):
            break
        assert_unpromoted(other)
        with contextlib.suppress(ProgramFailed):
            other.start()
    other.wait_until_recovered()
    scene.ledger.check(other.sql(QUERY), scene.ledger.now)


@contextlib.contextmanager
def without(path: Path) -> Iterator[None]:
    aside = path.with_name(f".aside-{path.name}")
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)


def remount(path: Path, how: str) -> None:
    """Read-only is refused while somebody writes."""
    command = ["mount", "-o", f"remount,{how}", str(path)]
    wait_until(lambda: subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0, f"it is {how}")


@contextlib.contextmanager
def small_disk(scene: Scene, path: Path, size: str) -> Iterator[None]:
    """Mounted over what is there, which comes back afterwards."""
    user = scene.server.os_user
    path.mkdir(exist_ok=True)
    os.chown(path, user.uid, user.gid)
    options = f"size={size},uid={user.uid},gid={user.gid},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@contextlib.contextmanager
def hanging(path: Path) -> Iterator[None]:
    """A FUSE mount whose server never answers: whoever looks there waits, until the mount is taken away."""
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        if libc.mount(b"hanging", os.fsencode(path), b"fuse", 6, options) != 0:  # nosuid, nodev
            raise OSError(ctypes.get_errno(), f"cannot mount a FUSE file system at {path}")
        try:
            yield
        finally:
            libc.umount2(os.fsencode(path), 3)  # force, detach
    finally:
        os.close(device)


@contextlib.contextmanager
def clock(offset_s: int) -> Iterator[None]:
    """What is started meanwhile, and all that it starts, lives at another time; the times of files stay true."""
    values = {
        "LD_PRELOAD": str(_faketime()), "FAKETIME": f"{offset_s:+d}s", "NO_FAKE_STAT": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def forget_clocks() -> None:
    """What libfaketime leaves of processes that were killed: two files in memory for each."""
    for path in Path("/dev/shm").glob("*faketime_s[eh]m_*"):
        if not os.path.exists(f"/proc/{path.name.rpartition('_')[2]}"):
            with contextlib.suppress(OSError):
                path.unlink()


def _faketime() -> Path | None:
    return next((path for path in FAKETIME if path.exists()), None)


__all__ = ["FAULTS", "Archiving", "Fault"]
