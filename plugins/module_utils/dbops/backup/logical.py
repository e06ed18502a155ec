# SPDX-License-Identifier: GPL-3.0-or-later
"""A logical backup: databases as pg_dump writes them, each from one snapshot in which its rows are counted too.

`dump` reads from top to bottom: every database is looked at before the first byte is copied → globals → one object
per database → row counts, what CREATE DATABASE must know, and the inventory → the record, which the caller publishes.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Optional

from .. import __version__
from ..codec.stream import Shape, read_chunks
from ..errors import BadInput, DbopsError, Refused
from ..pg.connection import Connection, connected, conninfo
from ..pg.databases import TEMPLATES, Database, read_databases, to_mapping
from ..pg.osuser import current_identity
from ..pg.server import Server
from ..pg.tables import Counts, explain_conflict
from ..pg.tools import pipe
from ..progress import Meter
from ..repo import layout
from ..repo.record import BackupRecord, StoredObject
from ..settings import BackupSettings, Settings
from .flat_tar import flat_tar
from .inventory import facts, inventory
from .snapshot import Snapshot, check_readable, snapshot
from .work import Work

EXTENSIONS = {"custom": ".dump", "plain": ".sql", "directory": ".dir.tar"}


def estimate(settings: Settings, server: Server) -> tuple[tuple[str, ...], Optional[int]]:
    """The databases that a dump would take, and their size in the server; None where the role may not ask."""
    with connected(server.connection, server.identity) as session:
        databases = chosen(read_databases(session), settings.backup.databases)
    sizes = [database.size_bytes for database in databases]
    known = [size for size in sizes if size is not None]
    return tuple(database.name for database in databases), sum(known) if len(known) == len(sizes) else None


def dump(work: Work) -> BackupRecord:
    """Everything of one logical backup but its record's publication."""
    server, backup = work.server, work.settings.backup
    with connected(server.connection, server.identity) as session:
        databases = chosen(read_databases(session), backup.databases)
        may_read_passwords = _may_read_passwords(session)
    for database in databases:
        check_readable(server, database.name, backup)
    notes: list[str] = []
    objects = [_dump_globals(work, may_read_passwords, notes)] if backup.globals else []
    counts: dict[str, Counts] = {}
    for database in databases:
        stored, counts[database.name] = _dump_database(work, database)
        objects.append(stored)
        for table, why in counts[database.name].uncounted.items():
            notes.append(f"Rows of {table} in {database.name!r} were not counted: {why}")
    stopped = datetime.now(timezone.utc)
    objects.extend(_store_surroundings(work, databases, counts))
    return BackupRecord(
        label=work.label,
        cluster=work.settings.cluster,
        method="logical",
        type="dump",
        started=work.started,
        stopped=stopped,
        system_identifier=server.system_identifier,
        postgres_version=server.version,
        postgres_version_num=server.version_num,
        objects=tuple(objects),
        database_bytes=sum(database.size_bytes or 0 for database in databases),
        databases=tuple(database.name for database in databases),
        from_standby=server.in_recovery,
        host=socket.gethostname(),
        by=current_identity().name,
        reason=work.reason,
        tool_version=__version__,
        notes=tuple(notes),
        extra={**facts(server), **_selection(backup)},
    )


def chosen(there: dict[str, Database], wanted: Sequence[str]) -> list[Database]:
    """The wanted databases, or all that accept connections but the templates. BadInput names what cannot be dumped."""
    if not wanted:
        return [database for name, database in there.items() if database.usable and name not in TEMPLATES]
    missing = [name for name in wanted if name not in there]
    if missing:
        raise BadInput(
            f"There is no database {', '.join(map(repr, missing))}.",
            hint=f"There is: {', '.join(there)}. Names are exact.",
        )
    closed = [name for name in wanted if not there[name].usable]
    if closed:
        raise BadInput(
            f"Database {', '.join(map(repr, closed))} accepts no connections, so nobody can dump it.",
            hint="Leave it out, or run: ALTER DATABASE ... ALLOW_CONNECTIONS true.",
        )
    return [there[name] for name in dict.fromkeys(wanted)]


# -- globals


def _may_read_passwords(session: Connection) -> bool:
    return bool(session.value("select has_table_privilege('pg_catalog.pg_authid', 'SELECT')"))


def _dump_globals(work: Work, with_passwords: bool, notes: list[str]) -> StoredObject:
    server = work.server
    arguments = ["--globals-only", *_connecting(server, server.connection.login_db)]
    # The name stands in a connection string here too: pg_dumpall hands it to libpq, which would read `a=b` as one.
    arguments.append("--database=" + conninfo_name(server.connection.login_db))
    if not with_passwords:
        arguments.append("--no-role-passwords")
        notes.append(
            "The roles' passwords are not in this backup: the role may not read pg_authid. "
            "Set them after a restore, or dump as a superuser."
        )
    chunks = _output(server, "pg_dumpall", arguments)
    return work.repository.put_object(work.label, "globals.sql", chunks, _small(work), kind="globals")


