# SPDX-License-Identifier: GPL-3.0-or-later
"""The reference application's pipelines: what they call exists, passes for good files, and fails for bad ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "ridehailing"
CORPUS = ROOT / "tests" / "fixtures" / "migrations"


def load(name: str) -> dict:
    return yaml.safe_load((EXAMPLE / name).read_text())


def test_both_pipelines_call_the_script_and_every_hook_exists():
    steps = load(".github/workflows/migrations.yml")["jobs"]["test"]["steps"]
    assert [step for step in steps if step.get("run") == "ci/test-migrations"]
    assert load(".gitlab-ci.yml")["migrations"]["script"][-1].endswith("ci/test-migrations")
    known = {hook["id"] for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    (repository,) = load(".pre-commit-config.yaml")["repos"]
    assert {hook["id"] for hook in repository["hooks"]} == known


@pytest.mark.parametrize(("case", "code"), [("clean", 0), ("old_rows_break_a_constraint", 1)])
def test_the_script_fails_exactly_when_lint_or_rehearsal_does(tmp_path, case, code):
    shutil.copytree(EXAMPLE / "ci", tmp_path / "ci")
    shutil.copytree(CORPUS / case / "migrations", tmp_path / "migrations")
    shutil.copytree(CORPUS / case / "rows", tmp_path / "rehearsal")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {
        "PATH": path,
        "DBOPS": str(ROOT),
        "GITHUB_ACTIONS": "true",
        "LC_ALL": "C.UTF-8",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        ["sh", tmp_path / "ci/test-migrations"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert (tmp_path / "reports/lint.sarif").stat().st_size
    failures = 'failures="0"' in (tmp_path / "reports/rehearsal.xml").read_text()
    assert failures is (code == 0)
    assert ("::error file=migrations/000002_unique.up.sql" in done.stdout) is (code == 1)
