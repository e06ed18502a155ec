# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking a backup: `plan` decides and changes nothing, `run` does it under the repository's lock."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Optional

from ..codec.ciphers import cipher
from ..errors import BadInput, Corrupt, DbopsError, Refused, ToolFailed, Unreachable
from ..pg import server as pg_server
from ..pg.connection import connected
from ..pg.server import Server
from ..pg.wal import lsn_to_int
from ..progress import Progress, duration
from ..repo import layout, sync
from ..repo.describe import describe
from ..repo.record import BackupRecord
from ..repo.recover_md import recover_md
from ..repo.repository import Catalog, Repository
from ..repo.several import Destinations, destinations
from ..settings import Settings
from ..store import AlreadyThere
from ..store.several import PartlyStored
from . import logical, parent_manifest, physical
from .attempt import attempted
from .inventory import facts
from .parent import FIRST_MAJOR, Facts, Summary, choose_parent
from .work import Work

_CLOCK_TOLERANCE = timedelta(seconds=5)


@dataclass(frozen=True)
class Request:
    """What a run asks for on top of the settings' `backup` section; None means as the settings say."""

    method: Optional[str] = None
    type: Optional[str] = None
    max_age_s: Optional[int] = None
    force: bool = False
    repository: Optional[str] = None
    reason: str = ""


@dataclass(frozen=True)
class BackupPlan:
    """What `run` would do. `needed` is False when a valid backup is young enough."""

    settings: Settings
    request: Request
    server: Server
    goes_to: Destinations
    method: str
    type: str
    needed: bool
    why: str
    newest: Optional[str]
    newest_age_s: Optional[float]
    parent: Optional[str]
    databases: tuple[str, ...]
    estimated_bytes: Optional[int]
    free_bytes: Optional[int]
    warnings: tuple[str, ...]

    @property
    def repository(self) -> Repository:
        """The one that decides: what is in there, and what the backup rests on."""
        return self.goes_to.primary

    def preview(self) -> dict[str, Any]:
        what = f"{self.method} {self.type} backup of {self.settings.cluster}"
        return {
            "changed": self.needed,
            "msg": f"Would take a {what}: {self.why}." if self.needed else f"No backup needed: {self.why}.",
            "backup": None,
            "plan": {
                "needed": self.needed,
                "why": self.why,
                "method": self.method,
                "type": self.type,
                "repository": self.repository.name,
                "repositories": [member.name for member in self.goes_to.live],
                "parent": self.parent,
                "databases": list(self.databases),
                "newest": self.newest,
                "newest_age_s": self.newest_age_s,
                "estimated_bytes": self.estimated_bytes,
                "free_bytes": self.free_bytes,
            },
            "warnings": list(self.warnings),
        }


def plan(settings: Settings, request: Request, *, now: Optional[datetime] = None) -> BackupPlan:
    """Look at server and repository, check everything that can be checked before a byte is copied, and decide."""
    moment = now or datetime.now(timezone.utc)
    settings = _as_requested(settings, request)
    method = settings.backup.method
    left_out: list[str] = []
    goes_to = destinations(settings, request.repository, left_out.append)
    key_warnings = _proven_keys(settings)
    server = pg_server.look(settings.connection, settings.host)
    catalog = goes_to.catalog()
    databases: tuple[str, ...] = ()
    estimate = server.size_bytes
    if method == "physical":
        server.require_replication()
        kind, parent, why = _physical_kind(settings, server, goes_to.primary, catalog)
    else:
        kind, parent, why = "dump", None, "asked for"
        databases, estimate = logical.estimate(settings, server)
    newest = _newest(catalog, server, settings, databases)
    age = (moment - newest.stopped).total_seconds() if newest else None
    needed = True
    if newest is not None and age is not None and request.max_age_s is not None and not request.force:
        needed = not 0 <= age <= request.max_age_s
        if not needed:
            why = f"{newest.label} is {duration(age)} old, younger than {duration(request.max_age_s)}"
    return BackupPlan(
        settings=settings,
        request=request,
        server=server,
        goes_to=goes_to,
        method=method,
        type=kind,
        needed=needed,
        why=why,
        newest=newest.label if newest else None,
        newest_age_s=age,
        parent=parent.label if parent else None,
        databases=databases,
        estimated_bytes=estimate,
        free_bytes=goes_to.whole.store.free_bytes(),
        warnings=(*left_out, *key_warnings, *_warnings(goes_to, server, catalog, estimate)),
    )


