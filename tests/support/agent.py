# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine with the libraries of all clouds, installed as role agent does it: readable by every user of the host."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.dbops.postgres.plugins.module_utils.dbops import __file__ as engine_file

LIBRARIES = ("boto3", "google-cloud-storage", "azure-storage-blob", "zstandard", "lz4")


@dataclass(frozen=True)
class Agent:
    lib: Path  # holds the package `dbops` and `venv`

    @property
    def python(self) -> str:
        return str(self.lib / "venv" / "bin" / "python3")


def installed(lib: Path, identity: dict[str, Any]) -> Agent:
    """A virtualenv of an interpreter that this user can start, with copies of what ours has."""
    shutil.copytree(
        Path(engine_file).parent, lib / "dbops", ignore=shutil.ignore_patterns("__pycache__", ".mypy_cache")
    )
    python = next(filter(None, (_same_python(one, identity) for one in (sys.executable, "/usr/bin/python3"))), None)
    assert python, f"The servers' OS user can start no Python {sys.version_info[:2]}, whose libraries ours could be."
    subprocess.run([python, "-m", "venv", "--without-pip", lib / "venv"], check=True, cwd="/")
    (packages,) = (lib / "venv" / "lib").glob("python3*/site-packages")
    for name in sorted(_with_what_they_need(LIBRARIES)):
        for file in importlib.metadata.distribution(name).files or ():
            source = Path(file.locate())
            if ".." not in file.parts and source.is_file() and source.suffix != ".pyc":
                target = packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
    subprocess.run(
        [lib / "venv" / "bin" / "python3", "-I", "-m", "compileall", "-q", "-j", "2", lib], check=True, cwd="/"
    )
    for path in [lib, *lib.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    return Agent(lib)


def _same_python(python: str, identity: dict[str, Any]) -> str | None:
    """Ours or another of its version, if that user can start it: compiled libraries fit no other."""
    code = f"import sys; raise SystemExit(sys.version_info[:2] != {tuple(sys.version_info[:2])!r})"
    try:
        done = subprocess.run([python, "-I", "-c", code], capture_output=True, check=False, cwd="/", **identity)
    except OSError:
        return None
    return python if done.returncode == 0 else None


def _with_what_they_need(names: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            needs = importlib.metadata.requires(name) or ()
        except importlib.metadata.PackageNotFoundError:
            assert name not in names, f"{name} is among the requirements of the tests"
            continue  # what only another platform or version needs
        found.add(name)
        waiting += [re.match(r"[\w.-]+", need)[0] for need in needs if "extra ==" not in need]
    return found
