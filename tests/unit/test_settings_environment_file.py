# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment file beside the settings file: over it, below the environment itself, and checked as strictly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.check_settings import main as check_settings
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings, load


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "main.json"
    path.write_text(json.dumps({"cluster": "main", "archiving": {"workers": 3, "codec": "gzip"}}))
    return path


def loaded(config: Path, text: str, environment: dict[str, str] | None = None, **overrides: object) -> Settings:
    config.with_suffix(".env").write_text(text)
    return load("main", path=str(config), overrides=overrides, environment=environment or {})


def test_it_lies_over_the_settings_file_and_below_the_environment_and_a_call_s_own_options(config: Path):
    text = """
# archiving
DBOPS_ARCHIVING_WORKERS=4
DBOPS_ARCHIVING_LOG_PATH="/var/log/with space.log"
DBOPS_CLUSTER=main
BACKUP_DIR=/somebody/elses
"""
    settings = loaded(config, text)
    assert (settings.archiving.workers, settings.archiving.codec) == (4, "gzip")
    assert settings.archiving.log_path == "/var/log/with space.log"
    assert settings.repositories == ()
    above = {"DBOPS_ARCHIVING_WORKERS": "5"}
    assert loaded(config, text, above).archiving.workers == 5
    assert loaded(config, text, above, archiving={"workers": 6}).archiving.workers == 6


def test_without_the_file_nothing_changes(config: Path):
    assert load("main", path=str(config), environment={}).archiving.workers == 3


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("DBOPS_ARCHIVING_WORKRES=4", "DBOPS_ARCHIVING_WORKRES names no setting"),
        ("DBOPS_ARCHIVING_WORKERS=four", "must be a whole number"),
        ("DBOPS_HOST_STATE_PATH=/srv/a b", r"main\.env:2 is not NAME=value"),
        ("DBOPS_HOST_STATE_PATH='/srv", r"main\.env:2: No closing quotation"),
        ("export DBOPS_ARCHIVING_WORKERS=4", "is not NAME=value"),
    ],
)
def test_what_is_no_setting_is_an_error(config: Path, line: str, said: str):
    with pytest.raises(BadInput, match=said):
        loaded(config, f"# first\n{line}\n")


def test_the_command_says_which_variable_a_setting_comes_from(config: Path, capsys: pytest.CaptureFixture[str]):
    config.with_suffix(".env").write_text("DBOPS_ARCHIVING_WORKERS=4\n")
    assert main(["--config", str(config), "config"]) == 0
    assert "archiving.workers = 4    # $DBOPS_ARCHIVING_WORKERS" in capsys.readouterr().out


def test_a_file_that_is_not_in_its_place_yet_can_be_tried(config: Path, tmp_path: Path, capsys):
    tried = tmp_path / "tried"
    tried.write_text("DBOPS_ARCHIVING_WORKERS=4\n")
    assert check_settings(["main", str(config), str(tried)]) == 0
    tried.write_text("DBOPS_ARCHIVING_WORKERS=none\n")
    assert check_settings(["main", str(config), str(tried)]) == BadInput.exit_code
    assert "must be a whole number" in capsys.readouterr().err
