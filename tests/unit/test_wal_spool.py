# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scripts answer by themselves, and what they leave to Python; with sh, files and a fake interpreter."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import (
    BadInput,
    Corrupt,
    NotFound,
    Unreachable,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.controlfile import control_file
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal.bounded import bounded
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal.cluster import Cluster, cluster_in
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal.prefetch import take
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal.scripts import (
    MISSING,
    Place,
    get_script,
    push_script,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal.spool import (
    Desk,
    Spool,
    boot_id,
    version_of,
    wait_for_poke,
    write,
)

NAME = "000000010000000000000003"
SYSTEM = 7300000000000000001


class Host:
    """A data directory, a spool, the scripts, and an interpreter that only says that it was asked."""

    def __init__(self, base: Path, shell: str = "sh") -> None:
        self.base, self.shell = base, shell
        self.data = base / "da ta"
        self.segment = self.data / "pg_wal" / NAME
        self.segment.parent.mkdir(parents=True)
        (self.data / "global").mkdir()
        (self.data / "PG_VERSION").write_text("15\n")
        (self.data / "global" / "pg_control").write_bytes(struct.pack("<QI36xI", SYSTEM, 1300, 1) + bytes(8000))
        self.segment.write_bytes(b"segment")
        self.python = base / "py thon"
        self.interpreter(3)
        place = Place("main", str(base / "main.json"), str(base / "sp ool"), str(self.python), (str(base),))
        self.scripts = {"push": base / "push", "get": base / "get"}
        self.scripts["push"].write_text(push_script(place))
        self.scripts["get"].write_text(get_script(place))
        self.spool = Spool(str(base / "sp ool"), cluster_in(str(self.data)))
        self.spool.claim()

    def interpreter(self, code: int, more: str = "") -> None:
        self.python.write_text(f'#!/bin/sh\necho "$@" > "{self.base}/asked"\n{more}\nexit {code}\n')
        self.python.chmod(0o755)

    def run(self, which: str, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        (self.base / "asked").unlink(missing_ok=True)
        command = [self.shell, str(self.scripts[which]), *words]
        return subprocess.run(command, cwd=cwd or self.data, capture_output=True, text=True, timeout=30, check=False)

    def was_asked(self) -> bool:
        return (self.base / "asked").exists()

    def prefetched(self, name: str = NAME, content: bytes = b"fetched") -> Path:
        path = Path(self.spool.ready) / name
        path.write_bytes(content)
        write(f"{path}.ok", "", mtime_ns=version_of(str(path)).mtime_ns)
        return path


@pytest.fixture(params=[shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    host = Host(tmp_path)
    if request.param == "busybox":
        wrapper = tmp_path / "ash"
        wrapper.write_text('#!/bin/sh\nexec busybox ash "$@"\n')
        wrapper.chmod(0o755)
        host.shell = str(wrapper)
    else:
        host.shell = request.param
    return host


@pytest.mark.parametrize("absolute", [False, True])
def test_a_marker_of_this_very_file_is_answered_without_python(host: Host, absolute: bool, tmp_path: Path):
    host.spool.acknowledge(NAME, version_of(str(host.segment)))
    path = str(host.segment) if absolute else f"pg_wal/{NAME}"
    done = host.run("push", path, cwd=tmp_path if absolute else None)
    assert (done.returncode, done.stdout, done.stderr, host.was_asked()) == (0, "", "", False)


@pytest.mark.parametrize("shift_ns", [-1_000_000_000, 1_000_000_000, 3_600_000_000_000])
def test_a_marker_of_another_version_of_the_file_counts_for_nothing(host: Host, shift_ns: int):
    version = version_of(str(host.segment))
    host.spool.acknowledge(NAME, version)
    os.utime(host.segment, ns=(version.mtime_ns + shift_ns, version.mtime_ns + shift_ns))
    assert host.run("push", f"pg_wal/{NAME}").returncode == 3
    assert host.was_asked()
    assert not host.spool.is_acknowledged(NAME, version_of(str(host.segment)))


def test_a_marker_newer_than_its_file_by_a_nanosecond_is_not_believed_by_python(tmp_path: Path):
    host = Host(tmp_path)
    version = version_of(str(host.segment))
    host.spool.acknowledge(NAME, version)
    assert host.spool.is_acknowledged(NAME, version)
    for other in (
        replace(version, mtime_ns=version.mtime_ns + 1),
        replace(version, size_bytes=version.size_bytes + 1),
        replace(version, inode=version.inode + 1),
    ):
        assert not host.spool.is_acknowledged(NAME, other)


def test_a_spool_of_another_cluster_is_not_believed_and_then_emptied(host: Host):
    host.spool.acknowledge(NAME, version_of(str(host.segment)))
    host.prefetched()
    stat = os.stat(host.data / "PG_VERSION")
    os.utime(host.data / "PG_VERSION", ns=(stat.st_atime_ns, stat.st_mtime_ns + 5_000_000_000))
    (host.data / "global" / "pg_control").write_bytes(struct.pack("<QI36xI", SYSTEM + 1, 1300, 1) + bytes(8000))
    assert host.run("push", f"pg_wal/{NAME}").returncode == 3
    assert host.run("get", NAME, "pg_wal/RECOVERYXLOG").returncode == 255
    other = Spool(host.spool.path, cluster_in(str(host.data)))
    other.claim()
    assert not os.path.exists(host.spool.markers)
    assert not os.path.exists(host.spool.ready)
    assert host.run("push", f"pg_wal/{NAME}").returncode == 3


@pytest.mark.parametrize("missing", ["spool", "marker", "segment", "seal"])
def test_whatever_is_missing_python_is_asked(host: Host, missing: str):
    host.spool.acknowledge(NAME, version_of(str(host.segment)))
    if missing == "spool":
        shutil.rmtree(host.spool.path)
    else:
        marker = os.path.join(host.spool.markers, NAME + ".ok")
        os.unlink(
            {"marker": marker, "segment": host.segment, "seal": os.path.join(host.spool.path, "cluster")}[missing]
        )
    assert host.run("push", f"pg_wal/{NAME}").returncode == 3
    assert host.was_asked()


@pytest.mark.parametrize(
    ("ended", "told"), [(0, 0), (1, 1), (9, 9), (125, 125), (126, 1), (127, 1), (137, 1), (255, 1)]
)
def test_archiving_ends_with_a_code_that_the_server_retries(host: Host, ended: int, told: int):
    host.interpreter(ended)
    done = host.run("push", f"pg_wal/{NAME}")
    assert done.returncode == told
    assert len(done.stderr.splitlines()) == (1 if ended > 125 else 0)


def test_an_interpreter_that_is_not_there_is_a_failure_that_is_retried(host: Host):
    host.python.unlink()
    assert host.run("push", f"pg_wal/{NAME}").returncode == 1
    assert host.run("get", NAME, "pg_wal/RECOVERYXLOG").returncode == 255


def test_a_worker_that_finishes_the_file_meanwhile_is_waited_for(host: Host):
    with host.spool.push.hold() as held:
        assert held
        fifo = host.spool.push.open_fifo()

        def work() -> None:
            if wait_for_poke(fifo, 10):
                host.spool.acknowledge(NAME, version_of(str(host.segment)))

        thread = threading.Thread(target=work)
        thread.start()
        done = host.run("push", f"pg_wal/{NAME}")
        thread.join()
        os.close(fifo)
    assert (done.returncode, host.was_asked()) == (0, False)


def test_a_worker_that_was_killed_holds_nobody_up(host: Host):
    write(os.path.join(host.spool.push.path, "worker.pid"), str(2**22 + 1))
    os.mkfifo(os.path.join(host.spool.push.path, "poke"))
    assert host.run("push", f"pg_wal/{NAME}").returncode == 3
    assert not host.spool.push.has_worker()


def test_a_prefetched_segment_is_handed_over_without_python(host: Host):
    host.prefetched()
    done = host.run("get", NAME, "pg_wal/RECOVERYXLOG")
    assert (done.returncode, done.stderr, host.was_asked()) == (0, "", False)
    assert (host.data / "pg_wal" / "RECOVERYXLOG").read_bytes() == b"fetched"
    assert host.run("get", NAME, "pg_wal/RECOVERYXLOG").returncode == 255  # there is only one


def test_a_prefetched_segment_is_linked_and_its_seal_broken_so_that_the_worker_lets_go_of_it(host: Host):
    path = host.prefetched()
    assert host.run("get", NAME, "pg_wal/RECOVERYXLOG").returncode == 0
    assert os.stat(host.data / "pg_wal" / "RECOVERYXLOG").st_ino == path.stat().st_ino
    assert version_of(str(path)).mtime_ns != version_of(f"{path}.ok").mtime_ns
    assert not take(host.spool, NAME, str(host.data / "pg_wal" / "again"))


def test_where_a_file_is_in_the_way_a_prefetched_segment_replaces_it(host: Host):
    host.prefetched()
    (host.data / "pg_wal" / "RECOVERYXLOG").write_bytes(b"of an earlier call")
    assert host.run("get", NAME, "pg_wal/RECOVERYXLOG").returncode == 0
    assert (host.data / "pg_wal" / "RECOVERYXLOG").read_bytes() == b"fetched"


def test_a_spool_on_another_file_system_still_hands_over_whole_files(host: Host):
    host.prefetched()
    write(os.path.join(host.spool.ready, "far"), "")
    assert host.run("get", NAME, "pg_wal/RECOVERYXLOG").returncode == 0
    assert sorted(os.listdir(host.data / "pg_wal")) == [NAME, "RECOVERYXLOG"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "without seal", "another boot"])
def test_a_prefetched_file_that_is_not_as_it_was_verified_is_not_handed_over(host: Host, damage: str):
    path = host.prefetched()
    before = version_of(str(path)).mtime_ns
    if damage == "truncated":
        os.truncate(path, 3)
    elif damage == "flipped":
        path.write_bytes(b"fetchEd")
    elif damage == "without seal":
        os.unlink(f"{path}.ok")
    else:
        shutil.move(host.spool.ready, str(Path(host.spool.ready).parent.parent / "other-boot"))
    if path.exists() and version_of(str(path)).mtime_ns == before and damage in ("truncated", "flipped"):
        os.utime(path, ns=(before, before + 10_000_000))  # within one tick of the kernel's clock, as no power cut is
    assert host.run("get", NAME, "pg_wal/RECOVERYXLOG").returncode == 255
    assert host.was_asked()


@pytest.mark.parametrize("name", ["00000002.history", f"{NAME}.partial", f"{NAME}.00000028.backup"])
def test_a_history_is_always_asked_for(host: Host, name: str):
    host.prefetched(name)
    host.interpreter(MISSING)
    assert host.run("get", name, "pg_wal/RECOVERYHISTORY").returncode == 1
    assert host.was_asked()


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        (MISSING, 1),
        (1, 255),
        (2, 255),
        (3, 255),
        (125, 255),
        (126, 255),
        (127, 255),
        (137, 255),
        (143, 143),
        (255, 255),
    ],
)
def test_only_a_proven_absence_ends_recovery(host: Host, ended: int, told: int):
    """1 is also how an interpreter ends that cannot import what it needs: that proves nothing."""
    host.interpreter(ended)
    assert host.run("get", NAME, "pg_wal/RECOVERYXLOG").returncode == told


def test_success_without_a_file_is_no_success(host: Host):
    host.interpreter(0)
    assert host.run("get", NAME, "pg_wal/RECOVERYXLOG").returncode == 255
    host.interpreter(0, more="touch pg_wal/RECOVERYXLOG")
    assert host.run("get", NAME, "pg_wal/RECOVERYXLOG").returncode == 0


def test_both_scripts_are_clean_for_shellcheck(tmp_path: Path):
    host = Host(tmp_path)
    scripts = [str(path) for path in host.scripts.values()]
    shellcheck = shutil.which("shellcheck", path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    assert shellcheck, "shellcheck is among the requirements of the tests"
    done = subprocess.run([shellcheck, "-s", "sh", *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", ["relative/x", "/new\nline"])
def test_a_script_holds_absolute_paths_alone(path: str):
    with pytest.raises(BadInput):
        push_script(Place("main", path, "/spool", "/usr/bin/python3", ()))


def test_there_is_one_worker_at_a_time_and_its_end_is_seen(tmp_path: Path):
    desk = Host(tmp_path).spool.push
    assert not desk.has_worker()
    with desk.hold() as first, desk.hold() as second:
        assert (first, second, desk.has_worker()) == (True, False, True)
    assert not desk.has_worker()
    assert not os.path.exists(os.path.join(desk.path, "worker.pid"))


def test_who_asks_whether_there_is_a_worker_keeps_none_from_its_work(tmp_path: Path):
    """Asking takes the lock for a moment, longer on a busy machine: a worker that starts just then does not give up."""
    desk = Desk(str(tmp_path))
    with desk.hold():
        pass  # so that there is a lock to ask of
    asking = os.open(tmp_path / "lock", os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    threading.Timer(0.05, os.close, [asking]).start()
    with desk.hold() as held:
        assert held


def test_a_boot_has_a_name():
    assert boot_id()
    assert boot_id() == boot_id()


def test_control_data_are_read_as_the_server_writes_them(tmp_path: Path):
    host = Host(tmp_path)
    found = control_file(str(host.data))
    assert (found.system_identifier, found.timeline) == (str(SYSTEM), 1)
    path = host.data / "global" / "pg_control"
    path.write_bytes(b"short")
    with pytest.raises(Corrupt):
        control_file(str(host.data))
    path.write_bytes(struct.pack("<QI36xI", SYSTEM, 942, 1))
    with pytest.raises(Corrupt):
        control_file(str(host.data))
    path.unlink()
    with pytest.raises(NotFound):
        control_file(str(host.data))


def test_a_cluster_that_was_replaced_in_its_place_is_another_one(tmp_path: Path):
    host = Host(tmp_path)
    cluster: Cluster = cluster_in(str(host.data))
    assert cluster.is_still_there()
    os.utime(host.data / "PG_VERSION", ns=(1, 1))
    assert not cluster.is_still_there()
    shutil.rmtree(host.data)
    assert not cluster.is_still_there()


def test_work_that_hangs_is_given_up_and_says_so():
    with pytest.raises(Unreachable, match=r"has not ended within 0\.2 s"):
        bounded(threading.Event().wait, timeout_s=0.2, what="Archiving X")


def test_what_bounded_work_returns_or_raises_arrives():
    assert bounded(lambda: {"a": [1, None]}, timeout_s=5, what="It") == {"a": [1, None]}

    def fail() -> None:
        raise Corrupt("It is broken.", hint="Mend it.")

    with pytest.raises(Corrupt, match=r"It is broken\. Mend it\."):
        bounded(fail, timeout_s=5, what="It")
