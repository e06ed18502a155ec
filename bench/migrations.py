#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the rehearsal of the reference migrations takes: one thing after the other, several at a time, on one core.

    make setup && . .venv/bin/activate
    bench/migrations.py [--rounds 3] [--major 18]

The contenders take turns. CPU is that of the command, of the throwaway server and of all that they start: it depends
little on what else the machine does.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import multiprocessing
import os
import resource
import statistics
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "plugins" / "module_utils"), str(ROOT / "scripts")]

from dbops.migrate import rehearse
from dbops.progress import Silent
from dbops.settings import from_mapping

from localpg.installations import Installation, installations
from localpg.osuser import server_user

EXAMPLE = ROOT / "examples" / "ridehailing"
PR_SET_CHILD_SUBREAPER = 36  # of prctl(2): the throwaway server, whose starter ends, becomes our child


class Contender(NamedTuple):
    name: str
    jobs: int
    cores: int


class Cost(NamedTuple):
    seconds: float
    cpu_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--major", type=int, help="only this version of PostgreSQL")
    args = parser.parse_args()
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}\n")
    print("| PostgreSQL | jobs | cores | median, s | all, s | CPU, s |\n|---|---|---|---|---|---|")
    for installation in installations():
        if args.major in (None, installation.major):
            compare(installation, args.rounds)


def compare(installation: Installation, rounds: int) -> None:
    cores = len(os.sched_getaffinity(0))
    contenders = [
        Contender("1", 1, cores),
        Contender("2", 2, cores),
        Contender(f"{cores + 1}, the default", cores + 1, cores),
    ]
    contenders.append(contenders[-1]._replace(cores=1))
    costs: dict[Contender, list[Cost]] = {one: [] for one in contenders}
    for number in range(rounds):
        for one in contenders if number % 2 == 0 else reversed(contenders):
            costs[one].append(apart(installation, one))
    for one, found in costs.items():
        seconds = [cost.seconds for cost in found]
        middle, cpu_s = statistics.median(seconds), statistics.median(cost.cpu_s for cost in found)
        every = ", ".join(f"{each:.1f}" for each in seconds)
        print(f"| {installation.major} | {one.name} | {one.cores} | {middle:.1f} | {every} | {cpu_s:.1f} |", flush=True)


def apart(installation: Installation, contender: Contender) -> Cost:
    """One rehearsal in a process of its own, whose CPU time and cores are then its own too."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    process = fork.Process(target=rehearsed, args=(installation, contender, theirs))
    process.start()
    theirs.close()
    cost: Cost = ours.recv()
    process.join()
    return cost


def rehearsed(installation: Installation, contender: Contender, told: Connection) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: contender.cores])
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    host = {"bin_dir": str(installation.bin_dir), "os_user": server_user().name}
    mapping = {"cluster": "bench", "host": host, "migrations": {"path": str(EXAMPLE / "migrations")}}
    request = rehearse.Request(jobs=contender.jobs, data=str(EXAMPLE / "rehearsal"))
    found = rehearse.rehearse(from_mapping(mapping), request, Silent())["rehearsal"]
    if not found["passed"]:
        raise SystemExit(f"The rehearsal failed: {found['findings']}")
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    told.send(Cost(found["seconds"], sum(usage.ru_utime + usage.ru_stime for usage in usages)))


if __name__ == "__main__":
    main()
