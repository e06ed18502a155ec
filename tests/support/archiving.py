# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that archive with the real scripts, started by PostgreSQL as its own OS user.

That user may not be able to run our interpreter or read our checkout (a private home, root's). So the engine and the
compressor are copied to where it can, once for a whole run, and an interpreter is looked for that it can start.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.dbops.postgres.plugins.module_utils.dbops import __file__ as engine_file
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal.scripts import Place, get_script, push_script
from tests.support.agent import Agent
from tests.support.servers import SESSION_DIRECTORY, PgServer, wait_until

__all__ = ["Archiving", "Called", "wait_until"]


@dataclass(frozen=True)
class Called:
    """How a command ended: its code, and the lines that it wrote to standard error."""

    code: int
    lines: tuple[str, ...]


@dataclass
class Archiving:
    """The scripts, the settings file and the repositories of one server. `base` is a directory of its OS user."""

    server: PgServer
    base: Path
    repositories: dict[str, Path]
    options: dict[str, Any] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    data_directory: Path | None = None  # what the settings say; None: nothing
    encryption: dict[str, Any] = field(default_factory=dict)
    clouds: tuple[dict[str, Any], ...] = ()  # repositories that are no directories
    agent: Agent | None = None  # an installation with all libraries; None: the engine is copied for this one

    def __post_init__(self) -> None:
        user = self.server.os_user
        if not self.base.exists():
            user.own_directory(self.base, 0o755)
        for path in self.repositories.values():
            if not path.exists():
                user.own_directory(path, 0o750)
        if self.agent:
            self.python, libraries, codec = self.agent.python, [self.agent.lib], "zstd"
        else:
            boto = any(item["type"] == "s3" for item in self.clouds)
            self.python, libraries, codec = host_python(user.for_subprocess(), self.base, boto=boto)
        self.codec = codec
        self.config = self.base / "main.json"
        self.spool = self.base / "spool"
        self.write_config()
        place = Place("main", str(self.config), str(self.spool), self.python, tuple(map(str, libraries)))
        self.push_script, self.get_script = self.base / "push", self.base / "get"
        for path, text in ((self.push_script, push_script(place)), (self.get_script, get_script(place))):
            path.write_text(text)
            path.chmod(0o755)

    def write_config(self) -> None:
        host: dict[str, Any] = {"state_path": str(self.base)}
        if self.data_directory:
            host["data_directory"] = str(self.data_directory)
        settings = {
            "cluster": "main",
            "host": host,
            "repositories": [
                {"name": name, "path": str(path), "required": name not in self.optional}
                for name, path in self.repositories.items()
            ]
            + list(self.clouds),
            "encryption": self.encryption,
            "archiving": {"codec": self.codec, "linger_s": 1, "get_retry_s": 1, "timeout_s": 20, **self.options},
        }
        self.config.write_text(json.dumps(settings))
        self.config.chmod(0o644)

    def switch_on(self) -> None:
        """Set the commands of the server, which is not running yet."""
        self.server.settings.update(
            archive_mode="on",
            archive_command=f"{self.push_script} %p",
            restore_command=f"{self.get_script} %f %p",
        )

    # -- calls, as the server makes them

    def push(self, path: str | Path, *, cwd: Path | None = None) -> Called:
        return self.call([self.push_script, path], cwd)

    def push_as_the_server(self, path: str | Path) -> Called:
        """Once more after a failure, as PostgreSQL does: the first answer may be what a worker had met before."""
        called = self.push(path)
        return called if called.code == 0 else self.push(path)

    def rest(self) -> None:
        """Return when no worker is left that could act behind the test's back."""
        wait_until(lambda: not self.workers(), "the workers have ended")

    def get(self, name: str, to: str | Path, *, cwd: Path | None = None) -> Called:
        return self.call([self.get_script, name, to], cwd)

    def call(self, command: list[str | Path], cwd: Path | None = None) -> Called:
        done = subprocess.run(
            [str(word) for word in command],
            check=False,
            cwd=cwd or self.server.data,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            **self.server.os_user.for_subprocess(),
        )
        return Called(done.returncode, tuple(done.stderr.splitlines()))

    # -- what is there

    def switch_wal(self) -> str:
        """Finish the segment that is being written; its name."""
        self.server.sql("select pg_logical_emit_message(true, 'test', repeat('x', 1000))")
        return str(self.server.value("select pg_walfile_name(pg_switch_wal())"))

    def segment(self, name: str) -> Path:
        return self.server.data / "pg_wal" / name

    def stored(self, name: str, repository: str = "a") -> Path | None:
        found = list(self.repositories[repository].glob(f"main/wal/*/**/{name}.*"))
        forms = re.compile(re.escape(name) + r"\.(zst|gz|lz4)(\.gpg|\.age)?")
        found = [path for path in found if forms.fullmatch(path.name)]
        return found[0] if found else None

    def wait_until_stored(self, name: str, repository: str = "a") -> Path:
        wait_until(lambda: self.stored(name, repository), f"{name} is in repository {repository}")
        path = self.stored(name, repository)
        assert path is not None
        return path

    def workers(self) -> list[int]:
        """Process ids of this place's workers and commands."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    line = Path(f"/proc/{entry}/cmdline").read_bytes()
                except OSError:
                    continue
                if str(self.config).encode() in line and b"dbops.cli.wal_command" in line:
                    found.append(int(entry))
        return found


def copy_boto(lib: Path) -> None:
    for name in ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six"):
        spec = importlib.util.find_spec(name)
        assert spec is not None, name
        assert spec.origin is not None, name
        source = Path(spec.origin)
        if source.name == "__init__.py":
            shutil.copytree(source.parent, lib / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, lib)


def host_python(identity: dict[str, Any], place: Path, *, boto: bool = False) -> tuple[str, list[Path], str]:
    """An interpreter, where its libraries lie, and the codec it can use: zstd if it can, else gzip."""
    above = [path for path in place.parents if path.name.startswith(SESSION_DIRECTORY)]
    shared = (above[0] if above else place) / f"engine{'-boto' if boto else ''}-{identity.get('user', os.geteuid())}"
    lib = place / "lib"
    if shared not in _found:
        _found[shared] = _copied(identity, shared, boto=boto)
    if not lib.exists():
        lib.symlink_to(shared)
    python, codec = _found[shared]
    return python, [lib], codec


_found: dict[Path, tuple[str, str]] = {}  # by directory of the run: the interpreter and the codec


def _copied(identity: dict[str, Any], lib: Path, *, boto: bool) -> tuple[str, str]:
    lib.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", ".mypy_cache")
    shutil.copytree(Path(engine_file).parent, lib / "dbops", ignore=ignored)
    zstandard = importlib.util.find_spec("zstandard")
    assert zstandard is not None, "zstandard is among the requirements of the tests"
    assert zstandard.origin is not None
    shutil.copytree(Path(zstandard.origin).parent, lib / "zstandard", ignore=ignored)
    if boto:
        copy_boto(lib)
    for path in [lib, *lib.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    tried = []
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        for codec, module in (("zstd", "zstandard"), ("gzip", "zlib")):
            code = f"import sys; sys.path.insert(0, {str(lib)!r}); import {module}; assert sys.version_info >= (3, 9)"
            try:
                done = subprocess.run([python, "-I", "-c", code], capture_output=True, check=False, cwd="/", **identity)
            except OSError as exc:
                tried.append(f"{python}: {exc}")
                continue
            if done.returncode == 0:
                subprocess.run([python, "-I", "-m", "compileall", "-q", lib], capture_output=True, check=False)
                return python, codec
            tried.append(f"{python}: {done.stderr.decode(errors='replace').strip()[-200:]}")
    raise AssertionError(f"no interpreter here can be started by the servers' OS user: {tried}")
