# SPDX-License-Identifier: GPL-3.0-or-later
"""Expiry of all repositories of a cluster, each by its own rules; one that is away does not keep the others full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Optional

from ..errors import DbopsError
from ..progress import Progress
from ..schema import build
from ..settings import RetentionSettings, Settings
from . import expire
from .expire import ExpirePlan


@dataclass(frozen=True)
class ExpirePlans:
    """In the order of the settings. `away` are the required repositories that could not be read."""

    plans: tuple[ExpirePlan, ...]
    away: tuple[DbopsError, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def needed(self) -> bool:
        return any(plan.needed for plan in self.plans)

    def preview(self) -> dict[str, Any]:
        return _joined([plan.preview() for plan in self.plans], [*self.warnings, *map(str, self.away)])


def plan(
    settings: Settings,
    *,
    repository: Optional[str] = None,
    rules: Optional[Mapping[str, Any]] = None,
    now: Optional[datetime] = None,
) -> ExpirePlans:
    """Decide for the named repository, or for each. `rules` replace those of the settings, whoever's they are."""
    settings = _with_rules(settings, rules or {})
    names = [repository] if repository is not None or not settings.repositories else _names(settings)
    plans: list[ExpirePlan] = []
    errors: list[tuple[Optional[str], DbopsError]] = []
    for name in names:
        try:
            plans.append(expire.plan(settings, repository=name, now=now))
        except DbopsError as exc:
            errors.append((name, exc))
    if not plans:
        raise errors[0][1]
    away = [exc for name, exc in errors if settings.repository(name).required]
    told = [f"Repository {name!r} is left out: {exc}" for name, exc in errors if exc not in away]
    return ExpirePlans(tuple(plans), tuple(away), tuple(told))


def apply(plans: ExpirePlans, progress: Progress, *, now: Optional[datetime] = None) -> dict[str, Any]:
    """Delete what was shown in each. A required repository that failed is raised when the others are done."""
    errors = list(plans.away)
    warnings = list(plans.warnings)
    results = []
    for one in plans.plans:
        try:
            results.append(expire.apply(one, progress, now=now))
        except DbopsError as exc:
            if one.repository.settings.required or len(plans.plans) == 1:
                errors.append(exc)
            else:
                warnings.append(f"Repository {one.repository.name!r} is left out: {exc}")
    if errors:
        for result in results:
            progress.warn(f"Done all the same: {result['expire']['repository']}: {result['msg']}")
        raise errors[0]
    return _joined(results, warnings)


def _joined(results: list[dict[str, Any]], warnings: list[str]) -> dict[str, Any]:
    """`expire` is about the first repository, `repositories` about each."""
    told = [str(result["msg"]) for result in results]
    if len(results) > 1:
        told = [f"{result['expire']['repository']}: {result['msg']}" for result in results]
    return {
        "changed": any(result["changed"] for result in results),
        "msg": " ".join(told),
        "expire": results[0]["expire"] if results else None,
        "repositories": [result["expire"] for result in results],
        "warnings": [*warnings, *(text for result in results for text in result["warnings"])],
    }


def _names(settings: Settings) -> list[Optional[str]]:
    return [item.name for item in settings.repositories]


def _with_rules(settings: Settings, rules: Mapping[str, Any]) -> Settings:
    def laid_over(own: RetentionSettings) -> RetentionSettings:
        return build(RetentionSettings, {**asdict(own), **rules}, where="rules", path="retention")

    if not rules:
        return settings
    repositories = tuple(
        replace(item, retention=laid_over(settings.retention_of(item))) for item in settings.repositories
    )
    return replace(settings, retention=laid_over(settings.retention), repositories=repositories)
