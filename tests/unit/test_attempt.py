# SPDX-License-Identifier: GPL-3.0-or-later
"""How the last try at a backup went is known after it failed, and after it was killed too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup.attempt import attempted, last
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import Unreachable
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.osuser import current_identity
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import from_mapping

HOLD = """
import sys
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup.attempt import attempted
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.osuser import current_identity
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import from_mapping
with attempted(from_mapping({"cluster": "main", "host": {"state_path": sys.argv[1]}}), "physical", current_identity()):
    print("begun", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def settings(tmp_path):
    return from_mapping({"cluster": "main", "host": {"state_path": str(tmp_path / "state")}})


def test_each_end_is_known_and_the_last_one_counts(settings):
    assert last(settings, "physical") is None
    with pytest.raises(Unreachable), attempted(settings, "physical", current_identity()):
        raise Unreachable("The server is gone.")
    assert (last(settings, "physical").ok, last(settings, "physical").words) == (False, "The server is gone.")
    assert last(settings, "logical") is None
    with attempted(settings, "physical", current_identity()):
        assert last(settings, "physical").ok is None
    assert (last(settings, "physical").ok, last(settings, "physical").words) == (True, "")


def test_one_that_was_killed_failed_and_one_that_runs_did_not(settings):
    """M6: what is killed halfway leaves no backup, and says so."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, settings.state_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    assert last(settings, "physical").ok is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (last(settings, "physical").ok, last(settings, "physical").words) == (False, "It was killed.")


def test_where_nothing_can_be_written_down_the_backup_goes_on(tmp_path):
    (tmp_path / "file").write_text("")
    nowhere = from_mapping({"cluster": "main", "host": {"state_path": str(tmp_path / "file" / "state")}})
    with attempted(nowhere, "physical", current_identity()):
        pass
    assert last(nowhere, "physical") is None
    assert os.listdir(tmp_path) == ["file"]
