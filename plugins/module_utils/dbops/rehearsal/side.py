# SPDX-License-Identifier: GPL-3.0-or-later
"""The newest proven backup as a server of its own, cut off from everything, for the time of one rehearsal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Optional

from ..errors import Corrupt, NotFound, ToolFailed
from ..pg import control
from ..progress import Progress, Step
from ..repo.repository import Catalog, Entry, open_repository
from ..restore import physical
from ..settings import ConnectionSettings, Settings
from ..verify import plan as verification
from ..verify.physical import restore_request, tools_of
from ..verify.plan import VerifyPlan
from ..verify.scratch import Scratch, remove, scratch, sweep
from ..verify.verdict import LEVELS

_RESTORED = LEVELS[LEVELS.index("restore") :]  # a proof of these levels says that the server started from it


def plan(
    settings: Settings,
    *,
    backup: Optional[str] = None,
    target: str = "end",
    repository: Optional[str] = None,
    scratch_path: Optional[str] = None,
) -> VerifyPlan:
    """Which backup, rolled forward to where, below which directory; nothing is changed.

    Without `backup`, the newest physical one that was proven by a restore. NotFound when there is none.
    """
    label = backup or newest_proven(open_repository(settings, repository).catalog()).record.label
    request = verification.Request(label, target, "physical", repository, scratch_path=scratch_path)
    planned = verification.plan(settings, request)
    if planned.wal_breaks_off and planned.wal is not None:
        raise Corrupt(planned.wal.message, hint="Rehearse on the backup alone (target backup), and see dbops wal info.")
    return planned


def newest_proven(catalog: Catalog) -> Entry:
    """A backup that nobody has restored may not restore: a rehearsal is not the place to find that out."""
    proven = [
        entry for entry in catalog.entries if entry.record.method == "physical" and entry.proven_level in _RESTORED
    ]
    if not proven:
        raise NotFound(
            "No physical backup was ever proven by a restore.",
            hint="Prove one: dbops verify, or playbooks/verify.yml. Or name a backup all the same.",
        )
    return max(proven, key=lambda entry: (entry.record.stopped, entry.record.label))


@contextlib.contextmanager
def side_instance(planned: VerifyPlan, progress: Progress) -> Iterator[tuple[Scratch, dict[str, Any]]]:
    """The running instance and what its restore told; at the end it is stopped and removed, whatever happened."""
    sweep(planned.root, progress)
    with scratch(planned.settings, planned.root, planned.identity, planned.record.label) as place:
        tools = tools_of(planned)
        try:
            progress.report(Step("restore", note=planned.record.label))
            wanted = physical.plan(place.settings, restore_request(planned, place))
            restored = physical.run(wanted, progress)["restore"]
            if planned.recovery is None:
                place.isolate(tools)
                control.start(tools, place.data)
            elif not restored["recovery"]["target_reached"]:
                raise ToolFailed(
                    f"Replay of {planned.record.label} ended at {restored['recovery']['replayed_lsn']}, short of its "
                    "target. Next: dbops wal info, or rehearse on the backup alone (target backup)."
                )
            yield place, dict(restored)
        finally:
            remove(place.path, tools)


def reached(place: Scratch, settings: Settings, *, user: Optional[str] = None) -> ConnectionSettings:
    """How the runner's own role reaches the instance; over its private socket everybody is who he says."""
    connection = place.connection(user or settings.connection.login_user)
    return replace(connection, session_role=None if user else settings.connection.session_role)
