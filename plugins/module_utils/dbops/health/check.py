# SPDX-License-Identifier: GPL-3.0-or-later
"""The use case: gather, judge, render."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Optional

from ..settings import Settings
from .checks import judge
from .facts import Facts
from .finding import Finding
from .gather import gather
from .render import as_dict


def check(
    settings: Settings, *, deep: bool = False, now: Optional[datetime] = None
) -> tuple[dict[str, Any], Facts, list[Finding]]:
    """The result as every door returns it, with the facts and findings that it was made of."""
    facts = gather(settings, deep=deep, now=now)
    findings = judge(facts)
    return as_dict(facts, findings), facts, findings
