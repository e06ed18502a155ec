# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine that lies on a host is the one that runs here, file by file, and nothing else."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops import __version__
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli import install
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, NotFound, Unreachable

ENGINE = pathlib.Path(__file__).resolve().parents[2] / "plugins" / "module_utils" / "dbops"


@pytest.fixture
def plan(tmp_path):
    def make(python=sys.executable):
        return install.plan(str(tmp_path / "lib"), str(tmp_path / "bin" / "dbops"), python)

    return make


def installed(tmp_path):
    package = tmp_path / "lib" / "dbops"
    return {str(path.relative_to(package)): path.read_text() for path in package.rglob("*.py")}


def test_every_source_file_arrives_unchanged(plan, tmp_path):
    install.run(plan())
    assert installed(tmp_path) == {str(path.relative_to(ENGINE)): path.read_text() for path in ENGINE.rglob("*.py")}
    assert (tmp_path / "lib" / "VERSION").read_text() == f"{__version__}\n"


def test_a_second_time_there_is_nothing_to_do(plan):
    assert install.run(plan())["changed"]
    again = plan()
    assert not again.needed
    assert install.run(again)["changed"] is False


def test_planning_touches_nothing(plan, tmp_path):
    assert plan().preview()["changed"]
    assert list(tmp_path.iterdir()) == []


def test_what_an_older_version_left_is_removed_with_its_compiled_twin(plan, tmp_path):
    install.run(plan())
    old = tmp_path / "lib" / "dbops" / "gone"
    (old / "__pycache__").mkdir(parents=True)
    (old / "__init__.py").write_text("")
    (old / "__pycache__" / "__init__.cpython-311.pyc").write_bytes(b"x")
    assert plan().removals == (str(old / "__init__.py"),)
    install.run(plan())
    assert not old.exists()
    assert not plan().needed


def test_a_changed_file_or_mode_is_put_right(plan, tmp_path):
    install.run(plan())
    (tmp_path / "lib" / "dbops" / "errors.py").write_text("# tampered")
    (tmp_path / "bin" / "dbops").chmod(0o644)
    assert sorted(plan().writes) == sorted([str(tmp_path / "bin" / "dbops"), str(tmp_path / "lib/dbops/errors.py")])


def test_everybody_may_read_it_whatever_the_umask(plan, tmp_path):
    before = os.umask(0o077)
    try:
        install.run(plan())
    finally:
        os.umask(before)
    for path in [tmp_path / "lib", *(tmp_path / "lib").rglob("*")]:
        assert path.stat().st_mode & 0o444 == 0o444, path
        assert not path.is_dir() or path.stat().st_mode & 0o111 == 0o111, path


def test_the_command_finds_its_own_engine_wherever_it_is_called(plan, tmp_path):
    install.run(plan())
    (tmp_path / "lib" / "dbops" / "cli" / "main.py").write_text(
        "import sys\ndef main():\n    print(__file__, sys.argv[1:])\n    return 3\n"
    )
    trap = tmp_path / "trap"
    (trap / "dbops").mkdir(parents=True)
    (trap / "dbops" / "__init__.py").write_text("raise SystemExit('imported from the working directory')")
    done = subprocess.run(
        [tmp_path / "bin" / "dbops", "info", "a b"],
        cwd=trap,
        env={"PYTHONPATH": str(trap)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"{tmp_path}/lib/dbops/cli/main.py ['info', 'a b']\n"
    assert done.returncode == 3


def test_a_path_with_quotes_and_spaces_works():
    wrapper = install.wrapper("/a b/it's", "/opt/my python/bin/python3")
    shown = subprocess.run(["sh", "-n"], input=wrapper, text=True, capture_output=True, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "'/opt/my python/bin/python3' -I" in wrapper


def test_a_relative_path_is_refused():
    with pytest.raises(BadInput, match="lib_path"):
        install.plan("lib", "/usr/local/bin/dbops", "/usr/bin/python3")


def test_an_interpreter_that_cannot_run_is_named_before_anything_is_written(plan, tmp_path):
    with pytest.raises(NotFound, match="/nowhere/python3"):
        install.run(plan(python="/nowhere/python3"))
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_may_not_be_written_to_says_what_to_do(tmp_path):
    (tmp_path / "lib").write_text("a file in the way")
    with pytest.raises(Unreachable, match="agent_lib_path"):
        install.run(install.plan(str(tmp_path / "lib"), str(tmp_path / "bin" / "dbops"), sys.executable))
