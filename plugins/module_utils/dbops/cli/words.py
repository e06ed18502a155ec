# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers, times and foreign text as a person reads them on a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from ..progress import size

__all__ = ("clean", "cut", "plural", "size", "table", "width")


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def clean(content: Any, *, lines: bool = False) -> str:
    """Text that came from elsewhere, unable to move the cursor, colour the screen or look like another line.

    Control and format characters (bidirectional ones too) are shown as escapes; with `lines` newlines stay.
    """
    text = str(content)
    if text.isprintable():  # nothing of the categories Other and Separator, but for the space
        return text
    return "".join(
        character
        if (lines and character == "\n") or character.isprintable()
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> str:
    """Columns as wide as they need to be; the last one runs free. Every cell is cleaned."""
    columns = []
    for place, heading in enumerate(headings):
        cells = [heading, *(clean(row[place]) for row in rows)]
        widest = max(map(width, cells))
        if heading in right:
            columns.append([" " * (widest - width(cell)) + cell for cell in cells])
        else:
            columns.append([cell + " " * (widest - width(cell)) for cell in cells])
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns))


def width(text: str) -> int:
    """Places on the screen: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(bool(unicodedata.combining(character)) for character in text)


def cut(text: str, columns: int) -> str:
    """As much of it as fits."""
    while width(text) > columns:
        text = text[:-1]
    return text
