# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrations before any server is asked: names, lexer, shapes, lock ids, plans."""

from __future__ import annotations

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, NotFound, Refused
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate import files, lexer, plan
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate.create import create
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate.lock import lock_id, lock_ids
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate.shape import Shape, read_script
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate.state import State, StateTable


def directory(tmp_path, *names, text="select 1;"):
    for name in names:
        (tmp_path / name).write_text(text)
    return str(tmp_path)


def texts(script):
    return [item.text for item in lexer.statements(script)]


# -- names


@pytest.mark.parametrize(
    ("name", "version", "title", "direction"),
    [
        ("000001_create_users.up.sql", 1, "create_users", "up"),
        ("1_.up.sql", 1, "", "up"),
        ("20261122130500_x.down.sql", 20261122130500, "x", "down"),
        ("1_a.up.b.down.sql", 1, "a.up.b", "down"),
        ("0_zero.up.sql", 0, "zero", "up"),
    ],
)
def test_a_name_is_read_as_golang_migrate_reads_it(name, version, title, direction):
    parsed = files.parse("/some/where/" + name)
    assert (parsed.version, parsed.name, parsed.direction) == (version, title, direction)


@pytest.mark.parametrize(
    "name", ["create_users.up.sql", "1-x.up.sql", "1_x.sql", "\u0661_x.up.sql", "1_x.up.sql\n", "x1_y.up.sql"]
)
def test_a_name_that_golang_migrate_skips_is_no_migration(name):
    assert files.parse(name) is None


@pytest.mark.parametrize("stray", ["000001_x.up.sql~", "000001_x.up.sql.orig", "000002_y.down.sql.bak"])
def test_an_editors_backup_is_refused_by_name_and_never_applied(tmp_path, stray):
    with pytest.raises(BadInput, match=stray):
        files.load(directory(tmp_path, "000001_x.up.sql", stray))


def test_the_same_version_twice_names_both_files_whatever_their_names(tmp_path):
    with pytest.raises(BadInput, match=r"001_a\.up\.sql and 1_b\.up\.sql"):
        files.load(directory(tmp_path, "001_a.up.sql", "1_b.up.sql"))


def test_versions_are_ordered_by_number_and_gaps_are_fine(tmp_path):
    names = ["10_c.up.sql", "9_b.up.sql", "0100_d.up.sql", "2_a.down.sql"]
    assert files.load(directory(tmp_path, *names)).versions == (2, 9, 10, 100)


def test_a_version_beyond_bigint_is_refused(tmp_path):
    with pytest.raises(BadInput, match="9223372036854775807"):
        files.load(directory(tmp_path, "9223372036854775808_x.up.sql"))


def test_what_is_not_utf8_is_refused_with_its_line(tmp_path):
    (tmp_path / "1_x.up.sql").write_bytes(b"select 1;\n-- caf\xe9\n")
    with pytest.raises(BadInput, match=r"1_x\.up\.sql:2 is not UTF-8"):
        files.load(str(tmp_path)).at(1).up.script()


def test_a_file_of_fifty_megabytes_is_refused_before_it_is_read(tmp_path):
    with open(tmp_path / "1_x.up.sql", "wb") as stream:
        stream.truncate(50 << 20)
    with pytest.raises(BadInput, match="52428800 bytes"):
        files.load(str(tmp_path)).at(1).up.read()


def test_an_open_quote_is_told_with_line_and_column(tmp_path):
    (tmp_path / "1_x.up.sql").write_text("select 1;\nselect 'oops;\n")
    with pytest.raises(BadInput, match=r"1_x\.up\.sql:2:8"):
        files.load(str(tmp_path)).at(1).up.script()


