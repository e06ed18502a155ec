#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Continuous archiving and replay: dbops against pgBackRest's asynchronous archiving and plain cp, in the same run.

    bench/wal.py --segments 64 --rounds 3

Needs Debian's postgresql-15 and, for the comparison, pgbackrest. A server fills pg_wal while nothing is archived; then
each contender drains the very same files, in turn, PostgreSQL calling its archive_command. Replay starts each time
from the same base copy. Read the ratios: absolute times belong to this machine and moment.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "plugins" / "module_utils"), str(ROOT)]
sys.path.append(str(ROOT / ".ansible" / "collections"))

from dbops.wal.scripts import Place, get_script, push_script

from localpg.installations import Installation, installations
from localpg.processes import working_below
from localpg.server import LocalServer
from tests.support.agent import Agent, installed

STANZA = "bench"
SEGMENT = 16 << 20
# Before each call it waits until the prefetching worker is at rest: what is measured is the hit alone.
TIMER = """
import glob, json, os, subprocess, sys, time
commands = json.load(sys.stdin)
for place, command in enumerate(commands):
    ahead = min(8, len(commands) - place) if sys.argv[1] and place else 0
    while ahead and (len(glob.glob(sys.argv[1] + "/get/*/*/*.ok")) < ahead
                     or glob.glob(sys.argv[1] + "/get/*/*/*.busy")):
        time.sleep(0.005)
    started = time.perf_counter()
    subprocess.run(command, check=True)
    print((time.perf_counter() - started) * 1000)
    if ahead or place == 0 and sys.argv[1]:
        os.unlink("pg_wal/RECOVERYXLOG")
"""


@dataclass
class Contender:
    name: str
    archive_command: str
    repository: Path
    spool: Path
    process: str  # what its workers' command lines contain
    drain_s: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)  # per segment, commands and workers together
    peak_mib: float = 0.0
    stored_mib: float = 0.0


