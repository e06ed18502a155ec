# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules as an operator runs them: through Ansible, on a real server, with everything that it prints."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import (
    OsUser,
    PgServer,
    ProgramFailed,
    Templates,
    installations,
    kill_below,
    wait_until,
)

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE = Path(sys.executable).parent / "ansible"
SECRET = "n0t-for-y0ur-eyes-8317"
PROGRESS_LINE = re.compile(r"^\[localhost\] base backup \d+ % \(.+ of .+\)$", re.MULTILINE)
SLOW = {"max_rate_kib_s": 6144}  # some five seconds for the sample database


@dataclass
class Ran:
    """One run of `ansible`: the module's result, and every word on the screen."""

    code: int
    screen: str
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def progress(self) -> list[str]:
        return PROGRESS_LINE.findall(self.screen)


@dataclass
class Host:
    """localhost for Ansible, with directories of its own, so that what is left behind can be seen."""

    place: Path
    server: PgServer
    repository: Path

    def __post_init__(self) -> None:
        self.inventory = self.place / "inventory.json"
        self.inventory.write_text(json.dumps({"all": {"hosts": {"localhost": self.variables}}}))
        self.config = self.place / "main.json"
        self.config.write_text(json.dumps(self.server.engine_mapping(self.repository)))
        for name in ("async", "remote", "tmp"):
            (self.place / name).mkdir()
            (self.place / name).chmod(0o1777)

    @property
    def variables(self) -> dict[str, Any]:
        return {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_ASYNC_DIR": str(self.place / "async"),
            "ANSIBLE_REMOTE_TMP": str(self.place / "remote"),
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
            "TMPDIR": str(self.place / "tmp"),
        }

    def start(self, module: str, *words: str, **arguments: Any) -> subprocess.Popen[str]:
        """`ansible localhost -m ...`, in a process group of its own."""
        values = {"cluster": "main", "config": str(self.config), **arguments}
        values = {name: value for name, value in values.items() if value is not None}
        command = [ANSIBLE, "localhost", "-i", self.inventory, "-m", f"dbops.postgres.{module}"]
        return subprocess.Popen(
            [*map(str, command), "-a", json.dumps(values), *words],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, module: str, *words: str, **arguments: Any) -> Ran:
        process = self.start(module, *words, **arguments)
        screen = process.communicate(timeout=120)[0]
        return Ran(process.returncode, screen, result_in(screen))

    def labels(self) -> list[str]:
        return sorted(path.parent.name for path in self.repository.glob("main/backups/*/backup.json"))

    def left_behind(self) -> list[str]:
        """Files that a run should have taken away; async takes its own away some seconds after the end."""
        return [str(path) for name in ("async", "remote") for path in (self.place / name).rglob("*")]

    def passfiles(self) -> list[Path]:
        return [*(self.place / "tmp").glob("dbops-pgpass-*"), *Path("/tmp").glob("dbops-pgpass-*")]


def result_in(screen: str) -> dict[str, Any]:
    """The result as the callback of `ansible` prints it: `localhost | CHANGED => {...}`."""
    found = re.search(r"^localhost \| [A-Z!]+ => (?=\{)", screen, re.MULTILINE)
    return json.JSONDecoder().raw_decode(screen, found.end())[0] if found else {}


@pytest.fixture(scope="module")
def shared_server(templates: Templates, base_directory: Path) -> Iterator[PgServer]:
    """One server for this file, of the newest version: what is tested here is not PostgreSQL."""
    base = base_directory / "modules"
    server = templates.server(installations()[-1], base)
    server.settings["listen_addresses"] = "127.0.0.1"
    server.start()
    server.sql(f"create role keeper login superuser password '{SECRET}'")
    server.set_hba("local all all trust", "local replication all trust", "host all,replication all all scram-sha-256")
    yield server
    kill_below(base)


@pytest.fixture
def host(shared_server: PgServer, place: Path) -> Host:
    return Host(place, shared_server, shared_server.os_user.own_directory(place / "repository", 0o750))


def test_a_backup_that_is_young_enough_is_not_taken_again(host):
    dry = host.run("pg_backup", "--check", "--diff", max_age="24h")
    assert dry.result["changed"] is True
    assert dry.result["plan"]["estimated_bytes"] > 0
    assert host.labels() == []
    first = host.run("pg_backup", "--diff", max_age="24h")
    assert first.result["changed"] is True, first.screen
    assert host.labels() == [first.result["backup"]["label"]]
    assert f'+        "{first.result["backup"]["label"]}"' in first.screen
    second = host.run("pg_backup", max_age="24h")
    assert second.result["changed"] is False
    assert first.result["backup"]["label"] in second.result["msg"]
    forced = host.run("pg_backup", max_age="24h", force=True, reason="because")
    assert forced.result["backup"]["reason"] == "because"
    assert len(host.labels()) == 2
    wait_until(lambda: host.left_behind() == [], "async has tidied up")


