# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `dbops`: what people and machines get, on which stream, with which exit code."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops import __version__
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli import door
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli import info as info_verb
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli import main as command
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli import restore as restore_verb
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import (
    BadInput,
    Busy,
    Corrupt,
    DbopsError,
    MissingLibrary,
    NotFound,
    Refused,
    ToolFailed,
    Unreachable,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Step
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings
from tests.support.backups import DAY, START, backed_up, chain_of, listed, repository_settings

ENGINE_PARENT = Path(__file__).resolve().parents[2] / "plugins" / "module_utils"
CONTROL = set(map(chr, [*range(9), *range(11, 32), *range(127, 160)]))


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DBOPS_CLUSTER", "DBOPS_DEBUG", "PGPORT", "PGUSER"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return repository_settings(tmp_path / "repository")


@pytest.fixture
def config(tmp_path: Path, settings: Settings) -> str:
    path = tmp_path / "main.json"
    path.write_text(json.dumps({"repositories": [{"path": settings.repository().path}], "retention": {"keep_last": 1}}))
    return str(path)


@pytest.fixture
def run(config: str, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "--config", config])
        output = capsys.readouterr()
        return code, output.out, output.err

    return call


@pytest.fixture
def run_json(run: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, list[dict[str, Any]]]]:
    def call(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
        code, output, errors = run(*arguments, "--output", "json")
        assert errors == ""
        return code, [json.loads(line) for line in output.splitlines()]

    return call


def as_process(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": ENGINE_PARENT, **options}
    return subprocess.Popen([sys.executable, "-m", "dbops", *arguments], **options)


# --- what people get --------------------------------------------------------------------------------------------------


def test_info_draws_every_incremental_below_what_it_rests_on(settings: Settings, run: Callable[..., Any]):
    old = chain_of(settings, START, 2)
    new = chain_of(settings, START + DAY, 1)
    fork = backed_up(settings, START + DAY / 2, "incremental", parent=old[1])
    code, output, errors = run("info")
    assert (code, errors) == (0, "")
    rows = [line for line in output.splitlines() if "Z-" in line]
    labels = [row.split()[0] for row in rows]
    assert labels == [new[0], f"└{new[1]}", old[0], f"└{old[1]}", f"└{old[2]}", f"└{fork}"]
    assert [len(row) - len(row.lstrip()) for row in rows] == [0, 0, 0, 0, 1, 1]
    assert all("unverified" in row for row in rows)
    assert "6 backups" in output


def test_info_shows_one_backup_with_its_chain_and_files(settings: Settings, run: Callable[..., Any]):
    chain = chain_of(settings, START, 1)
    _code, output, _errors = run("info", chain[1])
    assert chain[0] in output
    assert "base.tar.gz" in output


def test_info_of_an_empty_repository_says_so(run: Callable[..., Any]):
    code, output, _errors = run("info")
    assert code == 0
    assert "0 backups" in output


def test_info_names_what_is_unfinished_unreadable_and_not_restorable(settings: Settings, run: Callable[..., Any]):
    chain = chain_of(settings, START, 1)
    Path(settings.repository().path, "main", "backups", chain[0], "backup.json").write_text("{")
    unfinished = backed_up(settings, START + DAY, publish=False)
    code, output, errors = run("info")
    assert code == 0
    assert f"unreadable: {chain[0]}" in output
    assert f"not restorable: {chain[1]}" in output
    assert unfinished in output
    assert f"warning: Backup {chain[0]} cannot be read" in errors


def test_expire_shows_the_plan_and_acts_only_when_told(settings: Settings, run: Callable[..., Any]):
    labels = [backed_up(settings, START + number * DAY) for number in range(3)]
    code, output, _errors = run("expire")
    assert code == 0
    assert listed(settings) == labels[::-1]
    assert "Would delete 2 backups of 3" in output
    assert "dbops expire --apply" in output
    assert [line.split()[0] for line in output.splitlines() if "Z-" in line] == ["keep", "DELETE", "DELETE"]
    code, output, _errors = run("expire", "--apply")
    assert code == 0
    assert "Deleted 2 backups of 3" in output
    assert listed(settings) == labels[2:]
    assert "Nothing to delete" in run("expire", "--apply")[1]


def test_a_policy_can_be_tried_from_the_command_line(settings: Settings, run_json: Callable[..., Any]):
    labels = [backed_up(settings, START + number * DAY) for number in range(3)]
    _code, (result,) = run_json("expire", "--keep-last", "2")
    assert result["expire"]["delete"] == labels[:1]
    assert run_json("expire", "--keep-last", "0")[0] == BadInput.exit_code


def test_hold_and_release(settings: Settings, run: Callable[..., Any], run_json: Callable[..., Any]):
    label = backed_up(settings, START)
    assert run("hold", label, "--reason", "audit")[:2] == (0, f"{label} is held.\n")
    assert "audit" in run("info")[1]
    assert run_json("hold", label, "--reason", "again")[1][-1]["changed"] is False
    assert run("release", label)[:2] == (0, f"{label} is released.\n")
    assert run("hold", "20200101T000000Z-full", "--reason", "x")[0] == NotFound.exit_code


def test_foreign_text_cannot_control_the_terminal(settings: Settings, run: Callable[..., Any]):
    evil = "x\x1b[2J\x1b]0;title\x07\r\n\u202egnp\x9b31m\ud800"
    label = backed_up(settings, START, "dump", databases=(evil,), reason=evil, notes=(evil,), postgres_version=evil)
    backed_up(settings, START + DAY, "dump", databases=("other",))
    run("hold", label, "--reason", evil)
    for arguments in (("info",), ("info", label), ("expire",), ("expire", "--apply"), ("restore", evil), (evil,)):
        _code, output, errors = run(*arguments)
        assert not CONTROL & set(output + errors), arguments
        assert not {"\u202e", "\ud800"} & set(output + errors), arguments
    assert "\\x1b[2J" in run("info", label)[1]


def test_config_shows_what_is_in_effect_and_no_secret(tmp_path: Path, run: Callable[..., Any], config: str):
    Path(config).write_text(
        json.dumps({"connection": {"connect_params": {"sslpassword": "hunter2", "application_name": "x"}}})
    )
    for arguments in (("config",), ("config", "--output", "json")):
        code, output, _errors = run(*arguments)
        assert code == 0
        assert "hunter2" not in output
        assert "application_name" in output
    assert "retention.min_redundancy = 1" in run("config")[1]


def test_version_is_the_engines(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dbops {__version__}\n"
    assert main(["version"]) == 0
    assert __version__ in capsys.readouterr().out


def test_help_is_there_for_every_verb(capsys: pytest.CaptureFixture[str]):
    for verb in ("backup", "info", "expire", "restore", "rollback", "validate", "hold", "release", "config", "version"):
        assert main([verb, "--help"]) == 0
        assert "--cluster" in capsys.readouterr().out


def test_no_verb_is_written_and_then_forgotten(capsys: pytest.CaptureFixture[str]):
    rooms = (Path(__file__).resolve().parents[2] / "plugins" / "module_utils" / "dbops" / "cli").glob("*.py")
    written = {verb for room in rooms for verb in re.findall(r'verbs\.add_parser\(\s*"([a-z-]+)"', room.read_text())}
    assert len(written) > 15
    for verb in written:
        below = ["repo"] if verb == "rekey" else []
        assert main([*below, verb, "--help"]) == 0, verb
        assert "--cluster" in capsys.readouterr().out


def test_a_verb_loads_what_it_needs_and_no_more():
    """Every monitor's call pays for each import; the main help has all verbs all the same."""
    code = "import sys; from dbops.cli.main import main; main({words}); print(*sys.modules, file=sys.stderr)"
    loaded = {}
    for words in (["check", "--help"], ["--cluster", "seed", "--quiet", "check", "--help"], ["--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code.format(words=words)],
            cwd=ENGINE_PARENT,
            capture_output=True,
            text=True,
            check=True,
        )
        loaded[len(words)] = {name.rpartition(".")[2] for name in done.stderr.split() if name.startswith("dbops.cli.")}
    assert loaded[2] == loaded[5]
    assert "check" in loaded[2]
    assert not {"backup", "restore", "seed", "migrate"} & loaded[2]
    assert {"backup", "restore", "seed", "migrate"} <= loaded[1]


# --- what machines get ------------------------------------------------------------------------------------------------


def test_json_is_one_line_per_event_and_the_result_last(settings: Settings, run_json: Callable[..., Any]):
    for number in range(3):
        backed_up(settings, START + number * DAY)
    code, events = run_json("expire", "--apply")
    assert code == 0
    assert [event["event"] for event in events][-1] == "result"
    assert {event["event"] for event in events[:-1]} == {"progress"}
    assert events[-2]["percent"] == 100.0
    assert events[-1]["changed"] is True
    assert isinstance(events[-1]["expire"]["freed_bytes"], int)


def test_quiet_leaves_the_result_of_json_and_no_text(
    settings: Settings, run: Callable[..., Any], run_json: Callable[..., Any]
):
    for number in range(3):
        backed_up(settings, START + number * DAY)
    assert run("info", "--quiet") == (0, "", "")
    assert [event["event"] for event in run_json("expire", "--apply", "--quiet")[1]] == ["result"]


def test_options_of_every_verb_stand_before_or_after_it(
    settings: Settings, config: str, capsys: pytest.CaptureFixture[str]
):
    backed_up(settings, START)
    for arguments in (["--output", "json", "--config", config, "info"], ["info", "--output=json", "--config", config]):
        assert main(arguments) == 0
        assert json.loads(capsys.readouterr().out)["totals"]["backups"] == 1


# --- failures ---------------------------------------------------------------------------------------------------------

ERRORS = [
    DbopsError("a", "b"), BadInput("a", "b"), NotFound("a", "b"), Unreachable("a", "b"), Corrupt("a", "b"),
    Refused("a", "b"), Busy("a", "b"), ToolFailed("a", "b", stderr_tail="one\ntwo\x1b[0m"),
    MissingLibrary("lz4", needed_for="lz4", package="python3-lz4"),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.error_code)
def test_every_error_has_its_message_next_step_and_exit_code(
    error: DbopsError, run: Callable[..., Any], run_json: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    def failing(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(info_verb, "info", failing)
    code, output, errors = run("info")
    assert (code, output) == (error.exit_code, "")
    lines = errors.splitlines()
    assert lines[0] == f"dbops: {error.message}"
    assert lines[-1] == f"next: {error.hint}"
    assert not CONTROL & set(errors)
    code, (result,) = run_json("info")
    assert code == error.exit_code
    assert (result["event"], result["failed"], result["msg"], result["hint"], result["error_code"]) == (
        "result", True, error.message, error.hint, error.error_code,
    )  # fmt: skip
    if isinstance(error, ToolFailed):
        assert lines[1:3] == ["  | one", "  | two\\x1b[0m"]
        assert result["stderr_tail"] == error.stderr_tail


def test_exit_codes_are_all_different():
    assert len({error.exit_code for error in ERRORS}) == len(ERRORS)


def test_what_nobody_expected_is_one_line_and_a_traceback_only_on_request(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    def failing(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(info_verb, "info", failing)
    code, _output, errors = run("info")
    assert code == 1
    assert errors.startswith("dbops: Unexpected ZeroDivisionError: oh.\nnext: Set DBOPS_DEBUG=1")
    assert "Traceback" not in errors
    monkeypatch.setenv("DBOPS_DEBUG", "1")
    assert "Traceback" in run("info")[2]


@pytest.mark.parametrize("arguments", [[], ["inof"], ["info", "--nope"], ["expire", "--keep-last", "x"], ["hold"]])
def test_wrong_arguments_are_bad_input_on_both_doors(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(arguments) == BadInput.exit_code
    assert capsys.readouterr().err.startswith("dbops: ")
    assert main([*arguments, "--output", "json"]) == BadInput.exit_code
    assert json.loads(capsys.readouterr().out)["error_code"] == "bad_input"


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["restore", "20260101T020000Z-full", "--jobs", "2"], "--jobs"),
        (["restore", "20260101T020000Z-dump", "--in-place"], "--in-place"),
        (["restore", "--file", "/tmp/x.sql", "--target", "/tmp/x"], "--target"),
        (["restore", "--tablespace", "fast"], "--tablespace"),
    ],
)
def test_an_option_of_the_other_method_is_refused_and_not_ignored(
    arguments: list[str], option: str, run: Callable[..., Any]
):
    code, _output, errors = run(*arguments)
    assert code == BadInput.exit_code
    assert option in errors


def test_nothing_is_replaced_without_the_clusters_name(
    settings: Settings, tmp_path: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    backed_up(settings, START)
    target = tmp_path / "data"
    (target / "global").mkdir(parents=True)
    (target / "PG_VERSION").write_text("18\n")
    before = sorted(target.rglob("*"))
    ran: list[object] = []
    monkeypatch.setattr(restore_verb.physical, "run", lambda plan, progress: ran.append(plan))
    for confirm in ([], ["--confirm", "other"], ["--confirm", ""]):
        code, _output, errors = run("restore", "--target", str(target), "--in-place", *confirm)
        assert code == Refused.exit_code, errors
        assert "--confirm main" in errors
    assert ran == []
    assert sorted(target.rglob("*")) == before


# --- which cluster ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "environment", "configured", "meant"),
    [
        ("a", {"DBOPS_CLUSTER": "b"}, ["c"], "a"),
        (None, {"DBOPS_CLUSTER": "b"}, ["c", "d"], "b"),
        (None, {}, ["c"], "c"),
        (None, {}, [], "main"),
        (None, {}, ["c", "main"], "main"),
    ],
)
def test_the_cluster_that_is_meant(
    said: str | None, environment: dict[str, str], configured: list[str], meant: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setattr(door, "DEFAULT_DIRECTORY", str(tmp_path))
    for name in configured:
        (tmp_path / f"{name}.json").write_text("{}")
    (tmp_path / ".hidden.json").write_text("{}")
    (tmp_path / "README").write_text("")
    assert door.cluster_named(said, None, environment) == meant


def test_one_of_several_clusters_is_never_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(door, "DEFAULT_DIRECTORY", str(tmp_path))
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text("{}")
    with pytest.raises(BadInput) as caught:
        door.cluster_named(None, None, {})
    assert "a, b" in caught.value.hint


def test_a_named_file_says_its_cluster_itself(tmp_path: Path):
    (tmp_path / "x.json").write_text('{"cluster": "ride"}')
    (tmp_path / "shop.json").write_text("{}")
    assert door.cluster_named(None, str(tmp_path / "x.json"), {}) == "ride"
    assert door.cluster_named(None, str(tmp_path / "shop.json"), {}) == "shop"


# --- as a process -----------------------------------------------------------------------------------------------------


def test_the_package_runs_from_its_parent_directory(config: str):
    with as_process("info", "--config", config) as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
    assert b"0 backups" in output


def test_a_reader_that_has_seen_enough_is_no_failure(settings: Settings, config: str):
    for number in range(30):
        backed_up(settings, START + number * DAY, files=1)
    for output in ("text", "json"):
        read, write = os.pipe()
        os.close(read)
        with (
            os.fdopen(write, "wb") as stdout,
            as_process("info", "--config", config, "--output", output, stdout=stdout) as process,
        ):
            _output, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, b"")


def test_a_result_that_cannot_be_written_is_a_failure(config: str):
    with open("/dev/full", "wb") as stdout, as_process("info", "--config", config, stdout=stdout) as process:
        _output, errors = process.communicate(timeout=60)
    assert process.returncode == Unreachable.exit_code
    assert b"No space left" in errors
    assert b"Traceback" not in errors


SLOW_VERB = """
import sys, time
from dbops.cli import info, main
def slow(*args, **kwargs):
    try:
        sys.stderr.write("working\\n"); sys.stderr.flush()
        time.sleep(600)
    finally:
        sys.stderr.write("cleaned\\n")
        {after}
info.info = slow
raise SystemExit(main.main({arguments!r}))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("after", ["pass", "raise OSError('during the cleaning')"])
def test_a_signal_unwinds_cleanly_and_is_told_by_the_exit_code(
    number: signal.Signals, code: int, after: str, config: str
):
    for output in ("text", "json"):
        script = SLOW_VERB.format(after=after, arguments=["info", "--config", config, "--output", output])
        with subprocess.Popen(
            [sys.executable, "-c", script], cwd=ENGINE_PARENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == b"working\n"
            process.send_signal(number)
            written, errors = process.communicate(timeout=60)
        assert process.returncode == code
        assert b"cleaned" in errors
        assert b"Traceback" not in errors
        if output == "json":
            assert json.loads(written)["error_code"] == "stopped"
        else:
            assert f"Stopped by {number.name}".encode() in errors


def test_the_callers_signal_handlers_are_back_afterwards(run: Callable[..., Any]):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    run("info")
    run("nonsense")
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_terminal_gets_a_bar_that_is_gone_at_the_end(
    settings: Settings, config: str, monkeypatch: pytest.MonkeyPatch
):
    for number in range(3):
        backed_up(settings, START + number * DAY)
    screen, output = Screen(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with contextlib.redirect_stdout(output):
        assert main(["expire", "--apply", "--config", config]) == 0
    assert "expire" in screen.getvalue()
    assert screen.getvalue().endswith("\r\x1b[K")
    assert "\x1b" not in output.getvalue()


def test_a_bar_is_not_drawn_where_nobody_looks(settings: Settings, run: Callable[..., Any]):
    for number in range(3):
        backed_up(settings, START + number * DAY)
    assert run("expire", "--apply")[2] == ""


def test_progress_goes_on_for_the_work_when_its_reader_is_gone():
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    lines = command.JsonLines(Gone(), Gone())
    lines.report(Step("copy", 1, 2))
    lines.warn("mind")
    assert lines.warnings == ["mind"]
