# SPDX-License-Identifier: GPL-3.0-or-later
"""Tars, scripts and globals of dumps, cut and bent in every way that needs no server."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup.flat_tar import (
    flat_tar,
    names_in,
    unpack_flat,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, Corrupt
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore.dump_source import format_of
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore.plain_script import checked_script
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore.roles import globals_plan, split

KEY = "k3y"
END = "--\n-- PostgreSQL database dump complete\n--\n\n"
SCRIPT = (
    f"--\n-- PostgreSQL database dump\n--\n\n\\restrict {KEY}\n\nCREATE TABLE a ();\n"
    + "COPY a FROM stdin;\n1\n\\.\n" * 3000
    + END
    + f"\\unrestrict {KEY}\n\n"
).encode()


def pieces(data, size):
    return iter([data[at : at + size] for at in range(0, len(data), size)])


@given(st.integers(1, 30_000))
def test_a_script_passes_whole_but_for_the_lines_of_restricted_mode(size):
    passed = b"".join(checked_script(pieces(SCRIPT, size), "x"))
    expected = SCRIPT.replace(b"\\restrict k3y\n", b"").replace(b"\\unrestrict k3y\n", b"")
    assert passed.rstrip(b"\n") == expected.rstrip(b"\n")


@given(st.integers(0, len(SCRIPT.rstrip()) - 1), st.integers(1, 30_000))
def test_a_script_cut_anywhere_is_refused_before_its_last_bytes_have_passed(length, size):
    passed: list[bytes] = []
    with pytest.raises(Corrupt, match="closing comment"):
        passed.extend(checked_script(pieces(SCRIPT[:length], size), "x"))
    assert sum(map(len, passed)) <= max(0, length - 8000)


def test_a_script_of_an_older_pg_dump_has_no_key_and_passes():
    script = b"--\n-- PostgreSQL database dump\n--\n\nCREATE TABLE a ();\n" + END.encode()
    assert b"".join(checked_script(iter([script]), "x")) == script


def test_the_key_of_one_dump_does_not_end_another():
    with pytest.raises(Corrupt):
        list(checked_script(iter([SCRIPT.replace(b"\\unrestrict k3y", b"\\unrestrict other")]), "x"))


@pytest.mark.parametrize("line", ["CREATE DATABASE x;", "DROP DATABASE x;", "\\connect x"])
def test_a_script_that_leaves_its_database_is_refused_unless_that_is_only_data(line):
    with pytest.raises(BadInput, match="would leave"):
        list(checked_script(iter([f"SET a = 1;\n{line}\nCREATE TABLE a ();\n{END}".encode()]), "x"))
    data = f"CREATE TABLE a ();\nCOPY a FROM stdin;\n{line}\n\\.\n{END}".encode()
    assert b"".join(checked_script(iter([data]), "x")) == data


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"PGDMP\1\x10\0\4\x08\1rest", "custom"),
        (b"PGDMP\1\x10\0\4\x08\3rest", None),  # a table of contents without its files
        (b"PGDM", None),
        (b"--\n-- PostgreSQL", "plain"),
        (b"toc.dat".ljust(257, b"\0") + b"ustar", "directory"),
        (b"\xff\xfes\0e\0l\0", None),  # UTF-16
    ],
)
def test_a_dump_is_known_by_its_first_bytes(head, found):
    assert format_of(head) == found


# -- tars


@given(content=st.dictionaries(st.from_regex(r"\A[a-z0-9]{1,9}\.dat\Z"), st.binary(max_size=2000), max_size=5),
       size=st.integers(1, 5000))  # fmt: skip
def test_a_directory_comes_out_of_its_tar_as_it_went_in(tmp_path_factory, content, size):
    source, target = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    for name, data in {**content, "toc.dat": b"PGDMP"}.items():
        (source / name).write_bytes(data)
    packed = b"".join(flat_tar(str(source)))
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert archive.getnames()[0] == "toc.dat"
    unpack_flat(pieces(packed, size), str(target), what="x")
    assert {p.name: p.read_bytes() for p in target.iterdir()} == {p.name: p.read_bytes() for p in source.iterdir()}


@given(st.data())
def test_a_tar_cut_anywhere_is_corrupt(tmp_path_factory, data):
    source = tmp_path_factory.mktemp("a")
    for name in ("toc.dat", "1.dat", "2.dat"):
        (source / name).write_bytes(b"x" * 700)
    packed = b"".join(flat_tar(str(source))).rstrip(b"\0")
    with pytest.raises(Corrupt):
        names_in(iter([packed[: data.draw(st.integers(0, len(packed) - 1))]]), what="x")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../x"}, {"name": "/x"}, {"name": "a/b/x"}, {"name": "x", "type": tarfile.SYMTYPE, "linkname": "/etc"},
        {"name": "x", "type": tarfile.LNKTYPE, "linkname": "toc.dat"}, {"name": "x", "type": tarfile.FIFOTYPE},
        {"name": ".hidden"}, {"name": "a b"},
    ],
)  # fmt: skip
def test_nothing_but_plain_files_comes_out_of_a_tar(tmp_path, changes):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("toc.dat"))
        info = tarfile.TarInfo()
        for name, value in changes.items():
            setattr(info, name, value)
        archive.addfile(info)
    with pytest.raises(Corrupt, match="no dump of pg_dump has"):
        unpack_flat(iter([packed.getvalue()]), str(tmp_path), what="x")
    assert [path.name for path in tmp_path.iterdir()] == ["toc.dat"]


def test_a_file_that_comes_twice_is_refused(tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("d/toc.dat"))
        archive.addfile(tarfile.TarInfo("e/toc.dat"))
    with pytest.raises(Corrupt, match="twice"):
        unpack_flat(iter([packed.getvalue()]), str(tmp_path), what="x")


# -- globals

GLOBALS = '''
--
-- PostgreSQL database cluster dump
--
\\restrict abc
SET default_transaction_read_only = off;
SET client_encoding = 'UTF8';
CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM;--''x';
ALTER ROLE app SET search_path TO 'a;b', E'c\\\\';
CREATE ROLE "odd; ""x""";
ALTER ROLE "odd; ""x""" WITH NOLOGIN;
COMMENT ON ROLE "odd; ""x""" IS 'two
lines; \\connect postgres';
GRANT app TO kept WITH INHERIT TRUE GRANTED BY postgres;
GRANT kept TO app WITH INHERIT TRUE GRANTED BY postgres;
GRANT SET ON PARAMETER work_mem TO app;
CREATE TABLESPACE far OWNER app LOCATION '/x;y';
GRANT ALL ON TABLESPACE far TO app;
\\unrestrict abc
'''


def about(roles=(), tablespaces=(), **options):
    plan = globals_plan(GLOBALS, roles=roles, tablespaces=tablespaces, **options)
    return plan, [(statement.kind, statement.about) for statement in plan.statements if statement.about]


def test_on_an_empty_server_every_statement_is_run():
    plan, run = about(roles=["postgres", "kept"])
    assert plan.created == ("app", 'odd; "x"')
    assert plan.kept == ("kept",)
    assert plan.tablespaces == ("far",)
    assert run == [
        ("role", "app"), ("role", "app"), ("role", "app"),
        ("role", 'odd; "x"'), ("role", 'odd; "x"'), ("role", 'odd; "x"'),
        ("role", "app"), ("role", "app"),
        ("tablespace", "far"), ("tablespace", "far"),
    ]  # fmt: skip
    assert "two\nlines; \\connect postgres" in "".join(statement.text for statement in plan.statements)


def test_what_is_there_is_not_touched():
    plan, run = about(roles=["kept", "app"], tablespaces=["far"])
    assert {name for _kind, name in run} == {'odd; "x"'}
    assert plan.kept == ("app", "kept", "far")


def test_tablespaces_can_be_left_out():
    assert not [kind for kind, _name in about(with_tablespaces=False)[1] if kind == "tablespace"]


@pytest.mark.parametrize("line", ["DROP ROLE app;", "SELECT 1;", "CREATE DATABASE x;", "DO $$ begin; end $$;"])
def test_a_statement_that_pg_dumpall_does_not_write_is_refused(line):
    with pytest.raises(Corrupt, match="does not write"):
        globals_plan(line, roles=(), tablespaces=())


def test_globals_that_end_inside_of_a_statement_are_refused():
    with pytest.raises(Corrupt, match="middle of a statement"):
        split("CREATE ROLE a")