def test_with_live_progress_the_result_is_the_modules_own(host):
    plain = ("-e", "dbops_live_progress=false")
    taken = host.run("pg_backup").result, host.run("pg_backup", *plain).result
    assert taken[0]["changed"] is taken[1]["changed"] is True
    assert taken[0].keys() == taken[1].keys()
    volatile = {"newest_age_s", "free_bytes", "estimated_bytes", "why"}

    def steady(ran: Ran) -> Any:
        assert ran.result, ran.screen
        told = {key: value for key, value in ran.result.items() if key not in ("plan", "msg")}
        return told, {key: value for key, value in ran.result.get("plan", {}).items() if key not in volatile}

    for arguments in ({"max_age": "24h"}, {"method": "physical", "repository": "elsewhere"}):
        live, alone = host.run("pg_backup", **arguments), host.run("pg_backup", *plain, **arguments)
        assert steady(live) == steady(alone)
        assert live.code == alone.code


def test_a_slow_backup_shows_how_far_it_is(host):
    ran = host.run("pg_backup", **SLOW)
    assert ran.result["changed"] is True
    assert len(ran.progress) >= 2, ran.screen
    percents = [int(re.search(r"(\d+) %", shown)[1]) for shown in ran.progress]
    assert percents == sorted(percents)


def test_a_failure_shows_message_and_hint(host):
    ran = host.run("pg_backup", repository="elsewhere")
    assert ran.code != 0
    assert ran.result["error_code"] == "bad_input"
    assert ran.result["hint"] in ran.result["msg"]
    assert "Traceback" not in ran.screen


def over_tcp(host: Host, password: str) -> dict[str, Any]:
    return {
        "login_host": "127.0.0.1", "login_unix_socket": "", "login_port": host.server.port, "login_user": "keeper",
        "login_password": password,
    }  # fmt: skip


@pytest.mark.parametrize("words", [(), ("-e", "dbops_live_progress=false")], ids=["live", "plain"])
def test_a_wrong_password_is_told_without_the_password(host, words):
    wrong = SECRET[::-1]
    ran = host.run("pg_backup", "-vvv", *words, **over_tcp(host, wrong))
    assert ran.result["error_code"] == "unreachable"
    assert "password" in ran.result["msg"]
    assert "'keeper'" in ran.result["msg"]
    assert wrong not in ran.screen
    assert host.labels() == []
    assert host.passfiles() == []


def test_a_password_stands_on_no_command_line_and_in_no_environment(host):
    """Looked at while pg_basebackup runs. What starts the run is ours: it has the password from the command line."""
    process = host.start("pg_backup", "-vvv", **over_tcp(host, SECRET), **SLOW)
    ours = {process.pid}
    seen: set[str] = set()
    leaks: list[str] = []

    def look() -> bool:
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{entry}/cmdline").read_bytes()
                if str(ANSIBLE).encode() in line or int(entry) in ours:
                    continue
                text = line + Path(f"/proc/{entry}/environ").read_bytes()
                if SECRET.encode() in text and str(host.place).encode() in text:
                    leaks.append(line.decode())
                if b"pg_basebackup" in line.split(b"\0")[0] and str(host.server.port).encode() in line:
                    seen.add(entry)
        return process.poll() is not None

    wait_until(look, "the backup is done", limit_s=100)
    screen = process.communicate()[0]
    assert result_in(screen).get("changed") is True, screen
    assert seen, "nobody looked while pg_basebackup ran"
    assert leaks == []
    assert SECRET not in screen
    assert host.passfiles() == []
    wait_until(lambda: host.left_behind() == [], "async has tidied up")


def playbook(host: Host, tasks: str) -> Ran:
    path = host.place / "play.yml"
    path.write_text(f"- hosts: localhost\n  gather_facts: false\n  tasks:\n{tasks}")
    command = [ANSIBLE.with_name("ansible-playbook"), "-i", host.inventory, path]
    done = subprocess.run(
        [*map(str, command)], cwd=ROOT, env=host.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout + done.stderr)


def task(host: Host, *keywords: str, **options: Any) -> str:
    options = {"cluster": "main", "config": str(host.config), **options}
    lines = ["    - name: Back up", f"      dbops.postgres.pg_backup: {json.dumps(options)}"]
    lines += [f"      {keyword}" for keyword in keywords]
    return "\n".join(lines) + "\n"


