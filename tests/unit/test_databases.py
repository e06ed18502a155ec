# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements for databases of any name and nature, written without asking a server."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, Corrupt, Refused
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.databases import (
    Database,
    Grant,
    Setting,
    creation,
    derived_name,
    finishing,
    from_mapping,
    literal,
    setting_value,
    strangers,
    to_mapping,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.tables import (
    Counts,
    Table,
    differences,
    label_of,
    parsed,
)

names = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), min_size=1, max_size=70)


def database(**changes):
    return Database(**{"name": "shop", "owner": "app", "encoding": "UTF8", "collate": "C", "ctype": "C", **changes})


@given(names, st.integers(0, 40))
def test_a_derived_name_fits_and_keeps_its_ending(name, length):
    made = derived_name(name, "_" + "x" * length)
    assert len(made.encode()) <= max(63, 0)
    assert made.endswith("_" + "x" * length)
    assert name.startswith(made[: -length - 1])


@given(names)
def test_a_literal_is_read_back_as_it_was(text):
    quoted = literal(text)
    if quoted.startswith("E"):
        assert quoted[2:-1].replace("''", "'").replace("\\\\", "\\") == text
    else:
        assert quoted[1:-1].replace("''", "'") == text
        assert "\\" not in text


def test_what_a_backup_keeps_of_a_database_is_read_back_the_same():
    kept = database(settings=(Setting("work_mem", "1MB", "app"),), grants=(Grant("CONNECT", None),), size_bytes=5)
    assert from_mapping(json.loads(json.dumps(to_mapping(kept))), where="x") == kept
    with pytest.raises(Corrupt, match=r"databases\.json"):
        from_mapping({"name": "shop"}, where="databases.json")


@pytest.mark.parametrize(
    ("provider", "major", "words"),
    [
        ("libc", 14, "LC_COLLATE 'C' LC_CTYPE 'C'"),
        ("libc", 15, "LOCALE_PROVIDER libc LC_COLLATE 'C'"),
        ("icu", 15, "LOCALE_PROVIDER icu LC_COLLATE 'C' LC_CTYPE 'C' ICU_LOCALE 'x'"),
        ("builtin", 17, "LOCALE_PROVIDER builtin LC_COLLATE 'C' LC_CTYPE 'C' BUILTIN_LOCALE 'x'"),
    ],
)
def test_create_database_is_spelt_as_the_server_knows_it(provider, major, words):
    assert words in creation(database(provider=provider, locale="x"), major=major)


@pytest.mark.parametrize(("provider", "major"), [("icu", 14), ("builtin", 16)])
def test_a_provider_that_the_server_lacks_is_refused(provider, major):
    with pytest.raises(Refused, match=provider):
        creation(database(provider=provider, locale="x"), major=major)


def test_roles_that_are_not_there_are_left_out_and_told():
    made = database(
        settings=(Setting("a", "1", "gone"), Setting("b", "2", "app"), Setting("c", "3")),
        grants=(Grant("CONNECT", "gone"), Grant("CONNECT", "app"), Grant("TEMPORARY", None)),
    )
    statements = list(finishing(made, roles=frozenset({"app"})))
    assert not any("gone" in statement for statement in statements)
    assert 'ALTER ROLE "app" IN DATABASE "shop" SET "b" TO \'2\'' in statements
    assert 'GRANT TEMPORARY ON DATABASE "shop" TO PUBLIC' in statements
    assert strangers(made, frozenset({"app"})) == ["gone"]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a, b", "'a', 'b'"),
        ('"$user", public', "'$user', 'public'"),
        ('"odd, ""name"""', "'odd, \"name\"'"),
        ('""', "''"),
        ("", "''"),
    ],
)
def test_a_list_of_names_stays_a_list_of_names(value, written):
    assert setting_value(Setting("search_path", value)) == written
    assert setting_value(Setting("app.path", value)) == literal(value)


@pytest.mark.parametrize(
    ("pattern", "schema", "name"),
    [
        ("orders", None, "^(orders)$"),
        ("ORDERS", None, "^(orders)$"),
        ('"ORDERS"', None, "^(ORDERS)$"),
        ("public.o*", "^(public)$", "^(o.*)$"),
        ("*.a?b", "^(.*)$", "^(a.b)$"),
        ('"a.b*"."c""d"', r"^(a\.b\*)$", '^(c"d)$'),
        ("a$b", None, r"^(a\$b)$"),
        ("(a|b)", None, "^((a|b))$"),
        ("a[]", None, r"^(a\[])$"),
    ],
)
def test_a_pattern_means_what_it_means_to_pg_dump(pattern, schema, name):
    found = parsed(pattern)
    assert (found.schema, found.name) == (schema, name)


@pytest.mark.parametrize("pattern", ["", "a.b.c", 'a"b', ".a", "a."])
def test_a_pattern_that_is_none_is_refused(pattern):
    with pytest.raises(BadInput, match="not a table pattern"):
        parsed(pattern)


@given(st.tuples(names, names), st.tuples(names, names))
def test_two_tables_never_share_a_label(one, other):
    assert (label_of(*one) == label_of(*other)) == (one == other)


def table(label, **changes):
    return Table(**{"oid": 1, "schema": "public", "name": label, "materialised": False, "filenode": 1, **changes})


def test_every_kind_of_difference_is_told_and_nothing_else():
    tables = [table("same"), table("less"), table("seen", materialised=True), table("locked"), table("new")]
    found = Counts({"public.same": 1, "public.less": 2, "public.seen": 9, "public.new": 4}, {"public.locked": "why"})
    expected = {"public.same": 1, "public.less": 3, "public.seen": 1, "public.locked": 1, "public.gone": 0}
    assert differences(expected, tables, found) == [
        "public.gone: missing, 0 rows were dumped",
        "public.less: 2 rows, 3 were dumped",
        "public.locked: could not be counted (why)",
    ]
