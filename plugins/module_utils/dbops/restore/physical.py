# SPDX-License-Identifier: GPL-3.0-or-later
"""Getting a cluster back from a physical backup, full or with its chain of incrementals. `plan` looks, `run` acts.

`run` reads from top to bottom: fetch and unpack → combine → WAL → tablespace links → flush to disk → pg_control →
swap in → start. With a recovery target (roll.py) replay is prepared before the swap and followed to its end after it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Optional

from ..errors import Corrupt, Unreachable
from ..pg import control
from ..pg.datadir import RESTORED
from ..progress import Meter, Progress, Step
from ..repo.record import BackupRecord
from ..repo.repository import Repository
from ..repo.several import with_copies
from . import place, roll
from .durable import Flusher, write_durably
from .extract import extract
from .follow import Outcome
from .physical_plan import Request, RestorePlan, plan
from .recovery import prepare
from .space import plain_bytes
from .unpack import CONTROL, Job, fetch, leave_out, link_tablespaces, verify

__all__ = ["Request", "RestorePlan", "plan", "run"]


def run(plan: RestorePlan, progress: Progress) -> dict[str, Any]:
    """Do it. Old data is never removed; on failure what was unpacked is, and the old cluster stays in its place."""
    clock = _Clock()
    if plan.data.occupied and os.path.exists(os.path.join(plan.data.path, place.NOTE)):
        plan = _after_half_swap(plan, progress)
    with _explained(plan):
        plan, meter, moved = _from_any_copy(plan, clock, progress)
        config = _restore_config(plan)
    followed = None
    if plan.recovery is not None:
        with clock.phase("recovery_s"), plan.repository.restoring():  # what replay reads must not expire meanwhile
            followed = roll.replay(plan.recovery, plan.programs(), plan.start_options, progress)
    version = None
    if roll.is_to_be_started(plan.request, followed):
        version = _start(plan, clock)
    return _result(plan, meter, clock, moved, config, version, followed)


def _from_any_copy(plan: RestorePlan, clock: _Clock, progress: Progress) -> tuple[RestorePlan, Meter, place.Moved]:
    """Where one repository stops, reading goes on in the next that holds the same; where it is damaged, all over."""
    reading = plan.repository
    others: list[Repository] = []
    if plan.request.repository is None:
        reading, others = with_copies(plan.settings, plan.repository, plan.chain, progress.warn)
    while True:
        plan = replace(plan, repository=reading)
        try:
            return plan, *_fill_and_swap(plan, clock, progress)
        except Corrupt as exc:
            if not others:
                raise
            reading = others.pop(0)
            progress.warn(f"Restoring from {reading.name!r} instead of {plan.repository.name!r}: {exc.message}")


def _fill_and_swap(plan: RestorePlan, clock: _Clock, progress: Progress) -> tuple[Meter, place.Moved]:
    places = [plan.data, *plan.tablespaces.values()]
    job = Job(plan.repository, plan.chain, plan.identity, plan.programs, plan.tablespaces)
    with plan.repository.restoring():
        try:
            roots = {oid: place.prepare(item, plan.identity) for oid, item in plan.tablespaces.items()}
            root = place.prepare(plan.data, plan.identity)
            meter = Meter(progress, "restore", total_bytes=plain_bytes(plan.chain))
            with clock.phase("fetch_and_extract_s"):
                control_file = fetch(job, root, roots, meter, progress)
            link_tablespaces(job, root)
            leave_out(root)
            if plan.request.verify or len(plan.chain) > 1:
                with clock.phase("verify_s"):
                    verify(job, root, control_file, progress)
            with clock.phase("sync_s"):
                _mark_as_restored(root, plan.record)
                progress.report(Step("flush to disk", meter.done_bytes, meter.done_bytes))
                for path in {root, *roots.values()}:
                    Flusher(path).finish()
                if control_file is not None:
                    write_durably(os.path.join(root, CONTROL), control_file)
            if plan.recovery is not None:
                prepare(plan.recovery, root, plan.programs())
            if plan.data.occupied:
                _stop_old(plan)
            moved = place.swap(plan.data, plan.tablespaces, label=plan.record.label)
        except BaseException:
            for item in places:
                place.discard(item)
            raise
        return meter, moved


def _after_half_swap(before: RestorePlan, progress: Progress) -> RestorePlan:
    """The plan anew, after a restore that was killed in the middle of its swap has been undone."""
    _stop_old(before)
    for path in place.undo_half_swap(before.data.path):
        progress.warn(f"An earlier restore had been interrupted: what it had put in is now {path}.")
    return plan(before.settings, before.request)


@contextlib.contextmanager
def _explained(plan: RestorePlan) -> Iterator[None]:
    """The store and the tools explain themselves; what is left are the target's own file systems."""
    try:
        yield
    except OSError as exc:
        hint = "Free space there, look at its owner and mode, or choose another target; then run again."
        if exc.errno == errno.EXDEV:
            hint = "An overlay cannot rename a directory of its image: give the data a volume, then run again."
        raise Unreachable(
            f"Cannot restore {plan.record.label} into {plan.data.path}: {exc.filename or ''} {exc.strerror or exc}.",
            hint=hint,
        ) from exc


