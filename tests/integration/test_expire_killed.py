# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL in the middle of an expiry: what is listed is whole at any moment, and the next run removes the rest."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings
from tests.support.backups import DAY, START, backed_up, chain_of, listed, read_in_full, repository_settings

ENGINE_PARENT = Path(__file__).resolve().parents[2] / "plugins" / "module_utils"
ROUNDS = 15
HOUR = timedelta(hours=1)


def expire(config: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "dbops", "expire", "--apply", "--config", str(config), *arguments],
        cwd=ENGINE_PARENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def filled(settings: Settings) -> list[str]:
    """Chains of four and dumps, five each; those that the policy keeps: the last chain, the last two dumps."""
    chain: list[str] = []
    dumps: list[str] = []
    for number in range(5):
        chain = chain_of(settings, START + number * DAY, 3)
        dumps.append(backed_up(settings, START + number * DAY + 6 * HOUR, "dump", databases=("ride",), files=4))
    return [*chain, *dumps[-2:]]


def folders(settings: Settings) -> set[str]:
    return set(os.listdir(Path(settings.repository().path, "main", "backups")))


@pytest.mark.slow
def test_whatever_is_listed_after_a_kill_is_whole_and_the_next_run_cleans_up(tmp_path: Path):
    settings = repository_settings(tmp_path / "repository", retention={"keep_last": 2})
    config = tmp_path / "main.json"
    config.write_text(
        json.dumps({"repositories": [{"path": settings.repository().path}], "retention": {"keep_last": 2}})
    )
    chance = random.Random(20261122)
    kept = filled(settings)
    begin = time.monotonic()
    with expire(config) as whole:  # how long one takes here, from its first deletion on
        while len(folders(settings)) == 25 and whole.poll() is None:
            pass
        until_first = time.monotonic() - begin
        whole.communicate(timeout=60)
    assert whole.returncode == 0
    span = time.monotonic() - begin - until_first
    in_the_middle = 0
    for round_number in range(ROUNDS):
        if len(folders(settings)) <= len(kept) + 1:
            refill(settings, round_number)
        before = folders(settings)
        with expire(config) as running:
            while folders(settings) == before and running.poll() is None:
                pass  # until it has begun to delete; then some random moment later
            pause = time.monotonic() + chance.random() * span * 0.8
            while time.monotonic() < pause and running.poll() is None:
                pass
            running.send_signal(signal.SIGKILL)
            running.communicate(timeout=60)
        in_the_middle += running.returncode == -signal.SIGKILL
        labels = listed(settings)
        assert not open_repository(settings).catalog().unreadable, f"round {round_number}"
        assert set(kept) <= set(labels)
        read_in_full(open_repository(settings), labels)
    assert in_the_middle >= 3, "some kills must come while it is deleting, or nothing was tested"
    with expire(config, "--output", "json") as last:
        output, errors = last.communicate(timeout=60)
    assert last.returncode == 0, errors
    assert json.loads(output.splitlines()[-1])["event"] == "result"
    assert folders(settings) == set(listed(settings)) == set(kept)
    assert not list(Path(settings.repository().path).rglob(".part-*"))


def refill(settings: Settings, round_number: int) -> None:
    """Older backups again, under labels that no other round has left anything of."""
    base = START - (round_number + 1) * 10 * DAY
    for number in range(4):
        chain_of(settings, base + number * DAY, 3)
        backed_up(settings, base + number * DAY + 6 * HOUR, "dump", databases=("ride",), files=4)
