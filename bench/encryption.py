#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""What encryption costs: a full backup and its restore, and one WAL segment, plain and with gpg and age, in one run.

    bench/encryption.py --size-gb 1 --rounds 3

Needs gpg and age besides what bench/backup.py needs, and makes keys of its own. Read the ratios.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench"), str(ROOT / "scripts"), str(ROOT / ".ansible" / "collections")]

from backup import dbops, fill, one_round, report, say

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.ciphers import cipher
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.stream import Shape
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.walfile import wal_name
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.archive import pack
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import from_mapping
from localpg.installations import installations
from localpg.server import LocalServer
from tests.support.keys import KeyMaker, KeyPair

SEGMENTS = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-gb", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--major", type=int, default=15)
    parser.add_argument("--base", type=Path, default=Path("/var/tmp/dbops-bench-encryption"))
    options = parser.parse_args()
    found = [item for item in installations() if item.major == options.major]
    if not found:
        parser.error(f"PostgreSQL {options.major} is not installed")
    shutil.rmtree(options.base, ignore_errors=True)
    server = LocalServer(found[0], options.base / "pg")
    server.os_user.own_directory(options.base, 0o755)
    server.os_user.own_directory(options.base / "state", 0o700)
    server.settings.update({"shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "1h"})
    maker = KeyMaker(options.base / "keys")
    pairs = [maker.gpg("bench"), maker.age("bench")]
    try:
        server.create()
        server.start()
        fill(server, options.size_gb)
        whole_backups(server, options.base, pairs, options.rounds)
        segments(server, pairs)
    finally:
        server.stop("immediate")
        shutil.rmtree(options.base, ignore_errors=True)
    return 0


def whole_backups(server: LocalServer, base: Path, pairs: list[KeyPair], rounds: int) -> None:
    codec = {"codec": "zstd", "level": 1, "threads": 2}
    contenders = [dbops(server, base, "dbops, plain", codec)]
    contenders += [dbops(server, base, f"dbops, {pair.method}", codec, encryption=pair.private) for pair in pairs]
    for _round in range(rounds):
        for contender in contenders:
            one_round(contender, server, base)
    report(contenders, server)


def segments(server: LocalServer, pairs: list[KeyPair]) -> None:
    """One after the other, in one thread; the files are those that the server has just written."""
    files = sorted(path for path in (server.data / "pg_wal").iterdir() if len(path.name) == 24)[:SEGMENTS]
    say(f"\nWAL, {len(files)} segments, zstd 1, milliseconds each (median):\n\n| | out | back |\n|---|---|---|")
    for pair in [None, *pairs]:
        chosen = cipher(from_mapping({"cluster": "main", "encryption": pair.private}).encryption) if pair else None
        out, back = [], []
        for path in files:
            content = path.read_bytes()
            shape = Shape("zstd", cipher=chosen)
            packed, seconds = clocked(
                lambda content=content, shape=shape: pack(wal_name("0" * 23 + "1"), [content], shape)
            )
            out.append(seconds)
            if chosen is not None:
                stored = b"".join(packed.chunks)
                back.append(clocked(lambda stored=stored, it=chosen: b"".join(it.decrypt([stored])))[1])
        read = f"{statistics.median(back) * 1000:.1f}" if back else ""
        say(f"| {pair.method if pair else 'plain'} | {statistics.median(out) * 1000:.1f} | {read} |")
    say(f"({os.cpu_count()} CPUs; back is the decryption alone)")


def clocked(call: Callable[[], object]) -> tuple[object, float]:
    started = time.monotonic()
    return call(), time.monotonic() - started


if __name__ == "__main__":
    raise SystemExit(main())
