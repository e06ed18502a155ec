# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parts of the collection promise each other: groups, documentation, specs and defaults."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys
from typing import Any

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load(path: pathlib.Path) -> Any:
    return yaml.safe_load(path.read_text())


def found(pattern: str, *, but: tuple[str, ...] = ()) -> list[pathlib.Path]:
    return [path for path in sorted(ROOT.glob(pattern)) if not path.name.endswith(but)]


def modules() -> list[pathlib.Path]:
    return found("plugins/modules/*.py", but=("__init__.py",))


def playbooks() -> list[pathlib.Path]:
    return found("playbooks/*.yml", but=(".meta.yml",))


def roles() -> list[pathlib.Path]:
    return [path.parent.parent for path in found("roles/*/tasks/main.yml")]


def assigned_strings(path: pathlib.Path) -> dict[str, str]:
    """Return the texts that stand at a module's top: DOCUMENTATION, EXAMPLES, RETURN."""
    return {
        target.id: node.value.value
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def name_of(path: pathlib.Path) -> str:
    return path.stem if path.is_file() else path.name


def each(paths: list[pathlib.Path]) -> Any:
    return pytest.mark.parametrize("path", paths, ids=name_of)


def test_none_of_the_tests_below_looks_at_nothing():
    assert modules()
    assert playbooks()
    assert roles()


def test_the_action_group_holds_every_module_about_a_cluster():
    """And no other: the group's defaults, `cluster` for one, are options that every member has to know."""
    group = load(ROOT / "meta/runtime.yml")["action_groups"]["all"]
    about_a_cluster = [path.stem for path in modules() if "- dbops.postgres.cluster\n" in path.read_text()]
    assert sorted(group) == sorted(about_a_cluster)
    assert {path.stem for path in modules()} - set(group) <= {"dbops_command"}


@each(modules())
def test_a_module_documents_itself(path):
    texts = assigned_strings(path)
    documentation = yaml.safe_load(texts["DOCUMENTATION"])
    assert documentation["module"] == path.stem
    assert documentation["version_added"]
    assert any(task.get(f"dbops.postgres.{path.stem}") is not None for task in yaml.safe_load(texts["EXAMPLES"]))
    for key, value in yaml.safe_load(texts["RETURN"]).items():
        assert {"description", "returned", "type"} <= set(value), f"{path.stem} returns {key} without saying what it is"


def test_an_action_plugin_stands_beside_a_module_of_its_name():
    actions = {path.stem for path in ROOT.glob("plugins/action/*.py")} - {"__init__"}
    assert actions <= {path.stem for path in modules()}


@each(playbooks())
def test_a_playbook_declares_its_arguments_and_checks_them_first(path):
    specs = load(path.with_name(f"{path.stem}.meta.yml"))["argument_specs"]
    assert path.stem in specs
    assert f"argument_specs.{path.stem}.options" in path.read_text(), f"{path.name} never reads its own .meta.yml"


@each(roles())
def test_a_roles_defaults_are_the_options_of_its_specification(path):
    entry_points = load(path / "meta" / "argument_specs.yml")["argument_specs"].values()
    options = {name: it for point in entry_points for name, it in (point.get("options") or {}).items()}
    defaults = load(path / "defaults" / "main.yml") or {}
    assert set(defaults) <= set(options)
    assert {name for name in options if name not in defaults and not options[name].get("required")} == set()


@each(roles())
def test_a_roles_entry_points_are_all_specified(path):
    """A task file without a leading underscore may be called with tasks_from, so its arguments are checked too."""
    specified = set(load(path / "meta" / "argument_specs.yml")["argument_specs"])
    assert specified <= {task_file.stem for task_file in (path / "tasks").glob("*.yml")}


def test_no_sanity_test_is_switched_off():
    assert [path for path in ROOT.glob("tests/sanity/ignore*.txt") if path.read_text().strip()] == []


def test_installing_the_collection_needs_no_other():
    assert load(ROOT / "galaxy.yml")["dependencies"] == {}


def test_the_engine_carries_the_collections_version():
    init = assigned_strings(ROOT / "plugins/module_utils/dbops/__init__.py")
    assert init["__version__"] == load(ROOT / "galaxy.yml")["version"]


def test_the_agent_installs_what_the_codecs_of_backups_and_of_archiving_need(tmp_path):
    told = {
        "nothing": ({}, {}, ["psycopg2", "zstandard"]),
        "gzip": ({"codec": "gzip"}, {}, ["psycopg2"]),
        "both": ({"codec": "lz4"}, {"codec": "zstd"}, ["psycopg2", "lz4", "zstandard"]),
        "wal_default": ({"codec": "none"}, {"workers": 4}, ["psycopg2", "zstandard"]),
        "wal_gzip": ({"codec": "lz4"}, {"codec": "gzip"}, ["psycopg2", "lz4"]),
        "same": ({"codec": "zstd"}, {"codec": "zstd"}, ["psycopg2", "zstandard"]),
    }
    hosts = {
        name: {
            "agent_compression": compression, "agent_archiving": archiving, "agent_repositories": [{"path": "/x"}],
            "expected": expected,
        }
        for name, (compression, archiving, expected) in told.items()
    }  # fmt: skip
    clouds = [{"type": "s3"}, {"type": "local"}, {"type": "azure"}, {"type": "gcs"}]
    libraries = ["psycopg2", "zstandard", "boto3", "azure.storage.blob", "azure.identity", "google.cloud.storage"]
    hosts["clouds"] = {**hosts["nothing"], "agent_repositories": clouds, "expected": libraries}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    arguments = ["-i", "hosts.yml", "-c", "local", "-e", f"@{ROOT / 'roles/agent/vars/main.yml'}", "-m", "assert"]
    program = str(pathlib.Path(sys.executable).parent / "ansible")
    done = subprocess.run(
        [program, "all", *arguments, "-a", "that='__agent_libraries == expected'"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("All assertions passed") == len(hosts)
