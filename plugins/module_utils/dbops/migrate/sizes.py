# SPDX-License-Identifier: GPL-3.0-or-later
"""Small tables, by the row counts that production has: what a lock's length is about is no matter there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ..errors import BadInput
from .lexer import place
from .lint_rules import Problem
from .objects import locked_table
from .shape import Script

SMALL_ROWS = 10_000
# squawk's rules about how long a statement scans or writes. Waiting for the lock is as bad for a small table, so
# no-lock-timeout is not among them.
_ABOUT_LENGTH = {
    f"squawk:{name}"
    for name in (
        "adding-field-with-default", "adding-foreign-key-constraint", "adding-not-nullable-field",
        "adding-serial-primary-key-field", "changing-column-type", "constraint-missing-not-valid",
        "disallowed-unique-constraint", "require-concurrent-index-creation", "require-concurrent-reindex",
    )
}  # fmt: skip
_LINE = re.compile(r"(?P<table>\S.*?)\s*[|,;\t ]\s*(?P<rows>-?\d+)")


def row_counts(path: str) -> dict[str, int]:
    """Rows by table, from JSON or from lines such as `rides|1200000`, which `psql -At` prints.

    BadInput for anything else. A table of the schema public stands there with or without it; a count below 0 is
    pg_class.reltuples of a table that was never analysed, and so no count.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
        found = json.loads(text) if text.lstrip().startswith("{") else _of_lines(text)
        counts = {str(table).removeprefix("public."): int(rows) for table, rows in found.items()}
    except (OSError, ValueError, TypeError, AttributeError) as exc:
        raise BadInput(
            f"Cannot read the row counts in {path}: {exc}.",
            hint='Write JSON, {"rides": 1200000}, or a line for each table, rides|1200000.',
        ) from exc
    return {table: rows for table, rows in counts.items() if rows >= 0}


def is_spared(problem: Problem, script: Script, counts: Mapping[str, int], small_rows: int) -> bool:
    """Whether the problem is how long a lock lasts, and the statement's table is known to be small."""
    if problem.rule not in _ABOUT_LENGTH or problem.line is None:
        return False
    for item in script.statements:
        first = place(script.text, item.start)[0]
        if first <= problem.line <= first + item.text.count("\n"):
            rows = counts.get(locked_table(item) or "")
            return rows is not None and rows <= small_rows
    return False


def _of_lines(text: str) -> dict[str, str]:
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            match = _LINE.fullmatch(line.strip())
            if match is None:
                raise ValueError(f"line {number} is no table with its rows")
            found[match["table"]] = match["rows"]
    return found
