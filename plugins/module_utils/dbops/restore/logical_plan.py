# SPDX-License-Identifier: GPL-3.0-or-later
"""What a logical restore would do: the dump found, the server looked at, all refused that can be refused. No change."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Optional

from ..errors import BadInput, Corrupt, DbopsError, NotFound, Refused, Unreachable
from ..pg import server as pg_server
from ..pg.connection import connected
from ..pg.databases import Database, from_mapping, read_databases, strangers
from ..pg.osuser import cluster_identity
from ..pg.server import Server
from ..pg.tools import Tools, find_tools
from ..repo.readable import check_backups
from ..repo.record import BackupRecord
from ..repo.repository import Repository
from ..repo.several import first_that_can
from ..settings import Settings
from .dump_source import Source, file_source, repository_source
from .load import How
from .roles import GlobalsPlan, globals_plan
from .select import select
from .swap import Maintenance, busy, left_behind, name_aside, temporary_name

_NEWEST_MAJOR = 18


@dataclass(frozen=True)
class Request:
    """What to restore: a backup by `label`, the newest finished `before` a time, else the newest; or a `file`.

    `databases` maps source names to target names; empty means all, under their own names. With a `file` it has one
    entry, whose value is the target. `existing`: "refuse" or "replace". `disconnect` ends sessions in what is replaced.
    `allow_errors` goes on after errors of the dump's statements, and then differing row counts are warnings.
    """

    label: Optional[str] = None
    before: Optional[str] = None
    file: Optional[str] = None
    databases: Mapping[str, str] = field(default_factory=dict)
    existing: str = "refuse"
    disconnect: bool = False
    jobs: int = 1
    globals: bool = False
    no_owner: bool = False
    no_privileges: bool = False
    no_tablespaces: bool = False
    validate_only: bool = False
    allow_errors: bool = False
    repository: Optional[str] = None

    def check(self) -> None:
        if self.existing not in ("refuse", "replace"):
            raise BadInput(f"existing cannot be {self.existing!r}.", hint="Choose refuse or replace.")
        if not 1 <= self.jobs <= 64:
            raise BadInput(f"jobs must lie between 1 and 64, got {self.jobs}.", hint="Use at most one per CPU.")
        if self.file is not None and (self.label or self.before):
            raise BadInput("Both a file and a backup were named.", hint="Give a file, or a label or time.")
        if self.file is not None and self.globals:
            raise BadInput("A dump file holds no globals.", hint="Restore them from a backup, or run them by psql.")
        if self.file is not None and len(self.databases) != 1 and not self.validate_only:
            raise BadInput("A dump file needs one database to restore into.", hint="Name exactly one target.")
        for target in self.databases.values():
            if not target or "\0" in target or len(target.encode()) > 63:
                raise BadInput(f"{target!r} cannot be a database's name.", hint="Use 1 to 63 bytes.")

    @property
    def how(self) -> How:
        return How(self.jobs, self.no_owner, self.no_privileges, self.no_tablespaces, self.allow_errors)


@dataclass(frozen=True)
class Item:
    """One database of a plan. `temporary` and `aside` are the names that it and its predecessor get on the way."""

    name: str
    target: str
    source: Source
    replaces: bool = False
    sessions: int = 0
    temporary: str = ""
    aside: Optional[str] = None
    like: Optional[Database] = None
    rows: Optional[dict[str, int]] = None  # None: nobody counted

    def made_like(self) -> Database:
        """What the new database is to be like; only what is merely read has none."""
        if self.like is None:
            raise BadInput(f"{self.name!r} was planned to be read only.", hint="Plan a restore without validate_only.")
        return self.like

    def preview(self) -> dict[str, Any]:
        return {
            "source": self.name,
            "target": self.target,
            "object": self.source.name,
            "format": self.source.format,
            "stored_bytes": self.source.stored_bytes,
            "replaces": self.replaces,
            "sessions": self.sessions,
            "moved_aside": self.aside,
            "tables": None if self.rows is None else len(self.rows),
            "rows": None if self.rows is None else sum(self.rows.values()),
        }


@dataclass(frozen=True)
class RestorePlan:
    settings: Settings
    request: Request
    tools: Tools
    server: Optional[Server]  # None: validate_only needs none
    repository: Optional[Repository]
    record: Optional[BackupRecord]
    items: tuple[Item, ...]
    warnings: tuple[str, ...]
    globals: Optional[GlobalsPlan] = None

    def reached(self) -> Server:
        """The server to restore into; only reading needs none."""
        if self.server is None:
            raise BadInput("This was planned without a server.", hint="Plan a restore without validate_only.")
        return self.server

    @property
    def origin(self) -> str:
        return self.record.label if self.record else str(self.request.file)

    def difference(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The databases of the wanted names, before and after."""
        old = "the old database"
        asides = {item.aside: old for item in self.items if item.aside}
        before = {item.target: old if item.replaces else None for item in self.items}
        return before, {**{item.target: self.origin for item in self.items}, **asides}

    def preview(self) -> dict[str, Any]:
        targets = ", ".join(item.target for item in self.items)
        verb = "read and check" if self.request.validate_only else "restore"
        return {
            "changed": not self.request.validate_only,
            "msg": f"Would {verb} {targets} from {self.origin}.",
            "backup": self.record.label if self.record else None,
            "file": self.request.file,
            "databases": [item.preview() for item in self.items],
            "globals": globals_preview(self.globals),
            "warnings": list(self.warnings),
        }


