# SPDX-License-Identifier: GPL-3.0-or-later
"""Several repositories of one cluster: written to as one, read from in order."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Callable, Optional, TypeVar

from ..errors import BadInput, Busy, Corrupt, DbopsError, NotFound, Refused, Unreachable
from ..settings import Settings
from ..store.several import Member, Several
from . import layout
from .immutability import lock_chain
from .record import BackupRecord
from .repository import Catalog, Repository, open_repository

_T = TypeVar("_T")
Told = Callable[[str], None]


class Destinations:
    """Where one backup goes. `whole` takes what is written, once for all; each of `members` is one alone.

    The first required repository decides what is done, and is read from. An optional one that fails is left out of
    the rest of the run, and told of.
    """

    def __init__(self, members: Sequence[Repository], warn: Told) -> None:
        if not any(member.settings.required for member in members) and len(members) > 1:
            raise BadInput(
                "None of the repositories is required, so a backup could be lost and nobody would know.",
                hint="Set required: true for at least one of repositories, or name one with --repository.",
            )
        self.members = tuple(sorted(members, key=lambda member: not member.settings.required))
        self.primary = self.members[0]
        self.behind: set[str] = set()  # left out for what they lack, and well otherwise
        self._warn = warn
        self.store = Several(
            [Member(member.store, member.settings.required) for member in self.members], on_lost=self._lost
        )
        self.whole = replace_store(self.primary, self.store) if len(self.members) > 1 else self.primary

    @property
    def required(self) -> list[Repository]:
        return [member for member in self.members if member.settings.required] or [self.primary]

    @property
    def live(self) -> list[Repository]:
        return [member for member in self.members if member.name not in self.store.lost]

    @property
    def lost(self) -> dict[str, str]:
        return self.store.lost

    def drop(self, member: Repository, why: str) -> None:
        self.store.drop(member.name, why)

    def each(self, call: Callable[[Repository], _T]) -> list[_T]:
        """Do it to each; an optional one that fails is dropped."""
        done = []
        for member in self.live:
            try:
                done.append(call(member))
            except DbopsError as exc:
                if member in self.required:
                    raise
                self.drop(member, str(exc))
        return done

    def catalog(self) -> Catalog:
        """What every required repository lists, so that an incremental one finds its parent in all of them."""
        catalogs = dict(self.each(lambda member: (member.name, member.catalog())))
        first = catalogs[self.primary.name]
        if len(self.members) == 1:
            return first
        wanted = [records_of(catalogs[member.name]) for member in self.required]
        common = tuple(
            entry for entry in first.entries if all(some.get(entry.record.label) == entry.record for some in wanted)
        )
        return replace(first, entries=common)

    def labels(self) -> list[str]:
        """Every label that anybody has, finished or not."""
        found: set[str] = set()
        for names in self.each(lambda member: list(member.store.children(layout.backups(member.cluster)))):
            found.update(name for name in names if layout.is_label(name))
        return sorted(found)

    def clean(self) -> None:
        """Remove what killed runs left, wherever they left it. The caller holds the backup lock."""
        self.each(_clean)

    def keep_those_with(self, parent: Optional[BackupRecord]) -> None:
        """An optional repository that lacks what this backup rests on is left out; `dbops repo sync` brings both."""
        if parent is None:
            return
        for member in [item for item in self.live if item not in self.required]:
            try:
                has = records_of(member.catalog()).get(parent.label) == parent
            except DbopsError as exc:
                self.drop(member, str(exc))
                continue
            if not has:
                self.behind.add(member.name)
                self.drop(member, f"It lacks {parent.label}, which this backup rests on.")

    def lock_chain(self, record: BackupRecord) -> None:
        """What a published incremental rests on is locked for as long as itself, wherever there are locks."""
        if record.parent is None:
            return
        parent = record.parent

        def lock(member: Repository) -> None:
            if member.settings.lock is not None:
                lock_chain(member.store, member.cluster, member.catalog().chain(parent))

        self.each(lock)

    def _lost(self, name: str, why: str) -> None:
        self._warn(f"Repository {name!r} is left out of this backup, and lags behind: {why}")


def _clean(member: Repository) -> None:
    with contextlib.suppress(Busy), member.store.lock(layout.sync_lock(member.cluster)):
        member.clean(member.unfinished())


def destinations(settings: Settings, name: Optional[str], warn: Told) -> Destinations:
    """All configured repositories, or the one that is named."""
    chosen = [settings.repository(name)] if name is not None or not settings.repositories else settings.repositories
    return Destinations([open_repository(settings, item.name) for item in chosen], warn)


def replace_store(repository: Repository, store: Several) -> Repository:
    """The same repository with its objects in, or from, these stores."""
    twin = copy.copy(repository)
    twin.store = store
    return twin


# -- reading


def first_that_can(
    settings: Settings, name: Optional[str], attempt: Callable[[Repository], _T], told: Told = lambda text: None
) -> _T:
    """`attempt` with one repository after the other, in order, until one can; those passed over are told.

    With a name only that one is asked. When none can, the first one's error is raised: it was asked first.
    """
    chosen = [settings.repository(name)] if name is not None or not settings.repositories else settings.repositories
    errors: list[tuple[str, DbopsError]] = []
    for item in chosen:
        try:
            answer = attempt(open_repository(settings, item.name))
        except (NotFound, Unreachable, Corrupt, Refused) as exc:
            errors.append((item.name, exc))
            continue
        for other, error in errors:
            told(f"Repository {other!r} was passed over, {item.name!r} is used: {error.message}")
        return answer
    first = errors[0][1]
    if len(errors) > 1 and len({error.message for _name, error in errors}) > 1:
        others = " ".join(f"{other!r}: {error.message}" for other, error in errors[1:])
        first.hint = f"{first.hint} The other repositories cannot help: {others}".lstrip()
    raise first


def with_copies(
    settings: Settings, repository: Repository, chain: Iterable[BackupRecord], told: Told
) -> tuple[Repository, list[Repository]]:
    """The repository, reading on in the others that hold the very same chain when it stops, and these others."""
    chain = list(chain)
    others = []
    for item in settings.repositories:
        if item.name == repository.name:
            continue
        other = open_repository(settings, item.name)
        try:
            if all(other.read_record(record.label) == record for record in chain):
                others.append(other)
        except DbopsError:
            continue  # it is not needed, as long as the first one holds
    if not others:
        return repository, []
    members = [Member(item.store, required=False) for item in (repository, *others)]
    return replace_store(
        repository, Several(members, on_lost=lambda name, why: told(f"Reading went on past {name!r}: {why}"))
    ), others


def records_of(catalog: Catalog) -> dict[str, BackupRecord]:
    return {entry.record.label: entry.record for entry in catalog.entries}
