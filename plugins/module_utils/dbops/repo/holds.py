# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds: a backup that stays, with all it rests on, whatever the policy says, until somebody releases it.

With several repositories it is held, or released, in each that has it.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Callable, Optional

from ..errors import DbopsError, NotFound
from ..settings import Settings
from .repository import Repository, open_repository


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

    def one(opened: Repository) -> tuple[bool, Optional[str]]:
        held = opened.catalog().entry(label).held
        changed = held is None
        if changed and not dry_run:
            changed = opened.hold(label, reason=reason, by=by, now=now or datetime.now(timezone.utc))
        return changed, reason if changed else held

    names, changed, held, warnings = _in_each(settings, repository, one)
    state = "would be held" if dry_run and changed else "is held" if changed else "was held already"
    return {
        "changed": changed,
        "msg": f"{label} {state}.",
        "hold": {"label": label, "held": True, "reason": held, "repository": names[0], "repositories": names},
        "warnings": warnings,
    }


def release(
    settings: Settings, label: str, *, repository: Optional[str] = None, dry_run: bool = False
) -> dict[str, Any]:
    """Let the policy decide about it again. Not held is no change."""

    def one(opened: Repository) -> tuple[bool, Optional[str]]:
        held = opened.held().get(label)
        if held is None:
            opened.catalog().entry(label)  # a label that nobody knows is a mistake, not a success
        elif not dry_run:
            return opened.release(label), held
        return held is not None, held

    names, changed, held, warnings = _in_each(settings, repository, one)
    state = "would be released" if dry_run and changed else "is released" if changed else "was not held"
    still = bool(changed and dry_run)
    return {
        "changed": changed,
        "msg": f"{label} {state}.",
        "hold": {"label": label, "held": still, "reason": held, "repository": names[0], "repositories": names},
        "warnings": warnings,
    }


def _in_each(
    settings: Settings, repository: Optional[str], call: Callable[[Repository], tuple[bool, Optional[str]]]
) -> tuple[list[str], bool, Optional[str], list[str]]:
    """Where the backup is, whether anything changed, the reason of the hold, and what could not be reached.

    A repository that lacks the backup is passed over, if another one has it. A required one that cannot be reached is
    an error once the others are done; an optional one is told.
    """
    chosen = [repository] if repository is not None or not settings.repositories else None
    names, changed, reasons, warnings = [], False, [], []
    missing: Optional[NotFound] = None
    failed: Optional[DbopsError] = None
    for name in chosen or [item.name for item in settings.repositories]:
        opened = open_repository(settings, name)
        try:
            did, reason = call(opened)
        except NotFound as exc:
            missing = missing or exc
        except DbopsError as exc:
            if opened.settings.required or chosen:
                failed = failed or exc
            else:
                warnings.append(f"Repository {opened.name!r} is left out: {exc}")
        else:
            names.append(opened.name)
            changed = changed or did
            reasons.append(reason)
    if failed is not None:
        raise failed
    if not names:
        raise missing or NotFound("No repository could be asked.", hint=" ".join(warnings))
    return names, changed, next((reason for reason in reasons if reason is not None), None), warnings
