# SPDX-License-Identifier: GPL-3.0-or-later
"""The target as its catalog tells it: tables, columns, what a profile would leave out."""

from __future__ import annotations

from ..errors import BadInput, NotFound
from ..pg.connection import Connection
from .profile import Fits, Profile

_COLUMNS = """
    select attname as name, attnotnull as required, atthasdef or attidentity <> '' as filled,
           attgenerated <> '' as generated
    from pg_attribute where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped
"""


def check(server: Connection, profile: Profile) -> None:
    """Refuse a profile that was written for another schema, before a row is made. Names what does not fit."""
    _check_version(server, profile.fits, profile.name)
    for part in profile.parts:
        if part.table is None:
            continue
        columns = {row["name"]: row for row in server.rows(_COLUMNS, (part.table,))}
        if not columns:
            raise NotFound(
                f"Part {part.name!r} fills {part.table}, and there is no such table.",
                hint="Apply the migrations first, or name the schema that the table is in.",
            )
        for column in part.columns:
            if column not in columns:
                raise BadInput(
                    f"Part {part.name!r} fills {part.table}.{column}, and there is no such column.",
                    hint=f"{part.table} has: {', '.join(columns)}.",
                )
            if columns[column]["generated"]:
                raise BadInput(
                    f"Part {part.name!r} fills {part.table}.{column}, which the server computes.",
                    hint="Take the column out.",
                )
        missing = [
            name
            for name, row in columns.items()
            if row["required"] and not row["filled"] and not row["generated"] and name not in part.columns
        ]
        if missing:
            raise BadInput(
                f"Part {part.name!r} leaves out {part.table}.{', '.join(missing)}, which must not be null.",
                hint="Give each of them an expression.",
            )


def _check_version(server: Connection, fits: Fits, name: str) -> None:
    if fits.first == 0 and fits.last is None:
        return
    if server.value("select to_regclass(%s)", (fits.table,)) is None:
        raise NotFound(
            f"Profile {name!r} was written for schema version {fits.first}, and the database has no {fits.table}.",
            hint="Apply the migrations first.",
        )
    version = server.value(f"select max({fits.column}) from {fits.table}")
    if version is None or version < fits.first or (fits.last is not None and version > fits.last):
        wanted = f"{fits.first}" if fits.last == fits.first else f"{fits.first} to {fits.last or 'the newest'}"
        raise BadInput(
            f"The database has schema version {version}, and profile {name!r} fits {wanted}.",
            hint="Migrate to a version that fits, or take the profile that was written for this one.",
        )
