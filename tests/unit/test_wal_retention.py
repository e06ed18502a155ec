# SPDX-License-Identifier: GPL-3.0-or-later
"""WAL clean-up never takes what a kept backup or the recovery window needs."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.wal import int_to_lsn
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.wal_retention import BRANCH, anchored, plan
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.window import Base, Segments, intervals

SIZE = 16 << 20
NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)


def base(start: float, length: float, timeline: int = 1) -> Base:
    stop = start + length
    label = f"b{start:06.2f}-{timeline}"
    return Base(label, timeline, int(start * SIZE), int(stop * SIZE), NOON + timedelta(minutes=stop))


def moment(number: float) -> datetime:
    return NOON + timedelta(minutes=number)


def deleted(kept, present, histories=None, window_start=None):
    return set(plan(kept, present, SIZE, histories or {}, window_start).delete)


def run_of(first: int, last: int, timeline: int = 1):
    return {(timeline, number) for number in range(first, last + 1)}


def test_without_a_backup_everything_stays():
    assert deleted([], run_of(1, 9)) == set()


def test_what_lies_before_the_oldest_kept_backup_goes():
    assert deleted([base(4.5, 0.2), base(7.5, 0.2)], run_of(1, 9)) == run_of(1, 3)


def test_an_older_kept_backup_keeps_its_own_range_only():
    kept = [base(2.5, 1), base(6.5, 0.2)]
    found = plan(kept, run_of(1, 9), SIZE, {}, moment(7))
    assert set(found.delete) == run_of(1, 1) | run_of(4, 5)
    fates = [(run.first, run.last, run.keep) for run in found.runs]
    assert fates == [(1, 1, False), (2, 3, True), (4, 5, False), (6, 9, True)]
    assert kept[0].label in found.runs[1].reason


def test_a_branch_that_was_left_stays():
    histories = {2: [(1, int_to_lsn(int(3.5 * SIZE)))]}
    present = run_of(1, 5) | run_of(3, 9, timeline=2)
    found = plan([base(7.1, 0.1, timeline=2)], present, SIZE, histories, None)
    assert set(found.delete) == run_of(1, 2) | run_of(3, 6, timeline=2)
    assert [run.reason for run in found.runs if run.timeline == 1 and run.keep] == [BRANCH]


places = st.sets(st.tuples(st.integers(1, 3), st.integers(0, 30)))
backups = st.lists(
    st.builds(
        base, st.integers(0, 280).map(lambda n: n / 10), st.sampled_from([0.1, 0.5, 1.5, 3.0]), st.integers(1, 3)
    ),
    max_size=5,
    unique_by=lambda item: item.label,
)
histories_of = st.builds(
    lambda first, second: {
        2: [(1, int_to_lsn(first * SIZE // 10))],
        3: [(1, int_to_lsn(first * SIZE // 10)), (2, int_to_lsn((first + second) * SIZE // 10))],
    },
    st.integers(1, 150),
    st.integers(1, 150),
)


@settings(deadline=None)
@given(backups, places, histories_of, st.none() | st.integers(0, 35).map(moment))
def test_every_kept_backup_keeps_its_wal_and_the_window_reaches_as_far_as_before(kept, present, histories, start):
    gone = deleted(kept, present, histories, start)
    for item in kept:
        needed = range(item.start // SIZE, item.stop // SIZE + 1)
        assert not {place for place in gone if place[1] in needed}
    after = present - gone
    in_window = anchored(kept, start)
    for timeline in (1, 2, 3):
        before_ = intervals(timeline, in_window, Segments(present, SIZE), histories)
        assert intervals(timeline, in_window, Segments(after, SIZE), histories) == before_


@settings(deadline=None)
@given(backups.filter(bool), places, histories_of, st.integers(0, 35).map(moment))
def test_the_window_has_a_backup_from_before_its_start_if_there_is_one(kept, present, histories, start):
    del present, histories
    earlier = [item for item in kept if item.stopped <= start]
    assert bool(earlier) == any(item.stopped <= start for item in anchored(kept, start))
