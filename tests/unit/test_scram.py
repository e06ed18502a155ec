# SPDX-License-Identifier: GPL-3.0-or-later
"""Verifiers are the server's own.."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg import scram

FEW = 2


@given(st.text(min_size=1, max_size=30), st.binary(min_size=1, max_size=20))
@settings(deadline=None)
def test_a_verifier_is_recognized_by_its_password(password, salt):
    assert scram.belongs_to(scram.make_verifier(password, salt=salt, iterations=FEW), password)


@given(st.text("abcXYZ019 -", min_size=1), st.text("abcXYZ019 -", min_size=1))
@settings(deadline=None)
def test_another_password_is_not_recognized(password, other):
    assert scram.belongs_to(scram.make_verifier(password, iterations=FEW), other) == (password == other)


def test_two_verifiers_of_one_password_differ():
    assert scram.make_verifier("x", iterations=FEW) != scram.make_verifier("x", iterations=FEW)


@pytest.mark.parametrize("stored", ["", "md5d578efef9b6d0d1cd6dbdbd7dbbfb0f5", "SCRAM-SHA-256$x", "secret"])
def test_anything_but_a_verifier_belongs_to_no_password(stored):
    assert not scram.belongs_to(stored, "secret")
