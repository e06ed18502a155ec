# SPDX-License-Identifier: GPL-3.0-or-later
"""The one file among the server's configuration that is ours: what stands in it, and what wins over it. Pure."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Optional

from ..pg.config_files import Line, beside, parse, quoted
from .parameters import FIRST_WITH_SUMMARIES, normal

DROP_IN = "50-dbops-archiving.conf"
DIRECTORY = "conf.d"
# Losing one of these to another file costs archiving; losing the others costs comfort.
ESSENTIAL = ("archive_mode", "archive_command", "archive_timeout", "wal_level")


def wanted_values(
    scripts: tuple[str, str],
    others: Sequence[Line],
    *,
    major: int,
    archive_timeout_s: int,
    summarize_wal: bool,
) -> dict[str, str]:
    """The drop-in's settings. A wal_level of logical, set elsewhere, stays: somebody replicates with it."""
    said = {line.name: normal(line.name, line.value) for line in others}
    archive, restore = (shlex.quote(path).replace("%", "%%") for path in scripts)
    values = {
        "wal_level": "logical" if said.get("wal_level") == "logical" else "replica",
        "archive_mode": "on",
        "archive_command": f"{archive} %p",
        "archive_timeout": str(archive_timeout_s),
        "restore_command": f"{restore} %f %p",
    }
    if major >= FIRST_WITH_SUMMARIES:
        values["summarize_wal"] = "on" if summarize_wal else "off"
    return values


def drop_in_text(cluster: str, values: Mapping[str, str]) -> str:
    lines = [f"{name} = {quoted(value)}" for name, value in values.items()]
    return "\n".join(
        [f"# Continuous archiving of cluster {cluster}. Written by dbops; changes here are overwritten.", *lines, ""]
    )


def include_added(text: str, main: str) -> Optional[str]:
    """postgresql.conf with the line that reads conf.d, or None when it has one."""
    wanted = os.path.realpath(beside(main, DIRECTORY))
    for line in parse(text, main):
        if line.name == "include_dir" and os.path.realpath(beside(main, line.value)) == wanted:
            return None
    gap = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{gap}include_dir = '{DIRECTORY}' # added by dbops, for {DROP_IN}\n"


def overriding(result: Sequence[Line], values: Mapping[str, str], drop_in: str) -> list[Line]:
    """Lines of other files that win over ours and say something else."""
    last = {line.name: line for line in result}
    return [
        line
        for name, line in last.items()
        if name in values
        and os.path.realpath(line.file) != os.path.realpath(drop_in)
        and normal(name, line.value) != values[name]
        and not (name == "wal_level" and normal(name, line.value) == "logical")
    ]
