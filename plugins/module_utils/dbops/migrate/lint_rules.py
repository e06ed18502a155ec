# SPDX-License-Identifier: GPL-3.0-or-later
"""Our rules about a file and about a pair of files; pure functions from what was read to what is wrong.

Advice on transactions is golang-migrate's: a file is one implicit transaction already, so BEGIN and COMMIT do harm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from .files import DOWN, UP, File, Migration
from .lexer import Statement, place
from .objects import Change, Object, changes
from .shape import Script, Shape, controls_transaction, copies_from_client

# Rule -> severity. `off` switches one off.
SEVERITIES: dict[str, str] = {
    # the directory
    "duplicate-version": "error", "stray-suffix": "error", "unparsed-name": "warning", "naming": "error",
    "gap": "warning", "pair-names": "error", "missing-half": "error", "not-above-base": "error", "edited": "error",
    # one file
    "unreadable": "error", "empty-file": "error", "syntax": "error", "transaction-control": "error",
    "needs-own-file": "error", "meta-command": "error", "copy-from-stdin": "error", "session-set": "warning",
    "no-comment": "warning", "drop-without-if-exists": "warning", "drop-database": "error", "truncate-cascade": "error",
    "cascade": "warning", "select-star": "warning", "drop-in-up": "warning", "no-lock-timeout": "warning",
    "change-without-where": "warning", "name-taken": "error", "suppression": "error",
    # a pair
    "down-leaves": "error", "down-takes": "error", "down-reads-dropped": "error", "irreversible": "warning",
}  # fmt: skip
_NAMING = re.compile(r"\d{6}_[a-z][a-z0-9_]*\.(up|down)\.sql")
_IRREVERSIBLE = re.compile(r"--\s*irreversible:\s*(\S.*)")
_PARTS = ("column", "constraint", "trigger", "policy", "rule")


@dataclass(frozen=True)
class Problem:
    rule: str
    file: str
    message: str
    line: Optional[int] = None


def file_problems(file: File, script: Script, earlier: Mapping[Object, int]) -> Iterator[Problem]:
    """`earlier` are the objects that files of lower versions made, and in which version."""
    at = _At(file, script)
    if not _NAMING.fullmatch(file.basename):
        yield Problem("naming", file.basename, "Name it NNNNNN_lower_case_words.up.sql or .down.sql, six digits.")
    if script.shape is Shape.EMPTY:
        if file.direction == DOWN and irreversible(script):
            yield Problem("irreversible", file.basename, "Cannot go back, and says why.")
        else:
            yield Problem(
                "empty-file", file.basename, "Holds no statement. If there is no way back: -- irreversible: why"
            )
        return
    if not any(item.comments for item in script.statements):
        yield Problem("no-comment", file.basename, "Has no comment that says what it is for.")
    if script.shape is Shape.IMPOSSIBLE:
        text = "A statement that cannot run in a transaction has company: the file always fails. Give it its own file."
        yield Problem("needs-own-file", file.basename, text)
    for item in script.statements:
        yield from _statement_problems(at, item)
        for change in changes(item):
            yield from _change_problems(at, change, earlier)
    yield from _lock_problems(at, script, earlier)


def pair_problems(item: Migration, up: Script, down: Script, earlier: Mapping[Object, int]) -> Iterator[Problem]:
    """What the down leaves behind, and what it takes that was there before the up."""
    if item.up is None or item.down is None or irreversible(down):
        return
    if item.up.name != item.down.name:
        text = f"Its other half is called {item.up.name}: one change, one name."
        yield Problem("pair-names", item.down.basename, text)
    made, gone = _net(up), _net(down)
    made_now = {what for what, verb in made.items() if verb == "create"}
    dropped_back = {what for what, verb in gone.items() if verb == "drop"}
    for what in sorted(made_now - dropped_back):
        if not _covered(what, dropped_back, up):
            yield Problem("down-leaves", item.down.basename, f"Leaves the {what[0]} {what[1]}, which the up made.")
    up_touches = set(made)
    for what in sorted(dropped_back - up_touches):
        if what in earlier and not _replaced(what, gone, down):
            text = f"Drops the {what[0]} {what[1]}, which version {earlier[what]} made and not this up."
            yield Problem("down-takes", item.down.basename, text)
    yield from _reads_dropped(_At(item.down, down), down)


def made_by(script: Script) -> set[Object]:
    return {what for what, verb in _net(script).items() if verb == "create"}


def dropped_by(script: Script) -> set[Object]:
    return {what for what, verb in _net(script).items() if verb == "drop"}


def irreversible(script: Script) -> bool:
    return bool(_IRREVERSIBLE.search(script.text))


@dataclass(frozen=True)
class _At:
    file: File
    script: Script

    def problem(self, rule: str, statement: Statement, message: str) -> Problem:
        return Problem(rule, self.file.basename, message, place(self.script.text, statement.start)[0])


def _statement_problems(at: _At, item: Statement) -> Iterator[Problem]:
    words = item.words
    if controls_transaction(item):
        text = f"{words[0].upper()}: golang-migrate's file is one transaction already, and this one splits it."
        yield at.problem("transaction-control", item, text)
    if words[0] == "\\":
        yield at.problem("meta-command", item, "A command of psql's: no migration tool knows it.")
    if copies_from_client(item):
        yield at.problem("copy-from-stdin", item, "COPY FROM STDIN has no stdin here.")
    if words[0] == "set" and words[1:2] not in (("local",), ("constraints",)):
        yield at.problem("session-set", item, "Without LOCAL it holds for the files that run after this one too.")
    if words[:2] == ("drop", "database"):
        yield at.problem("drop-database", item, "Drops a database.")
    if words[0] == "truncate" and "cascade" in words:
        yield at.problem("truncate-cascade", item, "Empties tables that are not named here.")
    elif words[0] in ("drop", "alter") and words[-1] == "cascade":
        yield at.problem("cascade", item, "Takes along whatever depends on it: name those objects.")
    if any(words[place - 1 : place + 1] == ("select", "*") for place in range(1, len(words))):
        yield at.problem("select-star", item, "SELECT * means other columns tomorrow: name them.")
    if words[0] in ("update", "delete") and "where" not in words:
        yield at.problem("change-without-where", item, "Changes every row: values that people set are gone.")


def _change_problems(at: _At, change: Change, earlier: Mapping[Object, int]) -> Iterator[Problem]:
    kind, name = change.what
    if change.verb == "drop" and not change.if_exists:
        yield at.problem("drop-without-if-exists", change.statement, f"DROP of the {kind} {name} without IF EXISTS.")
    if at.file.direction != UP:
        return
    if change.verb == "drop" and kind in ("table", "column") and change.what in earlier:
        text = f"Drops the {kind} {name} with what is in it."
        yield at.problem("drop-in-up", change.statement, text)
    if change.verb == "create" and change.if_exists and change.what in earlier:
        text = f"IF NOT EXISTS: the {kind} {name} exists since version {earlier[change.what]}, so this does nothing."
        yield at.problem("name-taken", change.statement, text)


def _lock_problems(at: _At, script: Script, earlier: Mapping[Object, int]) -> Iterator[Problem]:
    if script.shape not in (Shape.ATOMIC, Shape.SPLIT):
        return
    for item in script.statements:
        if item.words[0] == "set" and "lock_timeout" in item.words:
            return
        for change in changes(item):
            table = change.table or (change.what[1] if change.what[0] == "table" else None)
            if table and ("table", table) in earlier and change.verb in ("alter", "drop", "create"):
                text = f"Locks {table} without a lock_timeout: waiting for it makes all who come later wait too."
                yield at.problem("no-lock-timeout", item, text)
                return


def _net(script: Script) -> dict[Object, str]:
    """The last thing that happens to each object."""
    last: dict[Object, str] = {}
    for item in script.statements:
        for change in changes(item):
            if change.verb != "alter" and not (change.verb == "create" and change.replaces):
                last[change.what] = change.verb
    return last


def _covered(what: Object, dropped: set[Object], up: Script) -> bool:
    """Goes with its table, with its type's schema, or with the index's table."""
    kind, name = what
    if kind in _PARTS and ("table", name.rsplit(".", 1)[0]) in dropped:
        return True
    if kind == "constraint":  # goes with its columns as well
        return any(gone == "column" and other.rsplit(".", 1)[0] == name.rsplit(".", 1)[0] for gone, other in dropped)
    if any(schema == "schema" and name.startswith(f"{own}.") for schema, own in dropped):
        return True
    if kind == "sequence":
        return any(_owns(item, name, dropped) for item in up.statements)
    tables = {change.table for item in up.statements for change in changes(item) if change.what == what}
    part = kind in ("index", "table")  # a partition goes with its table
    return part and any(("table", table) in dropped or _view(table, dropped) for table in tables if table)


def _owns(item: Statement, sequence: str, dropped: set[Object]) -> bool:
    words = item.words
    if words[:2] != ("alter", "sequence") or "owned" not in words:
        return False
    tables = {name for kind, name in dropped if kind == "table"}
    return sequence in words and bool(tables & set(words))


def _view(table: str, dropped: set[Object]) -> bool:
    return ("view", table) in dropped


def _replaced(what: Object, net: Mapping[Object, str], down: Script) -> bool:
    """Dropped in order to be made again as it was."""
    made = [change.what for item in down.statements for change in changes(item) if change.verb == "create"]
    return what in made


def _reads_dropped(at: _At, script: Script) -> Iterator[Problem]:
    """A statement that names a column, or a table, which one above it dropped."""
    gone: list[Object] = []
    for item in script.statements:
        words = set(item.words)
        made = {change.what for change in changes(item) if change.verb == "create"}
        for kind, name in gone:
            table, _dot, column = name.rpartition(".")
            reads = {table, column} <= words if kind == "column" else name in words
            if (
                reads
                and (kind, name) not in made
                and item.words[0] in ("update", "insert", "delete", "select", "alter")
            ):
                text = f"Uses the {kind} {name}, which a statement above it has dropped: this down fails."
                yield at.problem("down-reads-dropped", item, text)
        for change in changes(item):
            if change.verb == "drop" and change.what[0] in ("column", "table"):
                gone.append(change.what)
            elif change.what in gone:
                gone.remove(change.what)


def applied_to(earlier: dict[Object, int], version: int, script: Script) -> None:
    """Move the picture of what there is past this up."""
    gone = dropped_by(script)
    for what in [it for it in earlier if it in gone or _is_part_of(it, gone)]:
        del earlier[what]
    for what in made_by(script):
        earlier.setdefault(what, version)


def _is_part_of(what: Object, gone: Sequence[Object] | set[Object]) -> bool:
    return what[0] in _PARTS and ("table", what[1].rsplit(".", 1)[0]) in gone
