# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/verify.yml and health.yml as an operator runs them: a good, a damaged and an absent repository at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.physical import flip_a_bit, taken

ROOT = Path(__file__).resolve().parents[2]
POLICY = {"min_count": 1, "min_size_bytes": 1000, "min_free_percent": 0, "archiving": "off"}


def play(place: Path, name: str) -> str:
    """The playbook's output; it fails, since not every host is well."""
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", place / "inventory.json", f"playbooks/{name}.yml"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 2, done.stdout
    return done.stdout


def test_the_playbook_proves_a_good_backup_and_fails_for_a_damaged_and_an_absent_one(server, place, repository_path):
    settings = server.engine_settings(repository_path)
    label = taken(settings).label
    shutil.copytree(repository_path, place / "damaged")
    base = next((place / "damaged/main/backups" / label).glob("base.tar*"))
    base.write_bytes(flip_a_bit(base.read_bytes()))
    hosts = {}
    for name, path in {"good": repository_path, "damaged": place / "damaged", "away": place / "away"}.items():
        config = place / f"{name}.json"
        sections = {"host": {"state_path": str(place / f"state-{name}")}, "health": POLICY}
        config.write_text(json.dumps(server.engine_mapping(path, **sections)))
        hosts[name] = {"dbops_config_path": str(config)}
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "dbops_become": False,
        "dbops_cluster": "main",
        "dbops_live_progress": False,
        "dbops_result_path": str(place / "result"),
        "dbops_verify_assertions": [
            {"name": "orders", "database": "shop", "query": "select count(*) from orders", "at_least": 10000}
        ],
    }
    (place / "inventory.json").write_text(json.dumps({"postgres": {"hosts": hosts, "vars": variables}}))
    output = play(place, "verify")
    found = {name: json.loads((place / f"result/verify-{name}.json").read_text())["result"] for name in hosts}
    assert {name: item["verification"]["verdict"] for name, item in found.items()} == {
        "good": "pass",
        "damaged": "fail",
        "away": "could_not_verify",
    }
    assert found["good"]["verification"]["level"] == "assertions"
    assert f"{label} is proven to level assertions" in output
    assert f"{label} FAILED at bytes" in output
    assert list(place.glob("state-*/verify/*")) == []

    output = play(place, "health")
    health = {
        name: json.loads((place / f"result/health-{name}.json").read_text())["result"]["health"] for name in hosts
    }
    bad = {name: {i["check"] for i in item["findings"] if i["severity"] == "CRITICAL"} for name, item in health.items()}
    assert {name: item["severity"] for name, item in health.items()} == {
        "good": "OK",
        "damaged": "CRITICAL",
        "away": "CRITICAL",
    }
    assert bad == {"good": set(), "damaged": {"proof"}, "away": {"repository_list"}}
    assert "The verification of " + label + " failed" in output
