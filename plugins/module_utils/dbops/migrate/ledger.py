# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in the tables, as counts and hashes per column, so that rows or values that a file lost have a name.

A hash ties each value to its row's primary key where there is one, so that two rows that swap values show too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..pg.connection import Connection
from .lexer import comments

_DECLARED = re.compile(r"--\s*data-loss:\s*([\w.]+)\s*:?\s*(.*)")
_COLUMNS = """
select format('%%I.%%I', n.nspname, c.relname) as relation, a.attname as name, quote_ident(a.attname) as quoted,
    a.atttypid = 'numeric'::regtype as is_numeric, coalesce(a.attnum = any(k.conkey), false) as in_key
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_constraint k on k.conrelid = c.oid and k.contype = 'p'
where c.relkind in ('r', 'p') and not c.relispartition and n.nspname !~ '^pg_' and n.nspname <> all(%s)
order by 1, a.attnum
"""
_NOT_OURS = ["information_schema", "dbops_migrations"]


@dataclass(frozen=True)
class Table:
    rows: int
    key: tuple[str, ...]
    columns: dict[str, str]  # name -> hash; "0" without any value


@dataclass(frozen=True)
class Loss:
    what: str  # table, or table.column
    how: str
    went_along: bool = False  # with its table or column: that is told by the file itself


@dataclass
class Ledger:
    tables: dict[str, Table] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables.values())


def capture(session: Connection) -> Ledger:
    """Every table, counted and hashed by the server: one statement finds those with rows, another hashes them."""
    described: dict[str, list[dict[str, object]]] = {}
    for row in session.rows(_COLUMNS, (_NOT_OURS,)):
        described.setdefault(str(row["relation"]), []).append(row)
    if not described:
        return Ledger()
    filled = " union all ".join(
        f"select {_literal(it)} as relation, exists (select from {it}) as any" for it in described
    )
    names = [row["relation"] for row in session.rows(filled) if row["any"]]
    hashed = {}
    if names:
        rows = session.rows(" union all ".join(_table_query(name, described[name]) for name in names))
        hashed = {row["relation"]: row for row in rows}
    ledger = Ledger()
    for name, columns in described.items():
        row = hashed.get(name, {"count": 0, "hashes": [None] * len(columns)})
        key = tuple(str(column["name"]) for column in columns if column["in_key"])
        found = {str(column["name"]): str(total or 0) for column, total in zip(columns, row["hashes"])}
        ledger.tables[name] = Table(int(row["count"]), key, found)
    return ledger


def losses(before: Ledger, after: Ledger, *, exactly: bool = False) -> list[Loss]:
    """Rows and values of `before` that `after` does not have; with `exactly`, tables that are missing count too."""
    found: list[Loss] = []
    for name, old in before.tables.items():
        new = after.tables.get(name)
        if new is None:
            if old.rows:
                found.append(Loss(name, f"its {old.rows} rows went with the table", went_along=True))
            continue
        if new.rows != old.rows and (new.rows < old.rows or exactly):
            found.append(Loss(name, f"{old.rows} rows before, {new.rows} after"))
        elif old.rows and new.rows == old.rows:
            found.extend(_changed(name, old, new))
    return found


def declared(script: str) -> dict[str, str]:
    """What a file says that it loses: `-- data-loss: table.column: reason`; names without a schema are in public."""
    found: dict[str, str] = {}
    for note in comments(script):
        match = _DECLARED.match(note.text)
        if match:
            found[match.group(1)] = match.group(2).strip()
    return found


def is_declared(loss: Loss, said: Sequence[str]) -> bool:
    short = loss.what[len("public.") :] if loss.what.startswith("public.") else loss.what
    names = {loss.what, short, loss.what.rsplit(".", 1)[0], short.rsplit(".", 1)[0]}
    return any(name in names for name in said)


def _changed(name: str, old: Table, new: Table) -> list[Loss]:
    found = []
    for column, text in old.columns.items():
        if column not in new.columns:
            if text != "0":
                found.append(Loss(f"{name}.{column}", "its values went with the column", went_along=True))
        elif old.key == new.key and new.columns[column] != text:  # under another key the hashes cannot be compared
            found.append(Loss(f"{name}.{column}", "its values are not what they were"))
    return found


def _table_query(name: str, columns: Sequence[dict[str, object]]) -> str:
    """Short for each column: of a few hundred of them, planning takes longer than reading the rows does."""
    key = [f"{column['quoted']}::text" for column in columns if column["in_key"]]
    source, seed = name, "0"
    if key:  # once for each row: "offset 0" keeps the planner from writing it out in every column
        tied = " || chr(1) || ".join(key)
        source = f'(select *, hashtextextended({tied}, 0) as "dbops key" from {name} offset 0) as t'
        seed = '"dbops key"'
    hashes = []
    for column in columns:
        value = f"trim_scale({column['quoted']})::text" if column["is_numeric"] else f"{column['quoted']}::text"
        hashes.append(f"sum(hashtextextended({value}, {seed}))")  # null where there is no value
    return f"select {_literal(name)} as relation, count(*) as count, array[{', '.join(hashes)}] as hashes from {source}"


def _literal(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"
