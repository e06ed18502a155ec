# SPDX-License-Identifier: GPL-3.0-or-later
"""Health on a real server and real repositories: each situation has its severity, its exit code and its words."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health.check import check
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health.checks import exposure_s
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health.finding import Severity
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import from_mapping
from tests.support.module_runs import run_module
from tests.support.physical import changed_bytes, flip_a_bit, objects_of, repository_of
from tests.support.recovering import Protected, wait_until
from tests.support.servers import Templates, installations


class Watched(Protected):
    """A protected server with a settings file, as a monitor finds it."""

    def configure(self, **health):
        mapping = self.server.engine_mapping(
            None,
            repositories=[{"name": "a", "path": str(self.place / "repo")}],
            archiving={"spool_path": str(self.archiving.spool)},
            health={"min_size_bytes": 1000, "min_count": 1, "min_free_percent": 0, **health},
        )
        self.config = self.place / "settings.json"
        self.config.write_text(json.dumps(mapping))
        self.settings = from_mapping(mapping)
        return self

    def bad(self, **options):
        """What is not OK, by check; what it would end with."""
        data, _facts, findings = check(self.settings, **options)
        found = {item.check: item.severity.value for item in findings if item.severity.value != "OK"}
        if "now" not in options:
            words = ["--config", str(self.config), "check", *["--deep"] * options.get("deep", False)]
            assert main(words) == data["health"]["exit_code"]
        return found


@pytest.fixture
def watched(templates: Templates, place: Path) -> Iterator[Watched]:
    made = Watched(templates.server(installations()[-1], place / "pg", summarize_wal=False), place).configure()
    yield made
    made.server.stop("immediate")


def test_from_nothing_backed_up_to_a_protected_cluster(watched, capsys):
    assert watched.bad() == {"age": "CRITICAL", "count": "CRITICAL", "proof": "WARNING", "window": "CRITICAL",
                             "exposure": "UNKNOWN"}  # fmt: skip
    label = watched.backup()
    assert watched.bad() == {"proof": "WARNING"}
    assert main(["--config", str(watched.config), "verify", "--until", "restore"]) == 0
    assert watched.bad() == {}
    capsys.readouterr()
    assert main(["--config", str(watched.config), "check", "--nagios"]) == 0
    line = capsys.readouterr().out
    assert line.startswith("DBOPS OK - main is OK")
    assert "'a_physical_age'=" in line

    watched.configure(min_count=2, min_size_bytes=1 << 30)
    assert watched.bad() == {"count": "CRITICAL", "size": "WARNING"}  # one backup, and tiny
    watched.configure()
    assert watched.bad(now=datetime.now(timezone.utc) + timedelta(hours=27)) == {"age": "CRITICAL"}

    for path in repository_of(watched.settings).rglob("*"):
        os.utime(path)  # M3: nobody asks a file when it was touched
    assert watched.bad(now=datetime.now(timezone.utc) + timedelta(hours=27)) == {"age": "CRITICAL"}
    stray = repository_of(watched.settings) / "backups" / "20991231T000000Z-full"
    stray.mkdir()
    (stray / "base.tar.zst").write_bytes(b"x" * 5000)
    (repository_of(watched.settings) / "backups" / label / "backup.json.meta").write_text("{}")
    assert watched.bad() == {}  # M2: only a record makes a backup
    watched.configure(min_count=2)
    assert watched.bad() == {"count": "CRITICAL"}


def test_damage_is_seen_by_size_at_once_and_to_the_bit_when_it_is_asked_for(watched):
    label = watched.backup()
    files = objects_of(watched.settings, label)
    path = next(path for name, path in files.items() if name.startswith("base.tar"))
    content = path.read_bytes()
    path.write_bytes(content[:-1])  # M6: truncated
    assert watched.bad() == {"age": "CRITICAL", "count": "CRITICAL", "intact": "CRITICAL", "proof": "WARNING"}
    for broken in (bytes(len(content)), flip_a_bit(content)):  # M5: zeroed, and one bit
        path.write_bytes(broken)
        assert watched.bad(deep=True) == {"repository_deep": "CRITICAL", "proof": "WARNING"}
    path.write_bytes(content)
    assert watched.bad(deep=True) == {"proof": "WARNING"}
    changed_bytes(min(files.values(), key=lambda item: (item.name == "backup.json", item.stat().st_size)), flip_a_bit)
    assert watched.bad() == {"repository_read": "CRITICAL", "proof": "WARNING"}
    path.unlink()
    assert watched.bad()["intact"] == "CRITICAL"

    repository = watched.place / "repo"
    repository.rename(watched.place / "away")
    assert watched.bad() == {"repository_list": "CRITICAL"}


def test_broken_archiving_is_told_with_its_exposure_and_an_idle_server_has_none(watched):
    watched.backup()
    server = watched.server
    _data, facts, _findings = check(watched.settings)
    wal = facts.repositories[0].wal
    assert (wal.unarchived_bytes, exposure_s(facts, wal)) == (0, 0)
    for _more in range(2):  # bookkeeping alone: M12
        server.sql("checkpoint")
    later = datetime.now(timezone.utc) + timedelta(hours=20)
    assert watched.bad(now=later) == {"proof": "WARNING"}

    server.sql("alter system set archive_command = 'false'")
    server.sql("select pg_reload_conf()")
    row = watched.row(1)
    server.sql("select pg_switch_wal()")
    wait_until(lambda: server.value("select failed_count > 0 from pg_stat_archiver"), "archiving has failed")
    _data, facts, _findings = check(watched.settings)
    wal = facts.repositories[0].wal
    assert wal.unarchived_bytes > 0
    assert abs((wal.unarchived_since - row.time).total_seconds()) < 1
    assert watched.bad() == {"archiving": "CRITICAL", "proof": "WARNING"}
    assert watched.bad(now=later) == {"archiving": "CRITICAL", "exposure": "CRITICAL", "proof": "WARNING"}

    server.sql("alter system set max_connections = 55")
    server.sql("select pg_reload_conf()")
    assert watched.bad()["restart_pending"] == "WARNING"
    server.stop("immediate")
    found = watched.bad()
    assert (found["server"], found["exposure"]) == ("UNKNOWN", "UNKNOWN")
    server.start()
    server.sql("alter system reset archive_command")
    server.sql("select pg_reload_conf()")
    wait_until(lambda: not server.value("select pg_stat_archiver from pg_stat_archiver where last_failed_time > "
                                        "coalesce(last_archived_time, '-infinity') union all select null limit 1"),
               "archiving works again")  # fmt: skip
    watched.archive()
    assert watched.bad() == {"proof": "WARNING"}


def test_the_module_fails_from_the_severity_that_it_was_told(watched):
    arguments = {"cluster": "main", "config": str(watched.config)}
    result = run_module("pg_backup_health", **arguments)
    assert result["failed"]
    assert result["error_code"] == "unhealthy"
    assert result["health"]["severity"] == "CRITICAL"
    assert not run_module("pg_backup_health", fail_at="never", **arguments)["failed"]
    watched.backup()
    assert not run_module("pg_backup_health", **arguments)["failed"]  # a warning: no proof
    assert run_module("pg_backup_health", fail_at="warning", **arguments)["failed"]

    path = watched.place / "dbops-main.prom"
    for _again in range(2):
        assert main(["--config", str(watched.config), "--quiet", "metrics", "--textfile", str(path)]) == 0
    assert f'dbops_check_severity{{cluster="main"}} {Severity.WARNING.rank}' in path.read_text()
