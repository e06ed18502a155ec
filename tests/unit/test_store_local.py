# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory as a store: the contract of all stores, and what only a file system can do to one."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import (
    Busy,
    Corrupt,
    DbopsError,
    NotFound,
    Refused,
    Unreachable,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store import AlreadyThere, writeback
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store.local import LocalStore
from tests.support.store_contract import StoreContract, content, keys

ENGINE_PARENT = Path(__file__).resolve().parents[2] / "plugins" / "module_utils"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "repository"
    path.mkdir()
    return path


@pytest.fixture
def store(root: Path) -> LocalStore:
    return LocalStore(str(root), name="disk")


@pytest.fixture
def second_store(root: Path) -> LocalStore:
    return LocalStore(str(root), name="disk")


class TestLocalStore(StoreContract):
    pass


def test_a_root_that_is_away_is_never_an_empty_store(tmp_path: Path):
    store = LocalStore(str(tmp_path / "unmounted"))
    for call in (
        lambda: list(store.list("a/")),
        lambda: list(store.children("")),
        lambda: store.get("a"),
        lambda: store.put("a", [b""]),
        lambda: store.delete("a"),
        lambda: store.sweep(""),
        store.free_bytes,
    ):
        with pytest.raises(Unreachable, match="does not exist"):
            call()
    ((_key, error),) = store.read_many(["a/b"])
    assert isinstance(error, Unreachable)
    assert not (tmp_path / "unmounted").exists()


def test_a_directory_that_cannot_be_read_is_never_an_empty_list(store: LocalStore, monkeypatch: pytest.MonkeyPatch):
    store.put("c/holds/x.json", [b""])

    def denied(path: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", denied)
    with pytest.raises(Unreachable, match="Permission denied"):
        list(store.list("c/holds/"))
    with pytest.raises(Unreachable):
        list(store.children("c/"))


def test_what_vanishes_during_a_list_hides_nothing_else(store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch):
    for name in "abc":
        store.put(f"holds/{name}", [b""])
    genuine = os.scandir

    def scandir(directory: int) -> contextlib.nullcontext[list[os.DirEntry[str]]]:
        with genuine(directory) as entries:
            names = list(entries)
        (root / "holds" / "b").unlink(missing_ok=True)  # released between the name and the look at it
        return contextlib.nullcontext(names)

    monkeypatch.setattr(os, "scandir", scandir)
    assert keys(store, "holds/") == ["holds/a", "holds/c"]


@pytest.mark.parametrize("place", ["leaf", "directory"])
def test_a_symbolic_link_is_never_followed(store: LocalStore, root: Path, tmp_path: Path, place: str):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"secret")
    (root / "d").mkdir()
    if place == "leaf":
        (root / "d" / "file").symlink_to(outside / "file")
    else:
        (root / "d" / "sub").symlink_to(outside)
    key = "d/file" if place == "leaf" else "d/sub/file"
    with pytest.raises(Refused, match="symbolic link"):
        store.get(key)
    ((_key, error),) = store.read_many([key])
    assert isinstance(error, Refused)
    assert keys(store) == []
    assert list(store.children("d/")) == []
    if place == "directory":
        with pytest.raises(Refused, match="symbolic link"):
            store.put(key, [b"overwritten"])
        with pytest.raises(DbopsError):
            store.delete(key)
    assert (outside / "file").read_bytes() == b"secret"


def test_what_is_no_file_is_corrupt_and_does_not_block(store: LocalStore, root: Path):
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    (root / "folder" / "x").mkdir()
    with pytest.raises(Corrupt, match="not a file"):
        store.get("pipe")
    ((_key, error),) = store.read_many(["pipe"])
    assert isinstance(error, Corrupt)
    ((_key, error),) = store.read_many(["folder/x"])
    assert isinstance(error, Corrupt)


def test_a_killed_put_leaves_a_part_that_sweep_removes(store: LocalStore, root: Path):
    script = (
        "import os, signal\n"
        "from dbops.store.local import LocalStore\n"
        "def chunks():\n"
        "    yield b'x' * 100\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"LocalStore({str(root)!r}).put('c/backups/l/base.tar', chunks())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ENGINE_PARENT)}, check=False
    )
    assert done.returncode == -9
    assert len(list(root.rglob(".part-*"))) == 1
    assert keys(store) == []
    assert store.sweep("c/backups/l/") == 1
    assert list(root.rglob("*")) == []