def run(plan: BackupPlan, progress: Progress) -> dict[str, Any]:
    """Take the backup that was planned. It is listed when, and only when, this returns."""
    if not plan.needed:
        return plan.preview()
    for warning in plan.warnings:
        progress.warn(warning)
    with attempted(plan.settings, plan.method, plan.server.identity):
        record, goes_to = _take(plan, progress)
    caught_up = _catch_up(plan, goes_to, progress)
    return {
        "changed": True,
        "msg": f"Took {record.label}: {record.method} {record.type} backup of {record.cluster}.",
        "backup": {**describe(record, goes_to.primary.name), "repositories": _where(goes_to, caught_up)},
        "warnings": list(plan.warnings) + list(record.notes),
    }


def _take(plan: BackupPlan, progress: Progress) -> tuple[BackupRecord, Destinations]:
    goes_to = destinations(plan.settings, plan.request.repository, progress.warn)
    with goes_to.whole.backing_up():
        goes_to.clean()
        catalog = goes_to.catalog()
        goes_to.each(_leave_instructions)
        if plan.method == "logical":
            record = _finish(_work(plan, goes_to, progress, "dump"), logical.dump)
        else:
            record = _physical(plan, goes_to, catalog, progress)
        goes_to.lock_chain(record)
    return record, goes_to


def _catch_up(plan: BackupPlan, goes_to: Destinations, progress: Progress) -> set[str]:
    """Copy to the optional repositories what they lack; one that failed just now has its turn after the next backup."""
    done = set()
    for member in goes_to.members:
        if member in goes_to.required or (member.name in goes_to.lost and member.name not in goes_to.behind):
            continue
        try:
            plans = sync.plan(plan.settings, source=goes_to.primary.name, target=member.name, with_wal=False)
            if plans.needed:
                progress.warn(sync.run(plans, progress)["msg"])
            done.add(member.name)
        except DbopsError as exc:
            progress.warn(f"Repository {member.name!r} lags behind: {exc}")
    return done


def _where(goes_to: Destinations, caught_up: set[str]) -> list[dict[str, Any]]:
    missed = {name: why for name, why in goes_to.lost.items() if name not in caught_up}
    return [
        {
            "name": member.name,
            "required": member.settings.required,
            "stored": member.name not in missed,
            "error": missed.get(member.name),
        }
        for member in goes_to.members
    ]


def _as_requested(settings: Settings, request: Request) -> Settings:
    backup = settings.backup
    backup = replace(backup, method=request.method or backup.method, type=request.type or backup.type)
    backup.check()
    if backup.method == "logical" and request.type == "incremental":
        raise BadInput("A logical backup cannot be incremental.", hint="Use method=physical for type=incremental.")
    return replace(settings, backup=backup)


def _proven_keys(settings: Settings) -> list[str]:
    """Something is encrypted: an expired or missing key is told before a byte is copied."""
    chosen = cipher(settings.encryption)
    if chosen is None:
        return []
    chosen.key_ids()
    return chosen.warnings()


def _physical(plan: BackupPlan, goes_to: Destinations, catalog: Catalog, progress: Progress) -> BackupRecord:
    # again: expiry may have run meanwhile
    kind, parent, _why = _physical_kind(plan.settings, plan.server, goes_to.primary, catalog)
    goes_to.keep_those_with(parent)
    try:
        return _finish(_work(plan, goes_to, progress, kind), lambda work: physical.copy(work, parent))
    except (ToolFailed, Corrupt) as error:
        if parent is None or (isinstance(error, ToolFailed) and "summar" not in error.stderr_tail):
            raise
        # Only the server knows all it needs for an incremental, and only reading the parent's manifest proves it
        # whole; a full backup always protects.
        progress.warn(f"A full backup instead of an incremental on {parent.label}: {error.message}")
    return _finish(_work(plan, goes_to, progress, "full"), lambda work: physical.copy(work, None))


def _finish(work: Work, method: Callable[[Work], BackupRecord]) -> BackupRecord:
    """Run the method and publish its record; after a failure nothing of this label stays where it is not listed."""
    try:
        record = method(work)
        work.repository.publish(record)
    except PartlyStored:
        raise  # it is whole where it is listed, and dbops repo sync takes it on from there
    except BaseException as exc:
        # What cannot be removed now is removed by the next run: without a record it is no backup.
        with contextlib.suppress(DbopsError, OSError):
            work.repository.clean([work.label])
        if isinstance(exc, OSError):  # store and tools explain themselves: this is the staging directory
            raise Unreachable(
                f"{work.label} failed on this host: {exc.filename or work.settings.state_path}: {exc.strerror or exc}.",
                hint="Free space there, look at its owner and mode, or set host.state_path; then run again.",
            ) from exc
        raise
    return record


