# SPDX-License-Identifier: GPL-3.0-or-later
"""How bad something is, as monitors say it."""

from __future__ import annotations

from enum import Enum


class Severity(str, Enum):
    OK = "OK"
    WARNING = "WARNING"
    UNKNOWN = "UNKNOWN"
    CRITICAL = "CRITICAL"

    @property
    def rank(self) -> int:
        """UNKNOWN is worse than WARNING and must not hide CRITICAL, whatever their exit codes are."""
        return ("OK", "WARNING", "UNKNOWN", "CRITICAL").index(self.value)

    @property
    def exit_code(self) -> int:
        """As the Nagios plugin API has them."""
        return {"OK": 0, "WARNING": 1, "CRITICAL": 2, "UNKNOWN": 3}[self.value]

    @property
    def verdict(self) -> str:
        return {"OK": "pass", "UNKNOWN": "could_not_verify"}.get(self.value, "fail")
