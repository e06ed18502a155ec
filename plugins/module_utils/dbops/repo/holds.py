# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds: a backup that stays, with all it rests on, whatever the policy says, until somebody releases it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Optional

from ..settings import Settings
from .repository import open_repository


def hold(
    settings: Settings,
    label: str,
    *,
    reason: str,
    by: str = "",
    repository: Optional[str] = None,
    dry_run: bool = False,
    now: Optional[datetime] = None,
) -> dict[str, Any]:
    """Keep this backup. Held already is no change: the first hold, with its reason, stays."""
    opened = open_repository(settings, repository)
    held = opened.catalog().entry(label).held
    changed = held is None
    if changed and not dry_run:
        changed = opened.hold(label, reason=reason, by=by, now=now or datetime.now(timezone.utc))
    state = "would be held" if dry_run and changed else "is held" if changed else "was held already"
    return {
        "changed": changed,
        "msg": f"{label} {state}.",
        "hold": {"label": label, "held": True, "reason": reason if changed else held, "repository": opened.name},
        "warnings": [],
    }


def release(
    settings: Settings, label: str, *, repository: Optional[str] = None, dry_run: bool = False
) -> dict[str, Any]:
    """Let the policy decide about it again. Not held is no change."""
    opened = open_repository(settings, repository)
    held = opened.held().get(label)
    if held is None:
        opened.catalog().entry(label)  # a label that nobody knows is a mistake, not a success
    changed = held is not None
    if changed and not dry_run:
        changed = opened.release(label)
    state = "would be released" if dry_run and changed else "is released" if changed else "was not held"
    return {
        "changed": changed,
        "msg": f"{label} {state}.",
        "hold": {"label": label, "held": bool(held is not None and dry_run), "reason": held, "repository": opened.name},
        "warnings": [],
    }
