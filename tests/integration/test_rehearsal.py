# SPDX-License-Identifier: GPL-3.0-or-later
"""The rehearsal finds each planted defect with the right message, and none in the reference migrations."""

from __future__ import annotations

import getpass
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import DbopsError
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate import doctor, rehearse, run
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate.bench import Bench
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate.finding import Budgets
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg import osuser, scratch
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from tests.support.module_runs import run_module
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
    assert server.value("select count(*) from pg_roles where rolname like '%%corpus'") == 0


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


def test_a_throwaway_server_is_made_of_each_version_and_leaves_nothing(server, installation, monkeypatch):
    monkeypatch.setattr(scratch, "_PREFIX", f"dbops-scratch-{server.port}-")  # others make theirs at this moment
    settings = settings_for(server, CORPUS / "clean/migrations")
    host = {"os_user": server.os_user.name, "bin_dir": str(installation.bin_dir), "data_directory": None}
    settings = server.engine_settings(host=host, migrations={"path": settings.migrations.path})
    report = rehearse.rehearse(settings, rehearse.Request(jobs=2), Silent())["rehearsal"]
    assert report["passed"]
    assert report["postgres"] == installation.major
    assert list(Path("/dev/shm").glob(f"dbops-scratch-{server.port}-*")) == []


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


def module_options(server: PgServer, directory: Path) -> dict:
    section = server.engine_mapping(None)
    return {
        "cluster": "main",
        "path": str(directory),
        "os_user": getpass.getuser(),
        "on_server": True,
        **section["connection"],
    }


def test_the_module_fails_for_what_it_found_returns_it_and_writes_the_reports(server, tmp_path):
    options = module_options(server, CORPUS / "name_taken/migrations")
    reports = {form: str(tmp_path / form) for form in ("json", "junit", "sarif", "github")}
    planned = run_module("pg_migration_test", check=True, reports=reports, **options)
    assert [item["chosen"] for item in planned["rehearsal"]["versions"]] == [True] * 3
    assert not any(Path(path).exists() for path in reports.values())
    found = run_module("pg_migration_test", reports=reports, only=3, **options)
    assert (found["failed"], found["error_code"]) == (True, "migrations_failed")
    assert [item["down"] for item in found["rehearsal"]["versions"]] == [None, None, "different"]
    assert json.loads((tmp_path / "json").read_text()) == found["rehearsal"]["findings"]
    assert all(Path(path).stat().st_size for path in reports.values())
    told_only = run_module("pg_migration_test", fail_on_findings=False, **options)
    assert not told_only["failed"]
    assert not told_only["changed"]
    assert not told_only["rehearsal"]["passed"]


def test_clean_drops_what_killed_rehearsals_left_and_nothing_of_a_living_one(server):
    settings = settings_for(server, CORPUS / "clean/migrations")
    server.sql("create database dbops_rehearsal_0badcafe_7")
    server.sql("create database dbops_rehearsal_of_mine")
    living = Bench(settings.connection, osuser.current_identity())
    kept = living.create()
    rehearsed(server, CORPUS / "clean/migrations", clean=True)
    left = {name for (name,) in server.sql("select datname from pg_database where datname like 'dbops_rehearsal%%'")}
    assert left == {kept, "dbops_rehearsal_of_mine"}
    living.clear()
    server.sql("drop database dbops_rehearsal_of_mine")


def test_the_throwaway_server_of_a_killed_run_is_stopped_and_removed_by_the_next(server):
    code = (
        "import os, signal\n"
        "from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg import osuser, scratch\n"
        f"identity = osuser.cluster_identity({server.os_user.name!r}, None)\n"
        f"with scratch.scratch_server(identity, bin_dir={str(server.installation.bin_dir)!r}) as (connection, _who):\n"
        "    print(connection.login_unix_socket, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    died = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    base = Path(died.stdout.strip()).parent
    assert (base / "data/postmaster.pid").exists(), died.stderr
    pid = int((base / "data/postmaster.pid").read_text().splitlines()[0])
    assert str(base) in scratch.sweep(str(base.parent), osuser.cluster_identity(server.os_user.name, None))
    assert not base.exists()
    assert not Path(f"/proc/{pid}").exists()
