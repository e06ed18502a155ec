# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backups stay: the rules of all repositories, or one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from .errors import BadInput
from .schema import between, duration_s


@dataclass(frozen=True)
class RetentionSettings:
    """One policy for all, or one repository's own; no rule at all keeps everything."""

    keep_last: Optional[int] = None
    keep_within: Optional[str] = None  # a duration such as 14d
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    min_redundancy: int = 1

    def check(self) -> None:
        for name in ("daily", "weekly", "monthly", "yearly"):
            between(f"retention.{name}", getattr(self, name), 0, 10_000)
        if self.keep_last is not None:
            between("retention.keep_last", self.keep_last, 1, 100_000)
        between("retention.min_redundancy", self.min_redundancy, 1, 1000)
        if self.keep_within_s() == 0:
            raise BadInput(
                f"retention.keep_within cannot be {self.keep_within!r}: nothing would be within it.",
                hint="Leave it out to switch the rule off.",
            )

    def keep_within_s(self) -> Optional[int]:
        return None if self.keep_within is None else duration_s(self.keep_within, "retention.keep_within")