def test_no_log_is_taken_at_its_word_and_a_tasks_own_async_is_ansibles(host):
    ran = playbook(host, task(host, "no_log: true", **SLOW) + task(host, "async: 60", "poll: 1"))
    assert ran.code == 0, ran.screen
    assert len(host.labels()) == 2
    assert "base backup" not in ran.screen
    assert host.labels()[0] not in ran.screen


def test_a_task_that_takes_too_long_is_stopped_and_leaves_nothing(host):
    ran = playbook(host, task(host, "timeout: 12", max_rate_kib_s=128))
    assert ran.code != 0, ran.screen
    assert "timeout" in ran.screen
    wait_until(lambda: host.left_behind() == [], "async has tidied up", limit_s=120)
    assert list(host.repository.glob("main/backups/*/*")) == []
    # One that streams WAL to nobody would also block the next DROP DATABASE for good.
    senders = "select count(*) from pg_stat_activity where backend_type = 'walsender'"
    wait_until(lambda: host.server.value(senders) == 0, "no program of the run is left")
    assert host.run("pg_backup").result["changed"] is True, "the lock is free"


def test_a_play_that_is_stopped_by_hand_leaves_no_secret_and_the_backup_goes_on(host):
    process = host.start("pg_backup", **over_tcp(host, SECRET), **SLOW)
    wait_until(lambda: list((host.place / "async").glob("dbops-progress-*.pid")), "the module works", limit_s=60)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    wait_until(lambda: len(host.labels()) == 1, "the backup is there", limit_s=60)
    wait_until(lambda: list((host.place / "remote").iterdir()) == [], "async has tidied up", limit_s=120)
    for path in (host.place / "async").iterdir():
        assert SECRET not in path.read_text()
    assert host.passfiles() == []


def test_a_restore_shows_its_plan_and_then_does_it(host):
    host.run("pg_backup")
    target = host.place / "restored"
    dry = host.run("pg_restore", "--check", target=str(target))
    assert dry.result["changed"] is True
    assert not target.exists()
    done = host.run("pg_restore", target=str(target))
    assert done.result["restore"]["target"] == str(target), done.screen
    assert done.result["restore"]["label"] == dry.result["restore"]["label"] == host.labels()[0]
    assert (target / "global" / "pg_control").exists()
    refused = host.run("pg_restore", target=str(target))
    assert refused.result["error_code"] == "refused"
    checked = host.run("pg_restore", validate_only=True)
    assert checked.result["changed"] is False
    assert checked.result["validation"]["verdict"] == "pass"


def test_a_dumped_database_comes_back_under_another_name(host):
    taken = host.run("pg_backup", method="logical", databases=["shop"])
    assert taken.result["backup"]["databases"] == ["shop"], taken.screen
    name = "shop again"
    try:
        done = host.run("pg_restore", method="logical", databases={"shop": name})
        assert done.result["changed"] is True, done.screen
        count = "select count(*) from orders"
        assert host.server.value(count, database=name) == host.server.value(count, database="shop")
        refused = host.run("pg_restore", method="logical", databases={"shop": name}, existing="replace")
        assert "confirm=main" in refused.result["msg"]
    finally:
        host.server.sql(f'drop database if exists "{name}"')


def python_for(user: OsUser) -> str:
    """An interpreter that this user can run: ours may lie in a private home directory."""
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        with contextlib.suppress(OSError, ProgramFailed):
            user.run([candidate, "-c", "import sys; sys.exit(sys.version_info < (3, 9))"])
            return candidate
    raise AssertionError(f"{user.name} can run no Python 3.9 on this machine")


def test_a_module_that_becomes_somebody_else_shows_progress_too(host):
    """By su, as root needs no password for it. A restore from gzip needs the standard library alone."""
    host.server.psql("create table ballast as select repeat(md5(n::text), 30) as t from generate_series(1, 200000) n")
    taken = host.run("pg_backup", compression={"codec": "gzip"})
    host.server.psql("drop table ballast")
    assert taken.result["changed"] is True
    user = host.server.os_user
    words = ["-e", f"ansible_python_interpreter={python_for(user)}"]
    if user.is_somebody_else:
        words += ["--become", "--become-method", "su", "--become-user", user.name]
        words += ["-e", json.dumps({"ansible_become_flags": "-s /bin/sh"})]
    target = user.own_directory(host.place / "theirs") / "restored"
    ran = host.run("pg_restore", *words, target=str(target))
    assert ran.result.get("changed") is True, ran.screen
    # All that a fast machine shows of it may be its last step.
    assert re.search(r"^\[localhost\] (restore|flush to disk) ", ran.screen, re.MULTILINE), ran.screen
    assert (target / "PG_VERSION").stat().st_uid == user.uid
    wait_until(lambda: host.left_behind() == [], "async has tidied up")
