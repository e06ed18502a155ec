# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's lexical rules: where a statement ends, whatever strings, `$$` bodies and comments hold.

Source: PostgreSQL 18 manual, chapter 4.1, and src/backend/parser/scan.l. `standard_conforming_strings` is taken as on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import BadInput

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<comment>--[^\n]*)
  | (?P<block>/\*)
  | (?P<string>[nN]?'(?:[^']|'')*')
  | (?P<escape>[eE]'(?:[^'\\]|''|\\.)*')
  | (?P<bits>[bBxX]'[^']*')
  | (?P<unicode>[uU]&'(?:[^']|'')*')
  | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*")
  | (?P<dollar>\$(?P<tag>(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?)\$)
  | (?P<parameter>\$\d+)
  | (?P<word>[A-Za-z_\u0080-\U0010ffff][\w$\u0080-\U0010ffff]*)
  | (?P<number>\d[\w.]*|\.\d\w*)
  | (?P<open>['"])
  | (?P<symbol>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_KINDS = {"escape": "string", "bits": "string", "unicode": "string"}
_BLOCK_EDGE = re.compile(r"/\*|\*/")


class Unterminated(BadInput):
    """A string, body or comment that never ends; `position` is where it begins, counted from 0."""

    def __init__(self, what: str, position: int) -> None:
        super().__init__(f"{what} is never closed.", hint="Close it: all that follows is swallowed by it.")
        self.position = position


@dataclass(frozen=True)
class Token:
    """`kind` is word, quoted, string, dollar, number, parameter, symbol or comment; `start` counts from 0."""

    kind: str
    text: str
    start: int


@dataclass(frozen=True)
class Statement:
    """One statement without its semicolon; `tokens` leave comments out, `comments` are those inside and above it."""

    text: str
    start: int
    tokens: tuple[Token, ...]
    comments: tuple[Token, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """Each token as it compares: keywords and plain names in lower case, quoted names without their quotes."""
        return tuple(comparable(token) for token in self.tokens)

    def begins(self, *words: str) -> bool:
        return self.words[: len(words)] == words


def comparable(token: Token) -> str:
    if token.kind == "word":
        return token.text.lower()
    if token.kind == "quoted":
        return token.text[token.text.index('"') + 1 : -1].replace('""', '"')
    return token.text


def tokens(script: str) -> Iterator[Token]:
    """Every token but white space. Raises Unterminated."""
    position = 0
    while position < len(script):
        match = _TOKEN.match(script, position)
        if match is None:  # cannot be: the last alternative takes any character
            raise BadInput(f"Cannot read the script at {position}.", hint="Report it.")
        kind, start, position = match.lastgroup or "symbol", match.start(), match.end()
        if match.group("dollar") is not None:
            kind, position = "dollar", _end_of_body(script, match.group("dollar"), start, position)
        elif kind == "block":
            kind, position = "comment", _end_of_block(script, start, position)
        elif kind == "open":
            raise Unterminated("A quote", start)
        if kind != "space":
            yield Token(_KINDS.get(kind, kind), script[start:position], start)


def statements(script: str) -> list[Statement]:
    """The statements of a script in order; a semicolon inside parentheses or BEGIN ATOMIC ... END does not end one."""
    found: list[Statement] = []
    code: list[Token] = []
    comments: list[Token] = []
    depth = atomic = 0
    for token in tokens(script):
        if token.kind == "comment":
            comments.append(token)
            continue
        if token.kind == "symbol" and token.text == ";" and depth <= 0 and atomic == 0:
            if code:
                found.append(_statement(script, code, comments))
                comments = []
            code, depth = [], 0
            continue
        if token.kind == "symbol":
            depth += {"(": 1, ")": -1}.get(token.text, 0)
        elif token.kind == "word":
            atomic = _atomic_depth(atomic, token.text.lower(), code)
        code.append(token)
    if code:
        found.append(_statement(script, code, comments))
    return found


def comments(script: str) -> list[Token]:
    return [token for token in tokens(script) if token.kind == "comment"]


def place(script: str, position: int) -> tuple[int, int]:
    """Line and column, both from 1, of a character's position counted from 0."""
    before = script[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1


def _atomic_depth(depth: int, word: str, code: list[Token]) -> int:
    """How deep in BEGIN ATOMIC bodies: CASE and BEGIN open there, END closes."""
    if depth == 0:
        begun = word == "atomic" and bool(code) and code[-1].text.lower() == "begin"
        return 1 if begun and code[0].text.lower() == "create" else 0
    return depth + {"case": 1, "begin": 1, "end": -1}.get(word, 0)


def _end_of_body(script: str, tag: str, start: int, position: int) -> int:
    end = script.find(tag, position)
    if end < 0:
        raise Unterminated(f"The body that begins with {tag}", start)
    return end + len(tag)


def _end_of_block(script: str, start: int, position: int) -> int:
    depth = 1
    while depth:
        edge = _BLOCK_EDGE.search(script, position)
        if edge is None:
            raise Unterminated("A comment /*", start)
        depth += 1 if edge.group() == "/*" else -1
        position = edge.end()
    return position


def _statement(script: str, code: list[Token], notes: list[Token]) -> Statement:
    start, end = code[0].start, code[-1].start + len(code[-1].text)
    return Statement(script[start:end], start, tuple(code), tuple(notes))
