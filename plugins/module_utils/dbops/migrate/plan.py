# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files a request means, decided from the directory, the state and the history. Nothing is touched here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from ..errors import BadInput, NotFound, Refused
from .apply import Step
from .files import DOWN, UP, Migration, Migrations
from .state import NOTHING, State


@dataclass(frozen=True)
class Request:
    """`verb` is up, down or goto. `count` limits up and down (None: all); `version` is goto's end, -1 for nothing."""

    verb: str
    count: Optional[int] = None
    version: Optional[int] = None
    out_of_order: bool = False
    accept_edited: bool = False
    without_down: bool = False


@dataclass(frozen=True)
class Known:
    """What the history says: versions that are in, with their up file's checksum, and where it saw the state last."""

    versions: Mapping[int, Optional[str]]
    last_seen: Optional[int]


def steps(migrations: Migrations, state: State, known: Known, request: Request) -> list[Step]:
    """The files in their order, or why not: dirty, a version without a file, late arrivals, edited files."""
    if state.dirty:
        raise Refused(
            f"The state is dirty at {state.version}: a file failed, or its run was cut off.",
            hint="dbops migrate doctor says what is true, and repairs it.",
        )
    if state.version != NOTHING and state.version not in migrations.versions:
        raise Refused(
            f"The database is at version {state.version}, and {migrations.directory} has no such file.",
            hint="Check out the files that the database was migrated with, or force the version that is right.",
        )
    late = out_of_order(migrations, state, known)
    if late and not request.out_of_order:
        names = ", ".join(item.name for item in late[:5])
        raise Refused(
            f"{len(late)} migrations are numbered below {state.version} and were never applied: "
            f"{', '.join(str(item.version) for item in late[:5])} ({names}).",
            hint="Renumber them above it, or apply them all the same with --out-of-order.",
        )
    changed = edited(migrations, known)
    if changed and not request.accept_edited:
        raise Refused(
            f"{', '.join(changed[:5])} changed after being applied here: the database does not have what it says.",
            hint="Put the file back and write a new migration; if only words changed: --accept-edited.",
        )
    found = [*(_up(item, state.version) for item in late), *_ordered(migrations, state, request)]
    if not request.without_down:
        refuse_missing_down(found)
    return found


def pending(migrations: Migrations, state: State) -> list[Migration]:
    return [item for item in migrations.all if item.version > state.version]


def out_of_order(migrations: Migrations, state: State, known: Known) -> list[Migration]:
    """Files below the state's version that the history never saw, while it has seen the state above them.

    Versions that another tool applied after our last look are not late: the state passed them.
    """
    if known.last_seen is None:
        return []
    horizon = min(known.last_seen, state.version)
    return [item for item in migrations.all if item.version < horizon and item.version not in known.versions]


def edited(migrations: Migrations, known: Known) -> list[str]:
    """Up files whose text is not the one that was applied."""
    found = []
    for item in migrations.all:
        checksum = known.versions.get(item.version)
        if checksum is not None and item.up is not None and item.up.checksum() != checksum:
            found.append(item.up.basename)
    return found


def refuse_missing_down(found: Sequence[Step]) -> None:
    for step in found:
        if step.direction == DOWN and step.file is None:
            raise Refused(
                f"Version {step.version} has no down file: the state would move and the schema would not.",
                hint="Write the file; or let the state move alone, as golang-migrate does, with --without-down.",
            )


def _ordered(migrations: Migrations, state: State, request: Request) -> list[Step]:
    ahead = [_up(item, item.version) for item in pending(migrations, state)]
    behind = [_down(migrations, item) for item in reversed(migrations.all) if item.version <= state.version]
    if request.verb == "goto":
        return _goto(migrations, state, request, ahead, behind)
    way = ahead if request.verb == "up" else behind
    if request.count is None:
        return way
    if request.count < 1:
        raise BadInput(f"Cannot go {request.verb} by {request.count}.", hint="Give a number from 1, or none for all.")
    if request.count > len(way) and (way or request.verb == "down"):
        raise BadInput(
            f"Cannot go {request.verb} by {request.count}: there are only {len(way)}.",
            hint="dbops migrate status lists them. Nothing was run.",
        )
    return way[: request.count]


def _goto(migrations: Migrations, state: State, request: Request, ahead: list[Step], behind: list[Step]) -> list[Step]:
    goal = NOTHING if request.version is None else request.version
    if goal != NOTHING and goal not in migrations.versions:
        raise NotFound(f"There is no migration of version {goal}.", hint="dbops migrate status lists them.")
    if goal >= state.version:
        return [step for step in ahead if step.version <= goal]
    return [step for step in behind if step.version > goal]


def _up(item: Migration, target: int) -> Step:
    return Step(item.version, UP, target, item.up)


def _down(migrations: Migrations, item: Migration) -> Step:
    return Step(item.version, DOWN, migrations.before(item.version), item.down)
