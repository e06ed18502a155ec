#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Seed data: rows per second until every index and key is there, against a row-by-row PL/pgSQL loop in the same run.

    bench/seed.py                           heavy at scale 20: 100 000 rides
    bench/seed.py --scale 2000 --rounds 1 --loop 0 --verify --steps 30      ten million rides, in one command

The server is a throwaway one with a developer's settings: fsync on, 1 GB of shared buffers, WAL as it is by default.
`CPU` is that of the server and of this process: on a machine that is not quiet, it tells more than the clock.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import resource
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "plugins" / "module_utils"), str(ROOT / "scripts")]

from dbops.progress import Silent, Step
from dbops.seed import profile, run
from dbops.settings import from_mapping

from localpg.installations import installations
from localpg.processes import working_below
from localpg.server import SUPERUSER, LocalServer

EXAMPLE = ROOT / "examples" / "ridehailing"
ANCHOR = "2026-11-20T12:00:00Z"
SETTINGS = {"fsync": "on", "shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min"}
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
LOOK_S, TELL_S = 0.5, 30.0
BUSY = "select query from pg_stat_activity where datname = %s and backend_type = 'client backend' and state = 'active'"
SIZE = "select pg_database_size(%s)"

# What seed scripts usually are: one row at a time, its rider and its driver picked by lot.
LOOP = """
do $$
declare rider uuid; driver uuid; requested timestamptz;
begin
    for i in 1..{rows} loop
        select id into rider from users where role = 'rider' order by random() limit 1;
        select id into driver from users where role = 'driver' order by random() limit 1;
        requested := now() - random() * interval '60 days';
        insert into rides (rider_id, driver_id, status, pickup_latitude, pickup_longitude, pickup_address,
            dropoff_latitude, dropoff_longitude, dropoff_address, estimated_distance, estimated_duration,
            estimated_fare, ride_type_id, currency, pricing_version_id, requested_at, accepted_at, started_at,
            completed_at, created_at,
            actual_distance, actual_duration, final_fare)
        values (rider, driver, 'completed', 37.7 + random() * 0.2, -122.5 + random() * 0.2, 'Market St',
            37.7 + random() * 0.2, -122.5 + random() * 0.2, 'Mission St', 1 + random() * 10, 20, 25, 1, 'USD', 1,
            requested, requested + interval '1 minute', requested + interval '6 minutes',
            requested + interval '20 minutes', requested, 5, 14, 25);
    end loop;
end $$
"""


@dataclass
class Stopwatch(Silent):
    """How long each kind of step took, by the clock and in CPU."""

    server: LocalServer
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    newest: str = ""
    _phase: str = ""
    _since: tuple[float, float] = (0.0, 0.0)

    def report(self, step: Step) -> None:
        self.newest = step.phase if step.percent is None else f"{step.phase} at {step.percent:.0f} %"
        phase = step.phase.split()[0].rstrip(":")
        if phase != self._phase:
            self.lap()
            self._phase = phase

    def lap(self) -> None:
        now = time.monotonic(), cpu_s(self.server)
        if self._phase:
            self.seconds[self._phase] = now[0] - self._since[0]
            self.cpu[self._phase] = now[1] - self._since[1]
        self._since = now


class Watch(threading.Thread):
    """Looks twice a second: what the sessions do, and the memory that one of them has to itself (no shared buffers).

    What was seen twice as often took twice as long: seconds of each kind of statement, the proof's included.
    """

    def __init__(self, server: LocalServer, database: str, stopwatch: Stopwatch) -> None:
        super().__init__(daemon=True)
        self.server, self.database, self.stopwatch = server, database, stopwatch
        self.largest_bytes, self.over = 0, threading.Event()
        self.seconds: Counter[str] = Counter()

    def run(self) -> None:
        began = told = then = time.monotonic()
        with self.server.connection() as connection, connection.cursor() as cursor:
            while not self.over.wait(LOOK_S):
                self._remember_memory()
                cursor.execute(BUSY, (self.database,))
                now, doing = time.monotonic(), [named(query) for (query,) in cursor.fetchall()]
                self.seconds.update({it: doing.count(it) * (now - then) for it in set(doing)})
                then = now
                if now - told >= TELL_S:
                    told = now
                    size = self.server.value(SIZE, (self.database,))
                    print(
                        f"  {now - began:6.0f} s, {size / (1 << 20):7,.0f} MiB, {self.stopwatch.newest}; "
                        f"at work: {' | '.join(doing)}",
                        flush=True,
                    )

    def _remember_memory(self) -> None:
        for pid in working_below(self.server.data):
            with contextlib.suppress(OSError):
                _size, resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[:3]
                self.largest_bytes = max(self.largest_bytes, (int(resident) - int(shared)) * PAGE)

    def table(self, rows: int) -> str:
        """The kinds of statements that took longest, in seconds of a session."""
        return "\n".join(f"  {seconds:8.1f} s  {what}" for what, seconds in self.seconds.most_common(rows))


def named(query: str) -> str:
    """A statement in a few words: the table that it fills, the definition that it makes, the promise that it proves."""
    plain = " ".join(query.replace('"', "").split())
    if " from (select " in plain[:90] and plain.startswith("select count(*) over ()"):
        return f"prove: {plain.partition(' from (')[2][:80]}"
    if "hashtextextended(t::text" in plain[:80]:
        return f"hash {plain.partition(' from ')[2].split()[0]}"
    match = re.match(r"insert into [\w.]+|(create|alter) .{0,80}|analyze .*", plain)
    return match.group() if match else plain[:80]


