# SPDX-License-Identifier: GPL-3.0-or-later
"""What the running get worker proves missing, no interpreter is started for; whatever else there is, one is.

No server runs here: a stopped one's last segment is archived, and the scripts are called as a recovery would call them.
A script whose interpreter cannot start tells who has answered: 1 is the word of the worker, and all else ends in 255.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal.scripts import Place, get_script
from tests.support.archiving import Archiving, Called
from tests.support.servers import Templates, installations, wait_until

ABSENT, HISTORY = "0000000100000009000000AA", "00000002.history"


class Recovery:
    """A worker that has fetched one segment from one of two repositories, and lingers."""

    def __init__(self, templates: Templates, place: Path) -> None:
        server = templates.server(installations()[-1], place / "pg")
        self.archiving = Archiving(
            server, place / "arch", {"a": place / "a", "b": place / "b"}, options={"linger_s": 60}
        )
        self.segment = min(path.name for path in (server.data / "pg_wal").iterdir() if len(path.name) == 24)
        assert self.archiving.push(f"pg_wal/{self.segment}").code == 0
        self.kill_workers()
        self.to = self.archiving.base / "fetched"
        place_of = Place("main", str(self.archiving.config), str(self.archiving.spool), "/bin/false", ("/nowhere",))
        self.without_python = self.archiving.base / "get-without-python"
        self.without_python.write_text(get_script(place_of))
        self.without_python.chmod(0o755)
        self.begin()

    def begin(self) -> None:
        """What was found starts the worker."""
        assert self.archiving.get(self.segment, self.to).code == 0

    def worker(self) -> int:
        """The one that is left, once the command that started it has ended."""
        wait_until(lambda: len(self.archiving.workers()) == 1, "there is one worker")
        return self.archiving.workers()[0]

    def by_worker(self, name: str) -> Called:
        return self.archiving.call([self.without_python, name, self.to], None)

    def questions(self) -> list[Path]:
        return list(self.archiving.spool.glob("get/*/*/*-*"))

    def kill_workers(self) -> None:
        for pid in self.archiving.workers():
            os.kill(pid, signal.SIGKILL)
        self.archiving.rest()


@pytest.fixture
def recovery(templates: Templates, place: Path) -> Recovery:
    return Recovery(templates, place)


def test_the_worker_calls_missing_what_every_repository_lacks_after_it_was_asked(recovery: Recovery, place: Path):
    for name in (ABSENT, HISTORY, "00000003.history"):
        assert (recovery.by_worker(name).code, recovery.by_worker(name).lines) == (1, ()), name
    assert recovery.questions() == []
    repository = recovery.archiving.repositories["b"]
    aside = repository.rename(place / "aside")
    assert recovery.by_worker(ABSENT).code == recovery.by_worker(HISTORY).code == 255
    repository.mkdir(mode=0o755)  # a mount point without its disk
    assert recovery.by_worker(ABSENT).code == recovery.by_worker(HISTORY).code == 255
    repository.rmdir()
    aside.rename(repository)
    assert recovery.by_worker(ABSENT).code == recovery.by_worker(HISTORY).code == 1
    assert not recovery.to.with_name("fetched.dbops").exists()


def test_what_is_there_or_was_there_is_left_to_the_interpreter(recovery: Recovery):
    stored = recovery.archiving.wait_until_stored(recovery.segment, "b")
    later = stored.name.replace(recovery.segment, ABSENT, 1)
    (stored.parent / later).write_bytes(stored.read_bytes())  # a name that the worker does not fetch ahead
    shelf = stored.parent.parent / ABSENT[:16]
    shelf.mkdir(mode=0o755)
    (stored.parent / later).rename(shelf / later)
    assert recovery.by_worker(ABSENT).code == 255
    orphan = stored.parent.parent / f"00000002{ABSENT[8:16]}"
    orphan.mkdir(mode=0o755)
    (orphan / stored.name.replace(recovery.segment, f"00000002{ABSENT[8:]}", 1)).touch(mode=0o644)
    assert recovery.by_worker(HISTORY).code == 255, "a timeline with segments has lost its history"
    assert "is lost" in recovery.archiving.get(HISTORY, recovery.to).lines[0]


def test_other_settings_or_another_start_of_the_server_end_the_worker_that_does_not_know_of_them(recovery: Recovery):
    archiving = recovery.archiving
    assert recovery.by_worker(ABSENT).code == 1
    archiving.repositories["c"] = archiving.base / "c"
    archiving.write_config()
    assert recovery.by_worker(ABSENT).code == 255, "the worker has never heard of c"
    assert archiving.get(ABSENT, recovery.to).code == 255, "c is not there"
    del archiving.repositories["c"]
    archiving.write_config()
    archiving.rest()
    recovery.begin()
    assert recovery.by_worker(ABSENT).code == 1
    (archiving.server.data / "postmaster.pid").write_text(f"4711\n{archiving.server.data}\n1800000000\n")
    assert recovery.by_worker(ABSENT).code == 255
    archiving.rest()


def test_a_worker_that_dies_or_hangs_over_a_question_costs_time_and_nothing_else(recovery: Recovery):
    archiving = recovery.archiving
    for script, proven in ((recovery.without_python, 255), (archiving.get_script, 1)):
        worker = recovery.worker()
        os.kill(worker, signal.SIGSTOP)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(archiving.call, [script, ABSENT, recovery.to], None)
            wait_until(recovery.questions, "it is asked")
            os.kill(worker, signal.SIGKILL)
            assert asked.result().code == proven
        archiving.rest()
        assert recovery.by_worker(ABSENT).code == 255, "nobody is there to ask"
        recovery.begin()
    worker = recovery.worker()
    os.kill(worker, signal.SIGSTOP)
    begun = time.monotonic()
    assert archiving.get(HISTORY, recovery.to).code == 1
    assert time.monotonic() - begun < 20
    assert recovery.questions() == []
    os.kill(worker, signal.SIGKILL)


def test_a_spool_that_is_lost_or_full_of_others_files_leaves_the_question_to_the_interpreter(recovery: Recovery):
    ready = next(recovery.archiving.spool.glob("get/*/*"))
    shutil.rmtree(ready)
    assert recovery.by_worker(ABSENT).code == 255
    ready.mkdir(mode=0o500)  # the script cannot write there, whoever it runs as
    assert recovery.by_worker(ABSENT).code == 255
    assert recovery.archiving.get(ABSENT, recovery.to).code == 1
