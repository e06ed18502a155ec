# SPDX-License-Identifier: GPL-3.0-or-later
"""Pending migrations on a restored backup: locks, rewrites and times of a planted slow one, and nothing left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import NotFound
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate import plan as plans
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate import run as runner
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate.finding import Budgets
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.rehearsal import run as rehearsal
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.verify.plan import Request as Verification
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.verify.run import verify
from tests.support.physical import taken
from tests.support.servers import SAMPLE_DATABASE, PgServer, Templates, embedded, kill_below

WIDER = """-- Orders were short.
set local lock_timeout = '3s';
alter table orders alter column note type varchar(4000);
alter table orders alter column id type numeric;
"""
FILES = {
    "000001_shops": ("create table shops (id int primary key);", "drop table shops;"),
    "000002_wider": (
        WIDER,
        "alter table orders alter column id type bigint, alter column note type text;\n",
    ),
    "000003_by_note": (
        "create index concurrently by_note on orders (note);",
        "drop index concurrently by_note;",
    ),
}


class Case:
    """A cluster whose newest backup is proven and stands at version 1 of the files."""

    def __init__(self, templates: Templates, place: Path) -> None:
        self.server: PgServer = templates.server(embedded(), place / "pg")
        self.server.start()
        self.server.sql("alter table orders alter column id drop identity", database=SAMPLE_DATABASE)
        self.directory, self.place = place / "migrations", place
        self.directory.mkdir()
        for name, halves in FILES.items():
            for way, text in zip(("up", "down"), halves):
                (self.directory / f"{name}.{way}.sql").write_text(text)
        self.repository = self.server.os_user.own_directory(place / "repository", 0o750)
        self.settings = self.with_files(self.directory)
        runner.run(self.settings, plans.Request("up", count=1), Silent())
        self.label = taken(self.settings).label

    def with_files(self, directory: Path) -> Settings:
        return self.server.engine_settings(self.repository, **self.sections(directory))

    def sections(self, directory: Path) -> dict:
        return {"migrations": {"path": str(directory), "database": SAMPLE_DATABASE}}

    def copy(self, name: str) -> Path:
        return Path(shutil.copytree(self.directory, self.place / name))

    def scratches(self) -> list[Path]:
        return list(self.server.state.glob("verify/*"))


@pytest.fixture(scope="module")
def case(templates: Templates, base_directory: Path) -> Iterator[Case]:
    place = base_directory / "b"  # short: a socket lies deep below
    place.mkdir()
    made = Case(templates, place)
    with pytest.raises(NotFound, match="ever proven"):
        rehearsal.rehearse(made.settings, rehearsal.Request(), Silent())
    proven = verify(made.settings, Verification(until="restore"), Silent())
    assert proven["verification"]["verdict"] == "pass", proven
    yield made
    kill_below(place)


def rehearsed(case: Case, directory: Path, **request: object) -> dict:
    return rehearsal.rehearse(case.with_files(directory), rehearsal.Request(**request), Silent())["rehearsal"]


def test_a_planted_rewrite_is_told_with_its_lock_its_time_and_who_waited_and_the_way_back_is_exact(case):
    found = rehearsed(case, case.directory, rows=True)
    assert (found["backup"], found["version"], found["passed"], found["rollback"]) == (case.label, 1, True, "equal")
    files = [(item["version"], item["direction"]) for item in found["files"]]
    assert files == [(2, "up"), (3, "up"), (3, "down"), (2, "down")]
    wider, by_note = found["files"][0], found["files"][1]
    assert wider["locks"]["orders"] == "AccessExclusiveLock"
    assert wider["rewritten"] == ["orders"]
    assert [one["line"] for one in wider["statements"] if one["rewritten"]] == [3, 4]
    assert 0 < wider["exclusive_s"] <= wider["duration_s"]
    assert wider["wal_bytes"] > 1 << 19
    assert wider["size_peak"] - wider["size_before"] > 1 << 20
    assert wider["waited"]["read"]["count"] > 0
    assert wider["waited"]["write"]["longest_s"] > 0
    assert by_note["locks"] == {"orders": "ShareUpdateExclusiveLock"}
    words = {item["check"]: item["message"] for item in found["findings"]}
    assert "Rewrites orders under ACCESS EXCLUSIVE." in words["rewrite"]
    assert words["exclusive lock"].startswith("Holds ACCESS EXCLUSIVE on orders for ")
    assert "a reader of orders waited" in words["exclusive lock"]
    assert case.scratches() == []
    assert case.server.value("select max(version) from schema_migrations", database=SAMPLE_DATABASE) == 1


def test_a_budget_that_is_exceeded_and_a_way_back_that_is_not_exact_fail(case):
    directory = case.copy("inexact")
    (directory / "000002_wider.down.sql").write_text("alter table orders alter column id type bigint;")
    found = rehearsed(case, directory, budgets=Budgets(exclusive_s=0.0001))
    assert (found["passed"], found["rollback"]) == (False, "different")
    errors = {item["check"]: item for item in found["findings"] if item["severity"] == "error"}
    assert set(errors) == {"lock", "rollback"}
    assert any("orders.note" in line for line in errors["rollback"]["details"])


def test_a_file_that_old_rows_refuse_is_told_with_its_line_and_nothing_is_left(case):
    directory = case.copy("refused")
    (directory / "000002_wider.up.sql").write_text("-- One order each.\nalter table orders add unique (customer_id);\n")
    found = rehearsed(case, directory, target="backup")
    assert (found["passed"], found["rollback"], found["target"]) == (False, "not tried", "the backup's own end")
    (error,) = [item for item in found["findings"] if item["severity"] == "error"]
    assert (error["file"], error["version"]) == ("000002_wider.up.sql", 2)
    assert "could not create unique index" in error["message"]
    assert case.scratches() == []


def test_the_command_shows_it_as_a_table_and_fails_through_its_exit_code(case, capsys):
    config = case.place / "main.json"
    config.write_text(json.dumps(case.server.engine_mapping(case.repository, **case.sections(case.directory))))
    assert main(["migrate", "rehearse", "--config", str(config), "--plan"]) == 0
    assert f"on {case.label}, recovered to" in capsys.readouterr().out
    assert main(["migrate", "rehearse", "--config", str(config), "--max-exclusive", "0", "--no-rollback"]) == 1
    shown = capsys.readouterr().out
    assert "ACCESS EXCLUSIVE" in shown
    assert "note: 000002_wider.up.sql: Holds ACCESS EXCLUSIVE on orders for" in shown
    assert "way back: not tried" in shown
