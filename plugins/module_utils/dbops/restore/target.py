# SPDX-License-Identifier: GPL-3.0-or-later
"""Recovery targets: what may be asked for, what PostgreSQL is told, and which of them an archive can reach. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Optional

from ..errors import BadInput
from ..pg.wal import lsn_to_int
from ..repo.record import iso
from .select import moment

KINDS = ("time", "lsn", "xid", "name", "immediate", "latest")
ACTIONS = ("pause", "promote", "shutdown")


@dataclass(frozen=True)
class Target:
    """Exactly one point. `value` is as PostgreSQL reads it; times are in UTC, with microseconds."""

    kind: str = "latest"
    value: str = ""
    inclusive: bool = True
    timeline: str = "latest"  # latest | current | a number
    action: str = "promote"

    @property
    def time(self) -> datetime:
        return moment(self.value)

    @property
    def position(self) -> int:
        return lsn_to_int(self.value)

    def __str__(self) -> str:
        if self.kind in ("latest", "immediate"):
            return {"latest": "the end of the archived WAL", "immediate": "the backup's own consistent point"}[
                self.kind
            ]
        return f"{self.kind} {self.value}{'' if self.inclusive else ' (exclusive)'}"


def parse(
    given: Mapping[str, Any], *, inclusive: bool = True, timeline: str = "latest", action: str = "promote"
) -> Target:
    """From the options of a door: exactly one of the kinds, everything else checked as strictly.

    `given` has a value, None or False for each kind. Nothing at all is refused: the end of the WAL is `latest`.
    """
    asked = [(kind, given[kind]) for kind in KINDS if given.get(kind) not in (None, "", False)]
    if len(asked) > 1:
        names = " and ".join(kind for kind, _value in asked)
        raise BadInput(f"A recovery has one target, and {names} were given.", hint="Give one of them.")
    if not asked:
        raise BadInput("A recovery needs its point.", hint=f"Give one of: {', '.join(KINDS)}.")
    if action not in ACTIONS:
        raise BadInput(f"After the target PostgreSQL cannot {action!r}.", hint=f"Choose one of: {', '.join(ACTIONS)}.")
    if not re.fullmatch(r"latest|current|[1-9]\d{0,9}", timeline):
        raise BadInput(f"{timeline!r} is not a timeline.", hint="Give latest, current or a timeline's number.")
    kind, value = asked[0]
    if kind == "immediate" and timeline == "latest":
        timeline = "current"  # the latest one may be out of reach, and immediate never needs it
    return Target(kind, _checked(kind, value), inclusive, timeline, action)


def _checked(kind: str, value: Any) -> str:
    text = "" if value is True else str(value)
    if kind == "time":
        return iso_micro(moment(text))
    if kind == "lsn":
        lsn_to_int(text)
    if kind == "xid" and not re.fullmatch(r"[1-9]\d{0,9}", text):
        raise BadInput(f"{text!r} is not a transaction's id.", hint="Give the number that txid_current() showed.")
    if kind == "name" and (not text or len(text.encode()) > 63 or "\n" in text):
        raise BadInput(f"{text!r} cannot be a restore point's name.", hint="Names have 1 to 63 bytes.")
    return text


def iso_micro(when: datetime) -> str:
    """To the microsecond, since PostgreSQL compares so: a cut-off time would undo the last commit."""
    return when.isoformat(timespec="microseconds").replace("+00:00", "Z")


def parameters(target: Target, *, restore_command: str) -> dict[str, str]:
    """The recovery settings (PostgreSQL 12 and later), in the order in which a person would read them."""
    chosen = {"restore_command": restore_command}
    if target.kind == "immediate":
        chosen["recovery_target"] = "immediate"
    elif target.kind == "time":
        chosen["recovery_target_time"] = target.time.strftime("%Y-%m-%d %H:%M:%S.%f+00")
    elif target.kind != "latest":
        chosen[f"recovery_target_{target.kind}"] = target.value
    if target.kind in ("time", "lsn", "xid"):
        chosen["recovery_target_inclusive"] = "on" if target.inclusive else "off"
    chosen["recovery_target_timeline"] = target.timeline
    if target.kind != "latest":
        chosen["recovery_target_action"] = target.action
    return chosen


_OLD = re.compile(
    r"^\s*(recovery_target\w*|restore_command|recovery_end_command|primary_conninfo|primary_slot_name)\s*="
)
BLOCK_BEGIN = "# dbops: recovery, written by a restore"
BLOCK_END = "# dbops: end of recovery"


def rewrite_auto_conf(content: str, settings: Mapping[str, str]) -> str:
    """postgresql.auto.conf with every older recovery setting commented out, and one block of ours at its end.

    An old target would make a second one, which PostgreSQL refuses; an old restore_command would win or lose by its
    place in the file.
    """
    kept = []
    inside = False
    for text in content.splitlines():
        if text.strip() == BLOCK_BEGIN:
            inside = True
        if not inside:
            kept.append(f"# {text}" if _OLD.match(text) else text)
        if text.strip() == BLOCK_END:
            inside = False
    block = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in settings.items()]
    return "\n".join([*kept, BLOCK_BEGIN, *block, BLOCK_END]) + "\n"


@dataclass(frozen=True)
class Reach:
    """Where the archive ends, for messages: commit times at the edges of what can be reached, oldest first."""

    intervals: Sequence[tuple[Optional[datetime], Optional[datetime]]]

    def __str__(self) -> str:
        known = [f"{iso(start)} to {iso(end)}" for start, end in self.intervals if start and end]
        return "; ".join(known) or "nothing"


def unreachable_time(target: datetime, reach: Reach, *, inclusive: bool = False) -> Optional[str]:
    """None when a transaction that ended past the target proves that replay stops there; else what is nearest.

    A base's stop time opens an interval, its last commit closes it. PostgreSQL notices a time target only at the first
    end of a transaction past it: one later than the target, or not earlier when the target itself is left out.
    """
    step = timedelta(microseconds=1) if inclusive else timedelta(0)
    known = [(start, end - step) for start, end in reach.intervals if start and end and start <= end - step]
    for start, end in known:
        if start <= target <= end:
            return None
    edges = [edge for pair in known for edge in pair]
    if not edges:
        return "nothing can be reached: there is no base backup with the WAL that it needs"
    nearest = min(edges, key=lambda edge: abs((edge - target).total_seconds()))
    return f"the nearest instant that can be reached is {iso_micro(nearest)}"
