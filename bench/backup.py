#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Full backup and restore of one mixed database: dbops against pgBackRest and pg_basebackup, in the same run.

    bench/backup.py --size-gb 4 --rounds 3

Needs Debian's postgresql-15 (its server has zstd) and, for the comparison, pgbackrest. All contenders work on the same
server with warm caches, one after the other, every second round in the opposite order since memory and disk that nobody
has touched yet cost the first one time, on the same disk; what each has written is removed before the next one starts.
Read the ratios: absolute times belong to this machine and moment.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from localpg.installations import installations
from localpg.processes import wait_until
from localpg.server import LocalServer

STANZA = "bench"
RESIDENT = "postgres: (checkpointer|background writer|walwriter|logical replication launcher)"


@dataclass(frozen=True)
class Cost:
    """`cpu_s` is that of the command, of all it started, and of the server for it; other work on the machine is not."""

    seconds: float
    cpu_s: float
    peak_mib: float


@dataclass
class Contender:
    name: str
    backup: Callable[[], Sequence[str | Path]]
    clean: Callable[[], None]
    restore: Callable[[Path], Sequence[str | Path]] | None = None
    backups: list[Cost] = field(default_factory=list)
    restores: list[Cost] = field(default_factory=list)
    stored_bytes: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-gb", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--major", type=int, default=15)
    parser.add_argument("--only", default="", metavar="REGEX", help="the contenders with such names")
    parser.add_argument("--base", type=Path, default=Path("/var/tmp/dbops-bench"))
    options = parser.parse_args()
    found = [item for item in installations() if item.major == options.major]
    if not found:
        parser.error(f"PostgreSQL {options.major} is not installed")
    shutil.rmtree(options.base, ignore_errors=True)
    server = LocalServer(found[0], options.base / "pg")
    server.os_user.own_directory(options.base, 0o755)
    server.os_user.own_directory(options.base / "state", 0o700)
    server.settings.update(
        {"shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "1h", "autovacuum": "off"}
    )
    try:
        server.create()
        server.start()
        fill(server, options.size_gb)
        results = contest(server, options.base, options.rounds, options.only)
        report(results)
    finally:
        server.stop("immediate")
        shutil.rmtree(options.base, ignore_errors=True)
    return 0


def fill(server: LocalServer, size_gb: float) -> None:
    """A third pgbench rows, a third compressible text with indexes, a third bytes that do not compress."""
    server.psql("create database mixed")
    third_mb = size_gb * 1024 / 3
    server.run("pgbench", "-i", "-q", "-s", str(max(1, int(third_mb / 15))), "-h", server.sockets,
               "-p", str(server.port), "-U", "postgres", "mixed")  # fmt: skip
    server.psql(
        f"""
        create table texts as
            select n as id, md5(n::text) || repeat(' the quick brown fox', 8) || md5((n % 977)::text) as t
            from generate_series(1, {int(third_mb * 3400)}) n;
        create index on texts (t text_pattern_ops);
        create table blobs (id int, b bytea); alter table blobs alter b set storage external;
        insert into blobs
            select n, (select string_agg(sha256((n || '-' || m)::bytea), '') from generate_series(1, 8192) m)
            from generate_series(1, {int(third_mb * 4)}) n;
        checkpoint;
        """,
        database="mixed",
    )
    size = server.value("select sum(pg_database_size(oid)) from pg_database")
    say(f"PostgreSQL {server.installation.major}, {int(size) / 2**30:.2f} GiB, {os.cpu_count()} CPUs")


def contest(server: LocalServer, base: Path, rounds: int, only: str) -> list[Contender]:
    contenders = [
        dbops(server, base, "dbops, server-side zstd 1", {"codec": "zstd", "level": 1, "threads": 2}),
        dbops(server, base, "dbops, own zstd 1", {"codec": "zstd", "level": 1, "threads": 2, "server_side": "never"}),
        dbops(server, base, "dbops, server-side lz4", {"codec": "lz4"}),
    ]
    if shutil.which("pgbackrest"):
        contenders += [
            pgbackrest(server, base, "zst", 1),
            pgbackrest(server, base, "zst", 3),
            pgbackrest(server, base, "lz4", 1),
        ]
    else:
        say("pgbackrest is not installed: not compared")
    contenders += [basebackup(server, base, "server-zstd:level=1,workers=2"), basebackup(server, base, "none")]
    contenders = [item for item in contenders if re.search(only, item.name)]
    for number in range(rounds):
        for contender in reversed(contenders) if number % 2 else contenders:
            one_round(contender, server, base)
    return contenders


def one_round(contender: Contender, server: LocalServer, base: Path) -> None:
    contender.clean()
    subprocess.run(["sync"], check=True)
    contender.backups.append(timed(server, contender.backup()))
    contender.stored_bytes = sum(path.stat().st_size for path in base.glob("out-*/**/*") if path.is_file())
    if contender.restore is not None:
        target = base / "restored"
        subprocess.run(["sync"], check=True)
        contender.restores.append(timed(server, contender.restore(target)))
        shutil.rmtree(target)
    contender.clean()
    costs = [("backup", contender.backups[-1]), *(("restore", cost) for cost in contender.restores[-1:])]
    told = [f"{what} {cost.seconds:6.2f} s ({cost.cpu_s:5.2f} CPU, {cost.peak_mib:3.0f} MiB)" for what, cost in costs]
    say(f"  {contender.name:32} {'   '.join(told)}")


def timed(server: LocalServer, command: Sequence[str | Path]) -> Cost:
    """What it takes; memory is the peak of the largest single process, as the kernel accounts it.

    dbops starts as ourselves and turns into the server's user where it must; the others have to be started as it.
    """
    identity: dict[str, Any] = {}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if os.geteuid() == 0 and command[0] != sys.executable:
        identity = {"user": server.os_user.uid, "group": server.os_user.gid, "extra_groups": []}
    server_before = server_cpu_s(server)
    started = time.monotonic()
    process = subprocess.Popen(
        [str(word) for word in command],
        cwd="/",
        env=environment,  # an installed engine has its bytecode
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        **identity,
    )
    errors = process.stderr.read() if process.stderr else b""
    _pid, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{command[0]} failed:\n{errors.decode(errors='replace')}")
    seconds = time.monotonic() - started
    cpu_s = usage.ru_utime + usage.ru_stime + server_cpu_s(server) - server_before
    return Cost(seconds, cpu_s, usage.ru_maxrss / 1024)


def server_cpu_s(server: LocalServer) -> float:
    """The CPU time of all the server's connections so far; they count once their processes have gone."""
    pid = (server.data / "postmaster.pid").read_text().split()[0]
    wait_until(lambda: not connections(pid), "the server has buried its connections")
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def connections(postmaster: str) -> list[str]:
    """Its children but for those that have come to stay; a dead one has no name any more."""
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    names = [Path(f"/proc/{child}/cmdline").read_bytes().decode() for child in children]
    return [name for name in names if not re.match(RESIDENT, name)]


def dbops(
    server: LocalServer, base: Path, name: str, compression: dict[str, object], **sections: dict[str, object]
) -> Contender:
    repository = base / "out-dbops"
    config = base / f"{name.replace(' ', '-')}.json"
    settings = {
        "cluster": STANZA,
        "connection": {"login_unix_socket": str(server.sockets), "login_port": server.port},
        "host": {
            "bin_dir": str(server.installation.bin_dir),
            "data_directory": str(server.data),
            "state_path": str(base / "state"),
        },
        "repositories": [{"name": "local", "path": str(repository)}],
        "compression": compression,
        **sections,
    }
    config.write_text(json.dumps(settings), encoding="utf-8")
    engine = ROOT / "plugins" / "module_utils"
    code = f"import sys; sys.path.insert(0, {str(engine)!r}); from dbops.cli.main import main; raise SystemExit(main())"
    command: list[str | Path] = [sys.executable, "-c", code, "--cluster", STANZA, "--config", config]

    def clean() -> None:
        shutil.rmtree(repository, ignore_errors=True)
        server.os_user.own_directory(repository, 0o700)

    return Contender(name, lambda: [*command, "backup", "--method", "physical", "--type", "full"], clean,
                     lambda target: [*command, "restore", "--target", target])  # fmt: skip


def pgbackrest(server: LocalServer, base: Path, codec: str, level: int) -> Contender:
    repository = base / "out-pgbackrest"
    common: list[str | Path] = [
        "pgbackrest", f"--stanza={STANZA}", f"--repo1-path={repository}", f"--pg1-path={server.data}",
        f"--pg1-port={server.port}", f"--pg1-socket-path={server.sockets}", "--pg1-user=postgres",
        f"--log-path={base / 'state'}", f"--lock-path={base / 'state'}",
        "--log-level-console=error", "--config=/dev/null", "--process-max=2",
    ]  # fmt: skip

    def clean() -> None:
        shutil.rmtree(repository, ignore_errors=True)
        server.os_user.own_directory(repository, 0o700)
        timed(server, [word for word in common if word != "--process-max=2"] + ["stanza-create"])

    backup = [
        "--type=full",
        "--start-fast",
        "--no-archive-check",
        f"--compress-type={codec}",
        f"--compress-level={level}",
        "--repo1-retention-full=1",
        "backup",
    ]

    def restore(target: Path) -> Sequence[str | Path]:
        server.os_user.own_directory(target, 0o700)
        return [
            *(word for word in common if not str(word).startswith("--pg1-")),
            f"--pg1-path={target}",
            "--type=none",
            "restore",
        ]

    return Contender(f"pgBackRest, {codec} {level}, 2 processes", lambda: [*common, *backup], clean, restore)


def basebackup(server: LocalServer, base: Path, compress: str) -> Contender:
    out = base / "out-basebackup"

    def clean() -> None:
        shutil.rmtree(out, ignore_errors=True)

    def backup() -> Sequence[str | Path]:
        server.os_user.own_directory(out, 0o700)
        where: list[str | Path] = ["-h", server.sockets, "-p", str(server.port), "-U", "postgres", "-D", out]
        how = ["-Ft", "-X", "stream", "-c", "fast", f"--compress={compress}"]
        return [server.installation.program("pg_basebackup"), *where, *how]

    return Contender(f"pg_basebackup, {compress.split(':')[0]}", backup, clean)


def report(results: list[Contender]) -> None:
    say("\nMedians\n")
    say("| contender | backup, s | CPU, s | restore, s | CPU, s | stored | peak memory |")
    say("|---|---|---|---|---|---|---|")
    for item in results:
        peak = max(cost.peak_mib for cost in item.backups + item.restores)
        restore = medians(item.restores) if item.restores else " | "
        space = f"{item.stored_bytes / 2**20:.0f} MiB | {peak:.0f} MiB"
        say(f"| {item.name} | {medians(item.backups)} | {restore} | {space} |")
    ours = results[0]  # with --only, whichever comes first
    say("\nRatios, ours over theirs, by medians (below 1 is less):")
    for item in results[1:]:
        line = f"  {ours.name} / {item.name}: backup {ratios(ours.backups, item.backups)}"
        say(line + (f", restore {ratios(ours.restores, item.restores)}" if item.restores else ""))


def middle(costs: list[Cost]) -> tuple[float, float]:
    return statistics.median(cost.seconds for cost in costs), statistics.median(cost.cpu_s for cost in costs)


def medians(costs: list[Cost]) -> str:
    return " | ".join(f"{value:.2f}" for value in middle(costs))


def ratios(ours: list[Cost], theirs: list[Cost]) -> str:
    (seconds, cpu_s), (their_seconds, their_cpu_s) = middle(ours), middle(theirs)
    return f"{seconds / their_seconds:.2f} ({cpu_s / their_cpu_s:.2f} of the CPU time)"


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