# -- lexer


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("select 1; select 2", ["select 1", "select 2"]),
        ("select ';'; select $$;$$", ["select ';'", "select $$;$$"]),
        ("select $a$ $$ ; $b$ $a$; x", ["select $a$ $$ ; $b$ $a$", "x"]),
        ("select E'\\';'; x", ["select E'\\';'", "x"]),
        ("select '\\'; x", ["select '\\'", "x"]),
        ('select "a;""b"; x', ['select "a;""b"', "x"]),
        ("select 1 /* ; /* ; */ ; */ + 1; x", ["select 1 /* ; /* ; */ ; */ + 1", "x"]),
        ("select 1 --;\n+ 1; x", ["select 1 --;\n+ 1", "x"]),
        ("select $1; select a$b$ from t; x", ["select $1", "select a$b$ from t", "x"]),
        ("create rule r as on insert to t do (a; b); x", ["create rule r as on insert to t do (a; b)", "x"]),
        (
            "create function f() returns int begin atomic select case when true then 1 end; select 2; end; x",
            ["create function f() returns int begin atomic select case when true then 1 end; select 2; end", "x"],
        ),
        (";;  ; -- nothing\n", []),
    ],
)
def test_a_statement_ends_where_the_server_says_it_ends(script, expected):
    assert texts(script) == expected


PIECES = ["select 1", "'a;b'", '"q;"', "$$ ; $$", "$t$ ' \" $$ $t$", "/* ; */", "E'\\'; '", "x", "::int", "$1", "1.5"]


@given(st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4), max_size=6))
def test_joined_statements_come_apart_again(pieces):
    made = [" ".join(["do", *words, "end_"]) for words in pieces]
    assert texts(" ;\n".join(made)) == made


@given(st.text(alphabet="ab'\"$;-/*\\\n eE$(1", max_size=40))
def test_any_text_is_either_taken_apart_without_loss_or_refused(text):
    try:
        found = list(lexer.tokens(text))
    except lexer.Unterminated as exc:
        event(str(0 <= exc.position < len(text)))
        return
    position = 0
    for token in found:
        assert text[position : token.start].strip() == ""
        assert text[token.start : token.start + len(token.text)] == token.text
        position = token.start + len(token.text)
    assert text[position:].strip() == ""


@pytest.mark.parametrize(
    ("script", "shape"),
    [
        ("-- only words", Shape.EMPTY),
        ("create table t (); create index on t ((1))", Shape.ATOMIC),
        ("-- why\ncreate unique index concurrently i on t (a);", Shape.ALONE),
        ("drop index concurrently if exists i", Shape.ALONE),
        ("set lock_timeout = 1; create index concurrently i on t (a)", Shape.IMPOSSIBLE),
        ("begin; create table t (); commit", Shape.SPLIT),
        ("create function f() returns void language plpgsql as $$ begin commit; end $$", Shape.ATOMIC),
        ("-- dbops: no-transaction\nselect 1; create index concurrently i on t (a)", Shape.MARKED),
        ("vacuum t", Shape.ALONE),
        ("refresh materialized view concurrently v; select 1", Shape.ATOMIC),
        ("alter table t detach partition p concurrently", Shape.ALONE),
        ("reindex table concurrently t", Shape.ALONE),
        ("rollback to savepoint s; select 1", Shape.ATOMIC),
    ],
)
def test_the_shape_of_a_file(script, shape):
    assert read_script(script).shape is shape


def test_nothing_of_ours_joins_a_file_that_becomes_another_role():
    assert read_script("create table t ()").may_be_followed
    assert not read_script("set local role app; create table t ()").may_be_followed


# -- the lock


@pytest.mark.parametrize(
    ("names", "number"),
    [
        (("public", "schema_migrations", "/ridehailing"), 2827920878),
        (("public", "schema_migrations", "ridehailing"), 2196464482),
        (("database_name",), 1764327054),
        (("schema_name_1", "database_name"), 2453313553),
        (("schema_name_1", "schema_name_2", "database_name"), 3743845847),
    ],
)
def test_lock_ids_are_golang_migrates(names, number):
    assert lock_id(*names) == number


def test_both_ways_of_naming_the_database_are_locked():
    assert lock_ids(StateTable("public", "schema_migrations"), "ridehailing") == (2827920878, 2196464482)


# -- plans


@pytest.fixture
def three(tmp_path):
    return files.load(directory(tmp_path, *(f"{n}_x.{half}.sql" for n in (2, 5, 9) for half in ("up", "down"))))


UNKNOWN = plan.Known({}, None)


def moves(migrations, state, request, known=UNKNOWN):
    return [(step.version, step.direction, step.target) for step in plan.steps(migrations, state, known, request)]


