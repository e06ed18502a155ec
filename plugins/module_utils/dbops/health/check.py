# SPDX-License-Identifier: GPL-3.0-or-later
"""The use case: gather, judge, render, and tell whoever is to know."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Optional

from ..errors import DbopsError
from ..notify.due import Problem, Report
from ..pg.osuser import cluster_identity
from ..settings import Settings
from .checks import judge
from .facts import Facts
from .finding import Finding, Severity, ordered, worst
from .gather import gather
from .render import as_dict, sentence


def check(
    settings: Settings, *, deep: bool = False, notify: bool = False, now: Optional[datetime] = None
) -> tuple[dict[str, Any], Facts, list[Finding]]:
    """The result as every door returns it, with the facts and findings that it was made of.

    `notify` sends what is due; whether that works is told in the result, and changes nothing else of it.
    """
    facts = gather(settings, deep=deep, now=now)
    findings = judge(facts)
    result = as_dict(facts, findings)
    if notify:
        from ..notify.tell import tell  # mail and HTTP take as long to load as a small repository to check

        _make_state_directory(settings)
        outcome = tell(settings, report(facts, findings))
        result["notifications"] = outcome.describe()
        result["warnings"] += outcome.warnings
    return result, facts, findings


def tested(settings: Settings) -> dict[str, Any]:
    """A test message through every channel, instead of a check."""
    from ..notify.tell import test

    _make_state_directory(settings)
    outcome = test(settings)
    sent = sum(item.result == "sent" for item in outcome.deliveries)
    msg = f"{sent} of {len(outcome.deliveries)} channels of {settings.cluster} took a test message."
    return {"changed": False, "msg": msg, "notifications": outcome.describe(), "warnings": list(outcome.warnings)}


def _make_state_directory(settings: Settings) -> None:
    """Where it is known what was told. Where it cannot be made, the messages themselves say so."""
    with contextlib.suppress(OSError, DbopsError):
        identity = cluster_identity(settings.host.os_user, settings.host.data_directory)
        identity.make_private_directory(settings.state_path)


def report(facts: Facts, findings: Sequence[Finding]) -> Report:
    """As people are told: what is not in order, the worst first. A check of several parts is its worst one."""
    problems: dict[str, Problem] = {}
    for item in ordered(findings):
        if item.severity is not Severity.OK:
            problem = Problem(item.check, item.subject, item.severity, item.message, item.hint)
            problems.setdefault(problem.key, problem)
    return Report(
        cluster=facts.cluster,
        seen=facts.seen,
        severity=worst(findings),
        sentence=sentence(facts.cluster, findings),
        problems=tuple(problems.values()),
        host=socket.gethostname(),
    )
