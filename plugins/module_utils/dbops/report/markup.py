# SPDX-License-Identifier: GPL-3.0-or-later
"""Elements of HTML and SVG as values: what is not `Markup` already is escaped, in content and in attributes alike."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Union

_VOID = ("meta", "br", "hr", "col")


class Markup(str):
    """Text that is markup. Made here only; everything else that comes into a page is text."""

    __slots__ = ()


Content = Union[str, int, float, None, Iterable["Content"]]
Attribute = Union[str, int, float, bool, None]


def tag(element: str, *content: Content, **attributes: Attribute) -> Markup:
    """One element. `class_` is the class, `aria_label` is aria-label; None and False leave an attribute out."""
    given = "".join(_attribute(key, value) for key, value in attributes.items())
    if element in _VOID:
        return Markup(f"<{element}{given}>")
    return Markup(f"<{element}{given}>{join(content)}</{element}>")


def join(content: Content) -> Markup:
    """Everything one after the other; None is nothing."""
    if content is None:
        return Markup("")
    if isinstance(content, Markup):
        return content
    if isinstance(content, str):
        return Markup(escape(_printable(content), quote=False))
    if isinstance(content, (int, float)):
        return Markup(str(content))
    return Markup("".join(join(item) for item in content))


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if name == "viewbox":
        name = "viewBox"
    return f" {name}" if value is True else f' {name}="{escape(_printable(str(value)))}"'


def _printable(text: str) -> str:
    """No control or direction character of a foreign name may change how its neighbours read; a lone half of a
    surrogate pair cannot be written as UTF-8 at all."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character == "\n" else f"\\u{ord(character):04x}" for character in text
    )