def plan(settings: Settings, request: Request, *, now: Optional[datetime] = None) -> RestorePlan:
    """Find the dump and look at the server; refuse here whatever can be refused before anything is touched."""
    request.check()
    moment = now or datetime.now(timezone.utc)
    repository, record, items, warnings = _found(settings, request)
    if request.validate_only:
        tools = _tools_to_read(settings, record)
        return RestorePlan(settings, request, tools, None, repository, record, items, tuple(warnings))
    server = pg_server.look(settings.connection, settings.host)
    with connected(server.connection, server.identity) as session:
        there = read_databases(session)
    warnings += [
        f"Database {name!r} is of a restore that runs now or was killed; drop it if none runs."
        for name in left_behind(there)
    ]
    if record is not None and not request.databases:
        items = _without_maintenance_database(items, there, warnings)
    maintenance = Maintenance.beside(server, [item.target for item in items], there)
    recorded = _recorded_databases(repository, record)
    items = tuple(_placed(item, request, there, recorded.get(item.name), maintenance, moment) for item in items)
    _check_major(server, record)
    _check_space(server, items)
    globals_ = _planned_globals(request, repository, record, maintenance)
    _check_roles(request, items, maintenance.roles() | frozenset(globals_.created if globals_ else ()), warnings)
    return RestorePlan(settings, request, server.tools, server, repository, record, items, tuple(warnings), globals_)


def _found(
    settings: Settings, request: Request
) -> tuple[Optional[Repository], Optional[BackupRecord], tuple[Item, ...], list[str]]:
    """The last is what is to be told: repositories that were passed over."""
    if request.file is not None:
        ((name, target),) = request.databases.items() or (("", request.file),)
        return None, None, (Item(name or request.file, target, file_source(request.file)),), []
    told: list[str] = []
    return *first_that_can(settings, request.repository, lambda one: _found_in(one, request), told.append), told


def _found_in(repository: Repository, request: Request) -> tuple[Repository, BackupRecord, tuple[Item, ...]]:
    entry = select(repository.catalog(), label=request.label, before=request.before, method="logical")
    record = entry.record
    missing = [name for name in request.databases if name not in record.databases]
    if missing:
        raise BadInput(
            f"{record.label} holds no database {', '.join(map(repr, missing))}.",
            hint=f"It holds: {', '.join(record.databases)}.",
        )
    wanted = dict(request.databases) or {name: name for name in record.databases}
    twice = [name for name in wanted.values() if list(wanted.values()).count(name) > 1]
    if twice:
        raise BadInput(f"Two databases would become {twice[0]!r}.", hint="Give each its own target.")
    check_backups(repository, [record])
    counts = _recorded_counts(repository, record)
    stored = {item.database: item for item in record.of_kind("database")}
    items = []
    for name, target in wanted.items():
        if name not in stored:
            raise Corrupt(f"{record.label} lists {name!r} but no object of it.", hint="Restore another backup.")
        source = repository_source(repository, record.label, stored[name])
        items.append(Item(name, target, source, rows=counts.get(name)))
    return repository, record, tuple(items)


def _without_maintenance_database(
    items: tuple[Item, ...], there: Mapping[str, Database], warnings: list[str]
) -> tuple[Item, ...]:
    """`postgres` exists in every cluster: when nobody named it and nothing is in it, it is no reason to refuse."""
    if "postgres" not in there or len(items) == 1:
        return items
    empty = [item for item in items if item.name == "postgres" and not item.rows]
    if empty:
        warnings.append("Database 'postgres' is here already and was left out; name it to restore it.")
    return tuple(item for item in items if item not in empty)


def _placed(
    item: Item,
    request: Request,
    there: Mapping[str, Database],
    recorded: Optional[Database],
    maintenance: Maintenance,
    moment: datetime,
) -> Item:
    """The item with its names and the properties it gets: the recorded ones, or those of what it replaces."""
    exists = item.target in there
    if exists and request.existing == "refuse":
        raise Refused(
            f"Database {item.target!r} exists already.",
            hint="Restore into another name, or with existing=replace: the old one is then dumped and moved aside.",
        )
    if item.target in ("template0", "template1"):
        raise Refused(f"{item.target} is not replaced.", hint="Restore it under another name and look at it there.")
    sessions = maintenance.sessions_in(item.target) if exists else 0
    if sessions and not request.disconnect:
        raise busy([item.target], f"it has {sessions} sessions.")
    aside = name_aside(item.target, moment) if exists else None
    if aside is not None and aside in there:
        raise Refused(f"There is a database {aside!r} already.", hint="Wait a second and run again.")
    like = recorded or there.get(item.target) or _default_like(there, maintenance.server)
    return replace(
        item, replaces=exists, sessions=sessions, temporary=temporary_name(item.target), aside=aside, like=like
    )


