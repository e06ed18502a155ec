# SPDX-License-Identifier: GPL-3.0-or-later
"""Getting a cluster back from a physical backup, full or with its chain of incrementals.

`plan` checks everything that can be checked and changes nothing; `run` reads from top to bottom: fetch and unpack →
combine → WAL → tablespace links → flush to disk → pg_control → swap in → start. With a recovery target (roll.py) replay
is prepared before the swap and followed to its end after it.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Optional

from ..errors import BadInput, Corrupt, DbopsError, Unreachable
from ..pg import control
from ..pg.datadir import RESTORED, running_elsewhere
from ..pg.osuser import Identity, cluster_identity
from ..pg.tools import Tools, find_tools
from ..pg.wal import lsn_to_int
from ..pg.walfile import wal_name
from ..progress import Meter, Progress, Step
from ..repo.archive import WalArchive
from ..repo.readable import check_backups
from ..repo.record import BackupRecord
from ..repo.repository import Catalog, Entry, Repository
from ..repo.several import first_that_can, with_copies
from ..repo.window import Segments
from ..settings import Settings
from ..wal.runnable import INSTALLED
from . import place, roll
from .durable import Flusher, write_durably
from .extract import extract
from .follow import Outcome
from .recovery import Recovery, prepare
from .select import select
from .space import plain_bytes, require_space
from .target import Target
from .unpack import CONTROL, Job, fetch, leave_out, link_tablespaces, verify


@dataclass(frozen=True)
class Request:
    """Which backup, where to, and what to do afterwards; see the options of module pg_restore."""

    label: Optional[str] = None
    before: Optional[str] = None
    repository: Optional[str] = None
    target: Optional[str] = None
    in_place: bool = False
    tablespace_map: Mapping[str, str] = field(default_factory=dict)
    tablespace_root: Optional[str] = None
    verify: bool = False
    stop: bool = False
    start: bool = False
    start_options: str = ""
    config_directory: Optional[str] = None
    recovery: Optional[Target] = None  # None: the backup alone, without archived WAL
    side: bool = False  # as an isolated server of its own
    port: Optional[int] = None
    socket_directory: Optional[str] = None
    lib_path: str = INSTALLED  # the installed engine, of which a recovery takes a copy where this one is no directory


@dataclass(frozen=True)
class RestorePlan:
    settings: Settings
    request: Request
    repository: Repository
    chain: tuple[BackupRecord, ...]
    identity: Identity
    tools: Optional[Tools]
    data: place.Place
    tablespaces: dict[int, place.Place]
    needed_bytes: int
    warnings: tuple[str, ...]
    recovery: Optional[Recovery] = None

    @property
    def record(self) -> BackupRecord:
        return self.chain[-1]

    def programs(self) -> Tools:
        """PostgreSQL's programs of the backup's major, which the plan has looked for where the request needs them."""
        major = self.record.postgres_version_num // 10000
        return self.tools or find_tools(major, self.identity, bin_dir=self.settings.host.bin_dir)

    def preview(self) -> dict[str, Any]:
        return {
            "changed": True,
            "msg": f"Would restore {self.record.label} into {self.data.path}"
            + (", the old directory moved aside." if self.data.occupied else "."),
            "restore": {
                "label": self.record.label,
                "chain": [record.label for record in self.chain],
                "repository": self.repository.name,
                "target": self.data.path,
                "move_aside": self.data.occupied,
                "tablespaces": {str(oid): item.path for oid, item in self.tablespaces.items()},
                "stored_bytes": sum(record.stored_bytes for record in self.chain),
                "needed_bytes": self.needed_bytes,
                "os_user": self.identity.name,
                "recovery": self.recovery.describe(self.needed_bytes) if self.recovery else None,
            },
            "warnings": list(self.warnings),
        }


def plan(settings: Settings, request: Request) -> RestorePlan:
    """Everything is checked here: the backup and its chain, the target, a running server, tools, space.

    The first repository that has what is asked for is used; that another one was passed over is a warning.
    """
    told: list[str] = []
    found = first_that_can(settings, request.repository, lambda one: _plan(settings, request, one), told.append)
    return replace(found, warnings=(*told, *found.warnings))


def _plan(settings: Settings, request: Request, repository: Repository) -> RestorePlan:
    catalog = repository.catalog()
    roll.check(request)
    recovers_freely = request.recovery is not None and not request.label
    entry = None if recovers_freely else _entry(catalog, request)
    target = request.target or settings.host.data_directory
    if not target:
        raise BadInput("No target directory is known.", hint="Give one, or set host.data_directory in the settings.")
    data = place.judge(target, in_place=request.in_place, cluster=True)
    if data.occupied and not request.stop:
        place.require_stopped(data.path)
    identity = _identity(settings, data.path)
    recovery = None
    if entry is None or request.recovery is not None:
        recovery = roll.recovery_for(settings, request, repository, catalog, identity, data.path)
        entry = catalog.entry(recovery.route.label)
    chain = tuple(catalog.chain(entry.record.label))
    check_backups(repository, chain)
    tools = _tools(settings, request, entry.record, identity, len(chain) > 1)
    tablespaces = _tablespaces(entry.record, request, data, settings.host.data_directory)
    needed = require_space(chain, data, tablespaces.values())
    return RestorePlan(
        settings=settings,
        request=request,
        repository=repository,
        chain=chain,
        identity=identity,
        tools=tools,
        data=data,
        tablespaces=tablespaces,
        needed_bytes=needed,
        warnings=(*_warnings(entry.record), *(() if recovery else _left_behind(repository, entry.record))),
        recovery=recovery,
    )


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
            followed = roll.replay(plan.recovery, plan.programs(), plan.request.start_options, progress)
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
            _mark_as_restored(root, plan.record)
            with clock.phase("sync_s"):
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


# -- plan: how


def _entry(catalog: Catalog, request: Request) -> Entry:
    return select(catalog, label=request.label, before=request.before, method="physical")


def _identity(settings: Settings, target: str) -> Identity:
    """Whose files they become: the configured user's, else the owner of what is there, else of what it lies in."""
    if settings.host.os_user or os.geteuid() != 0:
        return cluster_identity(settings.host.os_user, None)
    if os.path.isdir(target):
        return cluster_identity(None, target)
    above = os.path.dirname(target)
    return cluster_identity(None, above if os.stat(above).st_uid != 0 else None)


