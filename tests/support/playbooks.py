# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's playbooks as an operator runs them, with everything that they print."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

HANDING_ON = {"ANSIBLE_SHOW_CUSTOM_STATS": "1", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}


class Controller:
    """An inventory of local hosts, all with the same variables but for what `hosts` says of each."""

    def __init__(
        self,
        place: Path,
        variables: Mapping[str, Any],
        hosts: Mapping[str, Mapping[str, Any]],
        *,
        writes_results: bool = True,
    ) -> None:
        self.place = place
        self.writes_results = writes_results  # else what a play hands on can be had from its screen: see `handed_on`
        common = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "dbops_become": False,
            "dbops_cluster": "main",
            **({"dbops_result_path": str(place / "result")} if writes_results else {}),
            **variables,
        }
        self.inventory = place / "inventory.json"
        self.inventory.write_text(json.dumps({"postgres": {"hosts": dict(hosts), "vars": common}}))

    def play(self, playbook: str, *words: str, fails: bool = False, **variables: Any) -> str:
        """Its screen; an end that was not expected fails the test."""
        program = Path(sys.executable).parent / "ansible-playbook"
        extra = ["-e", json.dumps(variables)] if variables else []
        done = subprocess.run(
            [str(program), "-i", str(self.inventory), f"playbooks/{playbook}.yml", *words, *extra],
            cwd=ROOT,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                **({} if self.writes_results else HANDING_ON),
                "LC_ALL": "C.UTF-8",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )
        assert (done.returncode != 0) is fails, done.stdout
        return done.stdout

    def result(self, verb: str, host: str = "db1") -> dict[str, Any]:
        return dict(json.loads((self.place / "result" / f"{verb}-{host}.json").read_text())["result"])


def handed_on(screen: str, name: str) -> dict[str, Any]:
    """What the play gave to set_stats under that name. Writing it into files, host by host, is what would cost most."""
    found = re.search(r"^\s*RUN: (\{.*\})$", screen, re.MULTILINE)
    assert found is not None, screen
    return dict(json.loads(found.group(1))[name])


def changed(screen: str, host: str = "db1") -> int:
    found = re.search(rf"^{host} +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=0", screen, re.MULTILINE)
    assert found is not None, screen
    return int(found.group(1))


def unfolded(screen: str) -> str:
    """Ansible folds long messages; here they are on one line again."""
    return " ".join(screen.split())
