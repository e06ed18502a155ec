# SPDX-License-Identifier: GPL-3.0-or-later
"""Lint finds each planted defect, says where it is, and is silent about the reference migrations."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate import lint, rehearse, report, sizes
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate.lint_rules import Problem
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate.shape import read_script
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import from_mapping
from tests.support.module_runs import run_module

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "fixtures" / "migrations"
REFERENCE = ROOT / "examples" / "ridehailing" / "migrations"
ALL = lint.Request()


def told(data):
    return [
        f"{item['check']} {item['file']}{':' + str(item['line']) if item['line'] else ''} {item['message']}"
        for item in data["lint"]["findings"]
    ]


def cases():
    found = sorted(path.parent for path in CORPUS.glob("*/expect"))
    assert len(found) > 25
    return [pytest.param(path, id=path.name) for path in found]


@pytest.mark.parametrize("case", cases())
def test_each_planted_defect_is_found_where_it_is(case):
    expected = [
        line.split(" ", 1)[1] for line in (case / "expect").read_text().splitlines() if line.startswith("lint ")
    ]
    found = told(lint.lint(str(case / "migrations"), ALL))
    for pattern in expected:
        assert any(re.search(f"^{pattern}", line) for line in found), (pattern, found)
    if "clean" in (case / "expect").read_text():
        assert found == []


def test_the_reference_migrations_are_without_a_finding():
    assert told(lint.lint(str(REFERENCE), ALL)) == []


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(CORPUS / "dangerous" / "migrations", tmp_path / "m")
    return tmp_path / "m"


def test_a_baseline_lets_only_new_findings_count(copy, tmp_path):
    request = lint.Request(engines=("ours",), baseline=str(tmp_path / "baseline.json"))
    before = lint.lint(str(copy), request)
    assert not before["lint"]["passed"]
    lint.write_baseline(request.baseline, before["lint"]["findings"])
    assert lint.lint(str(copy), request)["lint"]["findings"] == []
    (copy / "000003_y.up.sql").write_text("-- New.\ntruncate shelves cascade;\n")
    assert [it["check"] for it in lint.lint(str(copy), request)["lint"]["findings"]] == [
        "missing-half",
        "truncate-cascade",
    ]


def test_a_suppression_holds_for_one_statement_until_its_date(copy):
    (copy / "000003_y.down.sql").write_text("-- Back.\nselect 1;\n")
    (copy / "000003_y.up.sql").write_text(
        "-- migration-lint: ignore truncate-cascade until 2026-12-31 -- the table is new\n"
        "truncate shelves cascade;\ntruncate shelves cascade;\n"
    )

    def found(today):
        data = lint.lint(str(copy), lint.Request(engines=("ours",), today=today))
        return [(it["check"], it["line"]) for it in data["lint"]["findings"] if it["file"] == "000003_y.up.sql"]

    assert found(date(2026, 12, 31)) == [("truncate-cascade", 3)]
    assert found(date(2027, 1, 1)) == [("suppression", 1), ("truncate-cascade", 2), ("truncate-cascade", 3)]


def test_a_severity_can_be_changed_and_switched_off(copy):
    severities = {"truncate-cascade": "off", "drop-database": "warning"}
    data = lint.lint(str(copy), lint.Request(engines=("ours",), severities=severities))
    found = {it["check"]: it["severity"] for it in data["lint"]["findings"]}
    assert "truncate-cascade" not in found
    assert found["drop-database"] == "warning"


def test_since_a_commit_only_new_files_count_and_old_ones_may_not_change(copy):
    def git(*words):
        identity = ["-c", "user.name=x", "-c", "user.email=x"]
        subprocess.run(["git", "-C", copy, *identity, *words], check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    request = lint.Request(engines=("ours",), since="HEAD")
    assert lint.lint(str(copy), request)["lint"]["findings"] == []
    (copy / "000001_shelves.up.sql").write_text("-- Edited.\ncreate table shelves (id int);\n")
    (copy / "000000_late.up.sql").write_text("-- Late.\nselect 1;\n")
    (copy / "000000_late.down.sql").write_text("-- Back.\nselect 1;\n")
    (copy / "000002_x.down.sql").unlink()
    found = sorted((it["check"], it["file"]) for it in lint.lint(str(copy), request)["lint"]["findings"])
    assert found == [
        ("edited", "000001_shelves.up.sql"),
        ("edited", "000002_x.down.sql"),
        ("not-above-base", "000000_late.down.sql"),
        ("not-above-base", "000000_late.up.sql"),
    ]
    planned = rehearse.preview(
        from_mapping({"cluster": "main", "migrations": {"path": str(copy)}}), rehearse.Request(since="HEAD")
    )
    assert [it["version"] for it in planned["rehearsal"]["versions"] if it["chosen"]] == [0, 1]


def test_the_quick_naming_hook_reads_no_file(copy):
    (copy / "3_Bad.up.sql").write_bytes(b"\xff")
    found = lint.lint(str(copy), lint.Request(naming_only=True))["lint"]["findings"]
    assert [(it["check"], it["file"]) for it in found] == [("missing-half", "3_Bad.up.sql"), ("naming", "3_Bad.up.sql")]


def test_reports_carry_every_finding_into_their_formats(copy):
    findings = lint.lint(str(copy), lint.Request(engines=("ours",)))["lint"]["findings"]
    sarif = json.loads(report.written(findings, "sarif", directory="db/migrations", suite="lint"))
    results = sarif["runs"][0]["results"]
    assert len(results) == len(findings)
    location = results[0]["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"].startswith("db/migrations/00000")
    assert location["region"]["startLine"] >= 1
    github = report.written(findings, "github", directory="db/migrations", suite="lint").splitlines()
    assert len(github) == len(findings)
    assert all(
        re.match(r"::(error|warning|notice) file=db/migrations/[^,]+,line=\d+,title=[^:]+::", line) for line in github
    )
    quality = json.loads(report.written(findings, "gitlab", directory="db/migrations/", suite="lint"))
    assert [(it["check_name"], it["location"]["lines"]["begin"]) for it in quality] == [
        (it["check"], it["line"] or 1) for it in findings
    ]
    assert len({it["fingerprint"] for it in quality}) == len(findings)
    assert {it["severity"] for it in quality} == {"major", "minor"}
    assert all(it["location"]["path"].startswith("db/migrations/00000") for it in quality)
    moved = [{**item, "line": (item["line"] or 0) + 3} for item in findings]
    again = json.loads(report.written(moved, "gitlab", directory="db/migrations", suite="lint"))
    assert [it["fingerprint"] for it in again] == [it["fingerprint"] for it in quality], "a moved finding is no new one"
    junit = report.written(findings, "junit", directory="x", suite="lint", cases=["1", "2"])
    assert 'tests="2" failures="1"' in junit


def test_the_module_fails_for_an_error_unless_it_is_switched_off(copy, tmp_path):
    options = {"cluster": "main", "path": str(copy)}
    found = run_module("pg_migration_lint", reports={"sarif": str(tmp_path / "sarif")}, **options)
    assert (found["failed"], found["error_code"]) == (True, "migrations_failed")
    assert len(json.loads((tmp_path / "sarif").read_text())["runs"][0]["results"]) == len(found["lint"]["findings"])
    errors = {item["check"]: "off" for item in found["lint"]["findings"] if item["severity"] == "error"}
    assert not run_module("pg_migration_lint", severities=errors, **options)["failed"]
    assert run_module("pg_migration_lint", severities={"no-such-rule": "off"}, **options)["error_code"] == "bad_input"


LONG_LOCKS = """-- Changes two tables.
set local lock_timeout = '1s';
alter table rides
    add constraint positive check (fare > 0);
