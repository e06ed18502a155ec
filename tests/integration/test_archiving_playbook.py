# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/archiving.yml as an operator runs it: nothing restarts unasked, and the proof is real."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.archiving import host_python
from tests.support.servers import PgServer, Templates, installations

ROOT = Path(__file__).resolve().parents[2]


class Controller:
    def __init__(self, server: PgServer, place: Path) -> None:
        repository = server.os_user.own_directory(place / "repository", 0o750)
        base = server.os_user.own_directory(place / "host", 0o755)
        python, libraries, codec = host_python(server.os_user.for_subprocess(), base)
        config = base / "main.json"
        config.write_text(json.dumps(server.engine_mapping(repository, archiving={"codec": codec, "linger_s": 3})))
        config.chmod(0o644)
        self.place = place
        self.variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "dbops_become": False,
            "dbops_cluster": "main",
            "dbops_config_path": str(config),
            "dbops_lib_path": str(libraries[0]),
            "dbops_python": python,
            "dbops_result_path": str(place / "result"),
        }
        self.inventory = place / "inventory.json"
        self.inventory.write_text(json.dumps({"postgres": {"hosts": {"db1": self.variables}}}))

    def play(self, *words: str, fails: bool = False) -> str:
        program = Path(sys.executable).parent / "ansible-playbook"
        done = subprocess.run(
            [str(program), "-i", str(self.inventory), "playbooks/archiving.yml", *words],
            cwd=ROOT,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
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

    def result(self) -> dict[str, object]:
        return dict(json.loads((self.place / "result" / "archiving-db1.json").read_text())["result"])


@pytest.fixture
def newest(templates: Templates, place: Path) -> PgServer:
    server = templates.server(installations()[-1], place / "pg")
    server.start()
    return server


def changed(screen: str) -> int:
    found = re.search(r"^db1 +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=0", screen, re.MULTILINE)
    assert found is not None, screen
    return int(found.group(1))


@pytest.mark.slow
def test_set_up_reported_restarted_proven_and_then_unchanged(newest, place):
    controller = Controller(newest, place)
    assert changed(controller.play("--check", "--diff")) > 0
    assert not (newest.data / "conf.d").exists()

    first = controller.play()
    assert changed(first) > 0
    assert "Next: restart the server" in first
    assert "NOT PROVEN" in first
    assert newest.value("show archive_mode") == "off", "a restart was not allowed"
    assert newest.value("show archive_timeout") == "5min", "a reload needs no permission"

    refused = controller.play("-e", "dbops_archiving_allow_restart=true", fails=True)
    assert "set dbops_service" in refused

    newest.restart()
    second = controller.play()
    assert changed(second) == 0
    assert "came back in" in second
    proof = controller.result()["round_trip"]
    assert isinstance(proof, dict)
    assert proof["repositories"][0]["readable"] is True
    assert changed(controller.play("-e", "dbops_archive_timeout=60")) > 0
    assert newest.value("show archive_timeout") == "1min"

    gone = controller.play("-e", "dbops_archiving_state=absent")
    assert changed(gone) > 0
    assert "Next: restart the server" in gone
