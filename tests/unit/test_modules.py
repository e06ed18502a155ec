# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules' promises that need no server: every wrong input ends with words that help, and touches nothing."""

from __future__ import annotations

import json
import os
import pwd
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

from ansible_collections.dbops.postgres.plugins.module_utils import _module
from ansible_collections.dbops.postgres.plugins.module_utils.dbops import __version__
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.stream import Shape
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import MissingLibrary, ToolFailed
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.record import BackupRecord
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import from_mapping
from tests.support.module_runs import MODULES
from tests.support.module_runs import run_module as run

ALL = ("pg_backup", "pg_backup_info", "pg_backup_expire", "pg_restore")
SECRET = "correct-horse-battery"
NOW = datetime.now(timezone.utc).replace(microsecond=0)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "repository"
    path.mkdir()
    return path


@pytest.fixture
def arguments(repository: Path, tmp_path: Path) -> dict[str, Any]:
    """A cluster whose server is down, with a repository that is there."""
    return {
        "cluster": "main",
        "repositories": [{"path": str(repository)}],
    }


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, Any]:
    me = pwd.getpwuid(os.geteuid()).pw_name
    return {"login_unix_socket": str(tmp_path), "login_port": 1, "os_user": me}


def add_backup(repository: Path, age: timedelta, **more: Any) -> str:
    opened = open_repository(from_mapping({"cluster": "main", "repositories": [{"path": str(repository)}]}))
    started = NOW - age
    label = f"{started:%Y%m%dT%H%M%SZ}-full"
    stored = opened.put_object(label, "base.tar", [b"\0" * 1024], Shape("none"), kind="base")
    values: dict[str, Any] = {
        "label": label, "cluster": "main", "method": "physical", "type": "full", "started": started,
        "stopped": started + timedelta(seconds=1), "system_identifier": "7", "postgres_version": "18.0",
        "postgres_version_num": 180000, "objects": (stored,), "database_bytes": 1024,
    }  # fmt: skip
    opened.publish(BackupRecord(**{**values, **more}))
    return label


