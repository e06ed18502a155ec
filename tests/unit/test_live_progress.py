# SPDX-License-Identifier: GPL-3.0-or-later
"""Which lines of progress a play shows, and what is made of one look at the host."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils import _module
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Step
from ansible_collections.dbops.postgres.plugins.plugin_utils._progress import Pace, duration, line, read_glance, size


def step(percent: float | None, phase: str = "base backup") -> dict[str, Any]:
    return {"phase": phase, "percent": percent}


def test_a_line_says_how_far_how_fast_and_how_long():
    shown = {
        "phase": "base backup", "percent": 33.3, "done_bytes": 1_200_000_000, "total_bytes": 3_600_000_000,
        "rate_bytes_per_s": 240_000_000.0, "eta_s": 10.0, "note": "",
    }  # fmt: skip
    assert line(shown) == "base backup 33 % (1.2 GB of 3.6 GB, 240 MB/s, 10 s left)"


def test_what_is_not_known_is_left_out():
    assert line({"phase": "flush to disk"}) == "flush to disk"
    assert line({"phase": "dump", "done_bytes": 5_000, "total_bytes": None, "percent": None}) == "dump (5.0 kB)"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_900, "99.9 kB"), (999_600, "1.0 MB"),
                        (2_500_000_000_000, "2.5 TB")],
)  # fmt: skip
def test_sizes_are_for_people(count, text):
    assert size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (7500, "2 h 5 min")])
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 30)), min_size=1, max_size=200))
def test_one_phase_takes_a_line_per_second_at_most_and_never_a_minute_without_one(seen):
    pace, now, shown = Pace(), 1000.0, []
    for percent, pause in seen:
        now += pause
        if pace.due(step(percent), now):
            shown.append((percent, now))
        elif shown:
            assert now - shown[-1][1] < 60
    assert len(shown) >= 1, "the first step is always shown"
    for (percent_before, before), (percent, at) in zip(shown, shown[1:]):
        assert at - before >= (1 if abs(percent - percent_before) >= 5 else 10)


def test_a_new_phase_is_shown_at_once():
    pace = Pace()
    assert pace.due(step(50, "fetch"), 10.0)
    assert not pace.due(step(51, "fetch"), 10.5)
    assert pace.due(step(0, "verify"), 10.6)


def test_a_step_without_a_total_is_a_sign_of_life():
    pace = Pace()
    assert pace.due(step(None), 100.0)
    assert not pace.due(step(None), 105.0)
    assert pace.due(step(None), 110.0)


RUNNING = json.dumps({"started": True, "finished": False, "ansible_job_id": "j1.2"})


@pytest.mark.parametrize(
    ("text", "finished", "alive"),
    [
        (f"\n{RUNNING}\nalive\n", False, True),
        (f"\n{RUNNING}\n", False, False),
        ('\n{"changed": true, "msg": "done"}\n', True, False),
        ('\n{"failed": true, "msg": "killed", "ansible_job_id": "j1.2"}\n', True, False),
        ("\n\n", False, False),
        ("", False, False),
        ('\n{"chan\nalive\n', False, True),
    ],
)
def test_a_module_is_done_when_its_own_result_lies_there(text, finished, alive):
    assert read_glance(text) == (None, finished, alive)


def test_the_status_file_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "status"
    monkeypatch.setenv(_module.PROGRESS_FILE, str(path))
    progress = _module._progress()
    progress.report(Step("base backup", 50, 100))
    glance = read_glance(f"{path.read_text()}\n{RUNNING}\nalive\n")
    assert glance.step is not None
    assert line(glance.step).startswith("base backup 50 %")
    assert (tmp_path / "status.pid").read_text() == str(os.getpid())


def test_a_status_file_that_cannot_be_written_ends_no_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(_module.PROGRESS_FILE, str(tmp_path / "gone" / "status"))
    _module._progress().report(Step("base backup", 50, 100))