class Bench:
    def __init__(self, base: Path, installation: Installation, segments: int, agent: Agent) -> None:
        self.base = base
        self.segments = segments
        self.server = LocalServer(installation, base / "pg")
        self.server.settings.update(
            {
                "shared_buffers": "512MB", "max_wal_size": "32GB", "min_wal_size": "4GB", "checkpoint_timeout": "1h",
                "wal_keep_size": "16GB", "archive_mode": "on", "archive_command": "", "autovacuum": "off",
                "wal_recycle": "off",
            }
        )  # fmt: skip
        self.agent = agent

    # -- contenders

    def dbops(self, codec: str) -> Contender:
        base = self.server.os_user.own_directory(self.base / f"dbops-{codec}", 0o755)
        repository, spool, config = base / "repository", base / "spool", base / "settings.json"
        self.server.os_user.own_directory(repository)
        settings = {
            "cluster": STANZA,
            "host": {"state_path": str(base)},
            "repositories": [{"name": "local", "path": str(repository)}],
            "archiving": {"codec": codec, "workers": 2, "linger_s": 5},
        }
        config.write_text(json.dumps(settings), encoding="utf-8")
        place = Place(STANZA, str(config), str(spool), self.agent.python, (str(self.agent.lib),))
        for name, text in (("push", push_script(place)), ("get", get_script(place))):
            (base / name).write_text(text, encoding="utf-8")
            (base / name).chmod(0o755)
        return Contender(f"dbops, {codec} fast, 2 workers", f"{base}/push %p", repository, spool, str(config))

    def pgbackrest(self, codec: str) -> Contender:
        base = self.server.os_user.own_directory(self.base / f"pgbackrest-{codec}", 0o755)
        for name in ("repository", "spool", "log", "lock"):
            self.server.os_user.own_directory(base / name)
        config = base / "pgbackrest.conf"
        config.write_text(
            f"[global]\nrepo1-path={base}/repository\nspool-path={base}/spool\nlog-path={base}/log\n"
            f"lock-path={base}/lock\narchive-async=y\nprocess-max=2\ncompress-type={codec}\ncompress-level=1\n"
            f"log-level-console=error\nlog-level-file=off\n\n[{STANZA}]\npg1-path={self.server.data}\n"
            f"pg1-socket-path={self.server.sockets}\npg1-port={self.server.port}\npg1-user=postgres\n",
            encoding="utf-8",
        )
        config.chmod(0o644)
        command = f"pgbackrest --config={config} --stanza={STANZA} archive-push %p"
        return Contender(f"pgBackRest async, {codec} 1, 2 processes", command, base / "repository", base / "spool",
                         f"--stanza={STANZA}")  # fmt: skip

    # -- the contest

    def fill(self) -> None:
        """A base copy, then WAL of inserts, updates and full pages, until enough segments wait."""
        server = self.server
        server.create()
        server.start()
        server.psql("create database bench")
        self.pgbench("-i", "-q", "-s", "10")
        server.stop()
        subprocess.run(["cp", "-a", str(server.data), str(self.base / "copy")], check=True)
        shutil.rmtree(self.base / "copy" / "pg_wal" / "archive_status")
        server.os_user.own_directory(self.base / "copy" / "pg_wal" / "archive_status")
        server.start()
        part = 0
        while len(self.ready()) < self.segments:
            part += 1
            self.pgbench("-n", "-N", "-c", "4", "-j", "2", "-t", "3000")
            server.psql(f"update pgbench_accounts set abalance = abalance + 1 where aid % 9 = {part % 9}; checkpoint;",
                        database="bench")  # fmt: skip
            server.psql("select pg_switch_wal()")
        self.last_xid = server.value("select txid_current()")
        server.stop()
        names = self.ready()
        say(f"PostgreSQL {server.installation.major}, {len(names)} files wait, {os.cpu_count()} CPUs")

    def pgbench(self, *options: str) -> None:
        where = ["-h", str(self.server.sockets), "-p", str(self.server.port), "-U", "postgres"]
        self.server.run("pgbench", *where, *options, "bench")

    def status_directory(self) -> Path:
        return self.server.data / "pg_wal" / "archive_status"

    def ready(self) -> list[str]:
        return sorted(path.name[: -len(".ready")] for path in self.status_directory().glob("*.ready"))

    def drain(self, contender: Contender) -> None:
        """From the moment that the server learns the command until the last of the first N files is archived."""
        names = self.ready()
        self.server.settings["archive_command"] = ""
        self.server.start()
        try:
            if contender.archive_command.startswith("pgbackrest"):
                self.server.os_user.run([*contender.archive_command.split()[:3], "stanza-create"])
            subprocess.run(["sync"], check=True)
            with peak_of(contender.process) as peak, cpu_of(self.server.data) as cpu:
                started = time.monotonic()
                self.server.settings["archive_command"] = contender.archive_command
                self.server.reload()
                last = self.status_directory() / f"{names[-1]}.done"
                while not last.exists():
                    if time.monotonic() - started > 300:
                        raise SystemExit(f"{contender.name} does not get on:\n{self.server.log_tail()}")
                    time.sleep(0.01)
                contender.drain_s.append((time.monotonic() - started) / len(names))
        finally:
            self.server.stop()
        contender.peak_mib = max(contender.peak_mib, *peak, 0.0)
        contender.cpu_ms += [milliseconds / len(names) for milliseconds in cpu]
        files = [path.stat().st_size for path in contender.repository.rglob("*") if path.is_file()]
        contender.stored_mib = sum(files) / 2**20
        say(f"  {contender.name:40} {1 / contender.drain_s[-1]:6.1f} segments/s, {len(files)} files")
        wait_until_gone(contender.process)

    def again(self, contender: Contender, *, keep: bool = False) -> None:
        """The same files wait once more."""
        for done in self.status_directory().glob("*.done"):
            done.rename(done.with_suffix(".ready"))
        if not keep:
            for path in (contender.repository, contender.spool):
                shutil.rmtree(path, ignore_errors=True)
                self.server.os_user.own_directory(path)
            # What remembers that the repository held WAL, and would refuse it now that it is empty.
            shutil.rmtree(contender.repository.parent / "archived", ignore_errors=True)

    def archive_hits(self, contender: Contender) -> list[float]:
        """Milliseconds of the script for files that the worker has dealt with, as the server would start it."""
        names = [name for name in self.ready() if len(name) == 24][:100]  # a worker is 128 ahead
        script = contender.archive_command.split()[0]
        self.as_server([[script, f"pg_wal/{names[-1]}"]], self.server.data)
        wait_for(lambda: len(list(contender.spool.glob("push/*/*.ok"))) >= len(names) - 1)
        return self.as_server([[script, f"pg_wal/{name}"] for name in names[:-1]], self.server.data)

    def restore_hits(self, contender: Contender) -> list[float]:
        data = self.fresh_copy("hits")
        names = [name for name in self.ready() if len(name) == 24]
        script = contender.archive_command.split()[0].replace("/push", "/get")
        commands = [[script, name, "pg_wal/RECOVERYXLOG"] for name in names]
        return self.as_server(commands, data, str(contender.spool))[1:]

    def as_server(self, commands: list[list[str]], cwd: Path, spool: str = "") -> list[float]:
        """Milliseconds of each, started by a small process of the server's user, as PostgreSQL's archiver is one."""
        done = subprocess.run(
            [self.agent.python, "-I", "-c", TIMER, spool],
            input=json.dumps(commands), stdout=subprocess.PIPE, text=True, cwd=cwd, check=True,
            **self.server.os_user.for_subprocess(),
        )  # fmt: skip
        return [float(word) for word in done.stdout.split()]

    def replay(self, restore_command: str) -> float:
        """Seconds from start to promotion at the end of WAL."""
        data = self.fresh_copy("replay")
        other = LocalServer(self.server.installation, self.base / "replayed", settings=dict(self.server.settings))
        other.make_directories()
        (other.base / "data").symlink_to(data)
        other.settings.update({"archive_mode": "off", "restore_command": restore_command})
        (data / "recovery.signal").touch()
        subprocess.run(["sync"], check=True)
        started = time.monotonic()
        try:
            other.start(limit_s=600)
            while other.value("select pg_is_in_recovery()"):
                time.sleep(0.01)
            took = time.monotonic() - started
            if other.value("select txid_current()") < self.last_xid:
                raise SystemExit(f"{restore_command} did not reach the end:\n{other.log_tail()}")
            return took
        finally:
            other.stop("immediate")
            shutil.rmtree(other.base)

    def fresh_copy(self, name: str) -> Path:
        data = self.base / name
        shutil.rmtree(data, ignore_errors=True)
        subprocess.run(["cp", "-a", str(self.base / "copy"), str(data)], check=True)
        return data


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--major", type=int, default=15)
    parser.add_argument("--base", type=Path, default=Path("/var/tmp/dbops-bench-wal"))
    options = parser.parse_args()
    found = [item for item in installations() if item.major == options.major]
    if not found:
        parser.error(f"PostgreSQL {options.major} is not installed")
    shutil.rmtree(options.base, ignore_errors=True)
    user = LocalServer(found[0], options.base / "pg").os_user
    user.own_directory(options.base, 0o755)
    agent = installed(user.own_directory(options.base / "agent", 0o755), user.for_subprocess())
    bench = Bench(options.base, found[0], options.segments, agent)
    try:
        bench.fill()
        contest(bench, options.rounds)
    finally:
        bench.server.stop("immediate")
        shutil.rmtree(options.base, ignore_errors=True)
    return 0


