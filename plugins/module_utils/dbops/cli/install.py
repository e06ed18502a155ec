# SPDX-License-Identifier: GPL-3.0-or-later
"""Putting the engine and its command on a host: what has to lie there, compared before anything is written.

The source is the package that is running right now. So the engine that a playbook uses and the one that cron uses
are the same, wherever this one was loaded from: a checkout, an installed collection, or Ansible's archive.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import pkgutil
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from .. import __version__
from ..errors import BadInput, DbopsError, NotFound, Unreachable

PACKAGE = "dbops"
STAMP = "VERSION"
OLDEST_PYTHON = (3, 9)
_CACHE = "__pycache__"


@dataclass(frozen=True)
class InstallPlan:
    """`writes` maps an absolute path to content and mode that differ from what lies there; `removals` are strangers."""

    lib_path: str
    bin_path: str
    python: str
    installed: Optional[str]  # the version that is there, None where there is none
    writes: Mapping[str, tuple[bytes, int]]
    removals: tuple[str, ...]

    @property
    def needed(self) -> bool:
        return bool(self.writes or self.removals)

    def preview(self) -> dict[str, Any]:
        if not self.needed:
            msg = f"dbops {__version__} is installed in {self.lib_path}."
        else:
            msg = f"Would install dbops {__version__} over {self.installed or 'nothing'} in {self.lib_path}."
        return {"changed": self.needed, "msg": msg, **self._paths()}

    def result(self) -> dict[str, Any]:
        if not self.needed:
            return self.preview()
        msg = f"Installed dbops {__version__} over {self.installed or 'nothing'} in {self.lib_path}."
        return {"changed": True, "msg": msg, **self._paths()}

    def _paths(self) -> dict[str, Any]:
        return {
            "version": __version__,
            "version_before": self.installed,
            "command": self.bin_path,
            "lib_path": self.lib_path,
            "python": self.python,
            "written": sorted(self.writes),
            "removed": list(self.removals),
        }


def plan(lib_path: str, bin_path: str, python: str) -> InstallPlan:
    """Compare; touches nothing. The interpreter is looked at by `run`, since a venv may not exist yet."""
    for name, path in (("lib_path", lib_path), ("bin_path", bin_path), ("python", python)):
        if not os.path.isabs(path) or "\n" in path:
            raise BadInput(f"{name} must be an absolute path, got {path!r}.", hint=f"Set {name} to one.")
    wanted = {
        os.path.join(lib_path, PACKAGE, *relative.split("/")): (content.encode(), 0o644)
        for relative, content in engine_files().items()
    }
    package = os.path.join(lib_path, PACKAGE)
    removals = tuple(path for path in _files_below(package) if path not in wanted)
    wanted[os.path.join(lib_path, STAMP)] = (f"{__version__}\n".encode(), 0o644)
    wanted[bin_path] = (wrapper(lib_path, python).encode(), 0o755)
    writes = {path: value for path, value in wanted.items() if _present(path) != value}
    return InstallPlan(lib_path, bin_path, python, installed_version(lib_path), writes, removals)


def run(plan: InstallPlan) -> dict[str, Any]:
    """Write what differs, each file whole or not at all, the command last; drop what an older version left."""
    _check_python(plan.python)
    if plan.needed:
        with _explained(plan):
            for path, (content, mode) in plan.writes.items():
                _write(path, content, mode)
            for path in plan.removals:
                os.unlink(path)
            _remove_empty_directories(os.path.join(plan.lib_path, PACKAGE))
        _compile(plan)
    return plan.result()


def engine_files() -> dict[str, str]:
    """The running engine's sources by their path below the package, `cli/main.py` for instance."""
    package = __name__.rsplit(".", 2)[0]
    root = importlib.import_module(package)
    found = {"__init__.py": _source(package)}
    for item in pkgutil.walk_packages(root.__path__, f"{package}."):
        relative = item.name[len(package) + 1 :].replace(".", "/")
        found[f"{relative}/__init__.py" if item.ispkg else f"{relative}.py"] = _source(item.name)
    return found


