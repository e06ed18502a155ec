# SPDX-License-Identifier: GPL-3.0-or-later
"""An interpreter and a copy of this engine that the cluster's OS user can run, for as long as they are needed.

The engine that runs right now may lie in a private home, in a virtualenv of root's, or in a module's payload that is
gone in a moment; restore_command is called later, by another user, perhaps after a restart by hand.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable

from ..errors import NotFound
from ..installed import LIB_PATH
from ..pg.osuser import Identity, steady
from .scripts import running_lib_path

_LIBRARIES = {
    "zstd": "zstandard",
    "lz4": "lz4",
    "s3": "boto3",
    "gcs": "google.cloud.storage",
    "azure": "azure.storage.blob",
}
_COPIED = ("zstd", "lz4")  # small enough to go along always
_PLAIN = {
    "s3": ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")
}  # no compiled code in them
_IGNORED = shutil.ignore_patterns(".mypy_cache")  # compiled modules go along: each call would compile them else
_PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3", "/usr/libexec/platform-python")


def find_engine(lib_path: str = LIB_PATH) -> str:
    """The directory above this engine's own, or above the installed one where this one came in a module's payload."""
    for above in (running_lib_path(), lib_path):
        if os.path.isfile(os.path.join(above, "dbops", "cli", "wal_command.py")):
            return above
    raise NotFound(
        f"The engine is not installed on this host: {lib_path}/dbops is missing, and restore_command needs it.",
        hint="Run playbooks/setup.yml (role agent), then restore again.",
    )


def runnable(above: str, directory: str, needs: Iterable[str], identity: Identity) -> tuple[str, str]:
    """`<directory>/lib` and an interpreter that finds everything in it or besides; NotFound says what was tried.

    `needs` are codecs and types of repositories. The libraries of a cloud are copied only where no interpreter of
    that user's has them, as far as they are plain files: they are large.
    """
    needs = frozenset(needs)
    lib = copy_engine(above, directory, needs, identity)
    try:
        return lib, find_python(lib, above, needs, identity)
    except NotFound:
        names = [name for need in sorted(needs) for name in _PLAIN.get(need, ())]
        if not names:
            raise
    _copy(names, lib)
    _give_away(lib, identity)
    return lib, find_python(lib, above, needs, identity)


def copy_engine(above: str, directory: str, needs: Iterable[str], identity: Identity) -> str:
    """`<directory>/lib` with the engine and the libraries that these codecs need, as far as they are plain files."""
    lib = os.path.join(directory, "lib")
    os.makedirs(lib, 0o700)
    engine = os.path.join(above, "dbops")
    shutil.copytree(engine, os.path.join(lib, "dbops"), ignore=_IGNORED)
    _copy(sorted(_LIBRARIES[need] for need in needs if need in _COPIED), lib)
    _give_away(lib, identity)
    return lib


def _copy(names: Iterable[str], lib: str) -> None:
    for name in names:
        spec = importlib.util.find_spec(name)
        origin = spec.origin if spec else None
        if origin and os.path.basename(origin).startswith("__init__."):
            shutil.copytree(os.path.dirname(origin), os.path.join(lib, name), ignore=_IGNORED)
        elif origin and os.path.isfile(origin):
            shutil.copy(origin, lib)


def _give_away(lib: str, identity: Identity) -> None:
    for path, directories, files in os.walk(lib):
        os.chmod(path, 0o700)
        identity.give(path)
        for name in [*directories, *files]:
            identity.give(os.path.join(path, name))


def find_python(lib: str, above: str, needs: Iterable[str], identity: Identity) -> str:
    """An interpreter that this user can start with the engine in `lib`; NotFound says what was tried."""
    needed = ["dbops.cli.wal_command", *sorted(_LIBRARIES[need] for need in needs if need in _LIBRARIES)]
    code = f"import sys; sys.path.insert(0, {lib!r}); assert sys.version_info >= (3, 9); import {', '.join(needed)}"
    tried = []
    for python in dict.fromkeys([sys.executable, os.path.join(above, "venv/bin/python3"), *_PYTHONS]):
        if not python or not os.path.isabs(python):
            continue
        try:
            with steady():
                done = subprocess.run(  # pylint: disable=ansible-bad-function  # as another user, and no module at hand
                    [python, "-I", "-c", code],  # which leaves them compiled, too
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    cwd="/",
                    check=False,
                    timeout=60,
                    **identity.for_subprocess(),
                )
        except (OSError, subprocess.TimeoutExpired) as exc:
            tried.append(f"{python} ({exc})")
            continue
        if done.returncode == 0:
            return python
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        tried.append(f"{python} ({words[-1] if words else 'it said nothing'})")
    raise NotFound(
        f"OS user {identity.name!r} can start no Python that can fetch the archived WAL: {'; '.join(tried)}.",
        hint=f"Install python3 (3.9 or later) and the packages for {', '.join(needed[1:]) or 'it'} for that user.",
    )