def _mark_as_restored(root: str, record: BackupRecord) -> None:
    """From here on the cluster has a history of its own; see `restored_as`."""
    now = datetime.now(timezone.utc)
    mark = {"id": f"{now:%Y%m%dT%H%M%SZ} {secrets.token_hex(8)}", "label": record.label}
    write_durably(os.path.join(root, RESTORED), (json.dumps(mark) + "\n").encode())


def _stop_old(plan: RestorePlan) -> None:
    if plan.request.stop:
        control.stop(plan.programs(), plan.data.path)
    place.require_stopped(plan.data.path)


def _restore_config(plan: RestorePlan) -> Optional[str]:
    directory = plan.request.config_directory
    archives = plan.record.of_kind("config")
    if directory is None or not archives:
        return None
    os.makedirs(directory, mode=0o750, exist_ok=True)
    for item in archives:
        extract(
            plan.repository.read_object(plan.record.label, item),
            directory,
            owner=plan.identity,
            name=f"{plan.record.label}/{item.name}",
        )
    return directory


def _start(plan: RestorePlan, clock: _Clock) -> str:
    tools = plan.programs()
    with clock.phase("start_s"):
        control.start(tools, plan.data.path, options=plan.start_options)
        return control.check_answers(tools, plan.data.path, plan.settings.connection, plan.record.system_identifier)


def _result(
    plan: RestorePlan,
    meter: Meter,
    clock: _Clock,
    moved: place.Moved,
    config: Optional[str],
    version: Optional[str],
    followed: Optional[Outcome],
) -> dict[str, Any]:
    recovery = plan.recovery and followed and {**plan.recovery.describe(plan.needed_bytes), **followed.describe()}
    return {
        "changed": True,
        "msg": f"Restored {plan.record.label} into {plan.data.path}"
        + (f", recovered to {plan.recovery.route.target} and {followed.state}" if plan.recovery and followed else "")
        + (f"; the old directory is {moved.data_directory}." if plan.data.occupied else "."),
        "restore": {
            "label": plan.record.label,
            "chain": [record.label for record in plan.chain],
            "repository": plan.repository.name,
            "target": plan.data.path,
            "moved_aside": moved.data_directory if plan.data.occupied else None,
            "moved": moved.directories,
            "tablespaces": {str(oid): item.path for oid, item in plan.tablespaces.items()},
            "stored_bytes": sum(record.stored_bytes for record in plan.chain),
            "restored_bytes": meter.done_bytes,
            "phases": clock.phases,
            "verified_manifest": True if "verify_s" in clock.phases else None,
            "config_directory": config,
            "started": version is not None,
            "server_version": version,
            "recovery": recovery,
        },
        "warnings": list(plan.warnings),
    }


class _Clock:
    """How long each phase took, in seconds, by name."""

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.phases[name] = round(time.monotonic() - started, 3)
