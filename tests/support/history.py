# SPDX-License-Identifier: GPL-3.0-or-later
"""Weeks of backups in minutes: a real server and the real command, both under a clock that is moved forward.

Nothing is made up: each backup, segment, proof and restore point was made by the program that makes them in earnest,
and believes that it is then. libfaketime reads the difference to the true time from a file, each process once a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from tests.support.archiving import Archiving, wait_until
from tests.support.servers import PgServer
from tests.support.wal_faults import FAKETIME

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
EVIL = "<script>alert(1)</script>"  # somebody's database


class Clock:
    """What is started within `running()` lives `ago` before now, until `set` moves it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set(datetime.now(timezone.utc))

    def set(self, moment: datetime) -> None:
        """Whole at any moment: every process of the server reads it all the time."""
        temporary = self._path.with_suffix(".new")
        temporary.write_text(f"{moment.timestamp() - time.time():+.3f}\n")
        temporary.chmod(0o644)
        temporary.replace(self._path)

    @contextlib.contextmanager
    def running(self) -> Iterator[Clock]:
        library = next((path for path in FAKETIME if path.exists()), None)
        assert library is not None, "libfaketime is missing. Next: install faketime, or run .ci/run packages."
        names = _shared_by_all()
        values = {
            "LD_PRELOAD": str(library), "FAKETIME_SHARED": " ".join(names),
            "FAKETIME_TIMESTAMP_FILE": str(self._path), "FAKETIME_CACHE_DURATION": "1",
            "NO_FAKE_STAT": "1",
        }  # fmt: skip
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        try:
            yield self
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
            for path in (f"/dev/shm/sem.{names[0][1:]}", f"/dev/shm/{names[1][1:]}"):
                Path(path).unlink(missing_ok=True)


def _shared_by_all() -> tuple[str, str]:
    """Semaphore and memory for all processes and users, as the program faketime makes them for its children.

    Left to itself each process makes its own, named by its number, and what a killed one left locks another user out.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sem_open.restype = ctypes.c_void_p
    names = (f"/dbops_faketime_sem_{os.getpid()}", f"/dbops_faketime_shm_{os.getpid()}")
    mask = os.umask(0)
    try:
        assert libc.sem_open(names[0].encode(), os.O_CREAT | os.O_EXCL, 0o666, 1), os.strerror(ctypes.get_errno())
        # two counters, then instants whose nanoseconds of -1 say that nobody has begun yet
        memory = struct.pack("<QQ", 0, 0) + struct.pack("<qq", 0, -1) * 8
        with open(f"/dev/shm{names[1]}", "xb") as stream:
            stream.write(memory.ljust(4096, b"\0"))
    finally:
        os.umask(mask)
    return names


@dataclass
class History:
    """A server with two repositories, `disk` and the optional `vault`. Make it, and use it, while the clock runs."""

    server: PgServer
    place: Path
    clock: Clock
    policy: dict[str, Any] = field(default_factory=dict)
    cluster: str = "main"

    def __post_init__(self) -> None:
        directories = {name: self.place / name for name in ("disk", "vault")}
        self.archiving = Archiving(self.server, self.place / "arc", directories, optional=("vault",))
        self.archiving.switch_on()
        # Each leap of the clock would make it due, and what it commits then, sooner or later, nobody here could tell.
        self.server.settings["autovacuum"] = "off"
        self.server.start()
        keep = {"keep_within": "28d", "weekly": 7, "min_redundancy": 2}
        mapping = self.server.engine_mapping(
            None,
            repositories=[
                {"name": "disk", "path": str(directories["disk"]), "retention": keep},
                {"name": "vault", "path": str(directories["vault"]), "required": False},
            ],
            archiving={"codec": self.archiving.codec, "spool_path": str(self.archiving.spool), "linger_s": 1},
            health={"min_size_bytes": 1000, "min_free_percent": 0, **self.policy},
        )
        self.config = self.place / "main.json"
        self.config.write_text(json.dumps(mapping))
        self.server.psql(f'create database "{EVIL}";')
        self.server.psql(
            "create table rides (id bigint generated always as identity, at timestamptz, note text)", "shop"
        )

    def dbops(self, *words: str, codes: tuple[int, ...] = (0,)) -> dict[str, Any]:
        """The command as an operator gives it; its result."""
        line = [sys.executable, "-m", "dbops", "--config", str(self.config), "--output", "json", "--quiet", *words]
        environment = {**os.environ, "PYTHONPATH": str(self.place / "arc" / "lib")}
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode in codes, f"{' '.join(words)}: {done.returncode} {done.stdout[-2000:]} {done.stderr}"
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def at(self, moment: datetime) -> None:
        """From here on it is then: the server, too, has looked at its clock."""
        self.clock.set(moment)
        clock = "select extract(epoch from clock_timestamp())::float8"
        wait_until(lambda: abs(self.server.value(clock) - moment.timestamp()) < 60, "the server's clock has moved")

    def work(self, moment: datetime, rows: int) -> str:
        """Commit some rows then, and archive the segment that holds them; its name."""
        self.at(moment)
        self.server.psql(
            "insert into rides (at, note) select now(), md5(n::text) || md5((n * 7)::text) "
            f"from generate_series(1, {rows}) n",
            database="shop",
        )
        name = self.archiving.switch_wal()
        self.archiving.wait_until_stored(name, "disk")
        return name

    def backup(self, moment: datetime, *words: str) -> str:
        self.at(moment)
        return str(self.dbops("backup", *words)["backup"]["label"])

    def verify(self, moment: datetime, *words: str, codes: tuple[int, ...] = (0,)) -> str:
        self.at(moment)
        return str(self.dbops("verify", *words, codes=codes)["verification"]["verdict"])

    def point(self, moment: datetime, name: str) -> None:
        self.at(moment)
        self.dbops("restore-point", name)

    def lose(self, segment: str) -> None:
        """As somebody does who tidies up. Not before the server itself has let go of it: it would archive it again."""
        done = f"select coalesce(last_archived_wal >= '{segment}', false) from pg_stat_archiver"
        wait_until(lambda: self.server.value(done), f"{segment} is archived for the server")
        self.settled(segment)
        for repository in ("disk", "vault"):
            path = self.archiving.stored(segment, repository)
            if path is not None:
                path.unlink()

    def settled(self, segment: str) -> None:
        """The optional repository has it too."""
        wait_until(lambda: self.archiving.stored(segment, "vault"), f"{segment} is in the vault", limit_s=60)
