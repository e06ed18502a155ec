# SPDX-License-Identifier: GPL-3.0-or-later
"""The rehearsal finds each planted defect with the right message, and none in the reference migrations."""

from __future__ import annotations

import getpass
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import DbopsError
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate import doctor, rehearse, run
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate.matrix import Budgets
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from tests.support.servers import PgServer, Templates, embedded, kill_below

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "fixtures" / "migrations"
REFERENCE = ROOT / "examples" / "ridehailing"


@pytest.fixture(scope="module")
def server(templates: Templates, base_directory: Path) -> Iterator[PgServer]:
    """PostgreSQL 18 for all tests here; a rehearsal leaves nothing on it."""
    base = base_directory / "rehearsals"
    server = templates.server(embedded(), base)
    server.settings["autovacuum"] = "off"
    server.start()
    yield server
    kill_below(base)


def settings_for(server: PgServer, directory: Path, **section: object):
    ourselves = {"os_user": getpass.getuser()}
    return server.engine_settings(host=ourselves, migrations={"path": str(directory), **section})


def rehearsed(server: PgServer, directory: Path, **request: object) -> dict:
    settings = settings_for(server, directory)
    return rehearse.rehearse(settings, rehearse.Request(on_server=True, jobs=2, **request), Silent())["rehearsal"]


def told(report: dict) -> list[str]:
    return [
        f"{item['check']} {item['file'] or ''}{':' + str(item['line']) if item['line'] else ''} "
        f"{item['message']} {' '.join(item['details'])}"
        for item in report["findings"]
    ]


def cases() -> list:
    found = [path.parent for path in sorted(CORPUS.glob("*/expect")) if "rehearsal" in path.read_text()]
    return [pytest.param(path, id=path.name) for path in [*found, CORPUS / "clean"]]


@pytest.mark.parametrize("case", cases())
def test_each_planted_defect_is_found_with_the_right_words(server, case):
    lines = (case / "expect").read_text().splitlines()
    found = told(rehearsed(server, case / "migrations", data=str(case / "rows")))
    for pattern in (line.split(" ", 1)[1] for line in lines if line.startswith("rehearsal ")):
        assert any(re.search(f"^{pattern}", line) for line in found), (pattern, found)
    if any(line.startswith("clean") for line in lines):
        assert found == []
    assert server.value("select count(*) from pg_database where datname like 'dbops_rehearsal%%'") == 0


def test_the_reference_migrations_pass_with_their_rows_and_every_cell_is_filled(server):
    report = rehearsed(server, REFERENCE / "migrations", data=str(REFERENCE / "rehearsal"))
    assert told(report) == []
    assert report["passed"]
    assert len(report["versions"]) >= 20
    assert report["rows"] > 500
    for item in report["versions"]:
        assert (item["down"], item["again"], item["rows"]) == ("equal", "equal", "kept"), item
        assert set(item["statements"]) == {"up", "down"}


def test_a_trace_names_the_lock_the_rewrite_and_the_scan(server, tmp_path):
    shutil.copytree(CORPUS / "rewrite", tmp_path / "case")
    (tmp_path / "case/migrations/000003_checked.up.sql").write_text(
        "-- Positive.\nalter table shelves add constraint positive check (id > 0) not valid;\n"
        "alter table shelves validate constraint positive;\n"
    )
    (tmp_path / "case/migrations/000003_checked.down.sql").write_text("alter table shelves drop constraint positive;")
    report = rehearsed(server, tmp_path / "case/migrations", data=str(tmp_path / "case/rows"))
    wider, checked = (item["statements"]["up"] for item in report["versions"][1:3])
    assert wider[-1]["locks"] == {"shelves": "AccessExclusiveLock"}
    assert wider[-1]["rewritten"] == ["shelves"]
    assert checked[0]["locks"] == {"shelves": "AccessExclusiveLock"}
    assert checked[1]["scanned_rows"] == {"shelves": 2}
    assert checked[1]["rewritten"] == []


def test_a_budget_that_is_exceeded_fails(server, tmp_path):
    shutil.copytree(CORPUS / "clean/migrations", tmp_path / "m")
    (tmp_path / "m/000002_fine.up.sql").write_text("lock shelves; select pg_sleep(0.2); create table fine (id int);")
    found = told(rehearsed(server, tmp_path / "m", budgets=Budgets(file_s=0.1, exclusive_s=0.1)))
    assert any(line.startswith("duration 000002_fine.up.sql Took 0.2") for line in found), found
    assert any(line.startswith("lock 000002_fine.up.sql Held ACCESS EXCLUSIVE for 0.2") for line in found), found


def test_only_one_version_is_tried_when_only_one_is_asked_for(server):
    report = rehearsed(server, CORPUS / "clean/migrations", only=2)
    assert [item["down"] for item in report["versions"]] == [None, "equal"]


def test_a_throwaway_server_is_made_and_leaves_nothing(server, tmp_path):
    settings = settings_for(server, CORPUS / "clean/migrations")
    host = {"os_user": server.os_user.name, "bin_dir": str(server.installation.bin_dir), "data_directory": None}
    settings = server.engine_settings(host=host, migrations={"path": settings.migrations.path})
    before = set(Path("/dev/shm").glob("dbops-scratch-*"))
    report = rehearse.rehearse(settings, rehearse.Request(jobs=2), Silent())["rehearsal"]
    assert report["passed"]
    assert report["postgres"] == 18
    assert set(Path("/dev/shm").glob("dbops-scratch-*")) <= before


@pytest.mark.parametrize(("way", "force"), [("up", 1), ("down", 2)])
def test_the_doctor_rebuilds_what_the_files_make_where_no_history_tells(server, tmp_path, way, force):
    shutil.copytree(CORPUS / "clean/migrations", tmp_path / "m")
    name = f"dirty_{way}"
    server.sql(f"create database {name}")
    settings = settings_for(server, tmp_path / "m", database=name, history=False)
    if way == "down":
        run.run(settings, run.Request("up"), Silent())
    else:
        run.run(settings, run.Request("up", count=1), Silent())
    file = tmp_path / f"m/000002_fine.{way}.sql"
    good = file.read_text()
    file.write_text("select 1/0;")
    with pytest.raises(DbopsError):
        run.run(settings, run.Request(way, count=1), Silent())
    file.write_text(good)
    host = {"os_user": server.os_user.name, "bin_dir": str(server.installation.bin_dir), "data_directory": None}
    scratch = server.engine_settings(host=host, migrations={"path": str(tmp_path / "m")})
    found = doctor.diagnose(settings, rebuild=lambda versions: rehearse.schemas_at(scratch, versions))["doctor"]
    assert (found["verdict"], found["force"]) == (doctor.ROLLED_BACK, force)


def test_a_failing_file_is_told_once_for_each_way_in_which_it_fails(server):
    report = rehearsed(server, CORPUS / "syntax_error/migrations")
    assert not report["passed"]
    assert len([line for line in told(report) if "syntax error" in line]) == 1
