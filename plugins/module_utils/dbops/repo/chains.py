# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the listed backups can be restored, as far as their chains tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Optional

from ..errors import BadInput, Refused

TYPES_OF_METHOD: Mapping[str, tuple[str, ...]] = {"physical": ("full", "incremental"), "logical": ("dump",)}


@dataclass(frozen=True)
class Candidate:
    """One backup as the repository lists it.

    An unfinished one has `valid=False` and, as `stop_time`, the moment at which it was last known to run.
    """

    label: str
    method: str
    type: str
    parent: Optional[str]
    start_time: datetime
    stop_time: datetime
    system_identifier: str
    databases: tuple[str, ...] = ()
    held: Optional[str] = None  # the reason of the hold; an empty one holds just as well
    proven: bool = False
    valid: bool = True
    pinned: tuple[str, ...] = ()  # more reasons to keep it, known to whoever lists

    def __post_init__(self) -> None:
        if self.type not in TYPES_OF_METHOD.get(self.method, ()):
            raise BadInput(
                f"Backup {self.label!r} cannot be judged: method {self.method!r} with type {self.type!r} is unknown.",
                hint="Use the version of dbops that wrote this backup, or a newer one.",
            )
        for name, time in (("start_time", self.start_time), ("stop_time", self.stop_time)):
            if time.utcoffset() is None:
                raise BadInput(
                    f"Backup {self.label!r} cannot be judged: its {name} {time} has no time zone.",
                    hint="Give times in UTC, with their zone.",
                )
            object.__setattr__(self, name, time.astimezone(timezone.utc))


@dataclass(frozen=True)
class Judged:
    """A candidate and what its chain says about it."""

    backup: Candidate
    depth: int = 0
    restorable: bool = False
    doubt: str = ""  # why its chain cannot be judged; such a backup stays

    @property
    def age_key(self) -> tuple[datetime, int, datetime, str]:
        # a child that started in the same second as its parent is the newer one; the label only breaks ties
        return (self.backup.start_time, self.depth, self.backup.stop_time, self.backup.label)


def judge_chains(candidates: Iterable[Candidate]) -> list[Judged]:
    """Every candidate with the verdict on its chain, newest first."""
    candidates = list(candidates)
    listed = {candidate.label: candidate for candidate in candidates}
    if len(listed) < len(candidates):
        twice = Counter(candidate.label for candidate in candidates).most_common(1)[0][0]
        raise Refused(f"The listing names backup {twice!r} twice.", hint="List the repository again.")
    known: dict[str, Judged] = {}
    for candidate in candidates:
        path: dict[str, Candidate] = {}
        step: Optional[Candidate] = candidate
        while step and step.label not in known and step.label not in path:
            path[step.label] = step
            step = listed.get(step.parent) if step.parent is not None else None
        if step and step.label in path:
            known.update((label, Judged(listed[label], doubt="its parents form a circle")) for label in path)
            continue
        for link in reversed(list(path.values())):
            known[link.label] = _judge_link(link, known.get(link.parent) if link.parent is not None else None)
    return sorted(known.values(), key=lambda item: item.age_key, reverse=True)


def _judge_link(link: Candidate, parent: Optional[Judged]) -> Judged:
    depth = parent.depth + 1 if parent else 0
    doubt = _doubt(link, parent)
    return Judged(link, depth, link.valid and not doubt and (parent is None or parent.restorable), doubt)


def _doubt(link: Candidate, parent: Optional[Judged]) -> str:
    if link.stop_time < link.start_time:
        return "it stops before it starts, so its place in time is unknown"
    if parent is None:
        if link.parent is not None:
            return f"its parent {link.parent} is not in the listing"
        return "it is incremental and names no parent" if link.type == "incremental" else ""
    if parent.doubt:
        return f"its parent {link.parent} is in doubt"
    if (link.method, link.system_identifier) != (parent.backup.method, parent.backup.system_identifier):
        return f"its parent {link.parent} is a backup of something else"
    if link.start_time < parent.backup.start_time:
        return f"its parent {link.parent} is younger than itself"
    return ""
