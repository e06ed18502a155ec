# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets and files that lead into no cloud: each told as what it is, at once, and never shown."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, DbopsError, Unreachable
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.schema import build
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import RepositorySettings
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store import open_store
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store.protocol import Trouble

SECRET = "aHVzaCBodXNo"
NOWHERE = "http://127.0.0.1:9"  # nobody listens there; what is refused before that never asks
AWS_KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": SECRET}
KEY_FILE = {
    "type": "service_account", "client_email": "backups@example", "token_uri": f"{NOWHERE}/token", "project_id": "p",
    "private_key": SECRET,
}  # fmt: skip


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with what the cases name, and no credentials from anywhere else."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    (tmp_path / "words").write_text(f"{SECRET} is no JSON")
    (tmp_path / "other.json").write_text(json.dumps({"password": SECRET}))
    (tmp_path / "no-key.json").write_text(json.dumps(KEY_FILE))
    (tmp_path / "broken.ini").write_text(f"[default\naws_secret_access_key = {SECRET}\n")
    return tmp_path


S3: dict[str, Any] = {"bucket": "backups", "endpoint_url": NOWHERE, "region": "us-east-1"}
GCS: dict[str, Any] = {"bucket": "backups"}
AZURE: dict[str, Any] = {"container": "backups"}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, str], type[DbopsError], str]] = {
    "S3, no secret": ("s3", S3, {}, Trouble, "credentials are not accepted"),
    "S3, half a secret": ("s3", S3, {"AWS_ACCESS_KEY_ID": "a"}, Trouble, "credentials are not accepted.*missing"),
    "S3, an unknown profile": ("s3", {**S3, "profile": "nobody"}, {}, Trouble, "credentials are not accepted.*nobody"),
    "S3, no credentials file": ("s3", {**S3, "credentials_file": "{}/none"}, {}, Unreachable, "s3.credentials_file"),
    "S3, no config file": ("s3", {**S3, "config_file": "{}/none"}, AWS_KEYS, Unreachable, "s3.config_file"),
    "S3, a broken credentials file": ("s3", {**S3, "credentials_file": "{}/broken.ini"}, {}, Trouble, "broken.ini"),
    "S3, no authority": ("s3", {**S3, "ca_bundle": "{}/none"}, AWS_KEYS, Unreachable, "s3.ca_bundle .* No such file"),
    "S3, a region that is none": ("s3", {**S3, "region": "no region!"}, AWS_KEYS, Trouble, "request is refused"),
    "S3, no web identity's token": (
        "s3", S3, {"AWS_ROLE_ARN": "arn:aws:iam::1:role/x", "AWS_WEB_IDENTITY_TOKEN_FILE": "{}/none"}, Trouble,
        "credentials are not accepted.*No such file",
    ),
    "GCS, no secret": ("gcs", GCS, {}, Trouble, "credentials are not accepted"),
    "GCS, no key file": ("gcs", {**GCS, "key_file": "{}/none"}, {}, Unreachable, "gcs.key_file .* No such file"),
    "GCS, a key file that is no JSON": ("gcs", {**GCS, "key_file": "{}/words"}, {}, BadInput, "not a service account"),
    "GCS, another JSON file": ("gcs", {**GCS, "key_file": "{}/other.json"}, {}, BadInput, "not a service account"),
    "GCS, a key file without a key": ("gcs", {**GCS, "key_file": "{}/no-key.json"}, {}, BadInput, "not a service acc"),
    "GCS, a default that is no JSON": (
        "gcs", GCS, {"GOOGLE_APPLICATION_CREDENTIALS": "{}/words"}, Trouble, "credentials are not accepted",
    ),
    "Azure, an identity without TLS": (
        "azure", {**AZURE, "account_url": "http://account.blob.example"}, {}, BadInput, "managed_identity: .*HTTPS",
    ),
    "Azure, no account of that key": (
        "azure", {**AZURE, "account_url": "https://backups.example"}, {"AZURE_STORAGE_KEY": SECRET}, BadInput,
        "account_key: .*account name",
    ),
    "Azure, a key that is none": (
        "azure", {**AZURE, "account_url": "https://a.blob.core.windows.net"}, {"AZURE_STORAGE_KEY": SECRET[:-1]},
        Trouble, "request is refused.*invalid shared key",
    ),
    "Azure, a connection string that is none": (
        "azure", AZURE, {"AZURE_STORAGE_CONNECTION_STRING": SECRET}, BadInput, "connection_string: ",
    ),
    "Azure, half a connection string": (
        "azure", AZURE, {"AZURE_STORAGE_CONNECTION_STRING": f"AccountKey={SECRET}"}, BadInput, "connection_string: ",
    ),
    "Azure, no token": (
        "azure", {**AZURE, "account_url": "https://a.blob.core.windows.net", "credential": "sas"}, {}, BadInput,
        "Set azure.sas_token_file or AZURE_STORAGE_SAS_TOKEN",
    ),
    "Azure, no address": ("azure", AZURE, {"AZURE_STORAGE_KEY": SECRET}, BadInput, "account_url is missing"),
    "Azure, no token file": (
        "azure", {**AZURE, "account_url": "https://a.blob.core.windows.net", "sas_token_file": "{}/none"}, {},
        Unreachable, "azure.sas_token_file .* No such file",
    ),
    "Azure, no authority": (
        "azure", {**AZURE, "account_url": "https://a.blob.core.windows.net", "ca_bundle": "{}/none"},
        {"AZURE_STORAGE_SAS_TOKEN": SECRET}, Unreachable, "azure.ca_bundle .* No such file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_leads_nowhere_is_told_as_what_it_is(case: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, section, variables, error, said = CASES[case]
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(files))
    section = {name: value.format(files) for name, value in section.items()}
    settings = build(RepositorySettings, {"name": "cloud", "type": kind, kind: section}, where="test")
    begun = time.monotonic()
    with pytest.raises(error, match=said) as caught:
        list(open_store(settings).list(""))
    assert time.monotonic() - begun < 10, "asking again does not mend it"
    assert caught.value.hint
    assert SECRET[:-1] not in f"{caught.value}{caught.value.hint}"
