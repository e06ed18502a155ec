# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate is shut for every doubt, and each gate is waived by its own name alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health import gate
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health.finding import Finding, Severity
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings
from tests.support.health import backup, dump, facts, repository, server

DAY_S = 86_400
GOOD = {"verified_backup": Severity.OK, "archive": Severity.OK}
UNPROVEN = {"proven_level": None, "proven_at": None, "last_verdict": None, "last_verified_at": None}


def judged(**given_: object) -> dict[str, Severity]:
    repositories = given_.pop("repositories", ())
    return {item.check: item.severity for item in gate.judge(facts(*repositories, **given_), DAY_S)}


def test_a_young_proven_backup_and_a_living_archive_open_it():
    assert judged() == GOOD


@pytest.mark.parametrize(
    "backups",
    [
        [backup(25)],  # proven, and too old
        [backup(2, **UNPROVEN)],
        [backup(2, last_verdict="fail")],  # proven once, and refuted since
        [backup(2, damaged=("base.tar.zst",))],
        [backup(2, broken_chain="its parent is gone")],
        [dump(2)],
    ],
)
def test_a_backup_that_is_no_sure_way_back_keeps_it_shut(backups):
    found = judged(repositories=(repository(*backups),))
    assert found == {**GOOD, "verified_backup": Severity.CRITICAL}


def test_an_older_proven_backup_counts_where_the_newest_is_unproven():
    assert judged(repositories=(repository(backup(1, **UNPROVEN), backup(20)),)) == GOOD


def test_a_repository_that_cannot_be_read_is_a_doubt():
    assert judged(repositories=(repository(probes=()),))["verified_backup"] is Severity.UNKNOWN


@pytest.mark.parametrize(
    ("changes", "severity"),
    [
        ({"server": None, "server_error": "It does not answer."}, Severity.UNKNOWN),
        ({"server": server(in_recovery=True)}, Severity.UNKNOWN),
        ({"server": server(archives=False)}, Severity.CRITICAL),
        ({"server": server(archive_failing=True, last_failed_wal="000000010000000000000007")}, Severity.CRITICAL),
        ({"server": server(waiting_s=7200.0)}, Severity.CRITICAL),
    ],
)
def test_an_archive_that_is_not_at_work_keeps_it_shut(changes, severity):
    assert judged(**changes) == {**GOOD, "archive": severity}


@given(st.sampled_from(Severity), st.sampled_from(Severity), st.sets(st.sampled_from(gate.GATES)))
def test_it_is_open_exactly_when_each_gate_is_ok_or_waived_by_its_name(first, second, waive):
    found = [Finding(name, "-", severity, "Said.") for name, severity in zip(gate.GATES, (first, second))]
    told = gate.told("main", found, sorted(waive))["gate"]
    assert told["open"] is all(item.severity is Severity.OK or item.check in waive for item in found)
    assert set(told["waived"]) <= waive


def test_a_gate_that_there_is_not_cannot_be_waived():
    with pytest.raises(BadInput, match="no gate 'everything'"):
        gate.gate(Settings(cluster="main"), max_age="26h", waive=["everything"])
