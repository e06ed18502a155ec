# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings file: what is wrong in it is named, by its key, before anything is touched."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, NotFound, Unreachable
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.schema import duration_s
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import (
    from_mapping,
    load,
    overlay,
)

REPOSITORY = {"name": "default", "path": "/backup"}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGPORT", "PGUSER"):
        monkeypatch.delenv(name, raising=False)


def written(path: Path, data: Any) -> str:
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return str(path)


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"retension": {}}, "retension"),
        ({"retention": {"keep_lasst": 3}}, "retention.keep_lasst"),
        ({"connection": {"password": "x"}}, "connection.password"),
        ({"repositories": [REPOSITORY, {"path": "/b", "name": "b", "pth": "/c"}]}, "repositories[1].pth"),
    ],
)
def test_an_unknown_key_is_refused_and_named(data: dict[str, Any], key: str):
    with pytest.raises(BadInput) as caught:
        from_mapping({"cluster": "main", **data}, where="/etc/dbops/main.json")
    assert f"'{key}'" in caught.value.message
    assert "/etc/dbops/main.json" in caught.value.message
    assert "Known here" in caught.value.hint


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"cluster": 5}, "cluster"),
        ({"connection": []}, "connection"),
        ({"connection": {"login_port": "5432"}}, "connection.login_port"),
        ({"connection": {"login_port": True}}, "connection.login_port"),
        ({"connection": {"login_port": 5432.0}}, "connection.login_port"),
        ({"connection": {"login_host": None}}, "connection.login_host"),
        ({"connection": {"connect_params": {"a": 1}}}, "connection.connect_params.a"),
        ({"connection": {"connect_params": ["a"]}}, "connection.connect_params"),
        ({"host": {"os_user": 0}}, "host.os_user"),
        ({"host": {"config_paths": "/etc"}}, "host.config_paths"),
        ({"host": {"config_paths": ["/etc", 3]}}, "host.config_paths[1]"),
        ({"repositories": REPOSITORY}, "repositories"),
        ({"repositories": ["/backup"]}, "repositories[0]"),
        ({"compression": {"level": "3"}}, "compression.level"),
        ({"backup": {"globals": "no"}}, "backup.globals"),
        ({"backup": {"globals": 1}}, "backup.globals"),
        ({"retention": {"keep_last": "7"}}, "retention.keep_last"),
        ({"retention": {"keep_within": 14}}, "retention.keep_within"),
        ({"retention": None}, "retention"),
    ],
)
def test_an_ill_typed_key_is_refused_and_named(data: dict[str, Any], key: str):
    with pytest.raises(BadInput) as caught:
        from_mapping({"cluster": "main", **data})
    assert f"{key} must be" in caught.value.message


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"connection": {"ssl_mode": "on"}}, "connection.ssl_mode"),
        ({"connection": {"login_port": 0}}, "connection.login_port"),
        ({"connection": {"login_port": 65536}}, "connection.login_port"),
        ({"repositories": [{"path": "backup"}]}, "absolute path"),
        ({"repositories": [{}]}, "absolute path"),
        ({"repositories": [{"path": "/b", "type": "s4"}]}, "repositories[].type"),
        ({"repositories": [REPOSITORY, REPOSITORY]}, "'default'"),
        ({"compression": {"codec": "rar"}}, "compression.codec"),
        ({"compression": {"codec": "gzip", "level": 10}}, "compression.level"),
        ({"compression": {"codec": "none", "level": 1}}, "compression.level"),
        ({"backup": {"method": "copy"}}, "backup.method"),
        ({"backup": {"type": "differential"}}, "backup.type"),
        ({"backup": {"jobs": 0}}, "backup.jobs"),
        ({"retention": {"keep_last": 0}}, "retention.keep_last"),
        ({"retention": {"keep_within": "two weeks"}}, "retention.keep_within"),
        ({"retention": {"keep_within": "0d"}}, "retention.keep_within"),
        ({"retention": {"daily": -1}}, "retention.daily"),
        ({"retention": {"min_redundancy": 0}}, "retention.min_redundancy"),
        ({"host": {"state_path": "state"}}, "host.state_path"),
        ({"host": {"data_directory": "data"}}, "host.data_directory"),
    ],
)
def test_a_value_that_cannot_be_is_refused_and_named(data: dict[str, Any], key: str):
    with pytest.raises(BadInput) as caught:
        from_mapping({"cluster": "main", **data})
    assert key in caught.value.message


@pytest.mark.parametrize("name", ["", "-x", "../main", "a/b", "a b", "ä", "x" * 64, ".hidden", "a\n"])
def test_a_clusters_name_that_could_be_a_path_is_refused_before_any_file_is_read(name: str):
    with pytest.raises(BadInput, match="cluster"):
        load(name)


def test_no_file_is_no_error_unless_it_was_named(tmp_path: Path):
    assert load("a-cluster-without-a-file").cluster == "a-cluster-without-a-file"
    with pytest.raises(NotFound, match="no settings file") as caught:
        load("main", path=str(tmp_path / "main.json"))
    assert "--config" in caught.value.hint