def _default_like(there: Mapping[str, Database], server: Server) -> Database:
    """A file tells nothing of its database: encoding and locale are then those of a plain CREATE DATABASE."""
    owner = server.connection.session_role or server.connection.login_user
    template = there["template1"]
    return replace(template, owner=owner, comment=None, settings=(), grants=None, is_template=False, size_bytes=None)


def _check_major(server: Server, record: Optional[BackupRecord]) -> None:
    if record is not None and record.postgres_version_num // 10000 > server.major:
        raise Refused(
            f"{record.label} is of PostgreSQL {record.postgres_version}, and this server is {server.version}.",
            hint="Restore into the same major version or a later one: pg_restore cannot read a newer one's dumps.",
        )


def _check_space(server: Server, items: Iterable[Item]) -> None:
    """A data directory that fills up stops every database of the server, not only the new one."""
    sizes = [item.like.size_bytes or 0 for item in items if item.like and item.like.tablespace == "pg_default"]
    if not server.local:
        return
    free = shutil.disk_usage(server.data_directory).free
    if free < sum(sizes):
        raise Refused(
            f"{server.data_directory} has {free} bytes free, and the databases had {sum(sizes)}.",
            hint="Free space there; a replaced database stays beside the new one until you drop it.",
        )


def _planned_globals(
    request: Request, repository: Optional[Repository], record: Optional[BackupRecord], maintenance: Maintenance
) -> Optional[GlobalsPlan]:
    if not request.globals or repository is None or record is None:
        return None
    stored = record.of_kind("globals")
    if not stored:
        raise BadInput(f"{record.label} holds no globals.", hint="Restore without them, or from another backup.")
    script = b"".join(repository.read_object(record.label, stored[0])).decode()
    return globals_plan(
        script,
        roles=maintenance.roles(),
        tablespaces=maintenance.tablespaces(),
        with_tablespaces=not request.no_tablespaces,
    )


def _check_roles(request: Request, items: Iterable[Item], roles: frozenset[str], warnings: list[str]) -> None:
    for item in items:
        if item.like is None:
            continue
        if not request.no_owner and item.like.owner not in roles:
            raise Refused(
                f"Role {item.like.owner!r}, which owns {item.name!r}, does not exist here.",
                hint="Restore the roles too (globals), or leave owners out (no_owner).",
            )
        unknown = strangers(item.like, roles)
        if unknown and not request.no_privileges:
            warnings.append(
                f"Rights and settings of {', '.join(unknown)} on {item.target!r} are left out: no such role."
            )


# -- asking


def _tools_to_read(settings: Settings, record: Optional[BackupRecord]) -> Tools:
    """Programs that can read the dump, found without a server: a check must not need what has been lost."""
    identity = cluster_identity(settings.host.os_user, settings.host.data_directory)
    with contextlib.suppress(Unreachable, NotFound, Refused):
        server = pg_server.look(settings.connection, settings.host)
        if record is None or server.major >= record.postgres_version_num // 10000:
            return server.tools
    oldest = record.postgres_version_num // 10000 if record else pg_server.OLDEST_MAJOR
    missing: Optional[DbopsError] = None
    for major in range(max(_NEWEST_MAJOR, oldest), oldest - 1, -1):
        try:
            return find_tools(major, identity, bin_dir=settings.host.bin_dir)
        except (NotFound, BadInput) as exc:
            missing = exc
    raise NotFound(
        "No client programs of PostgreSQL were found that could read the dump.", hint=missing.hint if missing else ""
    )


def _recorded_databases(repository: Optional[Repository], record: Optional[BackupRecord]) -> dict[str, Database]:
    if repository is None or record is None:
        return {}
    found: dict[str, Database] = {}
    for stored in record.of_kind("databases"):
        where = f"{stored.name} of {record.label}"
        for name, data in _json_object(repository, record, stored.name).items():
            found[name] = from_mapping(data, where=where)
    return found


def _recorded_counts(repository: Repository, record: BackupRecord) -> dict[str, dict[str, int]]:
    for stored in record.of_kind("counts"):
        return _json_object(repository, record, stored.name)
    return {}


def _json_object(repository: Repository, record: BackupRecord, name: str) -> dict[str, Any]:
    content = json.loads(b"".join(repository.read_object(record.label, record.find(name))))
    if not isinstance(content, dict):
        raise Corrupt(f"{name} of {record.label} is not what it should be.", hint="Restore another backup.")
    return content


def globals_preview(planned: Optional[GlobalsPlan]) -> Optional[dict[str, list[str]]]:
    if planned is None:
        return None
    return {
        "created_roles": list(planned.created),
        "created_tablespaces": list(planned.tablespaces),
        "kept": list(planned.kept),
    }
