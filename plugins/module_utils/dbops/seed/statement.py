# SPDX-License-Identifier: GPL-3.0-or-later
"""A profile's statements on a server, and what the server says against one in words about the profile."""

from __future__ import annotations

from ..errors import BadInput, DbopsError
from ..pg.connection import Connection
from .functions import SCHEMA
from .profile import Part

_COARSE = 10  # percent of the usual statistics for scratch tables: enough to plan a join, a fifth of the time


def run(server: Connection, part: Part, statement: str) -> None:
    try:
        server.run(statement)
    except DbopsError as exc:
        raise BadInput(
            f"Part {part.name!r} of the profile: {exc.message}", hint="Mend the part, or free room."
        ) from exc


def finish_scratch(server: Connection, part: Part) -> None:
    """Its rows are there: what joins it needs, in the caller's transaction."""
    if part.key:
        server.run(f"create unique index on {SCHEMA}.{part.name} ({part.key})")
    server.run(f"set local default_statistics_target = {_COARSE}")
    server.run(f"analyze {SCHEMA}.{part.name}")
    server.run("set local default_statistics_target to default")
