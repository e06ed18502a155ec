# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers, times, tables and the progress bar, as people read them."""

from __future__ import annotations

import ast
import io
import unicodedata
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli import rooms
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.progress_bar import Bar, JsonLines, line
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.words import clean, size, table
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Step, duration

GIB = 1 << 30


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"), (0, "0 B"), (999, "999 B"), (1000, "0.98 KiB"), (1024, "1.00 KiB"), (15 * 1024, "15.0 KiB"),
        (700 * 1024, "700 KiB"), (1_300_000_000, "1.21 GiB"), (5 << 50, "5.00 PiB"), (5 << 60, "5120 PiB"),
    ],
)  # fmt: skip
def test_sizes(count: Optional[int], text: str):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"), (0, "0 s"), (0.4, "0.4 s"), (-3, "0 s"), (42, "42 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"),
        (7500, "2 h 05 min"), (9 * 86400 + 4 * 3600, "9 d 4 h"),
    ],
)  # fmt: skip
def test_durations(seconds: Optional[float], text: str):
    assert duration(seconds) == text


@given(st.text())
def test_cleaned_text_has_no_power_over_a_terminal(text: str):
    cleaned = clean(text)
    assert all(character == " " or unicodedata.category(character)[0] not in "CZ" for character in cleaned)
    assert len(clean(text, lines=True).splitlines()) <= text.count("\n") + 1


def test_harmless_text_stays_as_it_is():
    assert clean('odd "name" ü/. 你好 🐘') == 'odd "name" ü/. 你好 🐘'
    assert clean("a\tb\nc") == "a\\tb\\nc"


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=5))
def test_a_table_has_one_line_per_row_whatever_the_cells_hold(rows: list[tuple[str, str]]):
    assert len(table(("A", "B"), rows).split("\n")) == len(rows) + 1


def test_columns_stand_under_each_other_on_the_screen():
    lines = table(("NAME", "SIZE", "NOTE"), [("你好", "5", "x"), ("abcdef", "12345", "y")], right=("SIZE",)).split("\n")
    assert lines == ["NAME     SIZE  NOTE", "你好        5  x", "abcdef  12345  y"]


def columns(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(bool(unicodedata.combining(character)) for character in text)


steps = st.builds(
    Step,
    phase=st.text(max_size=30),
    done_bytes=st.integers(0, 1 << 50),
    total_bytes=st.none() | st.integers(0, 1 << 50),
    rate_bytes_per_s=st.floats(0, 1e12),
    eta_s=st.none() | st.floats(0, 1e9),
    note=st.text(max_size=30),
)


@given(steps, st.integers(0, 200))
def test_a_bar_never_wraps_nor_controls_the_terminal(step: Step, width: int):
    text = line(step, width)
    assert columns(text) <= width
    assert clean(text) == text


def test_a_wide_bar_says_it_all_and_a_narrow_one_the_percentage():
    step = Step("base backup", GIB, 4 * GIB, 120 << 20, 25.6, "")
    text = line(step, 120)
    assert text.startswith("base backup  [##########....")
    for part in ("25 %", "1.00 GiB of 4.00 GiB", "120 MiB/s", "ETA 26 s"):
        assert part in text
    assert line(step, 6).strip() == "25 %"


def test_without_a_total_there_is_no_percentage_and_no_bar():
    text = line(Step("copy", GIB, None, 5 << 20), 100)
    assert "%" not in text
    assert "[" not in text
    assert "1.00 GiB" in text


def test_a_bar_is_redrawn_at_most_ten_times_a_second_but_at_once_for_a_new_phase():
    screen, now = io.StringIO(), [0.0]
    shown = Bar(screen, clock=lambda: now[0])
    for _number in range(100):
        now[0] += 0.01
        shown.report(Step("copy", 1, 2))
    assert 9 <= screen.getvalue().count("\r") <= 11
    drawn = screen.getvalue().count("\r")
    shown.report(Step("flush", 1, 2))
    assert screen.getvalue().count("\r") == drawn + 1


def test_a_warning_gets_its_own_line_above_the_bar_once():
    screen = io.StringIO()
    shown = Bar(screen)
    shown.report(Step("copy", 1, 2))
    shown.warn("mind\x1b[0m")
    shown.warn("mind\x1b[0m")
    shown.done()
    assert screen.getvalue().count("\r\x1b[Kdbops: warning: mind\\x1b[0m\ncopy") == 1
    assert screen.getvalue().endswith("\r\x1b[K")


def test_json_lines_are_limited_and_always_hold_the_end():
    lines, now = io.StringIO(), [0.0]
    progress = JsonLines(lines, io.StringIO(), clock=lambda: now[0])
    for done in range(101):
        now[0] += 0.01
        progress.report(Step("copy", done, 100))
    reported = lines.getvalue().splitlines()
    assert 3 <= len(reported) <= 5
    assert '"percent": 100.0' in reported[-1]


def test_a_verb_that_is_loaded_by_name_is_packed_for_hosts_too():
    """Ansible's packer reads imports and runs nothing: a file that only a table names would stay behind."""
    tree = ast.parse(Path(rooms.__file__).read_text())
    (packed,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "everything"]
    names = {alias.name for node in ast.walk(packed) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names == set(rooms._VERBS)
