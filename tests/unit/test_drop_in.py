# SPDX-License-Identifier: GPL-3.0-or-later
"""What archiving writes among the server's configuration, and what would win over it."""

from __future__ import annotations

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.config_files import Line, parse
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal.drop_in import (
    DROP_IN,
    drop_in_text,
    include_added,
    overriding,
    wanted_values,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal.parameters import normal

SCRIPTS = ("/var/lib/dbops/main/scripts/archive", "/var/lib/dbops/main/scripts/restore")


def values(*, major: int = 18, others: tuple[Line, ...] = (), scripts: tuple[str, str] = SCRIPTS) -> dict[str, str]:
    return wanted_values(scripts, others, major=major, archive_timeout_s=300, summarize_wal=True)


def test_what_is_written_is_what_the_server_reads():
    read = {line.name: line.value for line in parse(drop_in_text("main", values()), DROP_IN)}
    assert read == values()
    assert read["archive_command"] == "/var/lib/dbops/main/scripts/archive %p"
    assert read["restore_command"] == "/var/lib/dbops/main/scripts/restore %f %p"


def test_a_path_with_spaces_quotes_and_percent_signs_reaches_the_shell_whole():
    odd = ("/srv/it's 100%/archive", "/srv/it's 100%/restore")
    read = {line.name: line.value for line in parse(drop_in_text("main", values(scripts=odd)), DROP_IN)}
    assert read["archive_command"] == "'/srv/it'\"'\"'s 100%%/archive' %p"


def test_summaries_only_where_the_server_knows_them():
    assert "summarize_wal" not in values(major=16)
    assert values(major=17)["summarize_wal"] == "on"


def test_an_include_line_is_added_once_however_it_is_spelled(tmp_path):
    main = str(tmp_path / "postgresql.conf")
    added = include_added("a = 1", main)
    assert added is not None
    assert added.startswith("a = 1\ninclude_dir = 'conf.d'")
    assert include_added(added, main) is None
    assert include_added("include_dir conf.d", main) is None
    assert include_added(f"include_dir = '{tmp_path}/./conf.d'", main) is None
    assert include_added("#include_dir = 'conf.d'\ninclude_dir = 'other'\n", main) is not None


@pytest.mark.parametrize(
    ("name", "value", "wins"),
    [
        ("archive_mode", "off", True),
        ("archive_mode", "always", True),
        ("archive_mode", "YES", False),
        ("archive_timeout", "5min", False),
        ("archive_timeout", "0", True),
        ("wal_level", "minimal", True),
        ("wal_level", "logical", False),
        ("work_mem", "1MB", False),
    ],
)
def test_a_line_that_says_otherwise_and_is_read_later_wins(tmp_path, name, value, wins):
    ours = str(tmp_path / DROP_IN)
    before = list(parse(drop_in_text("main", values()), ours))
    other = Line(name, value, str(tmp_path / "postgresql.auto.conf"), 3)
    assert overriding([*before, other], values(), ours) == ([other] if wins else [])
    assert overriding([other, *before], values(), ours) == []


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("archive_timeout", "1h", "3600"),
        ("archive_timeout", "2 min", "120"),
        ("archive_timeout", "60", "60"),
        ("archive_timeout", "soon", "soon"),
        ("archive_mode", "1", "on"),
        ("archive_mode", "Always", "always"),
        ("summarize_wal", "f", "off"),
        ("wal_level", "Replica", "replica"),
        ("archive_command", " cp X Y", "cp X Y"),
    ],
)
def test_values_that_mean_the_same_are_spelled_the_same(name, text, expected):
    assert normal(name, text) == expected