def contents(directory: Path) -> dict[str, Any]:
    """Names, sizes and times of everything below a directory."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(directory.rglob("*"))}


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("pg_backup", {"cluster": "a/b"}, "bad_input", "a/b"),
    ("pg_backup", {"repositories": None}, "bad_input", "No repository is configured"),
    ("pg_backup", {"repositories": [{"path": "relative"}]}, "bad_input", "absolute path"),
    ("pg_backup", {"repository": "elsewhere"}, "bad_input", "elsewhere"),
    ("pg_backup", {"config": "/nowhere/main.json"}, "not_found", "/nowhere/main.json"),
    ("pg_backup", {"max_age": "tomorrow"}, "bad_input", "max_age cannot be 'tomorrow'"),
    ("pg_backup", {"method": "logical", "type": "incremental"}, "bad_input", "cannot be incremental"),
    ("pg_backup", {"jobs": 0}, "bad_input", "backup.jobs"),
    ("pg_backup", {"compression": {"codec": "gzip", "level": 12}}, "bad_input", "compression.level"),
    ("pg_backup", {"os_user": "nobody-of-that-name"}, "bad_input", "nobody-of-that-name"),
    ("pg_backup", {"login_port": 70000}, "bad_input", "login_port"),
    ("pg_backup", {"connect_params": {"password": SECRET}}, "bad_input", "connect_params must not hold 'password'"),
    ("pg_backup", {"login_password": SECRET, "connect_params": {"passfile": "/x"}}, "bad_input", "Give one of them"),
    ("pg_backup", {"login_password": SECRET}, "unreachable", "port 1 as"),
    ("pg_backup", {}, "unreachable", "Is the server running?"),
    ("pg_backup_info", {"label": "20200101T000000Z-full"}, "not_found", "20200101T000000Z-full"),
    ("pg_backup_info", {"repositories": [{"path": "/nowhere"}]}, "", "/nowhere"),
    ("pg_backup_expire", {"keep_within": "soon"}, "bad_input", "retention.keep_within"),
    ("pg_backup_expire", {"keep_last": 0}, "bad_input", "keep_last"),
    ("pg_backup_expire", {"daily": -1}, "bad_input", "daily"),
    ("pg_restore", {"target": "/tmp/x"}, "not_found", "no physical backup"),
    ("pg_restore", {"method": "logical"}, "not_found", "no logical backup"),
    ("pg_restore", {"label": "20200101T000000Z-full", "target": "/tmp/x"}, "not_found", "20200101T000000Z-full"),
    ("pg_restore", {"in_place": True}, "refused", "confirm=main"),
    ("pg_restore", {"in_place": True, "confirm": "other"}, "refused", "confirm=main"),
    ("pg_restore", {"method": "logical", "existing": "replace"}, "refused", "confirm=main"),
    ("pg_restore", {"method": "logical", "file": "/nowhere.sql", "databases": {"a": ""}}, "", "/nowhere.sql"),
]  # fmt: skip


# A dry run is refused for the same reasons, but for the missing confirmation.
CASES = [(*case, check) for case in BAD for check in (False, True) if not (check and "confirm=" in case[3])]
NAMES = [
    f"{name}-{'-'.join(more) or 'server-down'}-{'check' if check else 'run'}"
    for name, more, _code, _words, check in CASES
]


@pytest.mark.parametrize(("name", "more", "code", "words", "check"), CASES, ids=NAMES)
def test_wrong_input_ends_with_words_that_help_and_touches_nothing(
    name, more, code, words, check, arguments, nowhere, repository
):
    if name in ("pg_backup", "pg_restore"):
        arguments.update(nowhere)
    before = contents(repository)
    result = run(name, check=check, **{**arguments, **more})
    assert result["failed"]
    assert words in result["msg"]
    assert result["hint"]
    assert result["hint"] in result["msg"], "the screen shows msg alone"
    assert not code or result["error_code"] == code
    assert SECRET not in json.dumps(result, default=str)
    assert contents(repository) == before


def test_the_settings_files_wrong_key_is_named(tmp_path, arguments):
    file = tmp_path / "main.json"
    file.write_text('{"retension": {"keep_last": 3}}')
    result = run("pg_backup_info", **arguments, config=str(file))
    assert result["error_code"] == "bad_input"
    assert "'retension'" in result["msg"]


def test_what_a_task_leaves_out_is_what_the_settings_file_says(tmp_path, arguments, nowhere):
    file = tmp_path / "main.json"
    file.write_text(json.dumps({"connection": {"login_port": 1111, "login_user": "backup"}}))
    del nowhere["login_port"]
    assert "port 1111 as 'backup'" in run("pg_backup", **arguments, **nowhere, config=str(file))["msg"]
    said = run("pg_backup", **arguments, **nowhere, config=str(file), login_port=2222)["msg"]
    assert "port 2222 as 'backup'" in said


def test_an_empty_repository_is_an_empty_list(arguments):
    result = run("pg_backup_info", **arguments)
    assert not result["failed"]
    assert result["backups"] == []
    assert result["changed"] is False
    assert "diff" not in result


def test_info_lists_newest_first(arguments, repository):
    labels = [add_backup(repository, timedelta(days=days)) for days in (3, 1, 2)]
    result = run("pg_backup_info", **arguments)
    assert [item["label"] for item in result["backups"]] == [labels[1], labels[2], labels[0]]
    (one,) = run("pg_backup_info", **arguments, label=labels[0])["backups"]
    assert [item["name"] for item in one["objects"]] == ["base.tar"]


def test_expire_deletes_what_its_dry_run_shows_and_then_nothing_more(arguments, repository):
    labels = [add_backup(repository, timedelta(days=days)) for days in (1, 2, 3)]
    before = contents(repository)
    shown = run("pg_backup_expire", check=True, **arguments, keep_last=1)
    assert shown["changed"] is True
    assert contents(repository) == before
    done = run("pg_backup_expire", **arguments, keep_last=1)
    assert done["changed"] is True
    assert set(done["expire"]["deleted"]) == set(shown["expire"]["delete"]) == set(labels[1:])
    assert done["diff"] == shown["diff"] == {"before": {"backups": labels}, "after": {"backups": labels[:1]}}
    again = run("pg_backup_expire", **arguments, keep_last=1)
    assert again["changed"] is False
    assert again["diff"]["before"] == again["diff"]["after"]
    assert [item["label"] for item in run("pg_backup_info", **arguments)["backups"]] == labels[:1]


def test_expire_without_a_rule_keeps_everything(arguments, repository):
    for days in (1, 2, 3):
        add_backup(repository, timedelta(days=days))
    assert run("pg_backup_expire", **arguments)["changed"] is False


def test_a_dry_restore_makes_no_directory_and_needs_no_confirmation(arguments, nowhere, repository, tmp_path):
    label = add_backup(repository, timedelta(days=1))
    target = tmp_path / "restored"
    before = contents(tmp_path)
    result = run("pg_restore", check=True, **arguments, **nowhere, target=str(target))
    assert not result["failed"], result["msg"]
    assert result["restore"]["label"] == label
    assert result["diff"] == {"before": {str(target): None}, "after": {str(target): label}}
    target.mkdir()
    (target / "PG_VERSION").write_text("18\n")
    before = contents(tmp_path)
    shown = run("pg_restore", check=True, **arguments, **nowhere, target=str(target), in_place=True)
    assert not shown["failed"], shown["msg"]
    assert shown["restore"]["move_aside"] is True
    assert contents(tmp_path) == before


def test_a_target_that_is_not_empty_is_refused(arguments, nowhere, repository, tmp_path):
    add_backup(repository, timedelta(days=1))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    result = run("pg_restore", **arguments, **nowhere, target=str(tmp_path / "full"))
    assert result["error_code"] == "refused"
    assert "not empty" in result["msg"]


def test_a_time_without_a_zone_is_refused(arguments, nowhere, repository, tmp_path):
    add_backup(repository, timedelta(days=1))
    result = run("pg_restore", **arguments, **nowhere, target=str(tmp_path / "x"), before="2026-11-22 13:05:00")
    assert result["error_code"] == "bad_input"
    assert "2026-11-22T13:05:00Z" in result["hint"]


def test_a_missing_library_names_the_python_that_lacks_it(arguments, nowhere):
    missing = MissingLibrary("psycopg2", needed_for="connecting", package="python3-psycopg2")
    with (
        mock.patch.object(_module, "password_in_passfile", side_effect=missing),
        mock.patch.object(_module, "has_respawned", return_value=True),
        mock.patch.object(_module, "respawn_module") as respawn,
    ):
        result = run("pg_backup", **arguments, **nowhere, login_password=SECRET)
    assert result["error_code"] == "missing_library"
    assert sys.executable in result["msg"]
    assert "python3-psycopg2" in result["msg"]
    respawn.assert_not_called()


@pytest.mark.parametrize("found", ["/usr/bin/python3", None])
def test_a_missing_library_is_looked_for_under_another_python_once(found, arguments, nowhere):
    missing = MissingLibrary("psycopg2", needed_for="connecting", package="python3-psycopg2")
    with (
        mock.patch.object(_module, "password_in_passfile", side_effect=missing),
        mock.patch.object(_module, "has_respawned", return_value=False),
        mock.patch.object(_module, "probe_interpreters_for_module", return_value=found) as probe,
        mock.patch.object(_module, "respawn_module") as respawn,
    ):
        run("pg_backup", **arguments, **nowhere, login_password=SECRET)
    assert probe.call_args.args[1] == "psycopg2"
    assert respawn.mock_calls == ([mock.call(found)] if found else [])


def test_a_programs_last_words_are_returned(arguments):
    failed = ToolFailed("pg_x failed.", hint="Free space.", stderr_tail="No space left on device")
    with mock.patch(f"{MODULES}.pg_backup_info.info", side_effect=failed):
        result = run("pg_backup_info", **arguments)
    assert result["stderr_tail"] == "No space left on device"
    assert result["error_code"] == "tool_failed"


@pytest.mark.parametrize(("installed", "warned"), [("0.9.0", True), (__version__, False), (None, False)])
def test_another_version_on_the_host_is_warned_of(installed, warned, arguments, tmp_path, monkeypatch):
    engine = tmp_path / "dbops"
    engine.mkdir()
    if installed:
        (engine / "__init__.py").write_text(f'"""The engine."""\n__version__ = "{installed}"\n')
    monkeypatch.setattr(_module.installed, "version", lambda real=_module.installed.version: real(str(tmp_path)))
    warnings = run("pg_backup_info", **arguments)["warnings"]
    assert bool(warnings) is warned
    assert not warned or ("0.9.0" in warnings[0] and __version__ in warnings[0])


@pytest.mark.parametrize("name", ALL)
def test_the_password_is_masked_and_nothing_else_is(name, arguments):
    """A short value that is masked by mistake would blank every equal string in the output."""
    seen: dict[str, Any] = {}
    real = AnsibleModule.__init__

    def watched(self: AnsibleModule, **options: Any) -> None:
        seen.update(options["argument_spec"])
        real(self, **options)

    with mock.patch.object(AnsibleModule, "__init__", watched):
        run(name, **arguments, config="/nowhere")
    assert [option for option, spec in seen.items() if spec.get("no_log")] == ["login_password"] * (
        name in ("pg_backup", "pg_restore")
    )
    assert all("default" not in _module.CONNECTION[option] for option in _module.CONNECTION)


def test_a_password_that_stands_in_the_wrong_option_is_masked_all_the_same(arguments):
    with patch_module_args({**arguments, "connect_params": {"sslpassword": SECRET, "service": "main"}}):
        module = _module.DbopsModule(_module.CONNECTION)
    assert module._module.no_log_values == {SECRET}