def main() -> None:
    arguments = parsed()
    base = Path(tempfile.mkdtemp(prefix="seed-", dir=arguments.directory))
    base.chmod(0o755)
    installation = {it.major: it for it in installations()}[arguments.major]
    server = LocalServer(installation, base / "pg", settings=SETTINGS)
    try:
        server.create()
        server.start()
        contend(server, arguments)
    finally:
        server.stop("immediate")
        shutil.rmtree(base)


def contend(server: LocalServer, arguments: argparse.Namespace) -> None:
    heavy = profile.load(str(EXAMPLE / "seed" / "heavy.yml"))
    server.sql("create database empty_city")
    migrate(server, "empty_city")
    server.sql("vacuum analyze", database="empty_city")
    rates, loops = [], []
    for number in range(arguments.rounds):
        database = f"city{number}"
        server.sql(f"create database {database} template empty_city")
        rates.append(seed(server, heavy, database, arguments))
        server.sql(f"drop database {database}")
        if arguments.loop:
            loops.append(loop(server, heavy, f"loop{number}", arguments.loop))
    print(f"median: {statistics.median(rates):,.0f} rows/s with indexes and keys")
    if loops:
        print(
            f"median: {statistics.median(loops):,.0f} rows/s of the loop; "
            f"{statistics.median(rates) / statistics.median(loops):.1f} times"
        )


def seed(server: LocalServer, heavy: profile.Profile, database: str, arguments: argparse.Namespace) -> float:
    stopwatch = Stopwatch(server)
    watch = Watch(server, database, stopwatch)
    watch.start()
    began = time.monotonic()
    try:
        result = run.seed(
            settings(server),
            heavy,
            stopwatch,
            database=database,
            scale=arguments.scale,
            anchor=ANCHOR,
            workers=arguments.workers,
            allow=database,
        )
        stopwatch.lap()
        whole = time.monotonic() - began
        rows, took, cpu = sum(result["rows"].values()), stopwatch.seconds, stopwatch.cpu
        size = server.value(SIZE, (database,))
        print(
            f"PostgreSQL {arguments.major}, scale {arguments.scale}, {arguments.workers} workers: {rows:,} rows, "
            f"{result['rows']['rides']:,} rides, {size / (1 << 20):,.0f} MiB\n"
            f"  loaded, indexed, validated in {took['seed']:.1f} s (CPU {cpu['seed']:.1f} s): "
            f"{rows / took['seed']:,.0f} rows/s\n"
            f"  all together {whole:.1f} s; "
            f"of it the trial at scale 1 {took.get('try', 0.0):.1f} s, the proof {took['prove']:.1f} s",
            flush=True,
        )
        if arguments.verify:
            prove_again(server, heavy, database, result["hashes"])
    finally:  # also of a run that was broken off
        watch.over.set()
        watch.join()
        print(
            f"  memory: {watch.largest_bytes >> 20} MiB of one session, "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB here\n{watch.table(arguments.steps)}",
            flush=True,
        )
    return rows / took["seed"]


def prove_again(server: LocalServer, heavy: profile.Profile, database: str, hashes: dict[str, str]) -> None:
    """What `dbops seed verify` does, in one session."""
    began = time.monotonic()
    again = run.verify(settings(server), heavy, database=database)
    if again["hashes"] != hashes:
        raise SystemExit("The rows are not those that were loaded.")
    print(f"  verified once more in {time.monotonic() - began:.1f} s: {again['msg']}", flush=True)


def loop(server: LocalServer, heavy: profile.Profile, database: str, rows: int) -> float:
    """Into the same schema, among heavy's own people, with everything in place as an application has it."""
    server.sql(f"create database {database} template empty_city")

    run.seed(settings(server), heavy, Silent(), database=database, anchor=ANCHOR)
    began = time.monotonic()
    server.sql(LOOP.format(rows=rows), database=database)
    rate = rows / (time.monotonic() - began)
    server.sql(f"drop database {database}")
    print(f"  row by row, {rows:,} rides: {rate:,.0f} rows/s", flush=True)
    return rate


def migrate(server: LocalServer, database: str) -> None:
    files = sorted((EXAMPLE / "migrations").glob("*.up.sql"))
    for path in files:
        text = path.read_text(encoding="utf-8")
        server.psql(text if "concurrently" in text else f"begin;\n{text}\ncommit;", database)
    server.psql(
        "create table schema_migrations (version bigint primary key, dirty boolean not null);"
        f"insert into schema_migrations values ({int(files[-1].name[:6])}, false)",
        database,
    )


def settings(server: LocalServer) -> Any:
    return from_mapping(
        {
            "cluster": "bench",
            "connection": {
                "login_unix_socket": str(server.sockets),
                "login_port": server.port,
                "login_user": SUPERUSER,
            },
            "host": {"os_user": server.os_user.name, "data_directory": str(server.data)},
        }
    )


def cpu_s(server: LocalServer) -> float:
    """Of the postmaster, of its children that have ended or are about to, and of this process."""
    postmaster = (server.data / "postmaster.pid").read_text().split()[0]
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if postmaster in (path.parent.name, fields[1]):
                ticks += sum(int(fields[place]) for place in (11, 12, 13, 14))
    own = resource.getrusage(resource.RUSAGE_SELF)
    return ticks / TICKS + own.ru_utime + own.ru_stime


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", type=int, default=5000, metavar="ROWS", help="rides of the loop; 0 leaves it out")
    parser.add_argument("--verify", action="store_true", help="prove it once more, as `dbops seed verify` does")
    parser.add_argument(
        "--steps", type=int, default=0, metavar="N", help="show the N kinds of statements that took longest"
    )
    parser.add_argument("--major", type=int, default=installations()[-1].major, help="of the server")
    parser.add_argument("--directory", default="/var/tmp", help="where the server's files lie meanwhile")
    return parser.parse_args()


if __name__ == "__main__":
    main()
