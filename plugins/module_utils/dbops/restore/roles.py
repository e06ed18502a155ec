# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles and tablespaces from globals.sql, added to a server that may have some of them already.

Decided statement by statement: what exists here stays exactly as it is, what does not is made as it was. A role's
password or rights on a living server never change because of a restore.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

from ..errors import Corrupt, DbopsError
from ..pg.connection import Connection

_TOKEN = re.compile(
    r"--[^\n]*|/\*.*?\*/|[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(\w*)\$.*?\$\1\$|;|\w+|\\[^\n]*|.",
    re.S,
)
_NAME = r'("(?:[^"]|"")*"|[\w$]+)'
_ROLE = (
    rf"CREATE ROLE {_NAME}",
    rf"ALTER ROLE {_NAME}",
    rf"COMMENT ON ROLE {_NAME}",
    rf"SECURITY LABEL .* ON ROLE {_NAME}",
    rf"GRANT {_NAME} TO {_NAME}",
    rf"(?:GRANT|REVOKE) .* ON PARAMETER .* (?:TO|FROM) {_NAME}",
)
_TABLESPACE = (
    rf"CREATE TABLESPACE {_NAME}",
    rf"ALTER TABLESPACE {_NAME}",
    rf"COMMENT ON TABLESPACE {_NAME}",
    rf"(?:GRANT|REVOKE) .* ON TABLESPACE {_NAME}",
    rf"SECURITY LABEL .* ON TABLESPACE {_NAME}",
)
_SESSION = r"SET [\w.]+ (?:=|TO) |SELECT pg_catalog\.set_config"


@dataclass(frozen=True)
class Statement:
    """`about` is the role or tablespace that it makes or changes; None for what concerns the session alone."""

    text: str
    kind: str  # session | role | tablespace
    about: Optional[str] = None


@dataclass(frozen=True)
class GlobalsPlan:
    statements: tuple[Statement, ...]
    created: tuple[str, ...]  # roles
    kept: tuple[str, ...]  # roles and tablespaces that are here already
    tablespaces: tuple[str, ...]  # to be created


def globals_plan(
    script: str, *, roles: Iterable[str], tablespaces: Iterable[str], with_tablespaces: bool = True
) -> GlobalsPlan:
    """What of a globals.sql is to be run where these roles and tablespaces exist. Pure; Corrupt for the unknown."""
    here = {"role": set(roles), "tablespace": set(tablespaces)}
    run: list[Statement] = []
    created: dict[str, dict[str, None]] = {"role": {}, "tablespace": {}}
    kept: dict[str, None] = {}
    for statement in map(classified, split(script)):
        if statement.about is None:
            run.append(statement)
        elif statement.about in here[statement.kind]:
            kept[statement.about] = None
        elif statement.kind == "role" or with_tablespaces:
            run.append(statement)
            if statement.text.upper().startswith("CREATE"):
                created[statement.kind][statement.about] = None
    return GlobalsPlan(tuple(run), tuple(created["role"]), tuple(kept), tuple(created["tablespace"]))


def apply(session: Connection, plan: GlobalsPlan) -> None:
    """Roles all or none; then tablespaces one by one, since PostgreSQL makes those outside of transactions only."""
    session.run("begin")
    try:
        for statement in plan.statements:
            if statement.kind != "tablespace":
                _run(session, statement)
    except BaseException:
        session.run("rollback")
        raise
    session.run("commit")
    for statement in plan.statements:
        if statement.kind == "tablespace":
            _run(session, statement)


def _run(session: Connection, statement: Statement) -> None:
    try:
        session.run(statement.text)
    except DbopsError as exc:
        what = f"{statement.kind} {statement.about!r}" if statement.about else "the session"
        # Without the cause: PostgreSQL quotes the statement there, and it may hold a password's hash.
        raise DbopsError(f"The globals cannot be restored, at {what}: {exc.message}", hint=_advice(statement)) from None


def _advice(statement: Statement) -> str:
    if statement.kind == "tablespace":
        return "Make its directory on the server, owned by the server's OS user, or restore without tablespaces."
    return "Restore as a superuser, or create the roles by hand and restore without globals."


def classified(text: str) -> Statement:
    if re.match(_SESSION, text, re.I):
        return Statement(text, "session")
    for kind, patterns in (("role", _ROLE), ("tablespace", _TABLESPACE)):
        for pattern in patterns:
            match = re.match(pattern, text, re.S)
            if match:
                return Statement(text, kind, _unquoted(match.group(match.lastindex or 1)))
    raise Corrupt(
        f"globals.sql holds a statement that pg_dumpall does not write: {text[:40]!r}.",
        hint="Look at it, and run by psql what you want of it.",
    )


def split(script: str) -> list[str]:
    """The statements of a script, without comments and without psql's own lines."""
    found, current = [], ""
    for match in _TOKEN.finditer(script):
        token = match.group()
        if token == ";":
            found.append(current.strip())
            current = ""
        elif token.startswith(("--", "/*", "\\")):
            current += " "
        else:
            current += token
    if current.strip():
        raise Corrupt("globals.sql ends in the middle of a statement.", hint="Restore another backup.")
    return [statement for statement in found if statement]


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
