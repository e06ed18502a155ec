# SPDX-License-Identifier: GPL-3.0-or-later
"""The Grafana dashboard: every metric and label that it names exists, every expression is one, the role installs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health.registry import REGISTRY

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "roles" / "monitoring" / "files" / "grafana" / "dbops.json"
DASHBOARD = json.loads(FILE.read_text())
ALERT_LABELS = {"alertname", "alertstate", "severity"}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> list[tuple[str, str, str]]:
    """Where, expression, legend."""
    found = [
        (panel["title"], target["expr"], target["legendFormat"]) for panel in panels() for target in panel["targets"]
    ]
    return found + [("annotation", one["expr"], one["textFormat"]) for one in DASHBOARD["annotations"]["list"]]


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """Each metric with the labels that it is selected by."""
    found = re.findall(r"\b(dbops_\w+|ALERTS)(?:\{([^}]*)\})?", expression)
    return [(name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))) for name, matchers in found]


def grouped(expression: str) -> set[str]:
    return {label.strip() for labels in re.findall(r"\bby \(([^)]*)\)", expression) for label in labels.split(",")}


@pytest.mark.parametrize(("where", "expression", "legend"), expressions(), ids=lambda text: str(text)[:40])
def test_a_panel_names_metrics_and_labels_that_exist(where, expression, legend):
    used = selectors(expression)
    assert used, where
    for name, labels in used:
        known = ALERT_LABELS | {"cluster"} if name == "ALERTS" else set(REGISTRY[name].labels)
        assert labels <= known, f"{where}: {name} has no {labels - known}"
        if name != "ALERTS":
            assert grouped(expression) <= known, f"{where}: {name} cannot be grouped by {grouped(expression) - known}"
    shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
    assert shown <= (grouped(expression) or {"cluster", "repo"}), f"{where}: its legend shows what it does not group by"


def test_variables_ask_for_labels_that_exist():
    queries = [one["query"]["query"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
    for query in queries:
        metric, label = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", query).groups()  # type: ignore[union-attr]
        assert label in REGISTRY[metric].labels
    names = {one["name"] for one in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", FILE.read_text())) - {"__all"} == names


def test_prometheus_takes_every_expression(tmp_path):
    program = shutil.which("promtool")
    assert program, "promtool is missing. Next: install prometheus, or run .ci/run packages."
    rules = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$\w+", ".*", expression)}
        for number, (_where, expression, _legend) in enumerate(expressions())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([program, "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_have_a_place_of_their_own_a_number_and_a_word_of_explanation():
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert [panel["title"] for panel in panels() if not panel["description"]] == []


def test_the_role_gives_it_to_grafana(tmp_path):
    play = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "tasks": [
                {
                    "ansible.builtin.include_role": {"name": "dbops.postgres.monitoring", "tasks_from": "grafana"},
                    "vars": {
                        "dbops_grafana_provisioning_path": str(tmp_path / "provisioning"),
                        "dbops_grafana_dashboards_path": str(tmp_path / 'dash"boards'),
                        "dbops_grafana_datasource_url": "http://prometheus:9090",
                    },
                }
            ],
        }
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
    command = [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", "-c", "local", "play.yml"]
    command += ["-e", f"ansible_python_interpreter={sys.executable}"]
    for changed in (True, False):
        done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("changed=0" not in done.stdout) is changed
    provider = yaml.safe_load((tmp_path / "provisioning" / "dashboards" / "dbops.yml").read_text())
    (where,) = [one["options"]["path"] for one in provider["providers"]]
    assert json.loads((Path(where) / "dbops.json").read_text()) == DASHBOARD
    source = yaml.safe_load((tmp_path / "provisioning" / "datasources" / "dbops.yml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
