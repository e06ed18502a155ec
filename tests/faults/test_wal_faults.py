# SPDX-License-Identifier: GPL-3.0-or-later
"""Archiving and recovery under random faults: after each one, all that was acknowledged is restored, and nothing else.

FAULT_ROUNDS is how many are struck in all, over all versions of PostgreSQL here; DBOPS_TEST_SEED repeats a run.
FAULT_LOG names a file that gets one JSON line for each round: `python -m tests.support.fault_table FILE` sums it up.
"""

from __future__ import annotations

import json
import os
import random
import time
import traceback
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.disks import can_mount
from tests.support.fault_scene import Scene, cluster_template
from tests.support.servers import Installation, PgServer, installations
from tests.support.wal_faults import FAULTS, Fault

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "50"))
SCENE = 13  # rounds on one server, so that faults meet what earlier ones have left, and data stays small


@dataclass(frozen=True)
class Round:
    fault: Fault
    seed: int


@pytest.fixture
def template(installation: Installation, place: Path) -> PgServer:
    return cluster_template(installation, place / "template")


def dealt(seed: int, rounds: int, hand: int, hands: int) -> Iterator[Round]:
    """Every fault in turn, in random order, dealt to the versions like cards: together they get each as often."""
    chance = random.Random(seed)
    faults = [fault for fault in FAULTS if not fault.lacks(can_mount())]
    deck: list[Fault] = []
    for number in range(rounds):
        if not deck:
            deck = chance.sample(faults, len(faults))
        card = Round(deck.pop(), chance.randrange(1 << 32))
        if number % hands == hand:
            yield card


def seed_of_this_run() -> int:
    """The same in every worker of one run, or a version would be dealt another's cards."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"{os.getpid()}")
    return int(os.environ.get("DBOPS_TEST_SEED", zlib.crc32(run.encode())))


def struck(scene: Scene, card: Round) -> None:
    """One round: the fault, its mending, and the proof."""
    scene.chance.seed(card.seed)
    card.fault.strike(scene)
    scene.settle()
    scene.prove(with_engine=scene.chance.random() < 0.1)
    scene.canary.resume()


@pytest.mark.timeout(600 + 60 * ROUNDS)
def test_after_every_fault_all_that_was_acknowledged_is_restored_and_nothing_else(
    installation: Installation, template: PgServer, place: Path
):
    seed = seed_of_this_run()
    print(f"DBOPS_TEST_SEED={seed}")
    majors = [item.major for item in installations()]
    scene: Scene | None = None
    failed: list[str] = []
    try:
        for number, card in enumerate(dealt(seed, ROUNDS, majors.index(installation.major), len(majors))):
            if scene is not None and number % SCENE == 0:
                scene.close()
                scene = None
            begun = time.monotonic()
            error = ""
            scene = scene or Scene(template, place / f"scene{number}", random.Random(card.seed), can_mount())
            try:
                struck(scene, card)
            except Exception:  # noqa: BLE001  # the other rounds are worth having, and all failures are raised below
                error = f"round {number}, {card.fault.name}:\n{traceback.format_exc()}{scene.server.log_tail(40)}"
                failed.append(error)
            rows = len(scene.ledger.now.acknowledged())
            log(seed, installation.major, number, card, error, rows, time.monotonic() - begun)
            if error:
                scene.close()
                scene = None
    finally:
        if scene is not None:
            scene.close()
    assert not failed, "\n\n".join([f"{len(failed)} rounds failed with DBOPS_TEST_SEED={seed}", *failed])


def log(seed: int, major: int, number: int, card: Round, error: str, rows: int, took_s: float) -> None:
    path = os.environ.get("FAULT_LOG")
    if path:
        line = {"seed": seed, "major": major, "round": number, "fault": card.fault.name, "error": error, "rows": rows,
                "seconds": round(took_s, 2)}  # fmt: skip
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


def test_every_fault_can_be_tried_on_this_machine():
    lacking = sorted({f"{fault.name}: {fault.lacks(can_mount())}" for fault in FAULTS if fault.lacks(can_mount())})
    if lacking:
        pytest.skip("; ".join(lacking))
