# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's timers, rendered by Ansible with the role's own variables: systemd understands each of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles" / "agent"


def rendered(place: Path) -> dict[str, str]:
    """Files by name."""
    play = [{
        "hosts": "localhost", "connection": "local", "gather_facts": False,
        "vars_files": [str(ROLE / "vars/main.yml")],
        "vars": {
            "agent_cluster": "main", "agent_os_user": "postgres", "agent_bin_path": sys.executable,
            "agent_config_path": "/etc/dbops/main.json", "agent_textfile": "/srv/node/dbops-main.prom",
            "agent_canary": {"enabled": True}, "ansible_python_interpreter": sys.executable,
        },
        "tasks": [
            {
                "ansible.builtin.template": {
                    "src": str(ROLE / f"templates/job.{kind}.j2"),
                    "dest": f"{place}/dbops-main-{{{{ item.name }}}}.{kind}",
                    "mode": "0644",
                },
                "loop": "{{ __agent_jobs }}",
            }
            for kind in ("service", "timer")
        ],
    }]  # fmt: skip
    (place / "play.json").write_text(json.dumps(play))
    program = Path(sys.executable).parent / "ansible-playbook"
    done = subprocess.run([program, "-i", "localhost,", place / "play.json"], cwd=place, capture_output=True, text=True,
                          check=False, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stdout
    return {path.name: path.read_text() for path in place.glob("dbops-main-*")}


def test_systemd_understands_every_unit_and_the_command_every_line(tmp_path, capsys):
    program = shutil.which("systemd-analyze")
    assert program, "systemd-analyze is missing. Next: run .ci/run packages."
    units = rendered(tmp_path)
    jobs = {"check", "metrics", "canary"}
    assert set(units) == {f"dbops-main-{name}.{kind}" for name in jobs for kind in ("service", "timer")}
    for name in sorted(units):
        done = subprocess.run([program, "verify", "--recursive-errors=no", tmp_path / name], capture_output=True,
                              text=True, check=False, timeout=60)  # fmt: skip
        ours = [line for line in done.stderr.splitlines() if "dbops-main" in line]
        assert (done.returncode, ours) == (0, []), done.stderr
    for name in jobs:
        (line,) = re.findall(r"^ExecStart=\S+ (.*)$", units[f"dbops-main-{name}.service"], re.M)
        assert main([*line.split(), "--help"]) == 0  # each word of it is known to the command
        assert "usage: dbops" in capsys.readouterr().out
