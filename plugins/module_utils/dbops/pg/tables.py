# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of one database whose rows pg_dump writes, chosen by its own patterns, and how many rows they have.

Patterns are those of `pg_dump --table` and `--exclude-table` (PostgreSQL 18 manual, psql, "Patterns"): the same
translation into regular expressions as fe_utils/string_utils.c makes, so that we count what is dumped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ..errors import BadInput, DbopsError, Refused, Unreachable
from .connection import Connection
from .databases import identifier

_SPECIAL = "|*+?()[]{}.^$\\"


@dataclass(frozen=True)
class Table:
    """`filenode` as of the snapshot: another one later means that the table was rewritten or emptied since."""

    oid: int
    schema: str
    name: str
    materialised: bool
    filenode: int
    readable: bool = True
    filtered: bool = False

    @property
    def label(self) -> str:
        return label_of(self.schema, self.name)


@dataclass(frozen=True)
class Counts:
    """Rows by `schema.table`; `uncounted` says why, for tables that somebody else kept us from counting."""

    rows: dict[str, int]
    uncounted: dict[str, str]


@dataclass(frozen=True)
class Pattern:
    """A pattern as anchored regular expressions; without a schema, it means what the search path shows."""

    name: str
    schema: Optional[str] = None


def label_of(schema: str, name: str) -> str:
    """`schema.table`, quoted where a reader could mistake it; the same under every version and setting."""
    return ".".join(part if re.fullmatch(r"[a-z_][a-z0-9_$]*", part) else identifier(part) for part in (schema, name))


def parsed(pattern: str) -> Pattern:
    """As patternToSQLRegex does; BadInput for more than schema.table, or a quote left open."""
    parts, quoted, at = [""], False, 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == '"':
            if quoted and pattern[at : at + 1] == '"':
                parts[-1] += '"'
                at += 1
            else:
                quoted = not quoted
        elif not quoted and char == ".":
            parts.append("")
        elif not quoted and char == "*":
            parts[-1] += ".*"
        elif not quoted and char == "?":
            parts[-1] += "."
        elif char == "$" or (quoted and char in _SPECIAL) or (char == "[" and pattern[at : at + 1] == "]"):
            parts[-1] += "\\" + char
        else:
            parts[-1] += char if quoted else char.lower()
    if quoted or len(parts) > 2 or not all(parts):
        raise BadInput(
            f"{pattern!r} is not a table pattern.", hint='Write table, schema.table or schema.*; "Quote" odd names.'
        )
    anchored = [f"^({part})$" for part in parts]
    return Pattern(anchored[-1], anchored[0] if len(anchored) == 2 else None)


# What pg_dump writes rows of. Not: foreign tables (their rows are elsewhere), tables that belong to an extension,
# and on a standby unlogged ones, which are empty there. Matviews are refreshed on restore and are counted apart.
_TABLES = """
select c.oid::bigint as oid, n.nspname as schema, c.relname as name, c.relkind = 'm' as materialised,
    c.relfilenode::bigint as filenode, pg_catalog.row_security_active(c.oid) as filtered,
    pg_catalog.has_schema_privilege(n.oid, 'USAGE') and pg_catalog.has_table_privilege(c.oid, 'SELECT') as readable
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'm') and c.relispopulated and c.relpersistence <> 't'
    and not (c.relpersistence = 'u' and pg_catalog.pg_is_in_recovery())
    and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
    and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::regclass
                    and d.objid = c.oid and d.deptype = 'e')
order by n.nspname, c.relname
"""
_MATCHING = """
select c.oid::bigint as oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'v', 'm', 'S', 'f', 'p') and c.relname operator(pg_catalog.~) %s collate pg_catalog."default"
    and case when %s::pg_catalog.text is null then pg_catalog.pg_table_is_visible(c.oid)
             else n.nspname operator(pg_catalog.~) %s collate pg_catalog."default" end
"""


