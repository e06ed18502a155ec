# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking a restore back: what it put in is moved aside, and what it moved aside comes back.

The note that the restore left in the old directory says what belongs where; nothing is removed here either.
"""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Optional

from ..errors import Corrupt, NotFound, Refused
from ..pg import control
from ..pg.datadir import control_data, major_version
from ..pg.osuser import cluster_identity
from ..pg.tools import Tools, find_tools
from ..settings import Settings
from . import own_configuration
from .durable import fsync_directory
from .place import NOTE, names_aside, read_note, relink, require_stopped, require_unwatched


@dataclass(frozen=True)
class RollbackPlan:
    """`moved`: original place → where the old directory lies now; the data directory first.

    `away`: the same places → where what was restored will lie.
    """

    target: str
    restored: str
    moved: dict[str, str]
    away: dict[str, str]
    settings: Settings
    tools: Optional[Tools]  # of the old cluster's major; None when nothing is to be stopped or started
    stop: bool
    start: bool
    start_options: str

    def preview(self) -> dict[str, Any]:
        return {
            "changed": True,
            "msg": f"Would put {self.moved[self.target]} back as {self.target}.",
            "rollback": {"target": self.target, "restored": self.restored, "moved": self.moved, "started": False},
            "warnings": [],
        }


def plan(
    settings: Settings,
    *,
    target: Optional[str] = None,
    stop: bool = False,
    start: bool = False,
    start_options: str = "",
    now: Optional[datetime] = None,
) -> RollbackPlan:
    """The newest restore into `target` (default: the cluster's data directory) that moved something aside.

    With `stop` a server that runs there is stopped, without it one is refused; with `start` the old one is started.
    """
    path = os.path.realpath(target or settings.host.data_directory or "")
    if not (target or settings.host.data_directory):
        raise NotFound("No data directory is known.", hint="Give one, or set host.data_directory in the settings.")
    notes = sorted(glob.glob(os.path.join(glob.escape(path) + ".before-*", NOTE)))
    if not notes:
        raise NotFound(
            f"Nothing lies aside of {path}: there is no {path}.before-<time> with a note of a restore.",
            hint="Only a restore in place can be rolled back.",
        )
    moved, restored = read_note(notes[-1])
    for place, aside in moved.items():
        if not os.path.isdir(aside) and (place == path or not os.path.isdir(place)):
            raise Refused(
                f"{aside}, which belongs to {place}, is gone.", hint="Without it the old cluster is not whole."
            )
    if path not in moved:
        raise Refused(f"{notes[-1]} is about {next(iter(moved), 'nothing')}, not {path}.", hint="Name that directory.")
    (require_unwatched if stop else require_stopped)(path)
    away = _begun(path, moved) or names_aside(moved, "rolled-back", now)
    tools = _tools(settings, moved[path]) if stop or start else None
    options = own_configuration.start_options(path, None, start_options, old=moved[path]) if start else ""
    return RollbackPlan(path, restored, moved, away, settings, tools, stop, start, options)


def run(plan: RollbackPlan) -> dict[str, Any]:
    """The restored directories become `<place>.rolled-back-<UTC>`; the old ones take their places again.

    The data directory leaves first and comes back last; killed in between, a second run finishes.
    """
    if plan.stop and plan.tools is not None:
        control.stop(plan.tools, plan.target)
    require_stopped(plan.target)
    away = plan.away
    old_data = plan.moved[plan.target]
    if os.path.isdir(plan.target):
        os.rename(plan.target, away[plan.target])  # first, so that nothing half-swapped can be started
    for place, aside in plan.moved.items():
        if place == plan.target or not os.path.isdir(aside):
            continue  # an earlier run, killed later on, has brought this one back
        if os.path.isdir(place):
            os.rename(place, away[place])
        relink(old_data, aside, place)
        relink(away[plan.target], place, away[place])
        os.rename(aside, place)
        fsync_directory(os.path.dirname(place))
    os.rename(old_data, plan.target)
    fsync_directory(os.path.dirname(plan.target))
    os.unlink(os.path.join(plan.target, NOTE))
    if plan.start and plan.tools is not None:
        _start(plan, plan.tools)
    return {
        "changed": True,
        "msg": f"The old cluster is back in {plan.target}; what {plan.restored} had restored is {away[plan.target]}.",
        "rollback": {"target": plan.target, "restored": plan.restored, "moved": away, "started": plan.start},
        "warnings": [],
    }


def _begun(target: str, moved: dict[str, str]) -> Optional[dict[str, str]]:
    """Where a rollback of this very restore that was killed had put things: they belong together."""
    if os.path.isdir(target):
        return None
    restored_at = moved[target].rsplit("-", 1)[1]
    stamps = [path.rsplit("-", 1)[1] for path in glob.glob(glob.escape(target) + ".rolled-back-*")]
    begun = max((stamp for stamp in stamps if stamp >= restored_at), default=None)
    return {place: f"{place}.rolled-back-{begun}" for place in moved} if begun else None


def _tools(settings: Settings, old_data: str) -> Tools:
    major = major_version(old_data)
    if major is None:
        raise Corrupt(f"{old_data} holds no cluster.", hint="It has no PG_VERSION: look at it before anything else.")
    return find_tools(major, cluster_identity(settings.host.os_user, old_data), bin_dir=settings.host.bin_dir)


def _start(plan: RollbackPlan, tools: Tools) -> None:
    system = control_data(tools, plan.target)["Database system identifier"]
    control.start(tools, plan.target, options=plan.start_options)
    control.check_answers(tools, plan.target, plan.settings.connection, system)
