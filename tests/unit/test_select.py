# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backup is meant: exactly one, or an error that says what there is."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, NotFound
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.record import iso
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore.select import moment, select
from tests.support.records import HOUR, NOON, backup, catalog, dump

UTC = timezone.utc


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T13:05:00Z",
        "2026-11-22 13:05:00Z",
        " 2026-11-22T13:05Z ",
        "2026-11-22 14:05:00+01:00",
        "2026-11-22 14:05:00+0100",
        "2026-11-22T07:35:00-05:30",
        "2026-11-22T13:05:00.0Z",
        "2026-11-22T13:05:00.000000+00:00",
    ],
)
def test_one_instant_in_many_spellings(text):
    assert moment(text) == datetime(2026, 11, 22, 13, 5, tzinfo=UTC)


def test_a_fraction_of_a_second_counts():
    assert moment("2026-11-22T13:05:00.25Z").microsecond == 250_000


@pytest.mark.parametrize("text", ["2026-11-22T13:05:00", "2026-11-22 13:05", "2026-11-22", "20261122T130500"])
def test_a_time_without_a_zone_is_refused_and_the_next_step_shown(text):
    with pytest.raises(BadInput, match="not one certain instant") as caught:
        moment(text)
    assert "2026-11-22T13:05:00Z" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "yesterday", "13am", "2026-11-22 1pm Z", "1700000000", "22.11.2026 13:05Z", "11/22/2026 13:05Z",
        "2026-11-22T13:05:00 CET", "2026-11-22T13:05:00 Europe/Vienna", "2026-11-22T13:05:00Z[UTC]",
        "2026-11-22T13:05:00+1", "2026-11-22T13:05:00+01", "2026-11-22T13Z", "2026-11-22T13:05:00.1234567Z",
        "2026-11-22T13:05:00Z 2026-11-22T13:05:00Z", "2026-11-22\n13:05:00Z", "2026-11-22T13:05:00z",
        "٢٠٢٦-11-22T13:05:00Z", "2026-11-22T13:05:00,5Z",
    ],
)  # fmt: skip
def test_what_could_mean_two_times_is_refused(text):
    with pytest.raises(BadInput):
        moment(text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-29T00:00:00Z", "2026-11-31T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-10T00:00:00Z",
        "2026-11-22T25:00:00Z", "2026-11-22T13:60:00Z", "2026-11-22T13:05:61Z", "0000-01-01T00:00:00Z",
        "2026-11-22T13:05:00+24:00", "2026-11-22T13:05:00+01:60", "2026-11-22T13:05:00-99:99",
        "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00",
    ],
)  # fmt: skip
def test_an_impossible_time_is_refused(text):
    with pytest.raises(BadInput):
        moment(text)


@given(
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
    st.sampled_from([" ", "T"]),
)
def test_every_instant_is_read_as_it_was_written(naive, offset_minutes, separator):
    instant = naive.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    assert moment(instant.isoformat(separator)) == instant


@given(st.text(max_size=40))
def test_any_other_text_is_bad_input_and_nothing_else(text):
    with contextlib.suppress(BadInput):
        assert moment(text).tzinfo is UTC


FIRST, SECOND = backup(0), backup(2)
LISTED = catalog(FIRST, SECOND, backup(3, parent=SECOND), dump(5))
NEWEST = backup(3, parent=SECOND).label


def test_neither_label_nor_time_means_the_newest_of_that_method():
    assert select(LISTED).record.label == NEWEST
    assert select(LISTED, method="logical").record.label == dump(5).label


def test_a_label_means_that_backup():
    assert select(LISTED, label=FIRST.label).record.label == FIRST.label


def test_a_backup_counts_from_its_stop_on():
    stop = SECOND.stopped
    assert select(LISTED, before=iso(stop)).record.label == SECOND.label
    assert select(LISTED, before=iso(stop - timedelta(milliseconds=1))).record.label == FIRST.label


def test_a_backup_that_began_earlier_and_ended_later_is_the_newer_one():
    slow = backup(1, stopped=NOON + 9 * HOUR)
    assert select(catalog(slow, SECOND)).record.label == slow.label
    assert select(catalog(slow, SECOND), before=iso(NOON + 8 * HOUR)).record.label == SECOND.label


def test_a_time_before_all_backups_names_the_earliest():
    with pytest.raises(NotFound) as caught:
        select(LISTED, before=iso(NOON))
    assert iso(FIRST.stopped) in caught.value.hint


def test_an_unknown_label_names_those_that_there_are():
    with pytest.raises(NotFound, match="20260101T000000Z-full") as caught:
        select(LISTED, label="20260101T000000Z-full")
    assert NEWEST in caught.value.hint


@pytest.mark.parametrize("label", ["latest", "../../etc", "20261122T120000Z", "20261122T120000Z-full/", ""])
def test_what_is_no_label_is_refused_before_it_is_looked_for(label):
    if label:
        with pytest.raises(BadInput, match="not a backup's label"):
            select(LISTED, label=label)


def test_label_and_time_together_are_refused():
    with pytest.raises(BadInput, match="Both"):
        select(LISTED, label=FIRST.label, before=iso(NOON))


def test_a_dump_is_no_physical_backup():
    with pytest.raises(BadInput, match="logical backup, not a physical one"):
        select(LISTED, label=dump(5).label)


def test_an_empty_catalog_is_not_found():
    with pytest.raises(NotFound, match="no physical backup"):
        select(catalog(dump(1)))


@given(st.lists(st.integers(0, 200), min_size=1, max_size=12, unique=True), st.integers(-10, 260))
def test_the_newest_that_had_finished_by_then_and_no_other(hours, limit):
    records = [backup(hour / 2) for hour in hours]
    then = NOON + limit / 2 * HOUR
    finished = [record for record in records if record.stopped <= then]
    if not finished:
        with pytest.raises(NotFound):
            select(catalog(*records), before=iso(then))
    else:
        assert select(catalog(*records), before=iso(then)).record == max(finished, key=lambda record: record.stopped)
