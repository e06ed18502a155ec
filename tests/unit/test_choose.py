# SPDX-License-Identifier: GPL-3.0-or-later
"""The route to a target: the newest base that can, on the right timeline, or a refusal that names what is nearest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import DbopsError, NotFound, Refused
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.wal import int_to_lsn
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.waldump import Mark
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.coverage import Line, Window
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.window import Base, Segments, intervals, line
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore.choose import choose
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore.edges import Edge
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore.follow import (
    Said,
    failure,
    met,
    read_log,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore.target import Target, iso_micro, parse

SIZE = 16 << 20
NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)


def moment(segments: float) -> datetime:
    """The clock and the WAL run alike here: one segment a minute."""
    return NOON + timedelta(minutes=segments)


def base(label: str, start: float, timeline: int = 1) -> Base:
    stop = start + 0.25
    return Base(label, timeline, int(start * SIZE), int(stop * SIZE), moment(stop))


@dataclass
class Wal:
    """What a WalReader would read, of transactions that end at these places (in segments)."""

    commits: Sequence[float]

    def _marks(self, interval):
        for number, place in enumerate(self.commits):
            if interval.start <= place * SIZE < interval.end:
                yield Mark("commit", int(place * SIZE), 100 + number, moment(place))

    def edge(self, _line, interval):
        marks = list(self._marks(interval))
        return Edge(marks[-1].time if marks else None, marks[-1].position if marks else None)

    def newest_first(self, _line, interval):
        yield from reversed(list(self._marks(interval)))

    def last_before(self, _line, interval, limit):
        times = [mark.time for mark in self._marks(interval) if mark.time <= limit]
        return (times[-1] if times else None), interval.end


def window(bases, present, histories=None, timelines=(1,)):
    segments = Segments(present, SIZE)
    lines = tuple(
        Line(number, line(number, histories or {}), intervals(number, bases, segments, histories or {}))
        for number in timelines
    )
    return Window("7001", "a", lines, segments, dict.fromkeys(present, 1000), {item.label: item for item in bases})


def numbers(*wanted: int, timeline: int = 1):
    return {(timeline, number) for number in wanted}


TWO = window([base("old", 1), base("new", 4)], numbers(*range(1, 8)))
COMMITS = Wal([1.5, 2.5, 3.5, 4.5, 5.5, 6.5])


@pytest.mark.parametrize(
    ("target", "label"),
    [
        (Target("time", iso_micro(moment(3))), "old"),
        (Target("time", iso_micro(moment(4.25))), "old"),  # a backup must have stopped before the target
        (Target("time", iso_micro(moment(5))), "new"),
        (Target("lsn", int_to_lsn(4 * SIZE)), "old"),
        (Target("lsn", int_to_lsn(5 * SIZE)), "new"),
        (Target("xid", "101"), "old"),
        (Target("xid", "104"), "new"),
        (parse({"immediate": True}), "new"),
        (Target("latest"), "new"),
    ],
)
def test_the_newest_backup_that_ends_before_the_target_is_the_base(target, label):
    assert choose(target, TWO, COMMITS).label == label


def test_a_gap_before_the_end_is_no_end():
    broken = window([base("old", 1)], numbers(1, 2, 3, 5))
    with pytest.raises(Refused, match="000000010000000000000004 is missing") as refusal:
        choose(Target("latest"), broken, COMMITS)
    assert "Aim at LSN 0/3FFFFFF" in refusal.value.hint


def test_a_time_at_the_very_last_commit_would_be_missed_by_postgresql():
    last = iso_micro(moment(6.5))
    with pytest.raises(Refused, match="nearest"):
        choose(Target("time", last), TWO, COMMITS)
    assert choose(Target("time", last, inclusive=False), TWO, COMMITS).label == "new"


def test_the_base_s_own_timeline_is_told_without_a_history_and_another_by_its_number():
    histories = {2: [(1, int_to_lsn(3 * SIZE))]}
    forked = window(
        [base("a", 1), base("b", 4, timeline=2)], numbers(1, 2, 3) | numbers(3, 4, 5, timeline=2), histories, (1, 2)
    )
    wal = Wal([1.5, 2.5, 4.5, 5.5])
    assert choose(Target("lsn", int_to_lsn(2 * SIZE)), forked, wal).target.timeline == "2"
    assert choose(Target("lsn", int_to_lsn(5 * SIZE)), forked, wal).target.timeline == "current"
    assert choose(Target("lsn", int_to_lsn(2 * SIZE), timeline="1"), forked, wal).target.timeline == "current"
    with pytest.raises(NotFound, match="no timeline 9"):
        choose(Target("latest", timeline="9"), forked, wal)


@settings(deadline=None)
@given(
    bases=st.lists(st.integers(0, 30), max_size=5, unique=True),
    present=st.sets(st.integers(0, 32)),
    commits=st.lists(st.integers(0, 3300), max_size=40, unique=True),
    wanted=st.integers(0, 3400),
)
def test_what_is_chosen_can_be_reached_and_a_named_nearest_time_can_too(bases, present, commits, wanted):
    made = window([base(f"b{number:02}", number + 0.1) for number in bases], {(1, number) for number in present})
    wal = Wal(sorted(place / 100 for place in commits))
    target = Target("time", iso_micro(moment(wanted / 100)))
    try:
        route = choose(target, made, wal)
    except DbopsError as error:
        if "the nearest instant that can be reached is " in error.message:
            nearest = error.message.split("the nearest instant that can be reached is ")[1][:27]
            assert choose(Target("time", nearest), made, wal).label
        return
    chosen = made.bases[route.label]
    assert chosen.stopped < target.time
    assert all(number in present for number in range(chosen.start // SIZE, route.until // SIZE))
    later = [place for place in wal.commits if moment(place) > target.time]
    assert any(int(place * SIZE) < route.until for place in later)


PROMOTED = """\
2026-11-22 21:36:29.627 UTC:LOG:  consistent recovery state reached at 0/2000120
2026-11-22 21:36:31.589 UTC:LOG:  recovery stopping before commit of transaction 745, time 2026-11-22 21:36:27+00
2026-11-22 21:36:33.343 UTC:LOG:  archive recovery complete
"""


def test_the_stop_line_must_be_the_target_s():
    line_of = read_log(PROMOTED).stop_line
    assert met(Target("xid", "745"), line_of)
    assert met(Target("time", "2026-11-22T21:36:27Z"), line_of)
    assert not met(Target("xid", "74"), line_of)
    assert not met(Target("lsn", "0/1"), line_of)
    assert not met(Target("latest"), line_of)
    assert met(Target("name", "a"), 'recovery stopping at restore point "a", time 2026')
    assert not met(Target("name", "a"), 'recovery stopping at restore point "ab", time 2026')


def test_consistency_is_no_end_and_an_ended_recovery_without_a_stop_line_met_nothing():
    said = read_log("LOG:  consistent recovery state reached at 0/2000120\n")
    assert said == Said()
    assert not met(Target("time", "2026-11-22T21:36:27Z"), "")


def test_a_failure_says_why_and_that_nothing_was_promoted():
    log = (
        "dbops: Repository 'a' has nothing at all of system 7: is its disk mounted?\n"
        'FATAL:  could not restore file "000000010000000000000003" from archive: child process exited with code 255\n'
    )
    error = failure(read_log(log), "/data", "/log", resume="pg_ctl start")
    assert "is its disk mounted?" in error.message
    assert "was not promoted" in error.hint
