# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in a repository, as the one JSON that every door returns. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Callable, Optional

from ..errors import NotFound
from ..settings import Settings
from .coverage import Window, windows
from .describe import describe
from .record import BackupRecord
from .repository import Catalog, Repository
from .several import first_that_can
from .standing import lag_warnings, standing

# When the last transactions of a window's intervals ended, by timeline and byte position of the interval's end.
Ends = Callable[[Repository, Catalog, Window], Mapping[tuple[int, int], datetime]]


def info(
    settings: Settings,
    *,
    repository: Optional[str] = None,
    label: Optional[str] = None,
    method: Optional[str] = None,
    ends: Optional[Ends] = None,
) -> dict[str, Any]:
    """Every backup, newest first, with its chain; those of one method, or one by its label with its objects.

    `chain` are the labels that a restore needs, the full one first; it is empty, and `chain_broken` says why, where
    one of them is missing. `totals` are about the backups shown. `ends` asks the WAL when its last transactions were,
    which takes PostgreSQL's programs; without it an interval's `end_time` is None.
    """
    passed_over: list[str] = []
    opened, catalog = first_that_can(settings, repository, lambda one: _looked_up(one, label), passed_over.append)
    several = (
        standing(settings, {opened.name: catalog}) if repository is None and len(settings.repositories) > 1 else []
    )
    backups = [
        item
        for item in _described(catalog, opened)
        if (label is None or item["label"] == label) and (method is None or item["method"] == method)
    ]
    if label is not None:
        for item in backups:
            item["objects"] = _objects(catalog.entry(label).record)
        if not backups:
            raise NotFound(f"{label} is not a {method} backup.", hint="Leave the method out, or see dbops info.")
    return {
        "changed": False,
        "msg": f"{len(backups)} backup{'' if len(backups) == 1 else 's'} of {settings.cluster} in {opened.name}.",
        "cluster": settings.cluster,
        "repository": {
            "name": opened.name,
            "type": opened.settings.type,
            "path": opened.settings.location,
            "free_bytes": opened.store.free_bytes(),
        },
        "backups": backups,
        "recovery_window": _windows(opened, catalog, ends) if label is None else [],
        "unfinished": list(catalog.unfinished),
        "unreadable": [{"label": name, "why": why} for name, why in sorted(catalog.unreadable.items())],
        "totals": {
            "backups": len(backups),
            "stored_bytes": sum(item["stored_bytes"] for item in backups),
            "newest": backups[0]["label"] if backups else None,
            "oldest": backups[-1]["label"] if backups else None,
            "unverified": sum(item["verified"] == "unverified" for item in backups),
            "held": sum(item["held"] is not None for item in backups),
        },
        "repositories": several,
        "warnings": [
            *passed_over,
            *(f"Backup {name} cannot be read: {why}" for name, why in sorted(catalog.unreadable.items())),
            *lag_warnings(several),
        ],
    }


def _looked_up(repository: Repository, label: Optional[str]) -> tuple[Repository, Catalog]:
    catalog = repository.catalog()
    if label is not None:
        catalog.entry(label)
    return repository, catalog


def _windows(opened: Repository, catalog: Catalog, ends: Optional[Ends]) -> list[dict[str, Any]]:
    return [item.describe(ends(opened, catalog, item) if ends else None) for item in windows(opened, catalog)]


def _described(catalog: Catalog, repository: Repository) -> list[dict[str, Any]]:
    chains = Chains(catalog)
    found = []
    for entry in catalog.entries:
        label = entry.record.label
        chain, broken = chains.of(label)
        found.append(
            {
                **describe(entry.record, repository.name, entry),
                "chain": chain,
                "chain_broken": broken,
                "children": chains.children.get(label, []),
            }
        )
    return found


class Chains:
    """Every chain of a catalog, each link walked once."""

    def __init__(self, catalog: Catalog) -> None:
        self._parents = {entry.record.label: entry.record.parent for entry in catalog.entries}
        self._unreadable = catalog.unreadable
        self._known: dict[str, tuple[list[str], Optional[str]]] = {}
        self.children: dict[str, list[str]] = {}
        for entry in reversed(catalog.entries):  # oldest first, as a chain is read
            if entry.record.parent is not None:
                self.children.setdefault(entry.record.parent, []).append(entry.record.label)

    def of(self, label: str) -> tuple[list[str], Optional[str]]:
        """Labels from the full one on, or none and the reason."""
        path: list[str] = []
        step: Optional[str] = label
        while step is not None and step not in self._known and step not in path and step in self._parents:
            path.append(step)
            step = self._parents[step]
        chain: list[str] = []
        broken: Optional[str] = None
        if step in path:
            broken = f"{step} rests on itself"
        elif step in self._known:
            chain, broken = self._known[step]
        elif step is not None:
            broken = f"{step} {'cannot be read' if step in self._unreadable else 'is not in the repository'}"
        for link in reversed(path):
            chain = [] if broken else [*chain, link]
            self._known[link] = (chain, broken)
        return self._known[label]


def _objects(record: BackupRecord) -> list[dict[str, Any]]:
    return [
        {
            "name": item.name,
            "kind": item.kind,
            "codec": item.codec,
            "stored_bytes": item.stored.size_bytes,
            "sha256": item.stored.sha256,
            "plain_bytes": item.plain.size_bytes if item.plain else None,
            "database": item.database,
        }
        for item in record.objects
    ]
