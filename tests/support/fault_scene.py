# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that archives while a canary writes and faults strike, and the proof afterwards: restored to the end."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore import physical
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore.target import Target, parse
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings
from localpg.osuser import ProgramFailed
from tests.support.archiving import Archiving
from tests.support.canary import QUERY, TABLE, Branch, Canary, Ledger, Row
from tests.support.physical import taken
from tests.support.recovering import Side
from tests.support.servers import Installation, PgServer, copy_tree, free_port, kill_below

SEGMENT = 1 << 20  # the smallest that PostgreSQL has: many segments, little data
SERVER = {
    "autovacuum": "off", "max_wal_size": "64MB", "min_wal_size": "16MB", "checkpoint_timeout": "1h",
    "wal_retrieve_retry_interval": "100ms", "shared_buffers": "4MB", "max_connections": "20",
    "log_min_messages": "log",
}  # fmt: skip


def cluster_template(installation: Installation, base: Path) -> PgServer:
    """A small cluster with segments of 1 MiB and the canary's table, stopped; made once for many scenes."""
    server = PgServer(installation, base, settings=dict(SERVER))
    server.create(locale=("--no-locale", "--wal-segsize=1"))
    server.start()
    server.sql(TABLE)
    server.stop()
    return server


@dataclass
class Scene:
    """`disk` holds the repository: a file system of its own where we may mount one (`can_mount`)."""

    template: PgServer
    place: Path
    chance: random.Random
    can_mount: bool
    ledger: Ledger = field(default_factory=Ledger)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.place.mkdir(mode=0o755)
        self.server = PgServer(self.template.installation, self.place / "pg", settings=dict(SERVER))
        self.server.make_directories()
        copy_tree(self.template.data, self.server.data)
        user = self.server.os_user
        self.disk = user.own_directory(self.place / "disk", 0o750)
        self.repository = self.place / "repository"
        if self.can_mount:
            options = f"size=1g,uid={user.uid},gid={user.gid},mode=0750"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", self.disk], check=True)
            user.own_directory(self.repository, 0o755)
            self.attach()
        else:
            self.repository.symlink_to(self.disk)
        self.archiving = Archiving(
            self.server, self.place / "arc", {"a": self.repository}, data_directory=self.server.data,
            options={"linger_s": 5, "timeout_s": 3, "get_retry_s": 1, "workers": 2},
        )  # fmt: skip
        self.archiving.switch_on()
        self.server.start()
        self.settings: Settings = self.server.engine_settings(
            None,
            repositories=[{"name": "a", "path": str(self.repository)}],
            archiving={"codec": self.archiving.codec, "get_retry_s": 1, "timeout_s": 3, "linger_s": 1},
        )
        self.label = taken(self.settings).label
        self.base = self.place / "base"
        self._base_copy(self.base)
        self.canary = Canary(self.server, self.ledger, self.chance)
        self.canary.resume()

    def close(self) -> None:
        self.canary.end()
        self.server.stop("immediate")
        for pid in self.archiving.workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.can_mount:
            for path in (self.repository, self.disk):
                subprocess.run(["umount", "--lazy", path], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.place, ignore_errors=True)

    # -- the repository's disk

    def attach(self) -> None:
        subprocess.run(["mount", "--bind", self.disk, self.repository], check=True)

    def detach(self) -> None:
        """As after a reboot without its mount: the directory is there and empty."""
        subprocess.run(["umount", "--lazy", self.repository], check=True)

    def segments(self) -> list[Path]:
        """The archived segments' objects, oldest first; asked of the disk itself, whatever happened to the mount."""
        found = [path for path in self.disk.glob("main/wal/*/*/*") if len(path.name.split(".")[0]) == 24]
        return sorted(path for path in found if path.name.count(".") == 1 and not path.name.startswith("."))

    # -- the server

    def busy(self, rows: int = 15) -> str:
        """Let the canary write, and finish the segment."""
        self.canary.wait_for(rows)
        return self.archiving.switch_wal()

    def random_moment(self, longest_s: float = 0.25) -> None:
        """Not a wait for anything: the fault is to strike at any point of what goes on."""
        time.sleep(self.chance.random() * longest_s)

    def settle(self, limit_s: float = 180) -> None:
        """Everything is well again: all that was acknowledged by now gets into the archive."""
        self.canary.resume()
        self.canary.wait_for(3)
        self.canary.pause()
        last = self.archiving.switch_wal()
        status = self.server.data / "pg_wal" / "archive_status"
        woken = time.monotonic()
        until = woken + limit_s
        while list(status.glob("*.ready")) or not (status / f"{last}.done").exists():
            if time.monotonic() > until:
                waiting = sorted(path.name for path in status.glob("*.ready"))
                raise AssertionError(f"not archived: {waiting}\n{self.server.log_tail(30)}")
            if time.monotonic() - woken > 0.4:  # after three failures the archiver sleeps for a minute
                self.server.sql("select pg_reload_conf()")
                woken = time.monotonic()
            time.sleep(0.02)

    def restart(self, mode: str) -> None:
        self.server.stop(mode)
        self.server.start()

    # -- proofs

    def prove(self, *, with_engine: bool = False) -> None:
        """Restore to the end of everything archived: exactly the rows that the newest timeline must hold."""
        if with_engine:
            self.recover_beside(parse({"latest": True}), self.ledger.now)
            return
        with self.recovering() as other:
            other.begin()
            other.wait_until_recovered()
            self.ledger.check(other.sql(QUERY), self.ledger.now)

    @contextlib.contextmanager
    def recovering(self) -> Iterator[PgServer]:
        """A server over a copy of the base, not started, that will ask the archive for everything."""
        number = next(self._numbers, 0)  # it never ends
        data = self.place / f"copy{number}"
        copy_tree(self.base, data)
        (data / "recovery.signal").touch()
        other = self.server.over(data, self.place / f"r{number}")
        other.settings.update(archive_mode="off", restore_command=self.restore_command(data), archive_command="")
        try:
            yield other
        finally:
            kill_below(data)
            for path in (data, other.base):
                shutil.rmtree(path, ignore_errors=True)

    def restore_command(self, data: Path) -> str:
        del data
        return f"{self.archiving.get_script} %f %p"

    def recover_beside(self, target: Target, branch: Branch, *, until: Row | None = None) -> dict[str, Any]:
        """Plan and run as an operator would; the rows are those of the target, and it says that it was reached."""
        number = next(self._numbers)
        request = physical.Request(
            recovery=target, side=True, target=str(self.place / f"side{number}"), port=free_port()
        )
        plan = physical.plan(self.settings, request)
        result = physical.run(plan, Silent())["restore"]
        side = Side(self.server, Path(plan.data.path), result)
        try:
            assert side.recovery["target_reached"], side.recovery
            self.ledger.check(side.sql(QUERY), branch, until=until)
        finally:
            side.stop()
            shutil.rmtree(side.data, ignore_errors=True)
        return dict(side.recovery)

    def recover_in_place(self, target: Target, branch: Branch, *, until: Row | None = None) -> None:
        """The server itself goes back to that point; from there on it writes on a new timeline."""
        request = physical.Request(recovery=target, in_place=True, stop=True, start=True)
        self.canary.pause()
        result = physical.run(physical.plan(self.settings, request), Silent())["restore"]
        recovery = result["recovery"]
        assert (recovery["state"], recovery["target_reached"]) == ("promoted", True), recovery
        self.ledger.check(self.server.sql(QUERY), branch, until=until)
        after = until.number if until else self.ledger.numbers
        self.ledger.fork(recovery["timeline"], parent=branch, after=after)
        for old in self.server.base.glob("data.before-*"):
            shutil.rmtree(old)
        self.restart("fast")  # with its own log again
        self.canary.resume()

    def some_row(self, branch: Branch) -> Row:
        """A row of the branch whose place is known, that is not its last one, and that lies after the base backup."""
        rows = [row for row in branch.rows if row.lsn is not None]
        return self.chance.choice(rows[: max(1, len(rows) - 2)])

    def _base_copy(self, target: Path) -> None:
        self.server.os_user.own_directory(target)
        self.server.run("pg_basebackup", "-h", self.server.sockets, "-p", str(self.server.port), "-U", "postgres",
                        "-D", target, "-X", "none", "-c", "fast", "--no-sync")  # fmt: skip


__all__ = ["ProgramFailed", "Scene", "cluster_template"]
