# SPDX-License-Identifier: GPL-3.0-or-later
"""The canary: one row that is written every minute, so that there is always a commit whose way can be followed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from .errors import BadInput
from .schema import duration_s


@dataclass(frozen=True)
class CanarySettings:
    enabled: bool = False
    database: Optional[str] = None  # None: connection.login_db
    max_age: str = "5m"  # an older one on the primary means that nobody writes it any more

    def check(self) -> None:
        if duration_s(self.max_age, "canary.max_age") < 1:
            raise BadInput(f"canary.max_age cannot be {self.max_age!r}.", hint="Give a time such as 5m.")

    @property
    def max_age_s(self) -> int:
        return duration_s(self.max_age)
