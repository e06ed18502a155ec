# SPDX-License-Identifier: GPL-3.0-or-later
"""Instants, ages and verdicts as a reader of the report sees them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Optional

from ..progress import duration, size
from .markup import Markup, tag

# Mark and word for each: colour alone says nothing on paper, nor to everybody.
STATES = {
    "OK": ("✓", "OK", "good"),
    "WARNING": ("!", "Warning", "warn"),
    "UNKNOWN": ("?", "Unknown", "doubt"),
    "CRITICAL": ("✕", "Critical", "bad"),
    "pass": ("✓", "Passed", "good"),
    "fail": ("✕", "Failed", "bad"),
    "could_not_verify": ("?", "Could not verify", "doubt"),
}
TYPES = {"full": "Full", "incremental": "Incremental", "dump": "Dump"}
RESTORED = ("restore", "structure", "content", "assertions")


def state(name: str, *, words: Optional[str] = None) -> Markup:
    mark, said, kind = STATES.get(name, ("?", name, "doubt"))
    return tag("span", tag("span", mark, class_="mark", aria_hidden="true"), words or said, class_=f"state {kind}")


def when(moment: Optional[datetime]) -> Markup:
    """Machines get the exact instant, people a minute of it."""
    if moment is None:
        return Markup("-")
    exact = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return tag("time", minute(moment), datetime=exact)


def minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def second(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def age(moment: datetime, now: datetime) -> str:
    passed = now - moment
    return "just now" if passed < timedelta(seconds=1) else f"{duration(passed.total_seconds())} ago"


def level(name: Optional[str]) -> str:
    return name or "unverified"


def depth(name: Optional[str]) -> str:
    """How deep a proof went, in three steps that a shape's fill can show."""
    if name is None:
        return "unproven"
    return "restored" if name in RESTORED else "read"


def some(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def rate(bytes_per_s: Optional[int]) -> str:
    return "-" if bytes_per_s is None else f"{size(bytes_per_s)}/s"


def segments_rate(per_s: Optional[float]) -> str:
    return "-" if per_s is None else f"{per_s:.3g} segments/s"


def span(seconds: Optional[float]) -> str:
    """A length of time without a second unit that says nothing: 14 d and not 14 d 0 h."""
    words = duration(seconds)
    for empty in (" 00 s", " 00 min", " 0 h"):
        words = words[: -len(empty)] if words.endswith(empty) else words
    return words


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}".replace(",", "\u202f")
