# SPDX-License-Identifier: GPL-3.0-or-later
"""May something risky begin now? Only with a way back: a proven backup that is young enough, and an archive at work.

Each gate can be waived by its name and by nothing else; what could not be seen keeps it shut.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Optional

from ..errors import BadInput
from ..progress import duration
from ..schema import duration_s
from ..settings import Settings
from .facts import Facts
from .finding import Finding, Severity
from .gather import gather

GATES = ("verified_backup", "archive")


def gate(
    settings: Settings, *, max_age: str, waive: Sequence[str] = (), now: Optional[datetime] = None
) -> dict[str, Any]:
    """Every gate with its answer; `open` when each is OK or waived."""
    for name in waive:
        if name not in GATES:
            raise BadInput(f"There is no gate {name!r}.", hint=f"There is: {', '.join(GATES)}.")
    limit = duration_s(max_age, "max_age")
    found = judge(gather(settings, now=now), limit)
    return told(settings.cluster, found, waive)


def judge(facts: Facts, max_age_s: int) -> list[Finding]:
    """One finding for each of GATES. Pure."""
    return [_verified_backup(facts, max_age_s), _archive(facts)]


def told(cluster: str, found: Sequence[Finding], waive: Sequence[str]) -> dict[str, Any]:
    """As every door returns it. Pure."""
    shut = [item for item in found if item.severity is not Severity.OK and item.check not in waive]
    waived = [item.check for item in found if item.severity is not Severity.OK and item.check in waive]
    if shut:
        msg = f"{cluster} has no sure way back: " + " ".join(f"{item.message} [{item.check}]" for item in shut)
    else:
        msg = f"{cluster} has a way back." if not waived else f"{cluster}: waived by name: {', '.join(waived)}."
    return {
        "changed": False,
        "msg": msg,
        "gate": {
            "open": not shut,
            "waived": waived,
            "findings": [item.describe() for item in found],
        },
        "hint": " ".join(item.hint for item in shut if item.hint),
    }


def _verified_backup(facts: Facts, max_age_s: int) -> Finding:
    name, hint = GATES[0], "Take one and prove it: dbops backup, then dbops verify."
    if not any(repository.reached for repository in facts.repositories):
        return Finding(name, "-", Severity.UNKNOWN, "No repository could be read.", "See dbops health.")
    proven = [
        backup
        for repository in facts.repositories
        for backup in repository.backups
        if backup.valid and backup.method == "physical" and backup.proven_at and backup.last_verdict != "fail"
    ]
    if not proven:
        return Finding(name, "-", Severity.CRITICAL, "No physical backup was proven by a restore.", hint)
    newest = max(proven, key=lambda backup: backup.stopped)
    age = facts.seen - newest.stopped
    message = (
        f"{newest.label}, proven to level {newest.proven_level}, ended {duration(max(0.0, age.total_seconds()))} ago"
    )
    if age <= timedelta(seconds=max_age_s):
        return Finding(name, newest.label, Severity.OK, f"{message}.")
    return Finding(name, newest.label, Severity.CRITICAL, f"{message}, more than {duration(max_age_s)}.", hint)


def _archive(facts: Facts) -> Finding:
    """Without archived WAL the way back ends at the backup, and loses what was committed since."""
    name, hint, server = (
        GATES[1],
        "See dbops wal status; playbooks/archiving.yml sets it up and proves it.",
        facts.server,
    )
    if server is None:
        return Finding(name, "server", Severity.UNKNOWN, facts.server_error, "Start it, or look at its log.")
    if server.in_recovery:
        return Finding(name, "server", Severity.UNKNOWN, "This server is a standby.", "Ask on the primary.")
    if not server.archives:
        return Finding(name, "server", Severity.CRITICAL, "The server does not archive its WAL.", hint)
    if server.archive_failing:
        return Finding(name, "server", Severity.CRITICAL, f"Archiving fails at {server.last_failed_wal}.", hint)
    if server.waiting_s is not None and server.waiting_s > facts.policy.rpo_s:
        message = f"A segment has waited for {duration(server.waiting_s)} to be archived."
        return Finding(name, "server", Severity.CRITICAL, message, hint)
    return Finding(name, "server", Severity.OK, "Archiving works.")
