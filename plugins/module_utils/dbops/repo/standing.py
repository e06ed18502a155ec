# SPDX-License-Identifier: GPL-3.0-or-later
"""How far each repository of a cluster is behind the others: which backups it lacks that its own rules would keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Optional

from ..errors import DbopsError
from ..settings import RepositorySettings, Settings
from . import retention
from .expire import candidates, policy_of
from .record import iso
from .repository import Catalog, open_repository
from .several import records_of


@dataclass(frozen=True)
class Wanted:
    """What one repository should have of another's: `lacks` are labels, oldest first; `keeps` is all it then holds."""

    lacks: tuple[str, ...]
    keeps: frozenset[str]
    window_start: Optional[datetime]
    has_rules: bool


def wanted(settings: Settings, target: RepositorySettings, mine: Catalog, other: Catalog, now: datetime) -> Wanted:
    """Decided as if everything were here already: a copy that the next expiry removes again would be none."""
    have = {*records_of(mine), *mine.unreadable}
    there = [entry for entry in other.entries if entry.record.label not in have]
    joined = Catalog((*mine.entries, *there), (), {})
    policy = policy_of(settings.retention_of(target))
    decided = retention.plan(candidates(joined), policy, now)
    kept = frozenset(item.label for item in decided.decisions if item.keep)
    lacks = sorted(entry.record.label for entry in there if entry.record.label in kept)
    return Wanted(tuple(lacks), kept, decided.window_start, policy.has_rules)


def standing(settings: Settings, known: Optional[Mapping[str, Catalog]] = None) -> list[dict[str, Any]]:
    """One entry per configured repository, in their order. One that cannot be read has its `error`, and no numbers.

    `lacks` are the backups that it should have and another one has; `behind_s` is by how much its newest backup is
    older than the newest of all. `known` are catalogs that were read already.
    """
    catalogs, errors = dict(known or {}), {}
    for item in settings.repositories:
        if item.name not in catalogs:
            try:
                catalogs[item.name] = open_repository(settings, item.name).catalog()
            except DbopsError as exc:
                errors[item.name] = str(exc)
    newest = {name: catalog.entries[0].record for name, catalog in catalogs.items() if catalog.entries}
    latest = max((record.stopped for record in newest.values()), default=None)
    found = []
    for item in settings.repositories:
        mine, own = catalogs.get(item.name), newest.get(item.name)
        found.append(
            {
                "name": item.name,
                "type": item.type,
                "required": item.required,
                "backups": len(mine.entries) if mine else None,
                "newest": own.label if own else None,
                "newest_stopped": iso(own.stopped) if own else None,
                "behind_s": round((latest - own.stopped).total_seconds(), 3) if latest and own else None,
                "lacks": _lacks(settings, item, mine, catalogs) if mine else None,
                "error": errors.get(item.name),
            }
        )
    return found


def lag_warnings(entries: list[dict[str, Any]]) -> list[str]:
    """What an operator should read about it."""
    told = [f"Repository {item['name']!r} cannot be read: {item['error']}" for item in entries if item["error"]]
    for item in entries:
        if item["lacks"]:
            many = f" and {len(item['lacks']) - 1} more" if len(item["lacks"]) > 1 else ""
            told.append(f"Repository {item['name']!r} lags: it lacks {item['lacks'][0]}{many}. See dbops repo sync.")
    return told


def _lacks(settings: Settings, item: RepositorySettings, mine: Catalog, catalogs: Mapping[str, Catalog]) -> list[str]:
    now = datetime.now(timezone.utc)
    found = {
        label
        for name, other in catalogs.items()
        if name != item.name
        for label in wanted(settings, item, mine, other, now).lacks
    }
    return sorted(found, reverse=True)
