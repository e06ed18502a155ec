# SPDX-License-Identifier: GPL-3.0-or-later
"""What a file is to PostgreSQL when it arrives as one message: one transaction, none, or something that cannot work."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .lexer import Statement, comments, statements

NO_TRANSACTION = re.compile(r"--\s*dbops:\s*no-transaction\b")


class Shape(enum.Enum):
    EMPTY = "empty"  # nothing but comments: counts as applied
    ATOMIC = "atomic"  # one implicit transaction: all of it or nothing
    ALONE = "alone"  # one statement that refuses to be in a transaction
    SPLIT = "split"  # ends its transaction itself: what precedes a COMMIT stays when the rest fails
    MARKED = "marked"  # asks for it in a comment: each statement by itself
    IMPOSSIBLE = "impossible"  # a statement that refuses to be in a transaction, in company


@dataclass(frozen=True)
class Script:
    """A file's text, taken apart once."""

    text: str
    statements: tuple[Statement, ...]
    shape: Shape

    @property
    def may_be_repeated(self) -> bool:
        """Whether a failure has surely left nothing behind."""
        return self.shape in (Shape.ATOMIC, Shape.EMPTY)

    @property
    def may_be_followed(self) -> bool:
        """Whether a statement of ours can join its transaction: not where it has become another role."""
        return self.shape is Shape.ATOMIC and not any(changes_role(item) for item in self.statements)


def read_script(text: str) -> Script:
    """Raises lexer.Unterminated."""
    found = tuple(statements(text))
    return Script(text, found, _shape(text, found))


def refuses_transaction(statement: Statement) -> bool:
    """Statements that fail inside a transaction block, an implicit one of several statements too."""
    words = statement.words
    first, second = words[0], words[1] if len(words) > 1 else ""
    if first in ("vacuum",) or (first, second) in _NEVER_INSIDE:
        return True
    if first in ("create", "drop", "reindex") and "concurrently" in words[:4] and "view" not in words[:3]:
        return True
    if first == "reindex" and ("database" in words[:3] or "system" in words[:3]):
        return True
    return first == "alter" and second == "table" and "detach" in words and words[-1] == "concurrently"


def controls_transaction(statement: Statement) -> bool:
    words = statement.words
    if words[0] in ("begin", "commit", "end", "abort"):
        return True
    if words[0] == "rollback":
        return "to" not in words
    return statement.begins("start", "transaction") or statement.begins("prepare", "transaction")


def changes_role(statement: Statement) -> bool:
    words = [word for word in statement.words[:4] if word not in ("local", "session")]
    return words[:2] == ["set", "role"] or words[:2] == ["set", "authorization"]


def copies_from_client(statement: Statement) -> bool:
    words = statement.words
    return words[0] == "copy" and any(pair == ("from", "stdin") for pair in zip(words, words[1:]))


_NEVER_INSIDE = {
    ("create", "database"), ("drop", "database"), ("create", "tablespace"), ("drop", "tablespace"), ("alter", "system"),
}  # fmt: skip


def _shape(text: str, found: Sequence[Statement]) -> Shape:
    if not found:
        return Shape.EMPTY
    if any(NO_TRANSACTION.match(note.text) for note in comments(text)):
        return Shape.MARKED
    if any(refuses_transaction(item) for item in found):
        return Shape.ALONE if len(found) == 1 else Shape.IMPOSSIBLE
    return Shape.SPLIT if any(controls_transaction(item) for item in found) else Shape.ATOMIC
