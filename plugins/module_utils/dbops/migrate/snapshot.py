# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema that migrations made: a fingerprint without the tables in which the tools themselves keep their books."""

from __future__ import annotations

from typing import Optional

from ..pg import fingerprint
from ..pg.connection import Connection
from ..pg.fingerprint import Fingerprint
from .state import StateTable

HISTORY_SCHEMA = "dbops_migrations"


def take(session: Connection, table: Optional[StateTable] = None) -> Fingerprint:
    own = (table.schema, table.name) if table else ("", "")
    return fingerprint.take(session, without_schemas=[HISTORY_SCHEMA], without_table=own)
