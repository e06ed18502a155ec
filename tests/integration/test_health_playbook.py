# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/health.yml on all that it must tell: severity, exit code, words, metric, and one message each way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from tests.support.playbooks import Controller, handed_on, unfolded
from tests.support.receivers import WebServer, web_server
from tests.support.recovering import Protected, wait_until
from tests.support.servers import Templates, installations

GOOD = {"min_count": 1, "min_size_bytes": 1000, "min_free_percent": 0, "archiving": "off"}


@dataclass(frozen=True)
class Situation:
    """`policy` and `repository` are what makes it bad. What must be told of it: `check` is the graver one."""

    severity: str
    exit_code: int
    check: str
    words: str
    metric: str
    policy: dict[str, Any]
    repository: str = "repo"


OF_REPOSITORY = 'cluster="main",repo="a"'
OF_BACKUPS = 'cluster="main",database="",method="physical",repo="a"'
SITUATIONS = {
    "nothing": Situation("CRITICAL", 2, "age", "There is no valid backup.",
                         f'dbops_backups{{{OF_BACKUPS},backup_type="full"}} 0', {}, "empty"),
    "one": Situation("CRITICAL", 2, "count", "1 valid backup, 2 wanted.",
                     f"dbops_policy_min_backups{{{OF_BACKUPS}}} 2", {"min_count": 2}),
    "stale": Situation("CRITICAL", 2, "age", "ago, more than 1s",
                       f"dbops_policy_max_age_seconds{{{OF_BACKUPS}}} 1", {"max_age": "1s"}),
    "tiny": Situation("WARNING", 1, "size", "bytes, less than 1099511627776",
                      f"dbops_policy_min_size_bytes{{{OF_BACKUPS}}} 1099511627776", {"min_size_bytes": 1 << 40}),
    "truncated": Situation("CRITICAL", 2, "intact", "is damaged: base.tar",
                           f"dbops_backups_damaged{{{OF_REPOSITORY}}} 1", {}, "truncated"),
    "away": Situation("CRITICAL", 2, "repository_list", "",
                      f'dbops_repo_probe_success{{{OF_REPOSITORY},operation="list"}} 0', {}, "away"),
    "archiving": Situation("CRITICAL", 2, "archiving", "Archiving fails at 0000",
                           'dbops_check_success{cluster="main",check="archiving",subject="server"} 0',
                           {"archiving": "required"}),
    "idle": Situation("OK", 0, "exposure", "Everything that was committed is archived",
                      f"dbops_wal_unarchived_bytes{{{OF_REPOSITORY}}} 0", {"archiving": "required"}),
}  # fmt: skip


@dataclass
class Fleet:
    """One host for each situation, all with the same backup; the one that fails at archiving has its own server."""

    made: Protected
    broken: Any
    web: WebServer
    controller: Controller

    def configure(self, name: str, policy: dict[str, Any], repository: str) -> Path:
        place = self.made.place
        server = self.broken if name == "archiving" else self.made.server
        mapping = server.engine_mapping(
            None,
            repositories=[{"name": "a", "path": str(place / repository)}],
            host={"state_path": str(place / f"state-{name}")},
            health={**GOOD, **policy},
            notifications={"channels": [{"name": "hook", "type": "webhook", "url": f"{self.web.url}/{name}"}]},
        )
        path = place / f"{name}.json"
        path.write_text(json.dumps(mapping))
        return path

    def play(self, *, fails: bool) -> tuple[str, dict[str, Any]]:
        screen = self.controller.play("health", "-f", "8", fails=fails, dbops_health_notify=True)
        told = handed_on(screen, "dbops_health")
        assert set(told) == set(SITUATIONS)
        return unfolded(screen), {name: found["health"] for name, found in told.items()}

    def events(self, name: str) -> list[str]:
        return [request.json()["event"] for request in self.web.to(f"/{name}")]


@pytest.fixture
def fleet(templates: Templates, place: Path) -> Iterator[Fleet]:
    idle = templates.server(installations()[-1], place / "pg", summarize_wal=False)
    idle.settings["autovacuum"] = "off"  # it commits too
    made = Protected(idle, place)
    label = made.backup()
    broken = templates.server(installations()[-1], place / "pg2", summarize_wal=False)  # the same system identifier
    broken.settings.update(archive_mode="on", archive_command="false")
    broken.start()
    broken.sql("select pg_switch_wal()")
    with web_server() as web:
        hosts = {name: {"dbops_config_path": str(place / f"{name}.json")} for name in SITUATIONS}
        found = Fleet(
            made, broken, web, Controller(place, {"dbops_health_fail_at": "warning"}, hosts, writes_results=False)
        )
        config = found.configure("idle", {}, "repo")
        assert main(["--config", str(config), "--quiet", "verify", "--until", "restore"]) == 0
        made.server.os_user.own_directory(place / "empty", 0o750)
        shutil.copytree(place / "repo", place / "truncated")
        (base,) = (place / "truncated/main/backups" / label).glob("base.tar*")
        base.write_bytes(base.read_bytes()[:-1])
        wait_until(lambda: broken.value("select failed_count > 0 from pg_stat_archiver"), "archiving has failed")
        yield found
    made.server.stop("immediate")
    broken.stop("immediate")


def test_each_situation_is_told_once_and_its_end_once(fleet, capsys):
    configs = {name: fleet.configure(name, item.policy, item.repository) for name, item in SITUATIONS.items()}
    screen, health = fleet.play(fails=True)
    for name, item in SITUATIONS.items():
        found = health[name]
        assert (found["severity"], found["exit_code"]) == (item.severity, item.exit_code), (name, found["findings"])
        about = [one for one in found["findings"] if one["check"] == item.check]
        assert max(about, key=lambda one: one["severity"] != "OK")["severity"] == item.severity
        assert any(item.words in one["message"] for one in about), about
        assert item.severity == "OK" or item.words in screen
        capsys.readouterr()
        assert main(["--config", str(configs[name]), "check"]) == item.exit_code
        capsys.readouterr()
        assert main(["--config", str(configs[name]), "metrics"]) == 0
        metrics = capsys.readouterr().out
        assert item.metric in metrics, name
        sent = 'dbops_notifications_total{cluster="main",channel="hook",result="sent"}'
        assert f"{sent} {int(item.severity != 'OK')}" in metrics
        assert fleet.events(name) == ["problem"] * (item.severity != "OK")
        for request in fleet.web.to(f"/{name}"):
            told = request.json()
            assert told["severity"] == item.severity
            assert item.check in {one["check"] for one in told["problems"]}

    fleet.broken.sql("alter system set archive_command = 'true'")
    fleet.broken.sql("select pg_reload_conf()")
    works = "select coalesce(last_archived_time > last_failed_time, false) from pg_stat_archiver"
    wait_until(lambda: fleet.broken.value(works), "archiving works")
    for name, item in SITUATIONS.items():
        keeps = item.policy if "archiving" in item.policy else {}
        fleet.configure(name, keeps, "repo")
    _screen, health = fleet.play(fails=False)
    assert {found["severity"] for found in health.values()} == {"OK"}
    for name, config in configs.items():
        assert main(["--config", str(config), "--quiet", "check", "--notify"]) == 0  # and says it no second time
        assert fleet.events(name) == ([] if SITUATIONS[name].severity == "OK" else ["problem", "resolved"])
