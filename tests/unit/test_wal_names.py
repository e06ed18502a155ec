# SPDX-License-Identifier: GPL-3.0-or-later
"""LSNs and segment names are PostgreSQL's own, for every segment size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.wal import (
    int_to_lsn,
    lsn_to_int,
    segment_name,
    segments_between,
)

positions = st.integers(0, (1 << 64) - 1)
before_the_end = st.integers(0, (1 << 64) - (1 << 31))
sizes = st.sampled_from([1 << power for power in range(20, 31)])  # initdb --wal-segsize: 1 MB to 1 GB


@given(positions)
def test_an_lsn_survives_being_written(position):
    assert lsn_to_int(int_to_lsn(position)) == position


@pytest.mark.parametrize(
    ("text", "position"),
    [("0/0", 0), ("16/B374D848", 0x16B374D848), ("ffffffff/FFFFFFFF", (1 << 64) - 1), ("0/0000A0", 0xA0)],
)
def test_an_lsn_is_read_as_postgresql_reads_it(text, position):
    assert lsn_to_int(text) == position


@pytest.mark.parametrize(
    "text", ["", "0", "/", "0/", "/0", "0/0/0", "0/g", "123456789/0", "0/123456789", " 0/0", "0/٣"]
)
def test_what_is_no_lsn_is_refused(text):
    with pytest.raises(BadInput, match="not an LSN"):
        lsn_to_int(text)


@pytest.mark.parametrize(
    ("timeline", "position", "size", "name"),
    [
        (1, 0, 16 << 20, "000000010000000000000000"),
        (1, lsn_to_int("16/B374D848"), 16 << 20, "0000000100000016000000B3"),
        (0x1A, lsn_to_int("1/00000000"), 16 << 20, "0000001A0000000100000000"),
        (1, lsn_to_int("0/FF000000"), 16 << 20, "0000000100000000000000FF"),
        (2, lsn_to_int("3/FFFFFFFF"), 1 << 30, "000000020000000300000003"),
        (2, lsn_to_int("3/FFFFFFFF"), 1 << 20, "000000020000000300000FFF"),
    ],
)
def test_segment_names_are_those_of_pg_walfile_name(timeline, position, size, name):
    assert segment_name(timeline, position, size) == name


@given(st.integers(1, 0xFFFFFFFF), before_the_end, sizes)
def test_every_byte_of_a_segment_has_the_same_name_and_the_next_one_another(timeline, position, size):
    first = position - position % size
    name = segment_name(timeline, position, size)
    assert segment_name(timeline, first, size) == name == segment_name(timeline, first + size - 1, size)
    assert segment_name(timeline, first + size, size) > name
    assert len(name) == 24


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 32), sizes)
def test_a_range_needs_every_segment_that_it_touches_and_no_other(start, length, size):
    size = max(size, 1 << 24)
    stop = start + length
    names = segments_between(1, start, stop, size)
    assert names[0] == segment_name(1, start, size)
    assert names[-1] == segment_name(1, max(start, stop - 1), size)
    assert names == sorted(set(names))
    assert len(names) == max(start, stop - 1) // size - start // size + 1


def test_a_range_that_ends_at_a_boundary_does_not_need_the_segment_behind_it():
    size = 16 << 20
    assert segments_between(1, 0, size, size) == ["000000010000000000000000"]
    assert len(segments_between(1, 0, size + 1, size)) == 2
