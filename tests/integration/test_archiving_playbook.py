# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/archiving.yml as an operator runs it: nothing restarts unasked, and the proof is real."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.archiving import host_python
from tests.support.playbooks import Controller, changed
from tests.support.servers import PgServer, Templates, installations


def controller_of(server: PgServer, place: Path) -> Controller:
    repository = server.os_user.own_directory(place / "repository", 0o750)
    base = server.os_user.own_directory(place / "host", 0o755)
    python, libraries, codec = host_python(server.os_user.for_subprocess(), base)
    config = base / "main.json"
    config.write_text(json.dumps(server.engine_mapping(repository, archiving={"codec": codec, "linger_s": 3})))
    config.chmod(0o644)
    variables = {"dbops_config_path": str(config), "dbops_lib_path": str(libraries[0]), "dbops_python": python}
    return Controller(place, variables, {"db1": {}})


@pytest.fixture
def newest(templates: Templates, place: Path) -> PgServer:
    server = templates.server(installations()[-1], place / "pg")
    server.start()
    return server


def assert_logged_and_rotated(log: Path, rotation: Path, place: Path) -> None:
    """The environment file's path is what the scripts write to, and logrotate takes the file that it was given."""
    assert re.search(r"^20\S+Z push\S* [0-9A-F]{24} archived", log.read_text(), re.MULTILINE)
    program = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "logrotate is not installed. Next: install it, or run: .ci/run packages"
    words = [program, "--force", "--state", str(place / "logrotate.state"), str(rotation)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert log.read_text() == ""
    assert "archived" in log.with_name("archiving.log.1").read_text()


@pytest.mark.slow
def test_set_up_reported_restarted_proven_and_then_unchanged(newest, place):
    controller = controller_of(newest, place)
    assert changed(controller.play("archiving", "--check", "--diff")) > 0
    assert not (newest.data / "conf.d").exists()

    log, rotation = place / "log" / "archiving.log", place / "logrotate"
    more = {
        "dbops_archive_timeout": 60, "dbops_archiving_log": str(log), "archiving_logrotate_path": str(rotation),
        "dbops_archiving_environment": {"DBOPS_ARCHIVING_WORKERS": 1}, "dbops_os_user": newest.os_user.name,
    }  # fmt: skip
    first = controller.play("archiving", **more)
    assert changed(first) > 0
    assert "Next: restart the server" in first
    assert "NOT PROVEN" in first
    assert newest.value("show archive_mode") == "off", "a restart was not allowed"
    assert newest.value("show archive_timeout") == "1min", "a reload needs no permission"

    refused = controller.play("archiving", fails=True, dbops_archiving_allow_restart=True, **more)
    assert "set dbops_service" in refused

    newest.restart()
    second = controller.play("archiving", **more)
    assert changed(second) == 0
    assert "came back in" in second
    proof = controller.result("archiving")["round_trip"]
    assert isinstance(proof, dict)
    assert proof["repositories"][0]["readable"] is True
    assert_logged_and_rotated(log, rotation, place)

    gone = controller.play("archiving", "-e", "dbops_archiving_state=absent")
    assert changed(gone) > 0
    assert "Next: restart the server" in gone
