# SPDX-License-Identifier: GPL-3.0-or-later
"""Other people's knowledge: PostgreSQL's own grammar by pglast, and squawk's statement rules. Both are optional."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

from ..errors import MissingLibrary, ToolFailed
from .files import File
from .lexer import place
from .lint_rules import Problem
from .shape import Script

# What ours say better (we know the files before, and the pair), or what is a matter of taste.
_NOT_ASKED = (
    "ban-drop-column", "ban-drop-constraint", "ban-drop-database", "ban-drop-function", "ban-drop-not-null",
    "ban-drop-table", "ban-drop-type", "ban-drop-view", "ban-char-field", "prefer-bigint-over-int",
    "prefer-bigint-over-smallint", "prefer-robust-stmts", "prefer-text-field", "require-lock-timeout",
    "require-statement-timeout", "transaction-nesting",
)  # fmt: skip


def grammar() -> Any:
    try:
        import pglast
    except ImportError as exc:
        raise MissingLibrary("pglast", needed_for="checking the syntax of migrations", package="pglast (pip)") from exc
    return pglast


def syntax_problem(file: File, script: Script) -> Optional[Problem]:
    """What PostgreSQL's own parser says, with line and column."""
    pglast = grammar()
    try:
        pglast.parse_sql(script.text)
    except pglast.parser.ParseError as exc:
        said, position = str(exc.args[0]), exc.args[1] if len(exc.args) > 1 else 0
        line, column = place(script.text, min(int(position or 0), len(script.text)))
        return Problem("syntax", file.basename, f"{column}: {said}.", line)
    return None


def squawk_program() -> str:
    """The program, of this Python's environment or of the path."""
    beside = Path(sys.executable).with_name("squawk")
    found = str(beside) if beside.exists() else shutil.which("squawk")
    if not found:
        raise MissingLibrary("squawk", needed_for="the statement rules", package="squawk-cli (pip)")
    return found


def squawk_problems(files: Sequence[File], *, postgres: str) -> Iterator[Problem]:
    """squawk's findings on these files, each rule as `squawk:NAME`, lines counted from 1."""
    if not files:
        return
    words = ["--reporter", "json", "--assume-in-transaction", "--pg-version", postgres]
    excluded = [word for rule in _NOT_ASKED for word in ("--exclude", rule)]
    done = subprocess.run(  # pylint: disable=ansible-bad-function  # no module at hand
        [squawk_program(), *words, *excluded, *(file.path for file in files)],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found = json.loads(done.stdout or "[]")
    except ValueError as exc:
        raise ToolFailed("squawk did not answer in JSON.", stderr_tail=done.stderr[-2000:]) from exc
    if done.returncode not in (0, 1):
        raise ToolFailed(f"squawk exited with {done.returncode}.", stderr_tail=done.stderr[-2000:])
    names = {file.path: file.basename for file in files}
    for item in found:
        name = names.get(item["file"], Path(item["file"]).name)
        yield Problem(f"squawk:{item['rule_name']}", name, item["message"].rstrip(".") + ".", int(item["line"]) + 1)
