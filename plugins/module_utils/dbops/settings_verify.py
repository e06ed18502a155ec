# SPDX-License-Identifier: GPL-3.0-or-later
"""How restored backups are looked at, and what the operator wants to be true in them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Optional

from .errors import BadInput
from .schema import between


@dataclass(frozen=True)
class Assertion:
    """One query whose first value must be `expected` (as text), or lie between `at_least` and `at_most`."""

    name: str
    query: str
    database: str = "postgres"
    expected: Optional[str] = None
    at_least: Optional[int] = None
    at_most: Optional[int] = None

    def check(self) -> None:
        if not self.query.strip():
            raise BadInput(f"Assertion {self.name!r} has no query.", hint="Give a SELECT that yields one value.")
        if self.expected is None and self.at_least is None and self.at_most is None:
            raise BadInput(f"Assertion {self.name!r} expects nothing.", hint="Give expected, at_least or at_most.")
        if self.expected is not None and (self.at_least is not None or self.at_most is not None):
            raise BadInput(
                f"Assertion {self.name!r} expects one value and a range.",
                hint="Give expected, or at_least and at_most.",
            )


@dataclass(frozen=True)
class VerifySettings:
    scratch_path: Optional[str] = None  # where backups are restored to be looked at; None: <state_path>/verify
    jobs: int = 2  # tables and indexes that are checked at a time
    timeout_s: int = 86_400  # of one statement in the restored instance
    assertions: tuple[Assertion, ...] = ()
    scrub_days: int = 30  # every stored byte is read again within as many days
    scrub_bytes: Optional[int] = None  # at most as much in one run; None: what the days demand

    def check(self) -> None:
        between("verify.jobs", self.jobs, 1, 64)
        between("verify.timeout_s", self.timeout_s, 1, 30 * 86_400)
        between("verify.scrub_days", self.scrub_days, 1, 3650)
        if self.scrub_bytes is not None:
            between("verify.scrub_bytes", self.scrub_bytes, 1, 1 << 60)
        if self.scratch_path is not None and not os.path.isabs(self.scratch_path):
            raise BadInput(
                f"verify.scratch_path must be an absolute path, got {self.scratch_path!r}.",
                hint="Begin it with a slash.",
            )
        names = [item.name for item in self.assertions]
        for name in names:
            if names.count(name) > 1:
                raise BadInput(f"Two assertions are called {name!r}.", hint="Give each its own name.")
