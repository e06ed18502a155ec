# SPDX-License-Identifier: GPL-3.0-or-later
"""Which line of which file the server will go by, told before it reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.config_files import (
    configuration,
    parse,
    quoted,
)


def last(lines) -> dict[str, tuple[str, str, int]]:
    return {line.name: (line.value, Path(line.file).name, line.number) for line in lines}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("archive_mode = on", ("archive_mode", "on")),
        ("Archive_Mode on # why", ("archive_mode", "on")),
        ("  archive_timeout=5min", ("archive_timeout", "5min")),
        ("archive_command = 'cp \"%p\" /x/%f' # cp", ("archive_command", 'cp "%p" /x/%f')),
        ("archive_command = 'it''s # not a comment'", ("archive_command", "it's # not a comment")),
        (r"archive_command = 'a\'b\\c'", ("archive_command", r"a'b\c")),
        ("archive_command = ''", ("archive_command", "")),
        ("dbops.custom = 3", ("dbops.custom", "3")),
    ],
)
def test_a_line_is_read_as_the_server_reads_it(text, expected):
    ((name, value),) = [(line.name, line.value) for line in parse(text, "f")]
    assert (name, value) == expected


@pytest.mark.parametrize("text", ["# archive_mode = on", "", "   ", "archive_mode", "= on", "'x' = 1"])
def test_what_sets_nothing_is_passed_over(text):
    assert list(parse(text, "f")) == []


@given(st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" ")))
def test_what_is_quoted_is_read_back_as_it_was(value):
    (line,) = parse(f"archive_command = {quoted(value)}", "f")
    assert line.value == value


@pytest.fixture
def main(tmp_path: Path) -> Path:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "data").mkdir()
    return tmp_path / "postgresql.conf"


def test_files_are_read_in_the_servers_order_and_the_last_line_counts(main):
    main.write_text("a = 1\nb = 1\nc = 1\nd = 1\ninclude_dir 'conf.d'\nc = 4\ninclude_if_exists = 'missing.conf'\n")
    (main.parent / "conf.d/10.conf").write_text("a = 2\nb = 2\nc = 2\ninclude '../more.inc'\n")
    (main.parent / "conf.d/20.conf").write_text("b = 3\n")
    (main.parent / "conf.d/.hidden.conf").write_text("a = no\n")
    (main.parent / "conf.d/30.conf.bak").write_text("a = no\n")
    (main.parent / "more.inc").write_text("e = 5\n")
    (main.parent / "data/postgresql.auto.conf").write_text("d = '9'\n")
    assert last(configuration(str(main), str(main.parent / "data"))) == {
        "a": ("2", "10.conf", 1),
        "b": ("3", "20.conf", 1),
        "c": ("4", "postgresql.conf", 6),
        "d": ("9", "postgresql.auto.conf", 1),
        "e": ("5", "more.inc", 1),
    }


def test_planned_files_count_as_if_they_were_there_and_removed_ones_as_if_not(main):
    main.write_text("a = 1\n")
    old, new = main.parent / "conf.d/40.conf", main.parent / "conf.d/50.conf"
    old.write_text("a = 4\n")
    planned = {str(main): "a = 1\ninclude_dir = 'conf.d'\n", str(new): "b = 5\n", str(old): None}
    found = last(configuration(str(main), str(main.parent / "data"), planned))
    assert found == {"a": ("1", "postgresql.conf", 1), "b": ("5", "50.conf", 1)}
    assert not new.exists()


def test_files_that_include_each_other_come_to_an_end(main):
    main.write_text("a = 1\ninclude 'postgresql.conf'\n")
    assert last(configuration(str(main), str(main.parent / "data")))["a"][0] == "1"
