# SPDX-License-Identifier: GPL-3.0-or-later
"""Gaps, missing and orphaned segments, over archives that were thought up."""

from __future__ import annotations

from datetime import datetime, timezone

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.wal import int_to_lsn
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.continuity import Run, continuity, runs
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.window import Base, Segments

SIZE = 16 << 20
NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)


def base(label: str, first: int, last: int, timeline: int = 1) -> Base:
    return Base(label, timeline, first * SIZE + 40, last * SIZE + 400, NOON)


def segments(*numbers: int, timeline: int = 1, dropped: tuple[int, ...] = ()) -> Segments:
    return Segments({(timeline, number) for number in numbers}, SIZE, {(timeline, number) for number in dropped})


def test_a_whole_archive_lacks_nothing():
    found = continuity(segments(3, 4, 5, 6), [base("a", 3, 4)], {})
    assert (found.gaps, dict(found.missing), found.orphaned) == ((), {}, ())
    assert [interval.bases for interval in found.window] == [("a",)]


def test_a_hole_is_a_gap_and_what_lies_behind_it_helps_nobody():
    found = continuity(segments(3, 4, 7, 8), [base("a", 3, 4)], {})
    assert found.gaps == (Run(1, 5, 6),)
    assert found.orphaned == (Run(1, 7, 8),)
    assert found.gaps[0].describe(segments()) == {
        "first": "000000010000000000000005",
        "last": "000000010000000000000006",
        "count": 2,
    }


def test_a_later_backup_makes_use_of_what_lies_behind_a_gap():
    found = continuity(segments(3, 4, 7, 8), [base("a", 3, 4), base("b", 7, 7)], {})
    assert found.gaps == (Run(1, 5, 6),)
    assert found.orphaned == ()


def test_wal_older_than_the_first_backup_is_orphaned():
    assert continuity(segments(1, 2, 3, 4), [base("a", 3, 3)], {}).orphaned == (Run(1, 1, 2),)


def test_a_backup_without_its_own_segments_is_told_with_their_names():
    found = continuity(segments(3, 5), [base("a", 3, 5)], {})
    assert dict(found.missing) == {"a": ("000000010000000000000004",)}
    assert found.window == ()


def test_what_was_given_up_is_a_gap():
    found = continuity(segments(3, 4, 5, dropped=(4,)), [base("a", 3, 3)], {})
    assert found.gaps == (Run(1, 4, 4),)
    assert found.orphaned == (Run(1, 5, 5),)


def test_both_branches_of_a_promotion_are_of_use():
    """Timeline 2 left timeline 1 in the middle of segment 5; both have a file of it."""
    present = {(1, number) for number in (3, 4, 5, 6)} | {(2, number) for number in (5, 6, 7)}
    found = continuity(Segments(present, SIZE), [base("a", 3, 4)], {2: [(1, int_to_lsn(5 * SIZE + 99))]})
    assert found.gaps == ()
    assert found.orphaned == ()
    assert [interval.timeline for interval in found.window] == [1, 2]


@given(st.sets(st.tuples(st.integers(1, 3), st.integers(0, 40))))
def test_runs_hold_every_segment_once(items):
    found = [(run.timeline, number) for run in runs(items) for number in range(run.first, run.last + 1)]
    assert sorted(items) == found


@given(st.sets(st.integers(0, 30), min_size=1), st.integers(0, 30))
def test_a_segment_is_there_or_in_a_gap_and_no_orphan_is_within_a_window(numbers, start):
    found = continuity(segments(*numbers), [base("a", start, start)], {})
    gone = {number for run in found.gaps for number in range(run.first, run.last + 1)}
    assert gone == set(range(min(numbers), max(numbers) + 1)) - numbers
    orphans = {number for run in found.orphaned for number in range(run.first, run.last + 1)}
    for interval in found.window:
        assert not orphans & set(range(start, interval.end // SIZE))