def _physical_kind(
    settings: Settings, server: Server, repository: Repository, catalog: Catalog
) -> tuple[str, Optional[BackupRecord], str]:
    if settings.backup.type == "full":
        return "full", None, "asked for"
    known = Facts(
        major=server.major,
        summarize_wal=server.settings.get("summarize_wal") == "on",
        system_identifier=server.system_identifier,
        data_checksums=server.settings.get("data_checksums", ""),
        summaries=_summaries(server) if server.major >= FIRST_MAJOR else None,
        restored=facts(server).get("restored", ""),
    )
    choice = choose_parent(catalog, known, max_chain=settings.backup.max_chain)
    missing = parent_manifest.why_not(settings, repository, choice.parent) if choice.parent else choice.reason
    if missing:
        return "full", None, f"a full one instead of an incremental: {missing}"
    return "incremental", choice.parent, choice.reason


def _summaries(server: Server) -> Optional[list[Summary]]:
    try:
        with connected(server.connection, server.identity) as session:
            rows = session.rows("select tli, start_lsn::text, end_lsn::text from pg_available_wal_summaries()")
    except Unreachable:
        return None  # not permitted; the server itself refuses an incremental without its summaries
    return [Summary(int(row["tli"]), lsn_to_int(row["start_lsn"]), lsn_to_int(row["end_lsn"])) for row in rows]


def _newest(catalog: Catalog, server: Server, settings: Settings, databases: tuple[str, ...]) -> Optional[BackupRecord]:
    """The newest backup that would do instead of this one: same system, same method, at least as complete."""
    for entry in catalog.entries:
        record = entry.record
        if record.system_identifier != server.system_identifier or record.method != settings.backup.method:
            continue
        if record.method == "physical" and settings.backup.type == "full" and record.type != "full":
            continue
        if record.method == "logical" and not set(databases) <= set(record.databases):
            continue
        with contextlib.suppress(Corrupt):  # one whose chain is broken protects nothing
            catalog.chain(record.label)
            return record
    return None


def _warnings(goes_to: Destinations, server: Server, catalog: Catalog, estimate: Optional[int]) -> Iterator[str]:
    for repository in goes_to.live:
        yield from repository.store.caveats()
        if _same_file_system(repository, server):
            yield (
                f"Repository {repository.name!r} lies on the same file system as the data directory: one broken disk "
                "takes both. Put it on another disk or host."
            )
        free = repository.store.free_bytes()
        if free is not None and estimate is not None and free < estimate:
            yield (
                f"Repository {repository.name!r} has {free} bytes free and the cluster has {estimate}: "
                "the backup fits only if it compresses well enough."
            )
    for label, why in sorted(catalog.unreadable.items()):
        yield f"Backup {label} cannot be read: {why}"


def _same_file_system(repository: Repository, server: Server) -> bool:
    if not server.local or repository.settings.type != "local":
        return False
    return os.stat(repository.settings.path).st_dev == os.stat(server.data_directory).st_dev


def _work(plan: BackupPlan, goes_to: Destinations, progress: Progress, kind: str) -> Work:
    """A label later than every other: in the same second we wait for the next, with a clock set back we refuse."""
    taken = goes_to.labels()
    latest = max((layout.label_time(label) for label in taken), default=datetime.min.replace(tzinfo=timezone.utc))
    while True:
        now = datetime.now(timezone.utc)
        if latest - now > _CLOCK_TOLERANCE:
            raise Refused(
                f"The clock says {now:%Y-%m-%d %H:%M:%S}Z, and a backup is labelled {latest:%Y-%m-%d %H:%M:%S}Z.",
                hint="Set this host's clock (see `timedatectl`), then run again: backups are ordered by time.",
            )
        if now >= latest + timedelta(seconds=1):
            label = layout.label_for(now, kind)
            return Work(plan.settings, plan.server, goes_to, progress, label, now, plan.request.reason)
        time.sleep(0.05)


def _leave_instructions(repository: Repository) -> None:
    with contextlib.suppress(AlreadyThere):
        content = recover_md(repository.cluster).encode()
        repository.store.put(layout.recover_md(repository.cluster), [content], if_absent=True)
