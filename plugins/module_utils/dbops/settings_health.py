# SPDX-License-Identifier: GPL-3.0-or-later
"""What is healthy: the limits that the checks hold the facts against, and that the metrics export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from .errors import BadInput
from .schema import between, duration_s, one_of

ARCHIVING = ("auto", "required", "off")


@dataclass(frozen=True)
class HealthSettings:
    """Ages are counted in seconds from a backup's own stop time; a limit itself is still good."""

    methods: tuple[str, ...] = ()  # what must exist, each in every required repository; empty: backup.method
    max_age: str = "26h"
    min_size_bytes: int = 1 << 20
    min_size_percent: int = 50  # of the median of the ones before; 0: not compared
    min_count: int = 2
    max_unproven: str = "35d"  # since the last passed verification
    min_window: Optional[str] = None  # how far back point-in-time recovery must reach; None: not checked
    archiving: str = "auto"  # required | off; auto: checked where the server archives or WAL is archived already
    rpo: str = "1h"  # the oldest commit that may be unarchived
    rto: Optional[str] = None  # how long a recovery may take, copy and replay; None: nothing was promised
    min_free_percent: int = 10  # of pg_wal's and the repositories' file systems; half of it is critical

    def check(self) -> None:
        for method in self.methods:
            one_of("health.methods", method, ("physical", "logical"))
        one_of("health.archiving", self.archiving, ARCHIVING)
        between("health.min_size_bytes", self.min_size_bytes, 0, 1 << 60)
        between("health.min_size_percent", self.min_size_percent, 0, 100)
        between("health.min_count", self.min_count, 1, 10_000)
        between("health.min_free_percent", self.min_free_percent, 0, 99)
        for name in ("max_age", "max_unproven", "rpo", "rto", "min_window"):
            text = getattr(self, name)
            if text is not None and duration_s(text, f"health.{name}") < 1:
                raise BadInput(f"health.{name} cannot be {text!r}.", hint="Give a time such as 26h.")

    @property
    def max_age_s(self) -> int:
        return duration_s(self.max_age)

    @property
    def max_unproven_s(self) -> int:
        return duration_s(self.max_unproven)

    @property
    def min_window_s(self) -> Optional[int]:
        return None if self.min_window is None else duration_s(self.min_window)

    @property
    def rpo_s(self) -> int:
        return duration_s(self.rpo)

    @property
    def rto_s(self) -> Optional[int]:
        return None if self.rto is None else duration_s(self.rto)
