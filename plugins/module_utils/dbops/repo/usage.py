# SPDX-License-Identifier: GPL-3.0-or-later
"""What a repository holds and what it asks for: bytes, objects and requests, for each backup and each day, and money.

Requests are worked out from sizes and part sizes, as the stores write them; lists, leases and retries come on top.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Optional

from ..settings import RepositorySettings, Settings
from ..settings_repositories import COOL_CLASSES
from ..store import ObjectInfo
from ..store.parts import part_size
from . import expire, layout
from .cooling import kept_by_a_tier_alone
from .prices import THAWS, USUAL, ClassPrice, Prices
from .repository import Repository, open_repository
from .retention import Decision

DAYS = 7  # a week has every kind of day
_OVERHEAD = {"s3": 3, "gcs": 2, "azure": 2}  # begin, end and look, besides the parts


@dataclass(frozen=True)
class Kept:
    """One backup for the advice: how large, in which class, and the tier that alone keeps it, if one does."""

    label: str
    stored_bytes: int
    storage_class: str
    tier: Optional[str]


def usage(
    settings: Settings,
    prices: Prices,
    *,
    repository: Optional[str] = None,
    days: int = DAYS,
    now: Optional[datetime] = None,
) -> dict[str, Any]:
    """Of each repository, or the named one. Reads lists and records only."""
    now = now or datetime.now(timezone.utc)
    names = [repository] if repository is not None or not settings.repositories else None
    opened = [open_repository(settings, name) for name in names or [item.name for item in settings.repositories]]
    found = [_of(settings, one, prices, days, now) for one in opened]
    total = sum(item["stored_bytes"] for item in found)
    costs = [item["cost_month"]["total"] for item in found if item["cost_month"]]
    money = f", about {sum(costs):.2f} {prices.currency} a month" if costs else ""
    return {
        "changed": False,
        "msg": f"{sum(item['objects'] for item in found)} objects, {total} bytes of {settings.cluster}{money}.",
        "cluster": settings.cluster,
        "prices": {"currency": prices.currency, "source": prices.source},
        "repositories": found,
        "warnings": [],
    }


def _of(settings: Settings, opened: Repository, prices: Prices, days: int, now: datetime) -> dict[str, Any]:
    item = opened.settings
    objects = list(opened.store.list(f"{opened.cluster}/"))
    decided = expire.plan(settings, repository=item.name, now=now)
    tiers = kept_by_a_tier_alone(Decision(line.label, line.keep, line.reasons) for line in decided.lines)
    by_label = _by_label(objects, opened.cluster)
    kept = [
        Kept(label, sum(one.size_bytes for one in held), _main_class(held, item), tiers.get(label))
        for label, held in sorted(by_label.items(), reverse=True)
    ]
    daily = per_day(objects, item, days=days, now=now)
    return {
        "name": item.name,
        "type": item.type,
        "location": item.location,
        "objects": len(objects),
        "stored_bytes": sum(one.size_bytes for one in objects),
        "parts": _parts(objects, opened.cluster),
        "classes": _classes(objects, item),
        "backups": [
            {
                "label": one.label,
                "objects": len(by_label[one.label]),
                "stored_bytes": one.stored_bytes,
                "write_requests": sum(writes(held.size_bytes, item) for held in by_label[one.label]),
                "read_requests": sum(reads(held.size_bytes, item) for held in by_label[one.label]),
                "storage_class": one.storage_class,
                "tier": one.tier,
            }
            for one in kept
        ],
        "per_day": daily,
        "cost_month": cost_month(objects, daily["write_requests"], item, prices),
        "advice": list(advice(kept, item, settings.retention_of(item).keep_within_s(), prices)),
    }


# -- deciders


def parts_for(size_bytes: int, first_bytes: int) -> int:
    """How many parts an object of that size is cut into; see store/parts.py."""
    number = 0
    while size_bytes > 0:
        size_bytes -= part_size(number, first_bytes)
        number += 1
    return max(1, number)


def writes(size_bytes: int, item: RepositorySettings) -> int:
    """Requests to store one object; a directory takes none."""
    if item.type == "local":
        return 0
    parts = parts_for(size_bytes, item.transfer.part_bytes)
    return 1 if parts == 1 else parts + _OVERHEAD[item.type]


def reads(size_bytes: int, item: RepositorySettings) -> int:
    """Requests to read it back: ranges of the first part's size."""
    return 0 if item.type == "local" else max(1, -(-size_bytes // item.transfer.part_bytes))


def per_day(objects: Iterable[ObjectInfo], item: RepositorySettings, *, days: int, now: datetime) -> dict[str, Any]:
    """The mean of the last `days`, of what is still there: what expiry has removed since is not counted."""
    since = now - timedelta(days=days)
    recent = [one for one in objects if one.modified >= since]
    return {
        "days": days,
        "objects": round(len(recent) / days, 2),
        "stored_bytes": round(sum(one.size_bytes for one in recent) / days),
        "write_requests": round(sum(writes(one.size_bytes, item) for one in recent) / days, 2),
    }


def cost_month(
    objects: Iterable[ObjectInfo], writes_a_day: float, item: RepositorySettings, prices: Prices
) -> Optional[dict[str, Any]]:
    """Thirty days of what lies there now and of as many requests as lately; None where a class has no price."""
    storage = 0.0
    for name, size_bytes in _classes(objects, item).items():
        price = prices.of(item.type, name)
        if price is None:
            return None
        storage += price.month(size_bytes)
    usual = prices.of(item.type, _configured_class(item))
    requests = usual.writes(30 * writes_a_day) if usual else 0.0
    return {"storage": round(storage, 4), "requests": round(requests, 4), "total": round(storage + requests, 4)}


def advice(
    kept: Sequence[Kept], item: RepositorySettings, window_s: Optional[int], prices: Prices
) -> Iterator[dict[str, Any]]:
    """Where another class would cost less, and where the chosen one costs more than it looks."""
    usual = prices.of(item.type, _configured_class(item))
    if usual and usual.least_days and (window_s or 0) < usual.least_days * 86_400:
        yield _advice(
            "least_days",
            f"{_configured_class(item)} bills at least {usual.least_days} days, and WAL may go sooner: "
            f"leave new objects in {USUAL[item.type]}, and let `cool` move what stays.",
        )
    for tier in ("monthly", "yearly"):
        if tier in item.cool:
            continue
        held = [one for one in kept if one.tier == tier and one.storage_class not in COOL_CLASSES.get(item.type, ())]
        size_bytes = sum(one.stored_bytes for one in held)
        best = _cheapest(item.type, size_bytes, prices)
        now = prices.of(item.type, USUAL.get(item.type, ""))
        if not held or best is None or now is None:
            continue
        name, price = best
        saves = now.month(size_bytes) - price.month(size_bytes)
        if saves < 0.01:
            continue  # of whatever the currency is: nobody wants to read of that
        backups = "1 backup is" if len(held) == 1 else f"{len(held)} backups are"
        yield _advice(
            "cool",
            f"{backups} kept by `{tier}` alone: cool: {{{tier}: {name}}} would save about "
            f"{saves:.2f} {prices.currency} a month. They would be read within milliseconds as before, and one restore "
            f"of them all costs {price.read_back(size_bytes):.2f} {prices.currency}; at least {price.least_days} days "
            "are billed.",
            saves_month=round(saves, 4),
        )
    thawing = sorted({one.storage_class for one in kept} & set(THAWS))
    for name in thawing:
        yield _advice("thaws", f"What lies in {name} cannot be read for {THAWS[name]}: thaw it before a restore.")


def _cheapest(kind: str, size_bytes: int, prices: Prices) -> Optional[tuple[str, ClassPrice]]:
    """The cooler class that costs least each month, with its price; None where no price is known."""
    priced = ((name, prices.of(kind, name)) for name in COOL_CLASSES.get(kind, ()))
    known = [(name, price) for name, price in priced if price is not None]
    return min(known, key=lambda item: item[1].month(size_bytes)) if known else None


def _advice(topic: str, text: str, *, saves_month: Optional[float] = None) -> dict[str, Any]:
    return {"topic": topic, "text": text, "saves_month": saves_month}


# -- sorting what was listed


def _by_label(objects: Iterable[ObjectInfo], cluster: str) -> dict[str, list[ObjectInfo]]:
    prefix = layout.backups(cluster)
    found: dict[str, list[ObjectInfo]] = {}
    for one in objects:
        label = one.key[len(prefix) :].split("/", 1)[0]
        if one.key.startswith(prefix) and layout.is_label(label):
            found.setdefault(label, []).append(one)
    return found


def _parts(objects: Iterable[ObjectInfo], cluster: str) -> dict[str, int]:
    sizes: Counter[str] = Counter(backups=0, wal=0, other=0)
    for one in objects:
        name = next((part for part in ("backups", "wal") if one.key.startswith(f"{cluster}/{part}/")), "other")
        sizes[name] += one.size_bytes
    return dict(sizes)


def _classes(objects: Iterable[ObjectInfo], item: RepositorySettings) -> Mapping[str, int]:
    sizes: Counter[str] = Counter()
    for one in objects:
        sizes[_class_of(one, item)] += one.size_bytes
    return dict(sorted(sizes.items()))


def _main_class(objects: Sequence[ObjectInfo], item: RepositorySettings) -> str:
    return _class_of(max(objects, key=lambda one: one.size_bytes), item)


def _class_of(one: ObjectInfo, item: RepositorySettings) -> str:
    return one.storage_class or _configured_class(item)


def _configured_class(item: RepositorySettings) -> str:
    section: Any = item.s3 or item.gcs or item.azure
    chosen = getattr(section, "storage_class", None) or getattr(section, "standard_blob_tier", None)
    return str(chosen or USUAL.get(item.type, "local"))
