# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks about migrations as an operator runs them: rehearsed on a backup, gated, applied, taken back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate import run as runner
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate.plan import Request
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed import profile
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed import run as seed
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import from_mapping
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.verify.plan import Request as Verification
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.verify.run import verify
from tests.support.module_runs import run_module
from tests.support.playbooks import ROOT, Controller, changed, unfolded
from tests.support.recovering import Protected
from tests.support.servers import Templates, embedded

EXAMPLE = ROOT / "examples" / "ridehailing"
DATABASE = "ridehailing"
WIDER = {  # a check reads estimated_duration too, and would keep a cast: this column comes back as it was
    "000035_long_rides": (
        "-- Rides were short.\nalter table rides alter column actual_duration type bigint;\n",
        "-- Back.\nalter table rides alter column actual_duration type integer;\n",
    ),
    "000036_kinds": ("-- Kinds.\ncreate table kinds (id int primary key);\n", "-- Back.\ndrop table kinds;\n"),
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
    return protected.server.value("select max(version) from schema_migrations", database=DATABASE)


@pytest.mark.slow
def test_rehearsed_on_a_seeded_backup_refused_at_the_gate_applied_and_taken_back_when_a_file_fails(protected):
    directory = protected.place / "migrations"
    shutil.copytree(EXAMPLE / "migrations", directory)
    section = {"migrations": {"path": str(directory), "database": DATABASE}}
    config = protected.place / "settings.json"
    config.write_text(json.dumps({**protected.mapping, **section}))
    settings = from_mapping({**protected.mapping, **section}, where="test settings")
    protected.server.sql(f"create database {DATABASE}")
    runner.run(settings, Request("up"), Silent())
    seed.seed(settings, profile.load(str(EXAMPLE / "seed" / "medium.yml")), Silent(), database=DATABASE, scale=10)
    label = protected.backup()
    write(directory, WIDER)
    controller = Controller(protected.place, {"dbops_config_path": str(config)}, {"db1": {}})

    refused = unfolded(controller.play("migrate", "--check", fails=True))
    assert "000036_kinds.up.sql" in refused
    assert "No physical backup was proven by a restore. [verified_backup]" in refused
    shut = run_module("pg_migration_gate", cluster="main", config=str(config))
    assert (shut["failed"], shut["error_code"], shut["gate"]["open"]) == (True, "gate_shut", False)
    assert "dbops verify" in shut["hint"]
    waived = run_module("pg_migration_gate", cluster="main", config=str(config), waive=["verified_backup"])
    assert (waived["gate"]["open"], waived["gate"]["waived"]) == (True, ["verified_backup"])

    assert verify(settings, Verification(until="restore"), Silent())["verification"]["verdict"] == "pass"
    shown = unfolded(controller.play("rehearse_migrations", dbops_migrations_target="backup"))
    found = controller.result("rehearse_migrations")["rehearsal"]
    assert (found["backup"], found["passed"], found["rollback"]) == (label, True, "equal")
    longer = found["files"][0]
    assert (longer["file"], longer["locks"]["rides"]) == ("000035_long_rides.up.sql", "AccessExclusiveLock")
    assert longer["rewritten"] == ["rides"]
    assert 0 < longer["exclusive_s"] <= longer["duration_s"]
    assert longer["size_peak"] - longer["size_before"] > 1 << 19, "2000 rides were written anew"
    assert "Rewrites rides under ACCESS EXCLUSIVE." in shown
    assert "Holds ACCESS EXCLUSIVE on rides for 0." in shown

    done = controller.play("migrate")
    assert changed(done) == 2  # the restore point, and the files
    assert version(protected) == 36
    again = controller.play("migrate")
    assert changed(again) == 0

    write(directory, {"000037_more": ("-- More.\ncreate table more ();\n", "-- Back.\ndrop table more;\n")})
    write(directory, {"000038_fails": ("-- Fails.\ncreate table half (); select 1/0;\n", "-- Back.\nselect 1;\n")})
    failed = unfolded(controller.play("migrate", fails=True))
    assert "- '000038_fails.up.sql: division by zero. (SQLSTATE 22012)'" in failed  # and no advice: it has been taken
    assert "The database is back at version 36." in failed
    assert '{"dbops_pitr_name": "migrate 36 to 38 ' in failed
    assert version(protected) == 36
    assert protected.server.value("select to_regclass('more') is null", database=DATABASE)


def test_lint_and_test_end_badly_through_the_playbooks(place):
    write(place / "migrations", {**WIDER, "000036_again": WIDER["000036_kinds"]})
    controller = Controller(place, {"dbops_migrations_path": str(place / "migrations")}, {"db1": {}})
    reports = {"sarif": str(place / "sarif")}
    screen = unfolded(controller.play("lint_migrations", fails=True, dbops_migrations_reports=reports))
    assert "has the same version and direction. [duplicate-version]" in screen
    assert (place / "sarif").stat().st_size
    assert "Two files are the down of version 36" in unfolded(controller.play("test_migrations", fails=True))
