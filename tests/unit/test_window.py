# SPDX-License-Identifier: GPL-3.0-or-later
"""The recovery window says neither more nor less than what replay could really reach."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.wal import int_to_lsn
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.window import (
    Base,
    Segments,
    covering,
    intervals,
    line,
)

SIZE = 16 << 20
NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)


def base(label: str, start: float, stop: float, timeline: int = 1) -> Base:
    """Start and stop in segments."""
    return Base(label, timeline, int(start * SIZE), int(stop * SIZE), NOON + timedelta(minutes=stop))


def present(*numbers: int, timeline: int = 1) -> set[tuple[int, int]]:
    return {(timeline, number) for number in numbers}


def spans(timeline, bases, segments, histories=None):
    found = intervals(timeline, bases, Segments(segments, SIZE), histories or {})
    return [(round(item.start / SIZE, 3), item.end / SIZE, item.bases, item.broken_by) for item in found]


def test_a_window_runs_from_the_first_base_to_the_last_segment():
    segments = present(2, 3, 4, 5)
    assert spans(1, [base("a", 2.1, 2.9), base("b", 4.1, 4.2)], segments) == [(2.9, 6, ("a", "b"), None)]


def test_a_gap_ends_the_interval_and_names_the_segment():
    segments = present(2, 3, 5, 6, 7)
    found = spans(1, [base("a", 2.1, 2.2), base("b", 6.1, 6.2)], segments)
    assert found == [(2.2, 4, ("a",), "000000010000000000000004"), (6.2, 8, ("b",), None)]


def test_a_missing_end_is_no_gap():
    assert spans(1, [base("a", 2.1, 2.2)], present(2, 3)) == [(2.2, 4, ("a",), None)]


def test_a_base_that_cannot_become_consistent_opens_nothing():
    assert spans(1, [base("a", 2.1, 4.5)], present(2, 3, 5)) == []


def test_no_wal_and_no_base_are_no_window():
    assert spans(1, [], present(1, 2, 3)) == []
    assert spans(1, [base("a", 2.1, 2.2)], set()) == []


def test_dropped_wal_breaks_the_window_although_the_segment_is_there():
    segments = Segments(present(2, 3, 4), SIZE, dropped={(1, 3)})
    (found,) = intervals(1, [base("a", 2.1, 2.2)], segments, {})
    assert found.end == 3 * SIZE
    assert found.broken_by == "000000010000000000000003"


HISTORY = {2: [(1, int_to_lsn(int(4.5 * SIZE)))]}


def test_a_line_continues_on_the_new_timeline_after_the_fork():
    segments = present(2, 3, 4, 5) | present(4, 5, 6, timeline=2)
    assert spans(2, [base("a", 2.1, 2.2)], segments, HISTORY) == [(2.2, 7, ("a",), None)]
    assert spans(1, [base("a", 2.1, 2.2)], segments, HISTORY) == [(2.2, 6, ("a",), None)]


def test_without_the_new_timelines_first_segment_the_line_ends_at_the_fork():
    segments = present(2, 3, 4) | present(5, 6, timeline=2)
    assert spans(2, [base("a", 2.1, 2.2)], segments, HISTORY) == [(2.2, 4.5, ("a",), "000000020000000000000004")]


def test_a_backup_taken_after_the_fork_on_the_old_timeline_is_not_on_the_new_line():
    segments = present(2, 3, 4, 5) | present(4, 5, timeline=2)
    assert spans(2, [base("late", 5.1, 5.2)], segments, HISTORY) == []


def test_lost_history_never_invents_a_past():
    segments = present(2, 3, 4) | present(4, 5, 6, timeline=2)
    assert spans(2, [base("a", 2.1, 2.2)], segments, {}) == []


# -- against a model that asks for each point alone whether replay could get there

FORKS = st.lists(st.integers(2, 30), max_size=3, unique=True).map(sorted)


@st.composite
def archives(draw):
    """A line of up to four timelines, forks at half segments, random holes, bases anywhere on it or off it."""
    forks = draw(FORKS)
    histories = {}
    for index in range(len(forks)):
        past = [(number + 1, int_to_lsn(forks[number] * SIZE // 2)) for number in range(index + 1)]
        histories[index + 2] = past
    last = len(forks) + 1
    segments = draw(st.sets(st.tuples(st.integers(1, last), st.integers(0, 17)), max_size=60))
    bases = []
    for number in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, 33))
        stop = start + draw(st.integers(0, 4))
        bases.append(base(f"b{number}", start / 2 + 0.1, stop / 2 + 0.2, draw(st.integers(1, last))))
    return last, bases, segments, histories


def reachable(point: int, timeline, bases, segments, histories) -> bool:
    path = line(timeline, histories)

    def holder(number: int) -> int:
        return [part.timeline for part in path if part.begin // SIZE <= number][-1]

    def readable(number: int, until: int) -> bool:
        if (holder(number), number) in segments:
            return True
        forks = [part for part in path if part.end is not None and part.end // SIZE == number and part.end % SIZE]
        return any((part.timeline, number) in segments and until <= part.end for part in forks)

    for item in bases:
        part = next((part for part in path if part.timeline == item.timeline), None)
        on = part is not None and part.begin <= item.stop and (part.end is None or item.stop <= part.end)
        needed = range(item.start // SIZE, max(item.start, point - 1) // SIZE + 1)
        if on and item.stop <= point and all(readable(number, point) for number in needed):
            return True
    return False


@settings(max_examples=400, deadline=None)
@given(archives())
def test_a_point_is_in_the_window_exactly_when_replay_could_reach_it(archive):
    timeline, bases, segments, histories = archive
    found = intervals(timeline, bases, Segments(segments, SIZE), histories)
    last = max((number for _timeline, number in segments), default=0) + 1
    for half in range(2 * last + 1):
        for point in (half * SIZE // 2, half * SIZE // 2 + SIZE // 4):
            inside = covering(found, point) is not None
            assert inside == reachable(point, timeline, bases, segments, histories), point / SIZE


@given(archives())
def test_intervals_never_overlap_and_name_every_base_that_helps(archive):
    timeline, bases, segments, histories = archive
    found = intervals(timeline, bases, Segments(segments, SIZE), histories)
    for earlier, later in zip(found, found[1:]):
        assert earlier.end < later.end
    for item in found:
        assert item.bases
        assert item.start <= item.end
