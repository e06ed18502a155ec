# SPDX-License-Identifier: GPL-3.0-or-later
"""An incremental backup is taken on the right parent, or a full one with the reason, or nothing with the next step."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup.parent import (
    Facts,
    Summary,
    choose_parent,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import Refused
from tests.support.records import backup, catalog, dump

FACTS = Facts(major=18, summarize_wal=True, system_identifier="7001", data_checksums="on", summaries=None)


def choose(*records, max_chain=14, **changes):
    return choose_parent(catalog(*records), dataclasses.replace(FACTS, **changes), max_chain=max_chain)


def chain_of(length):
    """A full backup and as many incrementals, each on the one before."""
    records = [backup(0)]
    while len(records) <= length:
        records.append(backup(len(records), parent=records[-1]))
    return records


@pytest.mark.parametrize("major", [14, 15, 16])
def test_a_server_below_17_is_refused_with_what_to_do(major):
    with pytest.raises(Refused, match=f"PostgreSQL {major} cannot") as caught:
        choose(backup(), major=major)
    assert "type=full" in caught.value.hint


def test_a_server_without_summaries_switched_on_is_refused_with_what_to_set():
    with pytest.raises(Refused, match="summarize_wal is off") as caught:
        choose(backup(), summarize_wal=False)
    assert "summarize_wal = on" in caught.value.hint


def test_the_newest_backup_of_this_system_is_the_parent():
    full, first, second = chain_of(2)
    choice = choose(full, first, second)
    assert choice.parent == second
    assert second.label in choice.reason


def test_dumps_and_other_systems_are_no_parents():
    mine, other = backup(0), backup(1, system_identifier="9999")
    assert choose(mine, other, dump(2)).parent == mine


@pytest.mark.parametrize("records", [[], [dump()], [backup(system_identifier="9999")]])
def test_without_a_backup_of_this_system_it_is_a_full_one(records):
    choice = choose(*records)
    assert choice.parent is None
    assert "no backup of this system" in choice.reason


def test_a_chain_grows_to_its_limit_and_not_beyond():
    assert choose(*chain_of(2), max_chain=3).parent
    choice = choose(*chain_of(3), max_chain=3)
    assert choice.parent is None
    assert "3 incrementals" in choice.reason
    assert backup(0).label in choice.reason


def test_switched_checksums_end_a_chain():
    choice = choose(backup(0), data_checksums="off")
    assert choice.parent is None
    assert "checksums" in choice.reason


def test_a_parent_whose_own_parent_is_gone_means_a_full_one():
    full, first, second = chain_of(2)
    for left in ([first, second], [full, second]):
        choice = choose(*left)
        assert choice.parent is None
        assert second.label in choice.reason
        assert "not in the repository" in choice.reason


def test_a_cluster_that_was_restored_since_does_not_build_on_what_it_was_before():
    """After a restore the same positions in WAL hold other changes: nothing in the summaries would tell."""
    before = backup(0)
    choice = choose(before, restored="20261122T130000Z of something older")
    assert choice.parent is None
    assert "restored" in choice.reason
    since = backup(1, extra={**before.extra, "restored": "20261122T130000Z of something older"})
    assert choose(before, since, restored="20261122T130000Z of something older").parent == since


# -- summaries


def on_parent_at(start, *summaries):
    parent = backup(0, start=start)
    return choose(parent, summaries=[Summary(1, low, high) for low, high in summaries])


def test_summaries_from_the_parents_start_on_are_enough():
    assert on_parent_at(150, (0, 100), (100, 200), (200, 300)).parent


def test_removed_summaries_mean_a_full_one_and_say_from_where():
    choice = on_parent_at(0x150, (0x200, 0x300))
    assert choice.parent is None
    assert "missing from 0/150 on" in choice.reason


def test_a_hole_in_the_middle_means_a_full_one_and_says_where():
    choice = on_parent_at(0x50, (0x0, 0x100), (0x200, 0x300))
    assert choice.parent is None
    assert "missing from 0/100 on" in choice.reason


@pytest.mark.parametrize("summaries", [None, []])
def test_what_cannot_be_seen_is_left_to_the_server(summaries):
    assert choose(backup(0, start=100), summaries=summaries).parent


def test_wal_newer_than_every_summary_is_no_hole():
    """The summarizer lags behind; the server itself waits for it."""
    assert on_parent_at(500, (0, 100), (100, 300)).parent


@given(
    st.integers(0, 40),
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.lists(st.integers(0, 11), unique=True, max_size=12),
    st.randoms(use_true_random=False),
)
def test_a_parent_exactly_where_no_needed_summary_is_missing(start, lengths, removed, random):
    """Summaries are consecutive pieces of WAL; some may have been removed, and their order says nothing."""
    edges = [0]
    for length in lengths:
        edges.append(edges[-1] + length)
    pieces = list(zip(edges, edges[1:]))
    left = [piece for number, piece in enumerate(pieces) if number not in removed]
    random.shuffle(left)
    latest = max((high for _low, high in left), default=0)
    needed = [piece for piece in pieces if piece[1] > start and piece[1] <= latest]
    complete = not left or all(piece in left for piece in needed)
    assert (on_parent_at(start, *left).parent is not None) == complete
