# SPDX-License-Identifier: GPL-3.0-or-later
"""The same findings as JSON for machines and as a Nagios plugin's lines. Pure; text for people is the command's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..repo.record import iso
from .facts import Facts
from .finding import Finding, Severity, ordered, worst

SCHEMA = "v1"


def as_dict(facts: Facts, findings: Sequence[Finding]) -> dict[str, Any]:
    total = worst(findings)
    return {
        "changed": False,
        "msg": sentence(facts.cluster, findings),
        "health": {
            "schema": SCHEMA,
            "cluster": facts.cluster,
            "seen": iso(facts.seen),
            "severity": total.value,
            "exit_code": total.exit_code,
            "verdict": total.verdict,
            "counts": {item.value: sum(found.severity is item for found in findings) for item in Severity},
            "findings": [found.describe() for found in findings],
        },
        "notifications": [],
        "warnings": [],
    }


def sentence(cluster: str, findings: Sequence[Finding]) -> str:
    """The total, and the worst thing that was found; all of it is in the findings."""
    total = worst(findings)
    if not findings:
        return f"{cluster} is UNKNOWN: nothing was looked at."
    if total is Severity.OK:
        return f"{cluster} is OK: {len(findings)} checks passed."
    first = ordered(findings)[0]
    more = sum(found.severity is not Severity.OK for found in findings) - 1
    return f"{cluster} is {total.value}: {first.subject}: {first.message}" + (f" And {more} more." if more else "")


def nagios(facts: Facts, findings: Sequence[Finding]) -> str:
    """One line with perfdata behind the bar, then a line for each finding that is not OK (Monitoring Plugins)."""
    lines = [f"DBOPS {worst(findings).value} - {_plain(sentence(facts.cluster, findings))}"]
    perfdata = [_perf(found) for found in findings if found.measure is not None]
    if perfdata:
        lines[0] += f" | {' '.join(perfdata)}"
    for found in ordered(findings):
        if found.severity is not Severity.OK:
            lines.append(_plain(f"{found.severity.value} {found.check} {found.subject}: {found.message} {found.hint}"))
    return "\n".join(lines)


def _perf(found: Finding) -> str:
    measure = found.measure
    if measure is None:
        return ""
    label = re.sub(r"['=|\s]+", "_", measure.name)
    limits = [measure.warning or "", measure.critical or ""]
    return f"'{label}'={measure.value}{measure.unit};{';'.join(limits)}".rstrip(";")


def _plain(text: str) -> str:
    """Nothing in a message may look like perfdata or another line."""
    return re.sub(r"\s+", " ", text.replace("|", "/")).strip()
