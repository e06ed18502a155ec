# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops config` and `dbops version`: what this command would work with."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Optional

from .. import __version__
from ..settings import Settings, default_file, stated_in
from ..settings_environment import not_understood, sources
from ..settings_environment_file import environment_of
from .door import Answer, Door, cluster_named
from .words import clean

_SECRET = ("password", "passwd", "secret", "token")
_LIBRARIES = ("psycopg2", "zstandard", "lz4")


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser("config", parents=[common], help="show the settings in effect, without secrets")
    parser.set_defaults(verb=config)
    parser = verbs.add_parser("version", parents=[common], help="show the versions of dbops and what it uses")
    parser.set_defaults(verb=version)


def config(door: Door) -> Answer:
    settings = door.settings()
    file = door.args.config or default_file(cluster_named(door.args.cluster, door.args.config))
    values = _without_secrets(
        {**asdict(settings), "host": {**asdict(settings.host), "state_path": settings.state_path}}
    )
    data = {
        "changed": False,
        "msg": f"Settings of {settings.cluster}.",
        "file": file if os.path.exists(file) else None,
        "settings": values,
        "sources": sources(Settings, stated_in(file), environment_of(file, os.environ)),
        "warnings": [f"{name} means nothing to dbops; see docs/operations.md." for name in not_understood(os.environ)],
    }
    lines = [f"# {clean(file)}{'' if data['file'] else ' (not there)'}"]
    lines += [_line(name, value, data["sources"]) for name, value in _dotted(values)]
    return Answer(data, "\n".join(lines))


def _line(name: str, value: Any, from_variables: Mapping[str, str]) -> str:
    """A setting, and the variable that gives it or what it is a part of."""
    source = next(
        (said for path, said in from_variables.items() if name == path or name.startswith((f"{path}.", f"{path}["))), ""
    )
    text = f"{clean(name)} = {clean(json.dumps(value, ensure_ascii=False))}"
    return f"{text}    # ${source}" if source else text


def version(door: Door) -> Answer:
    del door
    libraries = {name: _version_of(name) for name in _LIBRARIES}
    data = {
        "changed": False,
        "msg": f"dbops {__version__}",
        "version": __version__,
        "python": platform.python_version(),
        "libraries": libraries,
        "warnings": [],
    }
    found = ", ".join(f"{name} {number or 'missing'}" for name, number in libraries.items())
    return Answer(data, f"dbops {__version__} (Python {platform.python_version()}; {clean(found)})")


def _without_secrets(value: Any) -> Any:
    """No setting is meant to hold one; where somebody wrote one all the same, it is not shown."""
    if isinstance(value, Mapping):
        return {
            key: "(not shown)" if any(word in key.lower() for word in _SECRET) else _without_secrets(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_without_secrets(item) for item in value]
    return value


def _dotted(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and (value or not path):
        for key, item in value.items():
            yield from _dotted(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for place, item in enumerate(value):
            yield from _dotted(item, f"{path}[{place}]")
    else:
        yield path, value


def _version_of(name: str) -> Optional[str]:
    try:
        return str(getattr(importlib.import_module(name), "__version__", "present")).split()[0]
    except ImportError:
        return None
