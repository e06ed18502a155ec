# SPDX-License-Identifier: GPL-3.0-or-later
"""What a physical restore will do, with everything checked that can be checked, and nothing changed."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from ..errors import BadInput, DbopsError
from ..installed import LIB_PATH
from ..pg.datadir import running_elsewhere
from ..pg.osuser import Identity, cluster_identity
from ..pg.service import service_of, systemd_runs
from ..pg.tools import Tools, find_tools
from ..pg.wal import lsn_to_int
from ..pg.walfile import wal_name
from ..repo.archive import WalArchive
from ..repo.readable import check_backups
from ..repo.record import BackupRecord
from ..repo.repository import Catalog, Entry, Repository
from ..repo.several import first_that_can
from ..repo.window import Segments
from ..settings import Settings
from . import place, roll
from .own_configuration import start_options
from .recovery import Recovery
from .select import select
from .space import require_space
from .target import Target


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
    lib_path: str = LIB_PATH  # the installed engine, of which a recovery takes a copy where this one is no directory


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
    start_options: str = ""

    @property
    def record(self) -> BackupRecord:
        return self.chain[-1]

    def programs(self) -> Tools:
        """PostgreSQL's programs of the backup's major, which the plan has looked for where the request needs them."""
        major = self.record.postgres_version_num // 10000
        return self.tools or find_tools(major, self.identity, bin_dir=self.settings.host.bin_dir)

    def difference(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What lies where the data goes, before and after."""
        old = "the old cluster" if self.data.occupied else None
        after = {self.data.path: self.record.label}
        if self.recovery:
            after["recovered to"] = str(self.recovery.route.target)
        if old:
            after["moved aside"] = old
        return {self.data.path: old}, after

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
    if data.occupied:
        (place.require_unwatched if request.stop else place.require_stopped)(data.path)
    identity = _identity(settings, data.path)
    recovery = None
    if entry is None or request.recovery is not None:
        recovery = roll.recovery_for(settings, request, repository, catalog, identity, data.path)
        entry = catalog.entry(recovery.route.label)
    chain = tuple(catalog.chain(entry.record.label))
    check_backups(repository, chain)
    tools = _tools(settings, request, entry.record, identity, len(chain) > 1)
    options = _start_options(request, entry.record, data)
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
        warnings=(
            *_of_service(data, request, options),
            *_warnings(entry.record),
            *(() if recovery else _left_behind(repository, entry.record)),
        ),
        recovery=recovery,
        start_options=options,
    )


def _of_service(data: place.Place, request: Request, options: str) -> Iterator[str]:
    """systemd would go on believing that the server is stopped, and could not start it beside the one that runs."""
    if not request.start or request.side:
        return
    service = service_of(data.path) if data.occupied and request.stop else None
    told_more = options != request.start_options  # as only servers need that a service manager starts
    if service is not None or (told_more and systemd_runs()):
        name = service or "the service of systemd"
        yield (
            f"The server is going to be started by pg_ctl, beside {name}, which then cannot start it. "
            "Better leave stop and start out, and use systemctl before and after; in a play, set dbops_service."
        )


def _start_options(request: Request, record: BackupRecord, data: place.Place) -> str:
    """A side instance brings its configuration along; a server that nobody here starts needs none."""
    if request.side or not (request.start or request.recovery):
        return request.start_options
    recorded = record.extra.get("config_file")
    return start_options(data.path, recorded, request.start_options, old=data.path if data.occupied else None)


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
