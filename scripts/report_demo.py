#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a report with weeks of history, all of it real: backups, WAL, proofs and faults under a clock that is moved.

    scripts/report_demo.py --days 60 --directory /tmp/report

Needs faketime. Every line of the story is something that the command did, or that can happen to it: a full backup each
Sunday and incremental ones between, dumps, weekly verifications, a segment that somebody deletes, a bit that flips.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / ".ansible" / "collections")]

from tests.support.history import DAY, HOUR, Clock, History
from tests.support.physical import flip_a_bit
from tests.support.servers import Templates, installations, session_directory

_DICE = random.Random(7)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--directory", type=Path, required=True, help="where report.html, report.json and junit.xml go")
    options = parser.parse_args()
    with session_directory() as base:
        place = base / "story"
        place.mkdir(mode=0o755)
        clock = Clock(place / "clock")
        now = datetime.now(timezone.utc)
        clock.set(now - options.days * DAY)
        with clock.running():
            server = Templates(base).server(installations()[-1], place / "pg")
            policy = {"min_window": "14d", "rto": "15m", "rpo": "1h"}
            history = History(server, place, clock, policy)
            try:
                live(history, now, options.days)
                history.at(now)
                print(history.dbops("report", "--directory", str(place / "report"))["msg"])
            finally:
                server.stop("immediate")
        shutil.copytree(place / "report", options.directory, dirs_exist_ok=True)
    return 0


def live(history: History, now: datetime, days: int) -> None:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    label, lost, flipped = "", days // 3, days - days // 2 + 3
    for number in range(days):
        day = midnight - (days - number) * DAY
        print(f"{day:%Y-%m-%d}", flush=True)
        sunday = day.weekday() == 6 or not label
        if number == lost:  # somebody cleans up a little too much
            history.lose(history.work(day + HOUR, 400))
            history.work(day + 1.5 * HOUR, 200)
        label = history.backup(_about(day + 2 * HOUR), "--type", "full" if sunday else "incremental")
        history.work(day + 2.7 * HOUR, 50)
        if sunday:
            history.backup(_about(day + 3 * HOUR), "--method", "logical")
        if number == flipped:  # a disk that lies
            path = next((history.place / "disk" / "main" / "backups" / label).glob("base.tar*"))
            content = path.read_bytes()
            path.write_bytes(flip_a_bit(content))
            history.verify(day + 5 * HOUR, label, "--repository", "disk", codes=(5,))
            label = history.backup(day + 5.5 * HOUR, "--type", "full")
            history.work(day + 5.7 * HOUR, 10)
        if sunday or number == flipped:
            history.verify(_about(day + 6 * HOUR), label)
        if sunday and number % 2:
            history.verify(_about(day + 7 * HOUR), "latest", "--method", "logical", "--target", "backup")
        history.work(day + 13 * HOUR, _DICE.randrange(500, 4000) + 60 * number)
        if number % 14 == 10:
            history.point(day + 15 * HOUR, f"before release 4.{number // 14}")
        history.work(day + 19 * HOUR, _DICE.randrange(200, 1500))
    held = history.backup(now - 5 * HOUR, "--type", "incremental")
    history.dbops("hold", held, "--reason", "quarter's end")
    history.settled(history.work(now - 3 * HOUR, 900))
    vault = history.place / "vault"
    vault.rename(history.place / "away")  # its line is down since
    history.work(now - 0.6 * HOUR, 300)
    (history.place / "away").rename(vault)


def _about(moment: datetime) -> datetime:
    return moment + timedelta(seconds=_DICE.randrange(20, 900))


if __name__ == "__main__":
    sys.exit(main())