def _tools(
    settings: Settings, request: Request, record: BackupRecord, identity: Identity, combine: bool
) -> Optional[Tools]:
    """PostgreSQL's programs of the backup's major; a plain restore without a start needs none."""
    if not (combine or request.verify or request.start or request.stop or request.recovery):
        return None
    major = record.postgres_version_num // 10000
    tools = find_tools(major, identity, bin_dir=settings.host.bin_dir)
    for program in ["pg_combinebackup"] * combine + ["pg_verifybackup"] * (combine or request.verify):
        tools.path(program)
    return tools


def _tablespaces(
    record: BackupRecord, request: Request, data: place.Place, own: Optional[str]
) -> dict[int, place.Place]:
    known = {str(space.oid) for space in record.tablespaces} | {space.name for space in record.tablespaces}
    for key in request.tablespace_map:
        if key not in known:
            raise BadInput(
                f"{record.label} has no tablespace {key!r}.", hint=f"It has: {', '.join(sorted(known)) or 'none'}."
            )
    found = {}
    for space in record.tablespaces:
        path = request.tablespace_map.get(str(space.oid)) or request.tablespace_map.get(space.name)
        if path is None:
            path = os.path.join(request.tablespace_root, str(space.oid)) if request.tablespace_root else space.path
        found[space.oid] = place.judge(path, in_place=request.in_place, cluster=False)
    place.require_apart([data, *found.values()])
    others = [path for path in [own, *running_elsewhere()] if path and os.path.realpath(path) != data.path]
    for item in found.values():
        place.require_not_of(item, others)
    return found


def _warnings(record: BackupRecord) -> Iterator[str]:
    libc = record.extra.get("libc", "")
    here = " ".join(part for part in platform.libc_ver() if part)
    if libc and here and libc != here:
        yield (
            f"The backup was made with {libc}, this host has {here}: text may sort differently, so reindex indexes on "
            "text columns after the restore (see pg_collation_actual_version)."
        )
    if record.of_kind("config"):
        yield "Configuration outside the data directory was backed up too; it is restored only when asked for."


def _left_behind(repository: Repository, record: BackupRecord) -> Iterator[str]:
    """A server that goes on in a timeline whose later WAL is archived writes the same names with another content."""
    wal = record.wal
    if wal is None:
        return
    number = lsn_to_int(wal.stop_lsn) // wal.segment_size + 1
    name = wal_name(Segments((), wal.segment_size).name(wal.timeline, number))
    archive = WalArchive(repository, record.system_identifier)
    with contextlib.suppress(DbopsError):  # a doubt here is no reason to keep a backup back
        if archive.has(name):
            yield (
                f"WAL beyond {record.label} is archived, and is not replayed: the restored server would go on in the "
                f"same timeline {wal.timeline}, and its own WAL would be refused there. Restore with a target, such "
                "as latest, or immediate for the backup as it is; both begin a new timeline."
            )


# -- run: how


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
        raise Unreachable(
            f"Cannot restore {plan.record.label} into {plan.data.path}: {exc.filename or ''} {exc.strerror or exc}.",
            hint="Free space there, look at its owner and mode, or choose another target; then run again.",
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
        control.start(tools, plan.data.path, options=plan.request.start_options)
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
