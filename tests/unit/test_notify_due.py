# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is told what: transitions and nothing else, over any history, with failed deliveries and restarts in between."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.notify.due import Problem, Report, Told, due
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings_notifications import ChannelSettings
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.severity import Severity

START = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
OK, WARNING, UNKNOWN, CRITICAL = Severity.OK, Severity.WARNING, Severity.UNKNOWN, Severity.CRITICAL
severities = st.sampled_from(Severity)


def channel(**options):
    return ChannelSettings(name="x", type="webhook", url="http://x", **options)


def report(step, **problems):
    """`age="CRITICAL"` is one problem of that check; the total is the worst of them."""
    found = tuple(Problem(check, "disk", severity, f"{check} is bad") for check, severity in problems.items())
    total = max((item.severity for item in found), key=lambda one: one.rank, default=OK)
    return Report("main", START + step * HOUR, total, f"main is {total.value}", found)


def told(*reports, repeat_s=0, **options):
    """The events that one channel gets of these looks, each delivered at once."""
    state, events = Told(), []
    for item in reports:
        notice, state = due(channel(**options), state, item, repeat_s)
        events.append(notice.event if notice else None)
    return events


def steps(*totals, check="age"):
    return [report(number, **({} if item is OK else {check: item})) for number, item in enumerate(totals)]


@pytest.mark.parametrize(
    ("totals", "events"),
    [
        ((OK, OK), [None, None]),
        ((OK, CRITICAL, CRITICAL, OK, OK), [None, "problem", None, "resolved", None]),
        ((WARNING, CRITICAL, WARNING, CRITICAL, OK), ["problem", "worse", None, None, "resolved"]),
        ((CRITICAL, UNKNOWN, CRITICAL), ["problem", None, None]),  # cannot look any more: no recovery, and no news
        ((WARNING, UNKNOWN, OK), ["problem", "worse", "resolved"]),
        ((UNKNOWN, OK), ["problem", "resolved"]),
        ((CRITICAL, OK, CRITICAL), ["problem", "resolved", "problem"]),
    ],
)
def test_transitions_alone_are_told(totals, events):
    assert told(*steps(*totals)) == events


def test_another_problem_is_news_although_the_total_stays_what_it_is():
    seen = [report(0, age=CRITICAL), report(1, age=CRITICAL, archiving=CRITICAL), report(2, archiving=CRITICAL)]
    assert told(*seen, report(3)) == ["problem", "worse", None, "resolved"]


def test_what_lasts_is_told_again_after_the_interval_and_never_without_one():
    seen = steps(*[CRITICAL] * 8)
    assert told(*seen, repeat_s=3 * 3600) == ["problem", None, None, "repeat", None, None, "repeat", None]
    assert told(*seen) == ["problem", *[None] * 7]


def test_a_channel_for_emergencies_hears_nothing_of_warnings_and_takes_no_doubt_for_a_recovery():
    pager = {"min_severity": "critical"}
    assert told(*steps(WARNING, UNKNOWN, CRITICAL, UNKNOWN, WARNING), **pager) == [
        None, None, "problem", None, "resolved",
    ]  # fmt: skip


def test_routes_of_failure_and_success_differ_by_channel():
    seen = steps(OK, CRITICAL, CRITICAL, OK)
    assert told(*seen, events=("problem",), repeat_s=1) == [None, "problem", None, None]
    assert told(*seen, events=("resolved",)) == [None, None, None, "resolved"]


@given(st.lists(st.dictionaries(st.sampled_from(["age", "gap", "server"]), severities), max_size=12))
def test_over_any_history_each_incident_begins_once_and_ends_once(history):
    looks = [
        report(number, **{check: item for check, item in found.items() if item is not OK})
        for number, found in enumerate(history)
    ]
    state, open_, number = Told(), None, 0
    for item in looks:
        notice, state = due(channel(), state, item, 0)
        if notice is None:
            assert open_ is not None or item.severity is OK  # nothing bad is passed over
            continue
        if notice.event == "problem":
            assert open_ is None
            open_, number = notice.incident, 0
        assert notice.incident == open_
        assert notice.number == number
        number += 1
        if notice.event == "resolved":
            assert item.severity is OK
            open_ = None
    assert (state.incident is None) == (open_ is None)


@given(st.lists(st.tuples(severities, st.booleans()), min_size=1, max_size=12))
def test_what_was_not_delivered_is_tried_again_until_it_is(history):
    """Nothing is forgotten: after the last delivery that worked, the channel knows whether something is bad."""
    state = Told()
    for number, (total, works) in enumerate(history):
        item = steps(*[OK] * number, total)[-1]
        notice, then = due(channel(), state, item, 0)
        if notice is None:
            assert then == state
        elif works:
            state = then
            assert due(channel(), state, item, 0) == (None, state)
        else:
            assert due(channel(), state, item, 0)[0] == notice