def contest(bench: Bench, rounds: int) -> None:
    ours = [bench.dbops("zstd"), bench.dbops("lz4")]
    theirs = [bench.pgbackrest("zst"), bench.pgbackrest("lz4")] if shutil.which("pgbackrest") else []
    for _round in range(rounds):
        for contender in [*ours, *theirs]:
            bench.drain(contender)
            bench.again(contender)
    say("\n| contender | segments/s (median) | CPU per segment | stored | peak memory of one process |")
    say("|---|---|---|---|---|")
    for item in [*ours, *theirs]:
        rate = 1 / statistics.median(item.drain_s)
        cpu = f"{statistics.median(item.cpu_ms):.1f} ms" if item.cpu_ms else ""
        say(f"| {item.name} | {rate:.1f} | {cpu} | {item.stored_mib:.0f} MiB | {item.peak_mib:.0f} MiB |")
    for item in theirs:
        say(f"{ours[0].name} / {item.name}: {statistics.median(item.drain_s) / statistics.median(ours[0].drain_s):.2f}")
    hits_and_replay(bench, ours[0], rounds)


def hits_and_replay(bench: Bench, contender: Contender, rounds: int) -> None:
    archive_ms = bench.archive_hits(contender)
    wait_until_gone(contender.process)
    restore_ms = bench.restore_hits(contender)
    wait_until_gone(contender.process)
    nothing_ms = bench.as_server([["/bin/sh", "-c", ":"]] * len(archive_ms), bench.base)
    for name, spent in (
        ("archive_command hit", archive_ms),
        ("restore_command hit", restore_ms),
        ("sh -c :", nothing_ms),
    ):
        most = sorted(spent)[len(spent) * 9 // 10]
        say(f"{name}: median {statistics.median(spent):.2f} ms, 90 % within {most:.2f} ms")
    plain = bench.server.os_user.own_directory(bench.base / "plain")
    for name in bench.ready():
        shutil.copy2(bench.server.data / "pg_wal" / name, plain / name)
        os.chown(plain / name, bench.server.os_user.uid, bench.server.os_user.gid)
    get = contender.archive_command.split()[0].replace("/push", "/get")
    ours, cp = [], []
    for _round in range(rounds):
        cp.append(bench.replay(f"cp {plain}/%f %p"))
        with peak_of(contender.process) as peak:
            ours.append(bench.replay(f"{get} %f %p"))
        wait_until_gone(contender.process)
        say(f"  replay: cp {cp[-1]:.2f} s, dbops {ours[-1]:.2f} s")
    say(f"replay of {len(bench.ready()) * SEGMENT / 2**30:.2f} GiB: cp {statistics.median(cp):.2f} s, dbops "
        f"{statistics.median(ours):.2f} s, ratio {statistics.median(ours) / statistics.median(cp):.2f}, "
        f"peak memory of one process {max([*peak, 0.0]):.0f} MiB")  # fmt: skip


@contextlib.contextmanager
def cpu_of(data: Path) -> Iterator[list[float]]:
    """CPU milliseconds of the server and all that it starts meanwhile, where the kernel counts them for us.

    Unlike time they hardly depend on what else the machine does.
    """
    spent: list[float] = []
    group = Path("/sys/fs/cgroup/cpuacct/dbops-bench")
    try:
        group.mkdir(exist_ok=True)
        for pid in working_below(data):
            (group / "cgroup.procs").write_text(str(pid))
        before = int((group / "cpuacct.usage").read_text())
    except OSError:
        yield spent
        return
    yield spent
    spent.append((int((group / "cpuacct.usage").read_text()) - before) / 1e6)


@contextlib.contextmanager
def peak_of(words: str) -> Iterator[list[float]]:
    """The largest resident MiB of any one process whose command line contains these words, while the block runs."""
    found: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            for pid in processes(words):
                with contextlib.suppress(OSError, ValueError, IndexError):
                    status = Path(f"/proc/{pid}/status").read_text()
                    found.append(int(status.split("VmHWM:", 1)[1].split()[0]) / 1024)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
        found[:] = [max([*found, 0.0])]


def processes(words: str) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                if words.encode() in Path(f"/proc/{entry}/cmdline").read_bytes():
                    found.append(int(entry))
    return found


def wait_until_gone(words: str) -> None:
    wait_for(lambda: not processes(words))


def wait_for(condition: object, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise SystemExit("Waited in vain.")
        time.sleep(0.005)


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