create index on only public.rides (fare);
alter table if exists only "Cities" alter column name type varchar(9);
reindex table cities;
"""
ABOUT_RIDES = [(4, "constraint-missing-not-valid"), (5, "require-concurrent-index-creation")]


@pytest.mark.parametrize(
    ("counts", "left"),
    [
        ('{"public.rides": 5000000, "Cities": 40, "cities": 40}', ABOUT_RIDES),
        ("rides|5000000\nCities|40\npublic.cities|-1\n", [*ABOUT_RIDES, (7, "require-concurrent-reindex")]),
        ("# by hand\nrides\t100\n", [(6, "changing-column-type"), (7, "require-concurrent-reindex")]),
        (None, [*ABOUT_RIDES, (6, "changing-column-type"), (7, "require-concurrent-reindex")]),
    ],
)
def test_how_long_a_lock_lasts_is_no_matter_for_a_small_table(tmp_path, counts, left):
    directory = tmp_path / "m"
    directory.mkdir()
    (directory / "000001_locks.up.sql").write_text(LONG_LOCKS)
    path = tmp_path / "rows"
    path.write_text(counts or "")
    request = lint.Request(engines=("squawk",), row_counts=str(path) if counts else None)
    found = lint.lint(str(directory), request)["lint"]["findings"]
    about_length = {f"squawk:{rule}" for _line, rule in [*ABOUT_RIDES, (0, "changing-column-type")]}
    about_length.add("squawk:require-concurrent-reindex")
    told = [(it["line"], it["check"].removeprefix("squawk:")) for it in found if it["check"] in about_length]
    assert told == left


def test_a_large_table_is_what_the_operator_calls_large(tmp_path):
    problem = Problem("squawk:changing-column-type", "1.up.sql", "Rewrites it.", 1)
    script = read_script("alter table rides alter column fare type text")
    assert [sizes.is_spared(problem, script, {"rides": 100}, small) for small in (99, 100)] == [False, True]
    other = Problem("no-lock-timeout", "1.up.sql", "Waits.", 1)
    assert not sizes.is_spared(other, script, {"rides": 0}, 100), "waiting for a lock is as bad for a small table"


@pytest.mark.parametrize("text", ["rides", "rides|many", '{"rides": "many"}', "[1]", '{"rides": [1]}', "{"])
def test_what_are_no_row_counts_is_refused(copy, tmp_path, text):
    (tmp_path / "rows").write_text(text)
    with pytest.raises(BadInput, match="row counts"):
        lint.lint(str(copy), lint.Request(row_counts=str(tmp_path / "rows")))


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,9}(\.[a-z_]{1,9})?", fullmatch=True), st.integers(0, 1 << 60)))
def test_row_counts_come_back_from_either_form(counts):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as stream:
        forms = json.dumps(counts), "\n".join(f"{table}|{rows}" for table, rows in counts.items())
        read = []
        for text in forms:
            stream.seek(0)
            stream.truncate()
            stream.write(text)
            stream.flush()
            read.append(sizes.row_counts(stream.name))
    assert read[0] == read[1] == {table.removeprefix("public."): rows for table, rows in counts.items()}
