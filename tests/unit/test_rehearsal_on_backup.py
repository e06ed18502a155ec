# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backup a rehearsal takes, what of the traffic counts for a file, and what traces mean for budgets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import NotFound
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate.files import UP, File, Migration
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate.finding import Budgets, in_words, of_traces
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate.trace import LEVELS, Trace, exclusive_hold_s
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.rehearsal.side import newest_proven
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.rehearsal.workload import (
    READ,
    WRITE,
    Operation,
    Workload,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.record import BackupRecord
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import Catalog, Entry
from tests.support.records import backup, dump

ITEM = Migration(7, File("/m/000007_x.up.sql", 7, "x", UP, "sql"), None)


def entry(record: BackupRecord, level: str | None) -> Entry:
    return Entry(record, proven_level=level, proven_at=record.stopped if level else None)


def test_the_newest_that_a_restore_has_proven_is_taken():
    never, loaded, half, right = backup(4), dump(3), backup(2), backup(1)
    entries = (
        entry(never, None),
        entry(loaded, "content"),
        entry(half, "wal"),
        entry(right, "restore"),
        entry(backup(0), "content"),
    )
    assert newest_proven(Catalog(entries, (), {})).record is right
    with pytest.raises(NotFound, match="ever proven"):
        newest_proven(Catalog(entries[:3], (), {}))


@given(st.lists(st.tuples(st.sampled_from([READ, WRITE]), st.integers(0, 50), st.integers(1, 50)), max_size=20))
def test_an_operation_counts_for_a_file_exactly_when_it_ran_at_some_moment_of_it(made):
    load = Workload([Operation(kind, "t", began, began + took) for kind, began, took in made])
    found = load.between(10, 20)
    for kind in (READ, WRITE):
        caught = [took for its, began, took in made if its == kind and began < 20 and began + took > 10]
        assert found[kind]["count"] == len(caught)
        assert found[kind]["longest_s"] == max(caught, default=None)


@given(st.lists(st.tuples(st.sampled_from(LEVELS), st.integers(0, 9)), min_size=1, max_size=8), st.integers(0, 40))
def test_a_hold_lasts_from_the_first_exclusive_lock_to_the_files_end_and_fails_only_beyond_its_budget(made, budget):
    traces = [Trace("x", 1, float(took), 0, {"t": level}) for level, took in made]
    first = next((place for place, (level, _took) in enumerate(made) if level == LEVELS[-1]), len(made))
    held = sum(took for _level, took in made[first:])
    assert exclusive_hold_s(traces) == held
    found = {item.check for item in of_traces(ITEM, UP, traces, Budgets(exclusive_s=budget))}
    assert ("lock" in found) is (held > budget)


@pytest.mark.parametrize(
    ("level", "words"),
    [("AccessExclusiveLock", "ACCESS EXCLUSIVE"), ("ShareUpdateExclusiveLock", "SHARE UPDATE EXCLUSIVE")],
)
def test_lock_levels_in_the_manuals_words(level, words):
    assert in_words(level) == words