@pytest.mark.parametrize("text", ["", "{", "[1", '{"cluster": "main",}', "[]", "null", '"main"'])
def test_a_file_that_is_not_one_json_object_is_refused_by_name(tmp_path: Path, text: str):
    path = written(tmp_path / "main.json", text)
    with pytest.raises(BadInput) as caught:
        load("main", path=path)
    assert path in caught.value.message


def test_a_key_written_twice_is_refused_as_only_one_of_them_would_count(tmp_path: Path):
    path = written(tmp_path / "main.json", '{"retention": {"keep_last": 7}, "retention": {}}')
    with pytest.raises(BadInput, match="retention"):
        load("main", path=path)


def test_a_file_that_cannot_be_read_is_unreachable(tmp_path: Path):
    (tmp_path / "main.json").mkdir()
    with pytest.raises(Unreachable, match=r"main\.json"):
        load("main", path=str(tmp_path / "main.json"))
    (tmp_path / "latin.json").write_bytes(b'{"cluster": "m\xe4in"}')
    with pytest.raises(Unreachable, match=r"latin\.json"):
        load("main", path=str(tmp_path / "latin.json"))


def test_a_file_about_another_cluster_is_refused(tmp_path: Path):
    path = written(tmp_path / "x.json", {"cluster": "other"})
    with pytest.raises(BadInput, match="'other', not 'main'"):
        load("main", path=path)


def test_overrides_lie_on_top_key_by_key_and_none_is_not_said(tmp_path: Path):
    path = written(
        tmp_path / "main.json",
        {"retention": {"keep_last": 7, "daily": 3}, "backup": {"databases": ["a", "b"]}, "repositories": [REPOSITORY]},
    )
    settings = load(
        "main",
        path=path,
        overrides={"retention": {"keep_last": 2, "daily": None}, "backup": {"databases": ["c"]}, "host": None},
    )
    assert (settings.retention.keep_last, settings.retention.daily) == (2, 3)
    assert settings.backup.databases == ("c",)
    assert settings.repository().path == "/backup"


def test_an_override_is_checked_like_the_file():
    with pytest.raises(BadInput, match=r"backup\.jbos"):
        load("main", overrides={"backup": {"jbos": 2}})


def test_libpqs_environment_fills_what_nobody_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PGPORT", "6000")
    monkeypatch.setenv("PGUSER", "backup")
    from_environment = from_mapping({"cluster": "main"}).connection
    assert (from_environment.login_port, from_environment.login_user) == (6000, "backup")
    said = from_mapping({"cluster": "main", "connection": {"login_port": 1, "login_user": "u"}}).connection
    assert (said.login_port, said.login_user) == (1, "u")
    monkeypatch.setenv("PGPORT", "not a port")
    assert from_mapping({"cluster": "main"}).connection.login_port == 5432


def test_the_first_repository_is_meant_unless_another_is_named():
    settings = from_mapping({"cluster": "main", "repositories": [REPOSITORY, {"name": "far", "path": "/far"}]})
    assert settings.repository().name == "default"
    assert settings.repository("far").path == "/far"
    with pytest.raises(BadInput, match="'near'") as caught:
        settings.repository("near")
    assert "default, far" in caught.value.hint
    with pytest.raises(BadInput, match="No repository is configured"):
        from_mapping({"cluster": "main"}).repository()


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("24h", 86400), ("14d", 1209600), (" 4 w ", 2419200)]
)
def test_durations(text: str, seconds: int):
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "-1d", "1.5h", "1y", "1h30m", "24 hours", "1D"])
def test_what_is_no_duration_is_refused_under_its_name(text: str):
    with pytest.raises(BadInput, match="max_age"):
        duration_s(text, "max_age")


mappings = st.recursive(
    st.none() | st.integers() | st.text(max_size=2),
    lambda below: st.dictionaries(st.sampled_from("abc"), below, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("abc"), mappings), st.dictionaries(st.sampled_from("abc"), mappings))
def test_an_overlay_never_changes_what_it_lies_on_and_wins_where_it_speaks(base: dict[str, Any], top: dict[str, Any]):
    before = json.dumps(base)
    merged = overlay(base, top)
    assert json.dumps(base) == before
    assert merged.keys() == base.keys() | {key for key, value in top.items() if value is not None}
    for key, value in top.items():
        if value is not None and not isinstance(value, dict):
            assert merged[key] == value


anything = st.recursive(
    st.none() | st.booleans() | st.text() | st.integers(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3),
)


@given(st.dictionaries(st.text(max_size=8), anything))
def test_whatever_the_file_holds_the_answer_is_settings_or_bad_input(data: dict[str, Any]):
    for candidate in (data, {"cluster": "main", "connection": data}, {"cluster": "main", "repositories": [data]}):
        with contextlib.suppress(BadInput):
            from_mapping(candidate)
