# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings from the environment: every one of them, in the promised order, and nothing mistaken for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import RepositorySettings, Settings, load
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings_environment import (
    laid_in,
    not_understood,
    old_target,
    sources,
    variables,
)

LOCAL = {"name": "near", "path": "/backups"}


@pytest.fixture
def no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings.DEFAULT_DIRECTORY", str(tmp_path)
    )


def settings(environment: dict[str, str], **file: Any) -> Settings:
    return load("main", overrides=file, environment=environment)


def laid(environment: dict[str, str], **file: Any) -> dict[str, Any]:
    return laid_in(Settings, file, environment)


def test_every_setting_has_a_variable_of_its_own():
    known = variables(Settings)
    assert len({path for path, _hint in known.values()}) == len(known)
    assert {"DBOPS_RETENTION_KEEP_WITHIN", "DBOPS_CONNECTION_LOGIN_HOST", "DBOPS_ENCRYPTION_RECIPIENTS"} <= set(known)
    assert {"DBOPS_S3_BUCKET", "DBOPS_TRANSFER_PART_BYTES", "DBOPS_LOCK_MODE"} <= set(variables(RepositorySettings))


@pytest.mark.usefixtures("no_file")
def test_each_type_is_read_as_a_settings_file_has_it():
    made = settings(
        {
            "DBOPS_CONNECTION_LOGIN_PORT": "5433",
            "DBOPS_CONNECTION_CONNECT_PARAMS": '{"application_name": "cron"}',
            "DBOPS_BACKUP_DATABASES": "shop, ride",
            "DBOPS_BACKUP_EXCLUDE_TABLES": '["a,b"]',
            "DBOPS_BACKUP_GLOBALS": "no",
            "DBOPS_RETENTION_KEEP_WITHIN": "14d",
            "DBOPS_REPOSITORIES_0_TYPE": "s3",
            "DBOPS_REPOSITORIES_0_S3_BUCKET": "acme",
            "DBOPS_REPOSITORIES_0_S3_TAGS": '{"team": "dba"}',
            "DBOPS_REPOSITORIES_1_NAME": "far",
            "DBOPS_REPOSITORIES_1_PATH": "/mnt/far",
            "DBOPS_REPOSITORIES_1_REQUIRED": "false",
        }
    )
    assert (made.connection.login_port, made.connection.connect_params) == (5433, {"application_name": "cron"})
    assert (made.backup.databases, made.backup.exclude_tables) == (("shop", "ride"), ("a,b",))
    assert (made.backup.globals, made.retention.keep_within) == (False, "14d")
    first, second = made.repositories
    assert first.s3 is not None
    assert (first.s3.bucket, first.s3.tags) == ("acme", {"team": "dba"})
    assert (second.name, second.path, second.required) == ("far", "/mnt/far", False)


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"DBOPS_RETENTION_KEEP_WITHIHN": "hunter2"}, "DBOPS_RETENTION_KEEP_WITHIHN"),
        ({"DBOPS_CONNECTION_PASSWORD": "hunter2"}, "DBOPS_CONNECTION_PASSWORD"),
        ({"DBOPS_REPOSITORIES_0_S3_BUKET": "hunter2"}, "DBOPS_REPOSITORIES_0_S3_BUKET"),
        ({"DBOPS_RETENTION_DAILY": "hunter2"}, "DBOPS_RETENTION_DAILY"),
        ({"DBOPS_BACKUP_GLOBALS": "hunter2"}, "DBOPS_BACKUP_GLOBALS"),
        ({"DBOPS_REPOSITORIES": "hunter2"}, "DBOPS_REPOSITORIES"),
        ({"DBOPS_CONNECTION_CONNECT_PARAMS": "[1]"}, "DBOPS_CONNECTION_CONNECT_PARAMS"),
        ({"DBOPS_REPOSITORIES_1_PATH": "/b"}, "repository number 1"),
    ],
)
def test_a_variable_that_cannot_be_is_refused_by_name_and_its_value_not_shown(environment: dict[str, str], named: str):
    with pytest.raises(BadInput, match=named) as caught:
        laid(environment)
    assert "hunter2" not in str(caught.value)


def test_other_variables_of_that_prefix_are_nobodys_setting():
    assert laid({"DBOPS_CLUSTER": "x", "DBOPS_DEBUG": "1", "DBOPS_TEST_SEED": "7"}) == {}


