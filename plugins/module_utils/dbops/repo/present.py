# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository as a state: its bucket or directory is there, keeps versions and locks as asked, and explains itself.

What cannot be seen with the credentials in use is told as such, and never taken for what was asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from ..errors import DbopsError, NotFound
from ..pg.osuser import cluster_identity
from ..settings import Settings
from ..store.premises import Found, Premises, premises_of
from . import layout
from .recover_md import recover_md
from .repository import Repository, open_repository

CREATE, VERSIONS, LOCKS, INSTRUCTIONS = "create", "versioning", "object_lock", "recover_md"


@dataclass(frozen=True)
class State:
    """`recover_md` is present, missing or outdated; None in any of them is "cannot be seen"."""

    exists: bool
    versioning: Optional[bool]
    object_lock: Optional[bool]
    recover_md: Optional[str]

    def describe(self) -> dict[str, Any]:
        return {
            "exists": self.exists,
            "versioning": self.versioning,
            "object_lock": self.object_lock,
            "recover_md": self.recover_md,
        }


@dataclass(frozen=True)
class Wanted:
    """`create` lets a missing bucket or directory be made. None asks for nothing; a `lock` in the settings does."""

    create: bool = False
    versioning: Optional[bool] = None
    object_lock: Optional[bool] = None


@dataclass(frozen=True)
class PresentPlan:
    repository: Repository
    premises: Premises
    before: State
    after: State
    steps: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def needed(self) -> bool:
        return bool(self.steps)

    def preview(self) -> dict[str, Any]:
        return self._told(self.needed, "would be brought" if self.needed else "is")

    def result(self) -> dict[str, Any]:
        return self._told(self.needed, "was brought" if self.needed else "is")

    def _told(self, changed: bool, verb: str) -> dict[str, Any]:
        item = self.repository.settings
        steps = f" ({', '.join(self.steps)})" if self.steps else ""
        return {
            "changed": changed,
            "msg": f"Repository {item.name} at {item.location} {verb} as it should be{steps}.",
            "repository": {"name": item.name, "type": item.type, "location": item.location, **self.after.describe()},
            "steps": list(self.steps),
            "warnings": list(self.warnings),
        }


def look(settings: Settings, name: Optional[str] = None) -> tuple[Repository, Premises, State]:
    """How it is now; Unreachable where nobody can know."""
    repository = open_repository(settings, name)
    owner = None
    if repository.settings.type == "local":
        identity = cluster_identity(settings.host.os_user, settings.host.data_directory)
        owner = (identity.uid, identity.gid) if identity.needs_switch else None
    premises = premises_of(repository.store, owner)
    found = premises.look()
    told = _instructions(repository) if found.exists else None
    return repository, premises, State(found.exists, found.versioning, found.locking, told)


def plan(settings: Settings, wanted: Wanted, name: Optional[str] = None) -> PresentPlan:
    """What there is to do. NotFound where the bucket is missing and must not be made."""
    repository, premises, before = look(settings, name)
    if not before.exists and not wanted.create:
        raise NotFound(
            f"Repository {repository.name!r} is not there: {repository.settings.location}.",
            hint="Make it, mend its settings, or let it be made (create: true).",
        )
    if repository.settings.lock is not None:
        wanted = replace(wanted, object_lock=True)
    steps = decide(Found(before.exists, before.versioning, before.object_lock), before.recover_md, wanted)
    after = State(
        True,
        True if VERSIONS in steps or LOCKS in steps or (CREATE in steps and wanted.object_lock) else before.versioning,
        True if LOCKS in steps or (CREATE in steps and wanted.object_lock) else before.object_lock,
        "present",
    )
    return PresentPlan(repository, premises, before, after, steps, tuple(_doubts(repository.name, after, wanted)))


def decide(found: Found, instructions: Optional[str], wanted: Wanted) -> tuple[str, ...]:
    """The steps, in their order. A bucket that is made with object lock has versioning by that."""
    steps = []
    versions, locks = found.versioning, found.locking
    if not found.exists:
        steps.append(CREATE)
        versions = locks = bool(wanted.object_lock)
    if (wanted.versioning or wanted.object_lock) and versions is False:
        steps.append(VERSIONS)
    if wanted.object_lock and locks is False:
        steps.append(LOCKS)
    if instructions != "present":
        steps.append(INSTRUCTIONS)
    return tuple(steps)


def run(made: PresentPlan) -> dict[str, Any]:
    """Do it, and look again: what a server acknowledges and does not do is an error here and not later."""
    for step in made.steps:
        if step == CREATE:
            made.premises.create(locking=bool(made.after.object_lock))
        elif step == VERSIONS:
            made.premises.keep_versions()
        elif step == LOCKS:
            made.premises.allow_locks()
        else:
            _instruct(made.repository)
    seen = made.premises.look()
    lacking = [
        word
        for word, is_so, wanted in (
            ("versioning", seen.versioning, made.after.versioning and VERSIONS in made.steps),
            ("object lock", seen.locking, made.after.object_lock),
        )
        if wanted and is_so is False
    ]
    if lacking or not seen.exists:
        raise NotFound(
            f"Repository {made.repository.name!r} said yes, and has no {' and no '.join(lacking) or 'bucket'}.",
            hint="Look at the bucket with the provider's own tools; this server does not do what it acknowledges.",
        )
    return made.result()


def _doubts(name: str, after: State, wanted: Wanted) -> Sequence[str]:
    asked = (
        ("versioning", wanted.versioning, after.versioning),
        ("object lock", wanted.object_lock, after.object_lock),
    )
    return [
        f"Repository {name!r} may or may not have {word}: these credentials cannot see it. `dbops repo check` tries."
        for word, is_asked, is_so in asked
        if is_asked and is_so is None
    ]


def _instructions(repository: Repository) -> str:
    try:
        stored = b"".join(repository.store.get(layout.recover_md(repository.cluster)))
    except NotFound:
        return "missing"
    return "present" if stored == recover_md(repository.cluster).encode() else "outdated"


def _instruct(repository: Repository) -> None:
    repository.store.put(layout.recover_md(repository.cluster), [recover_md(repository.cluster).encode()])


def overview(settings: Settings, name: Optional[str] = None) -> dict[str, Any]:
    """Each configured repository, or the named one, as it is; what cannot be reached has an `error` and no state."""
    names = [name] if name is not None or not settings.repositories else None
    found = [_seen(settings, one) for one in names or [item.name for item in settings.repositories]]
    there = sum(bool(item["exists"]) for item in found)
    noun = "repository" if len(found) == 1 else "repositories"
    return {
        "changed": False,
        "msg": f"{there} of {len(found)} {noun} of {settings.cluster} {'is' if there == 1 else 'are'} there.",
        "repositories": found,
        "warnings": [],
    }


def _seen(settings: Settings, name: Optional[str]) -> dict[str, Any]:
    item = settings.repository(name)
    told: dict[str, Any] = {"name": item.name, "type": item.type, "location": item.location, "required": item.required}
    try:
        _repository, _premises, state = look(settings, name)
    except DbopsError as exc:
        return {**told, **dict.fromkeys(State.__dataclass_fields__), "error": str(exc)}
    return {**told, **state.describe(), "error": None}
