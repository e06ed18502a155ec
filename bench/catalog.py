#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long check, metrics and info take on a repository of many years: 10 000 backups, 1 000 000 WAL segment names.

    bench/catalog.py --backups 10000 --segments 1000000 --rounds 3

The repository is made by the engine's own writer of records; segments are small files, as only names and sizes are
looked at. Each verb runs as the command does, in a process of its own, and is timed from its start to its end. Requests
are counted at the store's door in one more run: what they would be on an object store follows from them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENGINE = ROOT / "plugins" / "module_utils"
sys.path[:0] = [str(ENGINE)]

from dbops.codec.stream import Side
from dbops.pg.wal import int_to_lsn, segment_name
from dbops.repo import layout
from dbops.repo.record import BackupRecord, StoredObject, WalRange, to_json

SEGMENT = 16 << 20
SYSTEM = "7500000000000000001"
VERBS = (("check",), ("metrics",), ("info",))
SIDE = Side(5, "0" * 64)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backups", type=int, default=10_000)
    parser.add_argument("--segments", type=int, default=1_000_000)
    parser.add_argument("--proofs", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base", type=Path, default=Path("/var/tmp/dbops-bench-catalog"))
    parser.add_argument("--keep", action="store_true", help="leave the repository, and use one that is there")
    options = parser.parse_args()
    config = options.base / "main.json"
    if not (options.keep and config.exists()):
        shutil.rmtree(options.base, ignore_errors=True)
        made = time.monotonic()
        make(options.base, config, options.backups, options.segments, options.proofs)
        print(f"made in {time.monotonic() - made:.0f} s", flush=True)
    try:
        for verb in VERBS:
            took = [timed(config, verb) for _round in range(options.rounds + 1)]
            first, warm = took[0], took[1:]
            print(
                f"{verb[0]:<8} first {first[0]:5.2f} s, warm {statistics.median(one[0] for one in warm):5.2f} s, "
                f"CPU {statistics.median(one[1] for one in warm):5.2f} s, peak {max(one[2] for one in warm):.0f} MiB",
                flush=True,
            )
        for verb in VERBS:
            print(f"{verb[0]:<8} {requests(config, verb)}", flush=True)
    finally:
        if not options.keep:
            shutil.rmtree(options.base, ignore_errors=True)
    return 0


# -- the repository


def make(base: Path, config: Path, backups: int, segments: int, proofs: int) -> None:
    """A full backup a day, one in ten of them incremental; between two the same number of segments."""
    (base / "repo").mkdir(parents=True)
    (base / "state").mkdir()
    config.write_text(
        json.dumps(
            {
                "cluster": "main",
                "connection": {"login_unix_socket": str(base), "login_port": 1},  # nobody is there: only what is kept
                "host": {"state_path": str(base / "state")},
                "repositories": [{"name": "disk", "path": str(base / "repo")}],
                "health": {"min_size_bytes": 1},
            }
        )
    )
    root = base / "repo"
    each = max(1, segments // backups)
    now = datetime.now(timezone.utc).replace(microsecond=0)
    begin = now - timedelta(hours=2) * backups
    for number, record in enumerate(_records(backups, each, begin)):
        folder = root / layout.backup("main", record.label)
        folder.mkdir(parents=True)
        for item in record.objects:
            (folder / item.name).write_bytes(b"12345")
        (folder / layout.RECORD).write_bytes(to_json(record))
        if number % max(1, backups // max(1, proofs)) == 0:
            _prove(root, record)
    _segments(root, segments)


def _records(count: int, each: int, begin: datetime) -> Iterator[BackupRecord]:
    parent = None
    for number in range(count):
        started = begin + timedelta(hours=2) * number
        kind = "incremental" if number % 10 and parent else "full"
        label = layout.label_for(started, kind)
        start = (1 + number * each) * SEGMENT + 40
        yield BackupRecord(
            label=label,
            cluster="main",
            method="physical",
            type=kind,
            started=started,
            stopped=started + timedelta(minutes=5),
            system_identifier=SYSTEM,
            postgres_version="18.1",
            postgres_version_num=180001,
            objects=tuple(
                StoredObject(name, what, "zstd", SIDE, SIDE)
                for name, what in (
                    ("base.tar.zst", "base"),
                    ("backup_manifest", "manifest"),
                    ("inventory", "inventory"),
                )
            ),
            database_bytes=1 << 40,
            parent=parent if kind == "incremental" else None,
            wal=WalRange(1, int_to_lsn(start), int_to_lsn(start + 4096), SEGMENT, included=False),
            tool_version="bench",
        )
        parent = label


def _prove(root: Path, record: BackupRecord) -> None:
    finished = record.stopped + timedelta(minutes=30)
    path = root / layout.proof("main", record.label, finished)
    path.parent.mkdir(parents=True)
    proof = {"format": 1, "verdict": "pass", "level": "content", "finished": finished.isoformat(), "checks": []}
    path.write_text(json.dumps(proof))


def _segments(root: Path, count: int) -> None:
    """Names and sizes are all that is looked at: hard links to one file, so that a million fit anywhere."""
    top = root / layout.wal_of("main", SYSTEM)
    top.mkdir(parents=True)
    folder, source = "", top
    for number in range(1, count + 1):
        name = segment_name(1, number * SEGMENT, SEGMENT)
        if name[:16] != folder:
            folder = name[:16]
            (top / folder).mkdir()
        path = top / folder / f"{name}.zst"
        if number % 30_000 == 1:  # a file can have so many names only
            path.write_bytes(b"x" * 100)
            source = path
        else:
            os.link(source, path)


# -- what it takes


def timed(config: Path, verb: tuple[str, ...]) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak MiB of one call."""
    with open(os.devnull, "wb") as nothing:
        begun = time.monotonic()
        process = subprocess.Popen(_command(config, verb), env=_environment(), stdout=nothing, stderr=nothing)
        _pid, _status, usage = os.wait4(process.pid, 0)
        return time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def requests(config: Path, verb: tuple[str, ...]) -> str:
    """Calls of the store's door, by kind; keys that a listing yields and objects that a call reads are counted too."""
    done = subprocess.run(
        [sys.executable, "-c", COUNTING, *_command(config, verb)[3:]],
        env=_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stderr.splitlines()[-1] if done.stderr else "nothing was counted"


def _command(config: Path, verb: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "dbops", "--config", str(config), *verb]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ENGINE)}


COUNTING = """
import sys
from collections import Counter
from dbops.store.local import LocalStore
from dbops.cli.main import main
calls = Counter()
def counted(name, of_many):
    call = getattr(LocalStore, name)
    def counting(self, *args, **options):
        calls[name] += 1
        found = call(self, *args, **options)
        if not of_many:
            return found
        found = list(found)
        calls[of_many] += len(found)
        return iter(found)
    setattr(LocalStore, name, counting)
names = {"list": "keys listed", "children": "folders", "read_many": "objects read", "folder": "", "get": "", "head": ""}
for name, of_many in names.items():
    counted(name, of_many)
main(sys.argv[1:])
print(", ".join(f"{count} {name}" for name, count in sorted(calls.items())), file=sys.stderr)
"""

if __name__ == "__main__":
    sys.exit(main())
