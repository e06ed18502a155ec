# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks about migrations as an operator runs them: rehearsed on a backup, gated, applied, taken back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.verify.plan import Request as Verification
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.verify.run import verify
from tests.support.module_runs import run_module
from tests.support.playbooks import Controller, changed, unfolded
from tests.support.recovering import Protected
from tests.support.servers import SAMPLE_DATABASE, Templates, embedded

FILES = {
    "000001_wider": (
        "-- Orders were short.\nalter table orders alter column note type varchar(4000);\n",
        "-- Back.\nalter table orders alter column note type text;\n",
    ),
    "000002_kinds": ("-- Kinds.\ncreate table kinds (id int primary key);\n", "-- Back.\ndrop table kinds;\n"),
}


@pytest.fixture
def protected(templates: Templates, place: Path) -> Iterator[Protected]:
    made = Protected(templates.server(embedded(), place / "pg", summarize_wal=False), place)
    yield made
    made.server.stop("immediate")


def write(directory: Path, files: dict[str, tuple[str, str]]) -> None:
    directory.mkdir(exist_ok=True)
    for name, halves in files.items():
        for way, text in zip(("up", "down"), halves):
            (directory / f"{name}.{way}.sql").write_text(text)


def version(protected: Protected) -> int | None:
    return protected.server.value("select max(version) from schema_migrations", database=SAMPLE_DATABASE)


@pytest.mark.slow
def test_rehearsed_on_a_backup_refused_at_the_gate_applied_and_taken_back_when_a_file_fails(protected):
    directory = protected.place / "migrations"
    write(directory, FILES)
    label = protected.backup()
    config = protected.place / "settings.json"
    section = {"migrations": {"path": str(directory), "database": SAMPLE_DATABASE}}
    config.write_text(json.dumps({**protected.mapping, **section}))
    controller = Controller(protected.place, {"dbops_config_path": str(config)}, {"db1": {}})

    refused = unfolded(controller.play("migrate", fails=True))
    assert "No physical backup was proven by a restore. [verified_backup]" in refused
    shut = run_module("pg_migration_gate", cluster="main", config=str(config))
    assert (shut["failed"], shut["error_code"], shut["gate"]["open"]) == (True, "gate_shut", False)
    assert "dbops verify" in shut["hint"]
    waived = run_module("pg_migration_gate", cluster="main", config=str(config), waive=["verified_backup"])
    assert (waived["gate"]["open"], waived["gate"]["waived"]) == (True, ["verified_backup"])

    assert verify(protected.settings, Verification(until="restore"), Silent())["verification"]["verdict"] == "pass"
    shown = unfolded(controller.play("rehearse_migrations", dbops_migrations_target="backup"))
    found = controller.result("rehearse_migrations")["rehearsal"]
    assert (found["backup"], found["passed"], found["rollback"]) == (label, True, "equal")
    assert found["files"][0]["locks"]["orders"] == "AccessExclusiveLock"
    assert found["files"][0]["rewritten"] == ["orders"]
    assert found["files"][0]["duration_s"] > 0
    assert "Rewrites orders under ACCESS EXCLUSIVE." in shown
    assert "Holds ACCESS EXCLUSIVE on orders for 0." in shown

    planned = controller.play("migrate", "--check")
    assert "000002_kinds.up.sql" in planned
    done = controller.play("migrate")
    assert changed(done) == 2  # the restore point, and the files
    assert version(protected) == 2
    again = controller.play("migrate")
    assert changed(again) == 0

    write(directory, {"000003_more": ("-- More.\ncreate table more ();\n", "-- Back.\ndrop table more;\n")})
    write(directory, {"000004_fails": ("-- Fails.\ncreate table half (); select 1/0;\n", "-- Back.\nselect 1;\n")})
    failed = unfolded(controller.play("migrate", fails=True))
    assert "000004_fails.up.sql: division by zero" in failed
    assert "The database is back at version 2." in failed
    assert '{"dbops_pitr_name": "migrate 2 to 4 ' in failed
    assert version(protected) == 2
    assert protected.server.value("select to_regclass('more') is null", database=SAMPLE_DATABASE)


def test_lint_and_test_end_badly_through_the_playbooks(place):
    write(place / "migrations", {**FILES, "000002_again": FILES["000002_kinds"]})
    controller = Controller(place, {"dbops_migrations_path": str(place / "migrations")}, {"db1": {}})
    reports = {"sarif": str(place / "sarif")}
    screen = unfolded(controller.play("lint_migrations", fails=True, dbops_migrations_reports=reports))
    assert "has the same version and direction. [duplicate-version]" in screen
    assert (place / "sarif").stat().st_size
    assert "Two files are the down of version 2" in unfolded(controller.play("test_migrations", fails=True))
