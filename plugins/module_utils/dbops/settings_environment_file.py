# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment file beside a settings file: /etc/dbops/<cluster>.env, with the variables of settings_environment.py.

It is there for the scripts that the server calls, which live in the server's environment and in nobody's shell. It is
read as systemd reads an EnvironmentFile, without variables inside of values, so that one file may serve a unit, a
container and the scripts. Variables that do not begin with DBOPS_ are somebody else's.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping

from .errors import BadInput, Unreachable
from .settings_environment import PREFIX


def environment_file(settings_file: str) -> str:
    return f"{os.path.splitext(settings_file)[0]}.env"


def environment_of(settings_file: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The file's variables, and above them those of a process."""
    return {**read_environment_file(environment_file(settings_file)), **environment}


def read_environment_file(path: str) -> dict[str, str]:
    """Its DBOPS_... variables; none where there is no file. BadInput names the line of what is no assignment."""
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        raise Unreachable(f"Cannot read {path}: {exc}.", hint="Run as root or as the cluster's OS user.") from exc
    return {name: value for name, value in _assignments(text, path) if name.startswith(PREFIX)}


def _assignments(text: str, path: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        name, separator, rest = stripped.partition("=")
        try:
            words = shlex.split(rest)
        except ValueError as exc:
            raise BadInput(f"{path}:{number}: {exc}.", hint="Close the quote.") from exc
        if not separator or not name.isidentifier() or len(words) > 1:
            raise BadInput(f"{path}:{number} is not NAME=value.", hint="Quote a value that has spaces.")
        yield name, words[0] if words else ""
