# SPDX-License-Identifier: GPL-3.0-or-later
"""What a channel is to be told now, from what it was told before. Pure.

An incident begins for a channel when something is bad that was not, and ends when nothing is. In between only what is
worse than it was told is news. What cannot be looked at any more has not recovered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Optional

from ..settings_notifications import ChannelSettings
from ..severity import Severity


@dataclass(frozen=True)
class Problem:
    """One finding that is not OK; `check` and `subject` are stable, the words need not be."""

    check: str
    subject: str
    severity: Severity
    message: str
    hint: str = ""

    @property
    def key(self) -> str:
        return f"{self.check} {self.subject}"


@dataclass(frozen=True)
class Report:
    """One look at one cluster. `problems` are the worst first."""

    cluster: str
    seen: datetime
    severity: Severity
    sentence: str
    problems: tuple[Problem, ...] = ()
    host: str = ""


@dataclass(frozen=True)
class Told:
    """What a channel knows. `incident` None: that all is well. `worst` are ranks by problem, within this incident."""

    incident: Optional[str] = None
    opened: Optional[datetime] = None
    worst: Mapping[str, int] = field(default_factory=dict)
    at: Optional[datetime] = None
    messages: int = 0


@dataclass(frozen=True)
class Notice:
    """One message. `number` counts those of the incident before it, so that all of them make one thread."""

    event: str  # problem | worse | repeat | resolved | test
    incident: str
    opened: datetime
    number: int
    report: Report


def due(channel: ChannelSettings, told: Told, report: Report, repeat_s: int) -> tuple[Optional[Notice], Told]:
    """The message that this channel should get, if any, and what it knows when it has got it."""
    event = _event(channel, told, report, repeat_s)
    if event is None:
        return None, told
    now = report.seen
    incident, opened = told.incident, told.opened
    if incident is None or opened is None:
        incident, opened = f"{report.cluster}-{now.astimezone(timezone.utc):%Y%m%dT%H%M%S%fZ}", now
    wanted = ("problem" if event == "worse" else event) in channel.events
    notice = Notice(event, incident, opened, told.messages, report) if wanted else None
    if event == "resolved":
        return notice, Told(at=now)
    ranks = {**told.worst}
    for key, rank in _bad(channel, report).items():
        ranks[key] = max(rank, ranks.get(key, 0))
    return notice, replace(
        told, incident=incident, opened=opened, worst=ranks, at=now, messages=told.messages + int(wanted)
    )


def _event(channel: ChannelSettings, told: Told, report: Report, repeat_s: int) -> Optional[str]:
    bad = _bad(channel, report)
    if not bad:
        recovered = told.incident is not None and report.severity is not Severity.UNKNOWN
        return "resolved" if recovered else None
    if told.incident is None:
        return "problem"
    if any(rank > told.worst.get(key, 0) for key, rank in bad.items()):
        return "worse"
    lasted = (report.seen - told.at).total_seconds() if told.at else 0.0
    return "repeat" if repeat_s and lasted >= repeat_s else None


def _bad(channel: ChannelSettings, report: Report) -> dict[str, int]:
    least = Severity(channel.min_severity.upper()).rank
    return {item.key: item.severity.rank for item in report.problems if item.severity.rank >= least}
