# SPDX-License-Identifier: GPL-3.0-or-later
"""Recovery targets: one at a time, told to PostgreSQL exactly, and refused when the archive cannot reach them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.waldump import Mark
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.waldump import parse as parse_line
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore.target import (
    Reach,
    parameters,
    parse,
    rewrite_auto_conf,
    unreachable_time,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)


def test_two_targets_are_refused_by_name():
    with pytest.raises(BadInput, match="lsn and xid"):
        parse({"lsn": "0/3000000", "xid": "777"})


def test_the_end_of_the_wal_has_to_be_wished_for():
    with pytest.raises(BadInput, match="needs its point"):
        parse({"time": None, "name": "", "immediate": False, "latest": False})
    target = parse({"latest": True})
    assert target.kind == "latest"
    assert "recovery_target_action" not in parameters(target, restore_command="x")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("time", "2026-11-22 12:00:00"),
        ("time", "2026-11-22T12:00:00 Europe/Berlin"),
        ("time", "13am"),
        ("lsn", "0/3000000/1"),
        ("xid", "0"),
        ("xid", "-3"),
        ("xid", "7 or 8"),
        ("name", "n" * 64),
    ],
)
def test_a_target_that_could_mean_two_things_or_nothing_is_refused(kind, value):
    with pytest.raises(BadInput):
        parse({kind: value})


@pytest.mark.parametrize(("option", "value"), [("action", "stop"), ("timeline", "0"), ("timeline", "newest")])
def test_options_are_checked_as_strictly(option, value):
    with pytest.raises(BadInput):
        parse({"xid": "7"}, **{option: value})


def test_a_time_reaches_postgresql_to_the_microsecond_in_utc():
    target = parse({"time": "2026-11-22T13:00:00.123456+01:00"}, inclusive=False, action="pause")
    assert parameters(target, restore_command="get %f %p") == {
        "restore_command": "get %f %p",
        "recovery_target_time": "2026-11-22 12:00:00.123456+00",
        "recovery_target_inclusive": "off",
        "recovery_target_timeline": "latest",
        "recovery_target_action": "pause",
    }


def test_immediate_stays_on_the_backups_timeline_unless_told_otherwise():
    assert parameters(parse({"immediate": True}), restore_command="x")["recovery_target_timeline"] == "current"
    assert parse({"immediate": True}, timeline="3").timeline == "3"


def test_old_recovery_settings_are_commented_out_and_ours_stand_once_at_the_end():
    before = "work_mem = '8MB'\nrecovery_target_time = '2020-01-01'\nrestore_command='cp x'\n"
    once = rewrite_auto_conf(before, parameters(parse({"xid": "7"}), restore_command="it's %f"))
    twice = rewrite_auto_conf(once, parameters(parse({"lsn": "0/5"}), restore_command="get %f"))
    assert "# recovery_target_time = '2020-01-01'" in once
    assert "restore_command = 'it''s %f'" in once
    assert "recovery_target_xid" not in twice
    assert "recovery_target_lsn = '0/5'" in twice
    assert twice.count("dbops: recovery") == 1
    assert "work_mem = '8MB'" in twice


minutes = st.integers(0, 600).map(lambda count: NOON + timedelta(minutes=count))


@given(st.lists(st.tuples(minutes, minutes).map(lambda pair: (min(pair), max(pair))), min_size=1), minutes)
def test_a_time_is_reachable_exactly_inside_an_interval_and_the_answer_names_the_nearest_edge(pairs, target):
    answer = unreachable_time(target, Reach(pairs))
    inside = any(start <= target <= end for start, end in pairs)
    assert (answer is None) == inside
    if answer is not None:
        best = min(abs(edge - target) for pair in pairs for edge in pair)
        named = datetime.fromisoformat(answer.rsplit(" ", 1)[1].replace("Z", "+00:00"))
        assert abs(named - target) == best


def test_without_any_window_the_answer_says_so():
    assert "nothing" in str(unreachable_time(NOON, Reach([])))


COMMIT = (
    "rmgr: Transaction len (rec/tot):     34/    34, tx:        788, lsn: 0/15254998, prev 0/15254958, "
    "desc: COMMIT 2026-11-22 20:57:14.022559 UTC; inval msgs: catcache 55"
)
POINT = (
    "rmgr: XLOG        len (rec/tot):     98/    98, tx:          0, lsn: 0/07015940, prev 0/07015918, "
    "desc: RESTORE_POINT before the migration"
)
PREPARED = (
    "rmgr: Transaction len (rec/tot):     82/    82, tx:          0, lsn: 0/1A2B3C4D, prev 0/1A2B3C00, "
    "desc: COMMIT_PREPARED 1234: 2026-11-22 20:57:14 UTC"
)


def test_pg_waldumps_lines_are_read_as_they_are_printed():
    time = datetime(2026, 11, 22, 20, 57, 14, 22559, tzinfo=timezone.utc)
    assert parse_line(COMMIT) == Mark("commit", 0x15254998, 788, time)
    assert parse_line(POINT) == Mark("restore_point", 0x07015940, 0, name="before the migration")
    assert parse_line(PREPARED) == Mark("commit", 0x1A2B3C4D, 1234, time.replace(microsecond=0))
    assert (
        parse_line("rmgr: Heap        len (rec/tot):  54/  54, tx: 788, lsn: 0/1, prev 0/0, desc: INSERT off 2") is None
    )
    assert parse_line("") is None