@pytest.mark.usefixtures("no_file")
def test_an_option_beats_the_variable_which_beats_the_file_which_beats_an_old_name():
    file = {"retention": {"keep_within": "7d"}, "repositories": [LOCAL]}
    old = {"PITR_RETENTION_DAYS": "30", "BACKUP_S3_BUCKET": "acme"}
    new = {"DBOPS_RETENTION_KEEP_WITHIN": "14d", "DBOPS_REPOSITORIES_0_PATH": "/elsewhere"}
    assert laid(old) == {
        "retention": {"keep_within": "30d"}, "repositories": [{"type": "s3", "s3": {"bucket": "acme"}}],
    }  # fmt: skip
    assert laid(old, **file) == file
    both = laid({**old, **new}, **file)
    assert both == {"retention": {"keep_within": "14d"}, "repositories": [{**LOCAL, "path": "/elsewhere"}]}
    said = settings({**old, **new}, retention={"keep_within": "1d"}, repositories=[LOCAL])
    assert (said.retention.keep_within, said.repositories[0].path) == ("1d", "/backups")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (
            {"BACKUP_STORAGE_TYPE": "s3", "BACKUP_S3_BUCKET": "acme", "BACKUP_S3_PREFIX": "/pg/", "BACKUP_DIR": "/b"},
            {"type": "s3", "s3": {"bucket": "acme", "prefix": "pg"}},
        ),
        ({"BACKUP_GCS_BUCKET": "acme"}, {"type": "gcs", "gcs": {"bucket": "acme"}}),
        ({"BACKUP_AZURE_CONTAINER": "acme"}, {"type": "azure", "azure": {"container": "acme"}}),
        ({"BACKUP_STORAGE_TYPE": "local", "BACKUP_DIR": "/b"}, {"type": "local", "path": "/b"}),
    ],
)
def test_the_older_scripts_names_make_a_repository(environment: dict[str, str], expected: dict[str, Any]):
    assert laid(environment)["repositories"] == [expected]


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"BACKUP_STORAGE_TYPE": "ftp"}, "ftp"),
        ({"BACKUP_STORAGE_TYPE": "s3"}, "BACKUP_S3_BUCKET"),
        ({"BACKUP_S3_BUCKET": "a", "BACKUP_GCS_BUCKET": "b"}, "BACKUP_GCS_BUCKET, BACKUP_S3_BUCKET"),
        ({"PITR_RETENTION_DAYS": "a week"}, "PITR_RETENTION_DAYS"),
    ],
)
def test_old_names_that_say_too_little_or_too_much_are_refused(environment: dict[str, str], named: str):
    with pytest.raises(BadInput, match=named):
        laid(environment)


def test_a_gpg_recipient_is_looked_for_in_the_users_own_keyring():
    made = laid({"BACKUP_GPG_RECIPIENT": "dba@example.org", "GNUPGHOME": "/keys"})
    assert made["encryption"] == {"method": "gpg", "recipients": ["dba@example.org"], "homedir": "/keys"}
    assert laid({"BACKUP_GPG_RECIPIENT": "x"}, encryption={"method": "none"})["encryption"] == {"method": "none"}


def test_an_old_recovery_target_is_read_whole():
    given, said = old_target({"PITR_TARGET_TIME": "2026-11-22T13:05:00Z", "PITR_TARGET_INCLUSIVE": "false"})
    assert given == {"time": "2026-11-22T13:05:00Z", "inclusive": False}
    assert said == ["PITR_TARGET_INCLUSIVE", "PITR_TARGET_TIME"]
    assert old_target({"PITR_TARGET_ACTION": "pause"}) == ({}, [])
    assert not_understood({"PITR_TARGET_TIME": "x", "PITR_BASE": "y", "PATH": "z"}) == ["PITR_BASE"]


def test_config_says_where_each_setting_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "main.json"
    file.write_text(json.dumps({"cluster": "main", "retention": {"daily": 7}}))
    monkeypatch.setenv("DBOPS_RETENTION_MONTHLY", "12")
    monkeypatch.setenv("BACKUP_GCS_BUCKET", "acme")
    monkeypatch.setenv("PITR_NOTHING", "x")
    assert main(["config", "--config", str(file)]) == 0
    said = capsys.readouterr()
    assert "retention.daily = 7\n" in said.out
    assert "retention.monthly = 12    # $DBOPS_RETENTION_MONTHLY\n" in said.out
    assert 'repositories[0].gcs.bucket = "acme"    # $BACKUP_GCS_BUCKET\n' in said.out
    assert "PITR_NOTHING" in said.err
    assert sources(Settings, {}, {"DBOPS_RETENTION_DAILY": "3"}) == {"retention.daily": "DBOPS_RETENTION_DAILY"}


def test_a_restore_takes_an_old_target_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PITR_TARGET_TIME", "yesterday")
    monkeypatch.setenv("DBOPS_REPOSITORIES_0_PATH", str(tmp_path))
    assert main(["restore", "--cluster", "main", "--target", str(tmp_path / "new"), "--plan"]) == 2
    said = capsys.readouterr().err
    assert "PITR_TARGET_TIME" in said
    assert "yesterday" in said
