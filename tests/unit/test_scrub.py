# SPDX-License-Identifier: GPL-3.0-or-later
"""Scrubbing comes round to everything, finds a flipped bit, and tells health through a failed proof."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.proofs import read_proofs
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.verify.scrub import budget_bytes, choose, scrub
from tests.support.backups import DAY, START, backed_up, repository_settings
from tests.support.physical import flip_a_bit


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(1, 100), min_size=1), st.integers(1, 9))
def test_every_object_is_read_within_the_days(sizes, days):
    ledger: dict[str, str] = {}
    budget = budget_bytes(sum(sizes.values()), days, None)
    for day in range(days):
        for key in choose(sizes, ledger, budget):
            ledger[key] = f"{day:02}"
    assert set(ledger) == set(sizes)


def test_a_budget_limits_a_run_and_one_object_is_always_read():
    sizes = {"a": 50, "b": 50, "c": 50}
    assert choose(sizes, {"a": "2"}, 60) == ["b", "c"]
    assert choose(sizes, {}, 1) == ["a"]
    assert budget_bytes(1000, 10, 30) == 30
    assert budget_bytes(1001, 10, None) == 101


@pytest.fixture
def settings(tmp_path):
    made = repository_settings(tmp_path / "repository")
    return replace(made, host=replace(made.host, state_path=str(tmp_path / "state")))


def test_a_flipped_bit_is_found_within_the_days_and_takes_the_proof_back(settings):
    labels = [backed_up(settings, START + number * DAY) for number in range(3)]
    folder = Path(settings.repositories[0].path) / "main/backups" / labels[1]
    victim = sorted(folder.glob("*.tar.gz"))[-1]
    victim.write_bytes(flip_a_bit(victim.read_bytes()))
    settings = replace(settings, verify=replace(settings.verify, scrub_days=4))
    found = [scrub(settings, Silent(), now=START + timedelta(days=30 + night))["scrub"] for night in range(4)]
    problems = [problem for run in found for problem in run["problems"]]
    assert [problem["key"].rsplit("/", 1)[1] for problem in problems] == [victim.name]
    assert sorted({run["verdict"] for run in found}) == ["fail", "pass"]
    assert found[-1]["overdue"] == 0
    assert sum(run["read"] for run in found) >= found[0]["objects"] == 9
    (proof,) = read_proofs(open_repository(settings))
    assert (proof["label"], proof["verdict"]) == (labels[1], "fail")


def test_without_its_ledger_it_begins_anew_and_forgets_what_is_gone(settings, tmp_path):
    backed_up(settings, START)
    settings = replace(settings, verify=replace(settings.verify, scrub_days=1))
    assert scrub(settings, Silent())["scrub"]["read"] == 3
    (ledger,) = (tmp_path / "state").glob("scrub-*.json")
    ledger.write_text("{")
    assert scrub(settings, Silent())["scrub"]["verdict"] == "pass"
