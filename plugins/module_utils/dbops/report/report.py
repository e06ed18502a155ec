# SPDX-License-Identifier: GPL-3.0-or-later
"""The use case: look at clusters or take what others saw, and say whether they can be recovered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, Optional

from ..settings import Settings
from .collect import collect
from .files import write
from .fleet import merged
from .model import Report
from .plain import to_plain
from .words import plural


def report(
    settings: Sequence[Settings],
    *,
    others: Sequence[Report] = (),
    directory: Optional[str] = None,
    dry_run: bool = False,
    now: Optional[datetime] = None,
) -> dict[str, Any]:
    """The result as every door returns it: `report` is the model as JSON, `files` what was written.

    `settings` are the clusters to look at from here, `others` reports that were made elsewhere.
    """
    moment = now or datetime.now(timezone.utc)
    looked = [collect(item, now=now) for item in settings]
    whole = merged([*looked, *others], moment)
    files = write(whole, directory) if directory and not dry_run else []
    return {
        "changed": bool(directory),
        "msg": sentence(whole),
        "report": to_plain(whole),
        "files": files,
        "warnings": [],
    }


def sentence(whole: Report) -> str:
    """How many of the clusters are well; of a single one its own words."""
    if len(whole.clusters) == 1:
        return whole.clusters[0].sentence
    well = sum(item.severity == "OK" for item in whole.clusters)
    bad = [f"{item.name} is {item.severity}" for item in whole.clusters if item.severity != "OK"]
    return f"{well} of {plural(len(whole.clusters), 'cluster')} OK.{' ' + ', '.join(bad) + '.' if bad else ''}"