def conninfo_name(database: str) -> str:
    return "dbname='" + database.replace("\\", "\\\\").replace("'", "\\'") + "'"


# -- one database


def _dump_database(work: Work, database: Database) -> tuple[StoredObject, Counts]:
    how = {"custom": _dump_stream, "plain": _dump_stream, "directory": _dump_directory}
    try:
        with snapshot(work.server, database.name, work.settings.backup) as taken:
            stored = how[work.settings.backup.dump_format](work, database, taken)
            return stored, taken.counts()
    except DbopsError as exc:
        raise explain_conflict(exc, database.name) from exc


def _dump_stream(work: Work, database: Database, taken: Snapshot) -> StoredObject:
    """pg_dump's output straight into the repository; it does not compress, our pipeline does."""
    backup = work.settings.backup
    arguments = [f"--format={backup.dump_format}", *_dumping(work.server, database.name, taken, backup)]
    if backup.dump_format == "custom":
        arguments.append("--compress=0")
    chunks = taken.counting_from_the_first(_output(work.server, "pg_dump", arguments))
    return _store(work, database, chunks)


def _dump_directory(work: Work, database: Database, taken: Snapshot) -> StoredObject:
    """Parallel workers need files: staged on this host, not compressed there, then stored as one tar."""
    backup = work.settings.backup
    with work.staging("logical") as staging:
        require_space(staging, database.size_bytes, f"the directory dump of {database.name!r}")
        directory = os.path.join(staging, "dump")
        arguments = ["--format=directory", f"--file={directory}", f"--jobs={backup.jobs}", "--compress=0", "--no-sync"]
        work.server.tools.run("pg_dump", arguments + _dumping(work.server, database.name, taken, backup))
        return _store(work, database, flat_tar(directory))


def _store(work: Work, database: Database, chunks: Iterable[bytes]) -> StoredObject:
    dump_format = work.settings.backup.dump_format
    meter = Meter(work.progress, f"dump {database.name}", total_bytes=database.size_bytes)
    stored = work.repository.put_object(
        work.label,
        layout.database_object(database.name, EXTENSIONS[dump_format]),
        chunks,
        work.shape,
        kind="database",
        database=database.name,
        dump_format=dump_format,
        on_bytes=meter.add,
    )
    meter.finish()
    return stored


def _dumping(server: Server, database: str, taken: Snapshot, backup: BackupSettings) -> list[str]:
    return [
        f"--snapshot={taken.name}",
        *(f"--table={pattern}" for pattern in backup.include_tables),
        *(f"--exclude-table={pattern}" for pattern in backup.exclude_tables),
        *_connecting(server, database),
    ]


def _connecting(server: Server, database: str) -> list[str]:
    role = server.connection.session_role
    as_role = [f"--role={role}"] if role else []
    return ["--no-password", *as_role, f"--dbname={conninfo(server.connection, database=database)}"]


def _output(server: Server, program: str, arguments: Sequence[str]) -> Iterator[bytes]:
    """The program's output. It ends normally only after the program ended well, so nothing cut off is ever stored."""
    with server.tools.started(program, arguments, stdout=subprocess.PIPE) as process:
        yield from read_chunks(pipe(process.stdout))


def require_space(directory: str, needed_bytes: Optional[int], what: str) -> None:
    free = shutil.disk_usage(directory).free
    if needed_bytes is not None and free < needed_bytes:
        raise Refused(
            f"{directory} has {free} bytes free, and {what} may need {needed_bytes}.",
            hint="Free space there or set host.state_path to a larger disk; with the custom format nothing is staged.",
        )


# -- beside the data


def _store_surroundings(work: Work, databases: Sequence[Database], counts: dict[str, Counts]) -> Iterator[StoredObject]:
    def store(name: str, kind: str, content: bytes) -> StoredObject:
        return work.repository.put_object(work.label, name, [content], _small(work), kind=kind)

    if work.settings.backup.row_counts:
        yield store("counts.json", "counts", _json({name: counts[name].rows for name in sorted(counts)}))
    yield store("databases.json", "databases", _json({item.name: to_mapping(item) for item in databases}))
    yield store("inventory.json", "inventory", inventory(work.server))


def _selection(backup: BackupSettings) -> dict[str, str]:
    """Which tables were left out: without it a record would promise whole databases."""
    asked = {"include_tables": backup.include_tables, "exclude_tables": backup.exclude_tables}
    return {name: json.dumps(list(patterns), ensure_ascii=False) for name, patterns in asked.items() if patterns}


def _small(work: Work) -> Shape:
    return replace(work.shape, threads=1)


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