def test_a_lock_goes_with_the_process_however_it_ends(store: LocalStore, root: Path):
    script = (
        "import sys, time\n"
        "from dbops.store.local import LocalStore\n"
        f"with LocalStore({str(root)!r}).lock('c/backup'):\n"
        "    sys.stdout.write('held\\n'); sys.stdout.flush(); time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ENGINE_PARENT)}, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Busy, match=f"process {holder.pid} on "), store.lock("c/backup"):
            pytest.fail("two hold it")
        holder.kill()
    with store.lock("c/backup"):
        pass


def test_a_put_survives_a_neighbour_that_prunes_the_directory(store: LocalStore):
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            store.put("holds/other", [b""])
            store.delete("holds/other")

    neighbour = threading.Thread(target=churn)
    neighbour.start()
    try:
        for number in range(150):
            store.put("holds/mine", [b"%d" % number])
            assert content(store, "holds/mine") == b"%d" % number
            store.delete("holds/mine")
    finally:
        stop.set()
        neighbour.join()


def test_a_full_disk_is_unreachable_with_advice_and_leaves_nothing(store: LocalStore, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(Unreachable, match="No space left") as caught:
        store.put("c/a", [b"x"])
    assert "expire" in caught.value.hint
    assert keys(store) == []


def test_what_could_not_be_made_durable_is_not_left_visible(store: LocalStore, monkeypatch: pytest.MonkeyPatch):
    store.put("c/other", [b""])
    genuine = os.fsync
    calls: list[int] = []

    def second_fails(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:  # the directory's
            raise OSError(5, "Input/output error")
        genuine(descriptor)

    monkeypatch.setattr("os.fsync", second_fails)
    with pytest.raises(Unreachable, match="Input/output error"):
        store.put("c/backup.json", [b"x"], if_absent=True)
    assert len(calls) == 2
    assert keys(store) == ["c/other"]


def test_the_disk_works_while_a_long_stream_still_runs(store: LocalStore, monkeypatch: pytest.MonkeyPatch):
    """Each range goes on where the last one ended, holds only what is written, and the kernel takes the call."""
    genuine = writeback._sync_file_range
    ranges: list[tuple[int, int]] = []

    def recorded(descriptor: int, offset: int, size: int, flags: int) -> int:
        assert offset + size <= os.fstat(descriptor).st_size
        ranges.append((offset, size))
        assert genuine(descriptor, offset, size, flags) == 0
        return 0

    monkeypatch.setattr(writeback, "_sync_file_range", recorded)
    store.put("c/base.tar", [bytes(3 << 20)] * 9)
    assert ranges == [(0, 9 << 20), (9 << 20, 9 << 20), (18 << 20, 9 << 20)]


def test_a_kernel_that_cannot_start_early_writes_all_the_same(store: LocalStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writeback, "_sync_file_range", None)
    assert store.put("c/base.tar", [bytes(3 << 20)] * 9).size_bytes == 27 << 20


def test_what_another_writer_may_have_relied_on_is_not_taken_back(store: LocalStore, monkeypatch: pytest.MonkeyPatch):
    """The other one found it, made it durable and acknowledged it; then our own fsync of the directory fails."""
    store.put("c/other", [b""])
    genuine = os.fsync
    calls: list[int] = []

    def second_fails(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:  # the directory's
            raise OSError(5, "Input/output error")
        genuine(descriptor)

    monkeypatch.setattr("os.fsync", second_fails)
    with pytest.raises(Unreachable, match="Input/output error"):
        store.put("c/segment", [b"x"], if_absent=True, relied_on=True)
    assert content(store, "c/segment") == b"x"


def test_a_lost_answer_to_a_link_is_not_another_writer(store: LocalStore, monkeypatch: pytest.MonkeyPatch):
    genuine = os.link

    def linked_twice(*names: object, **descriptors: object) -> None:
        genuine(*names, **descriptors)  # type: ignore[arg-type]
        genuine(*names, **descriptors)  # type: ignore[arg-type]  # what NFS does when the first answer is lost

    monkeypatch.setattr("os.link", linked_twice)
    store.put("a", [b"x"], if_absent=True)
    with pytest.raises(AlreadyThere):
        store.put("a", [b"y"], if_absent=True)
    assert content(store, "a") == b"x"


@pytest.mark.parametrize("existing", [True, False])
def test_a_place_that_cannot_be_written_can_still_be_read_under_a_shared_lock(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
):
    if existing:
        with store.lock("c/content"):
            pass
    genuine = os.open

    def read_only(path: str, flags: int, *rest: object, **more: object) -> int:
        if flags & (os.O_CREAT | os.O_RDWR | os.O_WRONLY):
            raise OSError(30, "Read-only file system")
        return genuine(path, flags, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("os.open", read_only)
    with store.lock("c/content", shared=True):
        pass
    with pytest.raises(Unreachable, match="Read-only"), store.lock("c/content"):
        pytest.fail("an exclusive lock needs to write")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_what_root_writes_belongs_to_whom_the_directory_belongs(store: LocalStore, root: Path):
    os.chown(root, 65534, 65534)
    store.put("c/backups/l/a", [b"x"])
    with store.lock("c/backup"):
        pass
    assert {(path.stat().st_uid, path.stat().st_gid) for path in root.rglob("*")} == {(65534, 65534)}
    assert all(path.stat().st_mode & 0o007 == 0 for path in root.rglob("*"))


def test_nothing_is_kept_open(store: LocalStore):
    store.put("a/b", [b"x"])
    gc.collect()  # what other tests have left open
    before = len(os.listdir("/proc/self/fd"))
    for _number in range(20):
        store.get("a/b")  # and never read
        list(store.read_many(["a/b", "a/c", "x/y"]))
        with pytest.raises(NotFound):
            store.get("a/c")
        with pytest.raises(AlreadyThere):
            store.put("a/b", [b""], if_absent=True)
    assert len(os.listdir("/proc/self/fd")) <= before
