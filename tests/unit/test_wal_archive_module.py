# SPDX-License-Identifier: GPL-3.0-or-later
"""What wal_archive and wal_archive_info promise without a server: words that help, and nothing touched."""

from __future__ import annotations

import json
import os
import pwd
from typing import Any

import pytest

from tests.support.module_runs import run_module

SECRET = "correct-horse-battery"

BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("wal_archive", {}, "unreachable", "Is the server running?"),
    ("wal_archive", {"state": "absent"}, "unreachable", "Is the server running?"),
    ("wal_archive", {"cluster": "a/b"}, "bad_input", "a/b"),
    ("wal_archive", {"config": "/nowhere/main.json"}, "not_found", "/nowhere/main.json"),
    ("wal_archive", {"os_user": "nobody-of-that-name"}, "bad_input", "nobody-of-that-name"),
    ("wal_archive", {"login_password": SECRET}, "unreachable", "port 1 as"),
    ("wal_archive_info", {}, "unreachable", "Is the server running?"),
    ("wal_archive_info", {"cluster": "a/b"}, "bad_input", "a/b"),
    ("wal_archive_info", {"login_password": SECRET}, "unreachable", "port 1 as"),
]


@pytest.mark.parametrize("check", [False, True], ids=["run", "check"])
@pytest.mark.parametrize(("name", "more", "code", "words"), BAD)
def test_wrong_input_ends_with_words_that_help_and_touches_nothing(name, more, code, words, check, tmp_path):
    me = pwd.getpwuid(os.geteuid()).pw_name
    known = {"cluster": "main", "login_unix_socket": str(tmp_path), "login_port": 1, "os_user": me}
    result = run_module(name, check=check, **{**known, "state_path": str(tmp_path / "state"), **more})
    assert result["failed"]
    assert words in result["msg"]
    assert result["hint"] in result["msg"], "the screen shows msg alone"
    assert result["error_code"] == code
    assert SECRET not in json.dumps(result, default=str)
    assert list(tmp_path.iterdir()) == []
