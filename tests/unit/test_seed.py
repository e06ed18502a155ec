# SPDX-License-Identifier: GPL-3.0-or-later
"""Profiles are understood or refused before a server is asked; shares become exact counts."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, NotFound
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed import profile
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed.functions import literal
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed.plan import CHUNK, at_scale
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed.quota import cuts, quotas
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed.run import resolved

SEEDS = Path(__file__).resolve().parents[2] / "examples" / "ridehailing" / "seed"
SMALL = {
    "format": 1,
    "name": "small",
    "version": 1,
    "counts": {"people": 10},
    "mixes": {"kind": {"of": "people", "shares": {"cat": 7, "dog": 3}}},
    "parts": [
        {
            "name": "pets",
            "table": "pets",
            "rows": "people",
            "split": "people",
            "source": "generate_series($lo, $hi) n",
            "columns": {"id": "seed_id('pets', n)", "kind": "seed_kind(n - 1)", "legs": 4, "good": True, "note": None},
        }
    ],
}


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=9).filter(any), st.integers(0, 10**7))
def test_quotas_add_up_and_no_share_is_off_by_one(shares, total):
    counts = quotas(shares, total)
    assert sum(counts) == total
    for share, count in zip(shares, counts):
        assert abs(count - total * share / sum(shares)) < 1
        assert share or not count


def test_a_tie_goes_to_the_share_that_comes_first():
    assert quotas([1, 1, 1], 10) == [4, 3, 3]
    assert quotas([98, 2], 140) == [137, 3]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any))
def test_cuts_give_each_class_its_count(counts):
    edges = cuts(counts)
    classes = [sum(edge <= rank for edge in edges) for rank in range(sum(counts))]  # as width_bucket
    assert [classes.count(i) for i in range(len(counts))] == counts


def test_the_scale_multiplies_counts_and_their_shares():
    sized = profile.from_mapping(SMALL).sized(20)
    assert sized == {"people": 200, "kind.cat": 140, "kind.dog": 60}


def test_bare_values_are_sql():
    columns = profile.from_mapping(SMALL).parts[0].columns
    assert (columns["legs"], columns["good"], columns["note"]) == ("4", "true", "null")


@given(st.integers(1, 500_000))
def test_chunks_cover_each_row_once(people):
    plan = at_scale(profile.from_mapping({**SMALL, "counts": {"people": people}}), 1, "2026-11-01T00:00:00Z")
    chunks = plan.chunks(plan.profile.parts[0])
    assert chunks[0][0] == 1
    assert chunks[-1][1] == people
    assert all(high + 1 == low for (_first, high), (low, _last) in zip(chunks, chunks[1:]))
    assert max(high - low for low, high in chunks) < CHUNK


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"formt": 1}, "unknown key 'formt'"),
        ({"format": 2}, "has format 2"),
        ({"seed": 70000}, "seed must lie between"),
        ({"parts": []}, "fills no table"),
        ({"counts": {"people": -1}}, "count below 0"),
        ({"mixes": {"kind": {"of": "cats", "shares": {"a": 1}}}}, "divides 'cats', which is no count"),
        ({"mixes": {"kind": {"of": "people", "shares": {"a": 0}}}}, "has no shares"),
        ({"weeks": {"demand": {"weekday": [1] * 23, "weekend": [1] * 24}}}, "weekday must be 24"),
        ({"parts": [{**SMALL["parts"][0], "colums": {}}]}, "unknown key 'parts"),
        ({"parts": [{**SMALL["parts"][0], "name": "drop table"}]}, "cannot be a name"),
        ({"parts": [{**SMALL["parts"][0], "source": "generate_series(1, 10) n"}]}, "does not say where"),
        ({"parts": [SMALL["parts"][0], SMALL["parts"][0]]}, "Two parts are called 'pets'"),
    ],
)
def test_what_cannot_be_right_is_named(change, message):
    with pytest.raises(BadInput, match=message):
        profile.from_mapping({**SMALL, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "generate_series($lo, $hi + $dogs) n"}, r"part 'pets': there is no \$dogs"),
        ({"rows": "people + dogs"}, "'dogs' is no count"),
        ({"columns": {"id": "$words.names"}}, r"there is no \$words.names"),
    ],
)
def test_a_misspelt_name_is_found_without_a_server(change, message):
    wanted = profile.from_mapping({**SMALL, "parts": [{**SMALL["parts"][0], **change}]})
    with pytest.raises(BadInput, match=message):
        at_scale(wanted, 1, "2026-11-01T00:00:00Z")


def test_files_stand_on_each_other_but_not_on_themselves(tmp_path):
    assert profile.load(str(SEEDS / "light.yml")).parts == profile.load(str(SEEDS / "heavy.yml")).parts
    (tmp_path / "a.yml").write_text("extends: b.yml")
    (tmp_path / "b.yml").write_text("extends: a.yml")
    with pytest.raises(BadInput, match="extends itself"):
        profile.load(str(tmp_path / "a.yml"))
    with pytest.raises(NotFound, match=r"no profile .*c.yml"):
        profile.load(str(tmp_path / "c.yml"))
    (tmp_path / "d.yml").write_text("{")
    with pytest.raises(BadInput, match="is not YAML"):
        profile.load(str(tmp_path / "d.yml"))
    (tmp_path / "e.yml").write_text("- 1")
    with pytest.raises(BadInput, match="must hold one mapping"):
        profile.load(str(tmp_path / "e.yml"))


def test_the_digest_is_of_the_content():
    first = profile.from_mapping(SMALL)
    assert profile.from_mapping({**SMALL, "description": ""}).digest() == first.digest()
    assert profile.from_mapping({**SMALL, "seed": 2}).digest() != first.digest()


def test_anchors_are_moments_in_utc():
    now = datetime.datetime(2026, 11, 22, 10, 0, 0, 5, tzinfo=datetime.timezone.utc)
    assert resolved("now", now) == "2026-11-22T10:00:00Z"
    assert resolved("2026-11-01") == "2026-11-01T00:00:00Z"
    assert resolved("2026-11-01T10:00:00+02:00") == "2026-11-01T08:00:00Z"
    with pytest.raises(BadInput, match="'yesterday' is no anchor"):
        resolved("yesterday")


def test_words_are_quoted_for_any_server():
    assert literal("O'Brien") == "'O''Brien'"
    assert literal("a\\b'") == "E'a\\\\b'''"
