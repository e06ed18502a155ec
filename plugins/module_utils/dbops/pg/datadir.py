# SPDX-License-Identifier: GPL-3.0-or-later
"""What a data directory says of itself: its version, its control data, and whether a server runs in it."""

from __future__ import annotations

import json
import os
import re
import shlex
from typing import Optional

from ..errors import Corrupt, NotFound
from .tools import Tools

RESTORED = "dbops_restored.json"


def restored_as(data_directory: str) -> str:
    """The id of the restore that this data directory comes from; empty when it never was restored, or we may not look.

    A restored cluster goes on in the timeline of the original, from an earlier position: only this tells them apart.
    """
    try:
        with open(os.path.join(data_directory, RESTORED), encoding="utf-8") as stream:
            return str(json.load(stream)["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def major_version(data_directory: str) -> Optional[int]:
    """From PG_VERSION, or None where there is no cluster."""
    try:
        with open(os.path.join(data_directory, "PG_VERSION"), encoding="ascii") as stream:
            return int(stream.read().strip())
    except (OSError, ValueError):
        return None


def tablespace_links(data_directory: str, *, follow: bool = True) -> dict[int, str]:
    """Where the tablespaces lie, by oid: the real directory, or with `follow=False` what the link says."""
    directory = os.path.join(data_directory, "pg_tblspc")
    try:
        names = [name for name in os.listdir(directory) if name.isdigit()]
    except OSError:
        return {}
    links = {int(name): os.path.join(directory, name) for name in names}
    read = os.path.realpath if follow else os.readlink
    return {oid: read(path) for oid, path in links.items() if os.path.islink(path)}


def holds(data_directory: str, path: str) -> bool:
    """Whether the path lies in it, wherever links lead."""
    return os.path.realpath(path).startswith(os.path.realpath(data_directory) + os.sep)


def last_config_file(data_directory: str) -> Optional[str]:
    """The configuration file that this server was last told to read, None when nobody told it, or it never ran."""
    try:
        with open(os.path.join(data_directory, "postmaster.opts"), encoding="utf-8") as stream:
            words = shlex.split(stream.read())
    except (OSError, ValueError):
        return None
    for word in words:
        name, _equals, value = word.partition("=")
        if name.lstrip("-") == "config_file" and os.path.isabs(value):
            return value
    return None


def running_elsewhere() -> list[str]:
    """Data directories of the servers on this host, as far as we may look."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                directory = os.readlink(f"/proc/{entry}/cwd")
            except OSError:
                continue
            if os.path.isfile(os.path.join(directory, "postmaster.pid")):
                found.add(directory)
    return sorted(found)


def control_data(tools: Tools, data_directory: str) -> dict[str, str]:
    """pg_controldata's lines by their English name, such as `Database system identifier`."""
    if major_version(data_directory) is None:
        raise NotFound(f"{data_directory} holds no cluster.", hint="Name the directory that has PG_VERSION in it.")
    output = tools.run("pg_controldata", ["-D", data_directory])
    found = dict(re.findall(r"^([^:\n]+):[ \t]*(.*)$", output, re.M))
    if "Database system identifier" not in found:
        raise Corrupt(f"pg_controldata cannot read {data_directory}.", hint="global/pg_control is damaged or missing.")
    return found


def postmaster_pid(data_directory: str) -> Optional[int]:
    """The process id of a server that really runs here; a stale postmaster.pid is none.

    As PostgreSQL itself judges it: the process exists and is not ourselves. A live process that merely reuses the
    number is told apart by its working directory, which is a postmaster's data directory.
    """
    try:
        with open(os.path.join(data_directory, "postmaster.pid"), encoding="utf-8") as stream:
            pid = abs(int(stream.readline()))
    except (OSError, ValueError):
        return None
    try:
        cwd = os.readlink(f"/proc/{pid}/cwd")
    except FileNotFoundError:
        return None
    except OSError:
        return pid  # it lives and is not ours to look at: assume the worst
    return pid if os.path.realpath(cwd) == os.path.realpath(data_directory) else None
