# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks: the same under the same key, another for each value, never one in which an original is found."""

from __future__ import annotations

import json
import math
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, Corrupt
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed.masks import MASKS, Masker, check_value, leaves
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed.subset_rules import Column, from_mapping
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed.survivors import Originals

KEY = b"k" * 32
KINDS = sorted(set(MASKS) - {"json", "bytes"})
WORDS = st.text(st.characters(categories=["L", "N"]), min_size=4, max_size=12).filter(lambda it: not it.isdigit())


def masker(*values: str, key: bytes = KEY) -> Masker:
    originals = Originals()
    for value in values:
        originals.add(value)
    return Masker(key, originals)


@given(st.sets(WORDS, min_size=2, max_size=20), st.sampled_from(KINDS))
def test_a_mask_is_the_same_again_tells_values_apart_and_hides_them(values, kind):
    listed = sorted(values)
    mine = masker(*listed)
    masked = {value: mine.mask(kind, value) for value in listed}
    assert masked == {value: masker(*listed).mask(kind, value) for value in listed}
    assert len(set(masked.values())) == len(listed)
    originals = Originals()
    for value in listed:
        originals.add(value)
    assert not any(originals.found_in(made) for made in masked.values())
    assert masked != {value: masker(*listed, key=b"j" * 32).mask(kind, value) for value in listed}


def test_formats_stay():
    mine = masker()
    assert re.fullmatch(r"\+1\d{10}", mine.mask("code", "+14155550123", 2))
    assert re.fullmatch(r"[A-Z]{2}-\d{4}[a-z]", mine.mask("code", "AB-1234x"))
    assert re.fullmatch(r"[a-z]+\d+@example\.com", mine.mask("email", "Ada.Lovelace@home.org"))
    assert re.fullmatch(r"[A-Z][a-z]{3}, [A-Z]{3} [a-z]{2} \d{2}!", mine.mask("words", "Dear, ADA at 12!"))
    assert uuid.UUID(mine.mask("uuid", str(uuid.uuid4()))).version == 8
    assert mine.mask("words", "") == ""


def test_every_string_in_a_json_value_is_masked_and_the_rest_stays():
    key = "5eed02c6-9bc6-8000-8000-000000000104"
    value = {"ride": key, "to": ["Ada", {"n": 3, "ok": True, "none": None}]}
    masked = json.loads(masker().mask("json", json.dumps(value)))
    assert masked["to"][1] == {"n": 3, "ok": True, "none": None}
    assert masked["to"][0] != "Ada"
    assert masked["ride"] == masker().mask("uuid", key), "as in every other column"
    assert leaves(json.dumps(value)) == [key, "Ada"]


@given(st.floats(-80, 80), st.floats(-179, 179), st.integers(50, 2000))
def test_a_place_moves_by_a_third_of_the_radius_to_all_of_it_and_always_to_the_same(latitude, longitude, radius):
    here = f"{latitude:.6f}", f"{longitude:.6f}"
    moved = masker().place(*here, radius)
    assert moved == masker().place(*here, radius)
    north = (float(moved[0]) - float(here[0])) * 111_200
    east = (float(moved[1]) - float(here[1])) * 111_200 * math.cos(math.radians(float(here[0])))
    assert radius / 3 - 1 <= math.hypot(north, east) <= radius + 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ada@home.org", True),
        ("Write to ADA@HOME.ORG.", True),
        ("She lives at 12 Bay  Ave, they say", True),
        ("12 Bay Street", False),
        ("lovelaces", False),
        ("Mrs LOVELACE", True),
        ("4155550123", True),
        ("at", False),
    ],
)
def test_an_original_is_found_wherever_it_stands(text, found):
    originals = Originals()
    for value in ("ada@home.org", "12 Bay Ave", "Lovelace", "4155550123", "at"):
        originals.add(value)
    assert originals.found_in(text) is found


def test_a_column_without_room_to_hide_is_told():
    mine = masker("aaaa bbbb")
    with pytest.raises(Corrupt, match="could not be masked"):
        mine.mask("code", "aaaa bbbb", 9)


def test_the_key_is_told_by_what_does_not_tell_it():
    assert check_value(KEY) != check_value(b"j" * 32)
    assert KEY.decode() not in check_value(KEY)


@pytest.mark.parametrize(
    ("column", "needs"),
    [
        (Column("note", "text"), True),
        (Column("data", "jsonb"), True),
        (Column("home", "point"), True),
        (Column("latitude", "numeric"), True),
        (Column("birth_date", "date"), True),
        (Column("amount", "numeric"), False),
        (Column("phone_verified_at", "timestamptz"), False),
        (Column("status", "ride_status", enum=True), False),
        (Column("currency", "bpchar", reference=True), False),
        (Column("whole", "text", generated=True), False),
    ],
    ids=lambda it: it.name if isinstance(it, Column) else str(it),
)
def test_what_may_be_about_a_person_needs_a_rule(column, needs):
    assert column.needs_rule is needs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "have format 2"),
        ({"colums": {}}, "unknown key 'colums'"),
        ({"columns": {"users.email": {"mask": "magic"}}}, "no mask 'magic'"),
        ({"columns": {"users.email": {"mask": "email", "keep": "because we can"}}}, "is one of mask, set, null"),
        ({"columns": {"users.email": {}}}, "is one of mask, set, null"),
        ({"columns": {"users.email": {"keep": "why"}}}, "wants a reason"),
        ({"places": {"rides": [["latitude"]]}}, "wants pairs"),
        ({"radius_m": 1}, "radius_m must lie between"),
    ],
)
def test_rules_that_cannot_be_right_are_named(change, message):
    base = {"format": 1, "name": "small", "roots": {"table": "users"}, "columns": {}}
    with pytest.raises(BadInput, match=message):
        from_mapping({**base, **change})