def wrapper(lib_path: str, python: str) -> str:
    """The command: an absolute interpreter, isolated from the caller's environment and working directory."""
    code = (
        f"import sys; sys.path.insert(0, {lib_path!r}); from {PACKAGE}.cli.main import main; raise SystemExit(main())"
    )
    return (
        "#!/bin/sh\n"
        "# Written by the role dbops.postgres.agent, which overwrites changes.\n"
        f'exec {shlex.quote(python)} -I -c {shlex.quote(code)} "$@"\n'
    )


def installed_version(lib_path: str) -> Optional[str]:
    try:
        with open(os.path.join(lib_path, STAMP), encoding="utf-8") as stream:
            return stream.read().strip()
    except OSError:
        return None


def _source(name: str) -> str:
    spec = importlib.util.find_spec(name)
    get_source = getattr(spec.loader, "get_source", None) if spec else None
    source = get_source(name) if get_source else None
    if source is None:
        raise NotFound(f"The source of {name} is not at hand.", hint="Install the collection again, with its sources.")
    return str(source)


def _present(path: str) -> Optional[tuple[bytes, int]]:
    try:
        if os.path.islink(path):
            return None
        with open(path, "rb") as stream:
            return stream.read(), os.fstat(stream.fileno()).st_mode & 0o7777
    except OSError:
        return None


def _files_below(directory: str) -> Iterator[str]:
    for path, directories, files in os.walk(directory):
        directories[:] = sorted(name for name in directories if name != _CACHE)
        yield from (os.path.join(path, name) for name in sorted(files))


def _write(path: str, content: bytes, mode: int) -> None:
    directory = os.path.dirname(path)
    _make_directories(directory)
    descriptor, temporary = tempfile.mkstemp(prefix=".dbops-", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _make_directories(path: str) -> None:
    """Readable by all whatever the umask says: the cluster's OS user has to import from here."""
    if not os.path.isdir(path):
        _make_directories(os.path.dirname(path))
        os.mkdir(path)
        os.chmod(path, 0o755)


def _remove_empty_directories(top: str) -> None:
    """A folder that holds nothing but compiled leftovers would still be importable as a namespace."""
    for path, directories, files in os.walk(top, topdown=False):
        if os.path.basename(path) == _CACHE:
            sources = os.listdir(os.path.dirname(path))
            for name in files:
                if f"{name.split('.', 1)[0]}.py" not in sources:
                    os.unlink(os.path.join(path, name))
        del directories
        with contextlib.suppress(OSError):
            os.rmdir(path)


def _check_python(python: str) -> None:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(  # pylint: disable=ansible-bad-function  # no module at hand
            [python, "-I", "-c", code], capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise NotFound(f"The interpreter {python} cannot be started: {exc}.", hint="Name one that can.") from exc
    match = re.fullmatch(r"(\d+)\.(\d+)\s*", done.stdout)
    if done.returncode != 0 or match is None:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise NotFound(f"The interpreter {python} does not work; it said: {said}.", hint="Name one that does.")
    if (int(match.group(1)), int(match.group(2))) < OLDEST_PYTHON:
        raise BadInput(
            f"{python} is Python {done.stdout.strip()}, and the command needs 3.9 or later.",
            hint="Name a newer interpreter by its absolute path.",
        )


def _compile(plan: InstallPlan) -> None:
    """Ahead of time: the cluster's OS user may not write here, and would compile at every start."""
    command = [plan.python, "-I", "-m", "compileall", "-q", os.path.join(plan.lib_path, PACKAGE)]
    done = subprocess.run(  # pylint: disable=ansible-bad-function  # no module at hand
        command, capture_output=True, text=True, check=False, umask=0o022
    )
    if done.returncode != 0:
        raise DbopsError(
            f"{plan.python} cannot compile the engine in {plan.lib_path}.",
            hint=f"Run: {shlex.join(command)}",
        )


@contextlib.contextmanager
def _explained(plan: InstallPlan) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise Unreachable(
            f"Cannot install dbops into {plan.lib_path} and {plan.bin_path}: {exc}.",
            hint="Run as root, or choose paths that this user may write to (agent_lib_path, agent_bin_path).",
        ) from exc
