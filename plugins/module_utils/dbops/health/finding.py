# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check found, and how findings add up: to the worst of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Optional, Union

from ..severity import Severity

__all__ = ("Finding", "Measure", "Severity", "ordered", "worst")

Number = Union[int, float]


@dataclass(frozen=True)
class Measure:
    """A number in its base unit (`s`, `B`, or none), and the limits it was held against."""

    name: str
    value: Number
    unit: str = ""
    warning: Optional[str] = None
    critical: Optional[str] = None


@dataclass(frozen=True)
class Finding:
    """`check` is stable, `subject` is what it was asked about: a repository, or a repository and a method."""

    check: str
    subject: str
    severity: Severity
    message: str
    hint: str = ""
    measure: Optional[Measure] = None

    def describe(self) -> dict[str, Any]:
        measure = self.measure
        return {
            "check": self.check,
            "subject": self.subject,
            "severity": self.severity.value,
            "verdict": self.severity.verdict,
            "message": self.message,
            "hint": self.hint,
            "measure": None if measure is None else vars(measure),
        }


def worst(findings: Iterable[Finding]) -> Severity:
    """The maximum, never an assignment: nothing that is found later makes it better. Nothing found is UNKNOWN."""
    return max((finding.severity for finding in findings), key=lambda item: item.rank, default=Severity.UNKNOWN)


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first, else as they came."""
    return sorted(findings, key=lambda item: -item.severity.rank)