def dumped_tables(session: Connection, *, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> list[Table]:
    """The tables whose rows pg_dump with these patterns writes, as this session's snapshot shows them.

    BadInput when no include pattern finds anything: pg_dump would refuse too, but only after others were copied.
    """
    wanted = _matching(session, include)
    if include and not wanted:
        raise BadInput(
            f"No table of {session.value('select current_database()')!r} fits {', '.join(map(repr, include))}.",
            hint="Check backup.include_tables, or name only the databases that have such tables.",
        )
    unwanted = _matching(session, exclude)
    return [
        Table(**row)
        for row in session.rows(_TABLES)
        if (not include or row["oid"] in wanted) and row["oid"] not in unwanted
    ]


def _matching(session: Connection, patterns: Iterable[str]) -> set[int]:
    found: set[int] = set()
    for pattern in map(parsed, patterns):
        rows = session.rows(_MATCHING, (pattern.name, pattern.schema, pattern.schema))
        found.update(row["oid"] for row in rows)
    return found


def require_readable(database: str, tables: Iterable[Table], role: str) -> None:
    """Refused, naming the tables that the role may not read, or of which policies show it only a part."""
    tables = list(tables)
    for found, problem, hint in (
        ([t.label for t in tables if not t.readable], "may not read", f'Run: GRANT pg_read_all_data TO "{role}";'),
        ([t.label for t in tables if t.filtered], "sees only some rows of", f'Run: ALTER ROLE "{role}" BYPASSRLS;'),
    ):
        if found:
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            raise Refused(
                f"Role {role!r} {problem} {', '.join(found[:5])}{more} in database {database!r}.",
                hint=hint + " playbooks/setup.yml creates a role with all that is needed.",
            )


def steady_session(session: Connection) -> None:
    """No limit of the server's may end this session half-way, and no policy may hide rows from it."""
    session.run("set statement_timeout = 0")  # first, or asking for the others could be ended
    limits = ["lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"]  # the last since 17
    for row in session.rows("select name from pg_catalog.pg_settings where name = any(%s)", (limits,)):
        session.run(f"set {row['name']} = 0")
    session.run("set row_security = off")


def count_rows(session: Connection, tables: Iterable[Table]) -> Counts:
    """Count within the session's open transaction. A table is `uncounted` rather than wrong or waited for:

    TRUNCATE is not undone by a snapshot, so one that was rewritten since tells nothing; and waiting behind somebody's
    exclusive lock, who waits for the dump, would last as long as the dump does.
    """
    counts = Counts({}, {})
    session.run("set local search_path to pg_catalog")
    session.run("set local lock_timeout = '5s'")
    for table in tables:
        session.run("savepoint dbops_table")
        try:
            answer = _count(session, table)
        except Unreachable as exc:
            session.run("rollback to savepoint dbops_table")  # raises when the connection itself is gone
            counts.uncounted[table.label] = exc.message
            continue
        session.run("release savepoint dbops_table")
        if answer is None:
            counts.uncounted[table.label] = "it was rewritten or emptied while it was dumped"
        else:
            counts.rows[table.label] = answer
    return counts


def _count(session: Connection, table: Table) -> Optional[int]:
    full = f"{identifier(table.schema)}.{identifier(table.name)}"
    if not table.materialised:
        session.run(f"lock table only {full} in access share mode")
    now: Any = session.value("select pg_relation_filenode(%s::oid::regclass)", (table.oid,))
    if now != table.filenode:
        return None
    return int(session.value(f"select count(*) from only {full}"))


def differences(expected: Mapping[str, int], tables: Iterable[Table], found: Counts) -> list[str]:
    """How the rows differ from those recorded, one line a table. A refreshed matview may rightly differ: not one."""
    refreshed = {table.label for table in tables if table.materialised}
    lines = []
    for label, rows in sorted(expected.items()):
        if label in refreshed:
            continue
        if label in found.uncounted:
            lines.append(f"{label}: could not be counted ({found.uncounted[label]})")
        elif label not in found.rows:
            lines.append(f"{label}: missing, {rows} rows were dumped")
        elif found.rows[label] != rows:
            lines.append(f"{label}: {found.rows[label]} rows, {rows} were dumped")
    return lines


def explain_conflict(error: DbopsError, database: str) -> DbopsError:
    """On a standby, replay may cancel long queries; say what helps, keep everything else as it is."""
    text = error.message + getattr(error, "stderr_tail", "")
    if "conflict with recovery" not in text:
        return error
    return Unreachable(
        f"The standby's replay cancelled the dump of {database!r}: {error.message}",
        hint="Raise max_standby_streaming_delay or set hot_standby_feedback=on there, or dump from the primary.",
    )
