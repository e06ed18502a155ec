# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups that only a rule such as `monthly` keeps, moved to the cheaper class that `cool` names for that rule.

Only classes that answer within milliseconds: see COOL_CLASSES. What is locked waits for the end of its lock, since a
bucket with versions would keep, and bill, both; a backup's record stays where it is, to be read with every catalog.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Optional

from ..progress import Meter, Progress
from ..settings import Settings
from ..store import ObjectInfo
from ..store.cloud import CloudStore
from . import expire, layout
from .immutability import locked_until
from .repository import Repository, open_repository
from .retention import TIERS, Decision


@dataclass(frozen=True)
class Move:
    label: str
    tier: str
    storage_class: str
    objects: tuple[ObjectInfo, ...]
    locked_until: Optional[datetime] = None

    @property
    def size_bytes(self) -> int:
        return sum(item.size_bytes for item in self.objects)


@dataclass(frozen=True)
class CoolingPlan:
    repository: Repository
    moves: tuple[Move, ...]
    waiting: tuple[Move, ...]  # locked

    @property
    def needed(self) -> bool:
        return bool(self.moves)

    def preview(self) -> dict[str, Any]:
        return self.told(f"{_count(self.moves)} would move to a cooler class", changed=self.needed)

    def told(self, text: str, *, changed: bool) -> dict[str, Any]:
        return {
            "changed": changed,
            "msg": f"{text} in {self.repository.name}." + (f" {_count(self.waiting)} locked." if self.waiting else ""),
            "repository": self.repository.name,
            "moves": [_described(item) for item in self.moves],
            "waiting": [_described(item) for item in self.waiting],
            "warnings": [],
        }


def kept_by_a_tier_alone(decisions: Iterable[Decision]) -> dict[str, str]:
    """The warmest of `daily` to `yearly` that keeps each backup, where nothing warmer keeps it.

    `decisions` has children before their parents, as a retention plan has. What only a backup of a tier rests on
    belongs to that tier; a hold keeps, and says nothing of how soon anybody will want the backup.
    """
    known: dict[str, Optional[str]] = {}
    for item in decisions:
        tiers = [_tier_of(reason, known) for reason in item.reasons if not reason.startswith(("held: ", "locked "))]
        named = [tier for tier in tiers if tier is not None]
        whole = item.keep and named and len(named) == len(tiers)
        known[item.label] = min(named, key=TIERS.index) if whole else None
    return {label: tier for label, tier in known.items() if tier is not None}


def _tier_of(reason: str, known: Mapping[str, Optional[str]]) -> Optional[str]:
    word = reason.split(" ", 1)[0]
    if word in TIERS:
        return word
    return known.get(reason[len("needed by ") :]) if reason.startswith("needed by ") else None


def plan(settings: Settings, name: Optional[str] = None, *, now: Optional[datetime] = None) -> CoolingPlan:
    repository = open_repository(settings, name)
    moves: list[Move] = []
    waiting: list[Move] = []
    if repository.settings.cool:
        decided = expire.plan(settings, repository=name, now=now)
        decisions = [Decision(line.label, line.keep, line.reasons) for line in decided.lines]
        for label, tier in kept_by_a_tier_alone(decisions).items():
            storage_class = repository.settings.cool.get(tier)
            if storage_class is None:
                continue
            objects = tuple(_elsewhere(repository, label, storage_class))
            if objects:
                until = locked_until(repository.store, repository.cluster, label)
                (waiting if until else moves).append(Move(label, tier, storage_class, objects, until))
    return CoolingPlan(repository, tuple(moves), tuple(waiting))


def run(made: CoolingPlan, progress: Progress) -> dict[str, Any]:
    """Object by object; interrupted, it is simply run again. Expiry waits meanwhile."""
    store = made.repository.store
    if made.needed and isinstance(store, CloudStore):
        meter = Meter(progress, "cool", total_bytes=sum(move.size_bytes for move in made.moves))
        with made.repository.restoring():
            for move in made.moves:
                for item in move.objects:
                    store.change_class(item.key, move.storage_class)
                    meter.add(item.size_bytes)
        meter.finish()
    return made.told(f"{_count(made.moves)} moved to a cooler class", changed=made.needed)


def _elsewhere(repository: Repository, label: str, storage_class: str) -> Iterable[ObjectInfo]:
    for item in repository.store.list(layout.backup(repository.cluster, label)):
        if item.storage_class != storage_class and not item.key.endswith(f"/{layout.RECORD}"):
            yield item


def _described(move: Move) -> dict[str, Any]:
    return {
        "label": move.label,
        "tier": move.tier,
        "storage_class": move.storage_class,
        "stored_bytes": move.size_bytes,
        "locked_until": None if move.locked_until is None else f"{move.locked_until:%Y-%m-%dT%H:%M:%SZ}",
    }


def _count(moves: Iterable[Move]) -> str:
    number = len(list(moves))
    return f"{number} backup{'' if number == 1 else 's'}"
