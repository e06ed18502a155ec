# SPDX-License-Identifier: GPL-3.0-or-later
"""Lint finds each planted defect, says where it is, and is silent about the reference migrations."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import date
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate import lint, rehearse, report
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
