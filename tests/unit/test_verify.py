# SPDX-License-Identifier: GPL-3.0-or-later
"""What verification decides, without a server: verdicts, levels, which backup, which instant, what an answer means."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops import errors
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health.gather import gather
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.proofs import read_proofs, write_proof
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import (
    Catalog,
    Entry,
    open_repository,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import from_mapping
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings_verify import Assertion
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store.local import LocalStore
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.verify.content import judged
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.verify.estimate import rto_estimate, throughput
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.verify.plan import Request, choose, random_instant
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.verify.scratch import require_short
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.verify.verdict import (
    LEVELS,
    Check,
    Verdict,
    overall,
    proven_level,
    verdict_of,
)
from tests.support.backups import START, backed_up, repository_settings
from tests.support.records import HOUR, backup, dump

verdicts = st.sampled_from(Verdict)
climbs = st.lists(st.builds(lambda level, verdict: Check(level, "", verdict, ""), st.sampled_from(LEVELS), verdicts))


@given(st.lists(verdicts))
def test_one_check_that_could_not_run_is_never_green(found):
    assert overall([*found, Verdict.COULD_NOT_VERIFY]) is not Verdict.PASS


@given(st.lists(verdicts))
def test_a_failure_is_never_hidden_by_anything(found):
    assert overall([*found, Verdict.FAIL]) is Verdict.FAIL


def test_nothing_looked_at_proves_nothing():
    assert overall([]) is Verdict.COULD_NOT_VERIFY
    assert proven_level([]) is None


@given(climbs)
def test_a_level_is_proven_only_when_all_that_was_asked_below_it_passed(checks):
    level = proven_level(checks)
    below = [check for check in checks if level and LEVELS.index(check.level) <= LEVELS.index(level)]
    assert all(check.verdict is Verdict.PASS for check in below)
    assert (level is None) == (not below)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (errors.Corrupt("base.tar is not what was stored."), Verdict.FAIL),
        (errors.ToolFailed("pg_verifybackup exited with 1: checksum mismatch"), Verdict.FAIL),
        (
            errors.ToolFailed("x", stderr_tail='FATAL: could not access file "pg_cron": No such file'),
            "could_not_verify",
        ),
        (errors.ToolFailed("x", stderr_tail="could not extend file: No space left on device"), "could_not_verify"),
        (errors.ToolFailed("x", stderr_tail='extension "postgis" is not available'), "could_not_verify"),
        (errors.Unreachable("Cannot read the store."), Verdict.COULD_NOT_VERIFY),
        (errors.Refused("Too little room."), Verdict.COULD_NOT_VERIFY),
        (errors.Busy("An expiry runs."), Verdict.COULD_NOT_VERIFY),
        (errors.MissingLibrary("lz4", needed_for="lz4", package="python3-lz4"), Verdict.COULD_NOT_VERIFY),
    ],
)
def test_what_is_the_hosts_fault_is_not_the_backups(error, verdict):
    assert verdict_of(error) == verdict


@pytest.mark.parametrize(
    ("pgcode", "message", "verdict"),
    [
        ("23503", "violates foreign key constraint", Verdict.FAIL),
        ("XX001", "invalid page in block 3", Verdict.FAIL),
        ("58P01", 'could not open file "base/16384/16399": No such file or directory', Verdict.FAIL),
        ("58P01", 'could not access file "$libdir/hstore": No such file or directory', Verdict.COULD_NOT_VERIFY),
        ("57014", "canceling statement due to statement timeout", Verdict.COULD_NOT_VERIFY),
        (None, "server closed the connection unexpectedly", Verdict.COULD_NOT_VERIFY),
    ],
)
def test_an_answer_of_the_server_is_judged_by_its_code(pgcode, message, verdict):
    error = errors.Unreachable(f"Cannot ask it: {message}.")
    error.__cause__ = Exception(message)
    error.__cause__.pgcode = pgcode
    assert verdict_of(error) is verdict


@pytest.mark.parametrize(
    ("expected", "value", "good"),
    [
        ({"expected": "10000"}, 10000, True),
        ({"expected": "true"}, True, True),
        ({"expected": "1"}, True, False),
        ({"expected": "null"}, None, True),
        ({"expected": "a"}, "b", False),
        ({"at_least": 1}, 1, True),
        ({"at_least": 1}, 0, False),
        ({"at_most": 9}, 10, False),
        ({"at_least": 1, "at_most": 9}, 5.5, True),
        ({"at_least": 0}, None, False),
    ],
)
def test_an_assertion_is_held_against_the_first_value(expected, value, good):
    finding = judged(Assertion("x", "select 1", **expected), [{"v": value, "w": "unseen"}])
    assert finding.verdict is (Verdict.PASS if good else Verdict.FAIL)


def test_an_assertion_without_an_answer_or_without_an_expectation_is_no_pass():
    assert judged(Assertion("x", "select 1", expected="1"), []).verdict is Verdict.FAIL
    for item in ({"name": "x", "query": "select 1"}, {"name": "x", "query": " ", "expected": "1"}):
        with pytest.raises(errors.BadInput, match="'x'"):
            from_mapping({"cluster": "main", "verify": {"assertions": [item]}})


def test_the_oldest_without_a_proof_comes_first_and_then_the_oldest_proof():
    new, old, proven, proven_lately = (backup(hour) for hour in (3, 0, 1, 2))
    entries = [
        Entry(new),
        Entry(old),
        Entry(proven, None, "restore", at(5)),
        Entry(proven_lately, None, "restore", at(9)),
    ]
    order = []
    while entries:
        entry = choose(Catalog(tuple(entries), (), {}), "oldest_unverified", None, random.Random(1))
        order.append(entry.record.label)
        entries.remove(entry)
    assert order == [old.label, new.label, proven.label, proven_lately.label]


def test_the_latest_is_the_one_that_ended_last_of_the_method_that_was_asked_for():
    long = replace(backup(0), stopped=backup(5).stopped)
    catalog = Catalog((Entry(dump(3)), Entry(backup(1)), Entry(long)), (), {})
    assert choose(catalog, "latest", None, random.Random(1)).record is long
    assert choose(catalog, "latest", "logical", random.Random(1)).record.method == "logical"
    with pytest.raises(errors.NotFound):
        choose(Catalog((), (), {}), "latest", None, random.Random(1))


@given(st.integers(0, 10**9), st.integers(0, 2**32))
def test_a_random_instant_lies_between_the_backup_and_the_last_commit(span, seed):
    last = at(0) + timedelta(microseconds=span)
    instant = random_instant(at(0), last, random.Random(seed))
    assert instant is None or at(0) < instant < last
    assert instant is not None or span <= 2


@pytest.mark.parametrize(
    "request_", [Request(until="nirvana"), Request(method="magical"), Request(scratch_path="here")]
)
def test_what_cannot_be_meant_is_refused(request_):
    with pytest.raises(errors.BadInput):
        request_.check()


def test_a_place_too_deep_for_a_socket_is_refused_before_anything_is_restored():
    require_short("/home/somebody/.local/state/dbops/production/verify")
    with pytest.raises(errors.BadInput, match="too long for the socket"):
        require_short("/srv" + "/deeper" * 11)


def test_an_estimate_says_that_it_is_one_and_needs_a_measurement():
    phases = {"fetch_and_extract_s": 8.0, "sync_s": 2.0, "recovery_s": 5.0}
    assert throughput(1000, phases) == 100
    found = rto_estimate({"restored_bytes": 1000, "recovery": {"wal_bytes": 50}}, 4000, phases)
    assert (found["seconds"], found["replay_wal_bytes_per_s"]) == (45.0, 10)
    assert "estimate" in found["label"]
    assert rto_estimate({}, None, {}) is None


def test_proofs_are_added_and_never_replaced(tmp_path):
    settings = repository_settings(tmp_path / "repository")
    label = backed_up(settings, START)
    repository = open_repository(settings)
    levels = []
    for verdict in ("pass", "could_not_verify", "fail", "pass"):  # all within one second
        proof = {"verdict": verdict, "level": "restore", "finished": "2026-11-22T12:00:00Z"}
        write_proof(repository, label, at(0), proof)
        levels.append(repository.catalog().entries[0].proven_level)
    (tmp_path / "repository/main/proofs" / label / "stray.json").write_text("{")
    assert [proof["verdict"] for proof in read_proofs(repository, label)] == [
        "pass",
        "could_not_verify",
        "fail",
        "pass",
    ]
    assert levels == ["restore", "restore", None, "restore"]  # a failure takes back what was proven


def test_a_check_reads_each_record_and_each_proof_once(tmp_path, monkeypatch):
    """Requests cost money and time at an object store; docs/performance.md counts them for ten thousand backups."""
    settings = repository_settings(tmp_path / "repository")
    label = backed_up(settings, START)
    write_proof(
        open_repository(settings),
        label,
        at(0),
        {"verdict": "pass", "level": "restore", "finished": "2026-11-22T12:00:00Z"},
    )
    asked = []
    genuine = LocalStore.read_many

    def read_many(store, keys):
        for key in keys:
            asked.append(key)
            yield from genuine(store, [key])

    monkeypatch.setattr(LocalStore, "read_many", read_many)
    (seen,) = gather(settings).repositories
    assert (seen.backups[0].proven_level, seen.backups[0].last_verdict) == ("restore", "pass")
    assert sorted(asked) == [f"main/backups/{label}/backup.json", f"main/proofs/{label}/20261122T120000Z.json"]


def at(hours):
    return datetime(2026, 11, 22, 12, tzinfo=timezone.utc) + hours * HOUR