def test_up_moves_the_state_to_each_version_and_down_to_the_one_below(three):
    assert moves(three, State(-1, False), plan.Request("up")) == [(2, "up", 2), (5, "up", 5), (9, "up", 9)]
    assert moves(three, State(9, False), plan.Request("down")) == [(9, "down", 5), (5, "down", 2), (2, "down", -1)]
    assert moves(three, State(2, False), plan.Request("goto", version=9)) == [(5, "up", 5), (9, "up", 9)]
    assert moves(three, State(9, False), plan.Request("goto", version=2)) == [(9, "down", 5), (5, "down", 2)]
    assert moves(three, State(9, False), plan.Request("goto", version=-1))[-1] == (2, "down", -1)
    assert moves(three, State(9, False), plan.Request("up")) == []


@given(st.sampled_from([-1, 2, 5, 9]), st.sampled_from([-1, 2, 5, 9]))
def test_going_somewhere_and_back_runs_the_same_versions(tmp_path_factory, start, goal):
    here = tmp_path_factory.mktemp("m")
    migrations = files.load(directory(here, *(f"{n}_x.{half}.sql" for n in (2, 5, 9) for half in ("up", "down"))))
    there = moves(migrations, State(start, False), plan.Request("goto", version=goal))
    back = moves(migrations, State(goal, False), plan.Request("goto", version=start))
    assert [version for version, _way, _target in there] == [version for version, _way, _target in reversed(back)]
    assert not there or there[-1][2] == goal


@pytest.mark.parametrize("verb", ["up", "down", "goto"])
def test_a_dirty_state_stops_every_way(three, verb):
    with pytest.raises(Refused, match="dirty at 5"):
        plan.steps(three, State(5, True), UNKNOWN, plan.Request(verb, version=9))


def test_a_database_ahead_of_the_files_is_refused(three):
    with pytest.raises(Refused, match="at version 7"):
        plan.steps(three, State(7, False), UNKNOWN, plan.Request("up"))


def test_more_steps_than_there_are_is_refused_before_any_is_run(three):
    with pytest.raises(BadInput, match="only 2"):
        plan.steps(three, State(5, False), UNKNOWN, plan.Request("down", count=3))
    with pytest.raises(BadInput, match="only 1"):
        plan.steps(three, State(5, False), UNKNOWN, plan.Request("up", count=2))


def test_goto_wants_a_version_that_there_is(three):
    with pytest.raises(NotFound, match="version 3"):
        plan.steps(three, State(5, False), UNKNOWN, plan.Request("goto", version=3))


def test_a_late_file_is_an_error_and_applied_when_asked_without_moving_the_state(three):
    known = plan.Known({2: None, 9: None}, 9)
    with pytest.raises(Refused, match="numbered below 9"):
        plan.steps(three, State(9, False), known, plan.Request("up"))
    assert moves(three, State(9, False), plan.Request("up", out_of_order=True), known) == [(5, "up", 9)]


def test_what_another_tool_applied_after_our_last_look_is_not_late(three):
    assert moves(three, State(9, False), plan.Request("up"), plan.Known({2: None}, 2)) == []


def test_an_edited_file_is_an_error_until_it_is_accepted(three):
    known = plan.Known({2: "another checksum"}, 2)
    with pytest.raises(Refused, match=r"2_x\.up\.sql"):
        plan.steps(three, State(2, False), known, plan.Request("up"))
    assert moves(three, State(2, False), plan.Request("up", count=1, accept_edited=True), known) == [(5, "up", 5)]


def test_a_missing_down_is_refused_instead_of_only_moving_the_state(tmp_path):
    migrations = files.load(directory(tmp_path, "1_x.up.sql"))
    with pytest.raises(Refused, match="no down file"):
        plan.steps(migrations, State(1, False), UNKNOWN, plan.Request("down"))
    assert moves(migrations, State(1, False), plan.Request("down", without_down=True)) == [(1, "down", -1)]


def test_a_new_pair_is_numbered_after_the_highest(tmp_path):
    where = directory(tmp_path, "000009_x.up.sql", "000010_y.up.sql")
    assert [name.rsplit("/")[-1] for name in create(where, "Add Tips!")["files"]] == [
        "000011_add_tips.up.sql",
        "000011_add_tips.down.sql",
    ]
    assert files.load(where).versions == (9, 10, 11)
