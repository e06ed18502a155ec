# SPDX-License-Identifier: GPL-3.0-or-later
"""A physical backup: the whole cluster as PostgreSQL's own pg_basebackup sends it, full or incremental.

`copy` reads from top to bottom: archiving proven, where there is any → parent's manifest out → archives streamed in →
manifest and WAL stored beside them → configuration and inventory → its WAL is archived too → the record, which the
caller publishes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from typing import Optional

from .. import __version__
from ..codec.codecs import default_threads
from ..codec.stream import read_chunks
from ..pg.osuser import current_identity
from ..pg.server import Server
from ..progress import Step
from ..repo.record import BackupRecord, StoredObject, TablespaceRecord
from ..settings import CompressionSettings
from ..wal import proof
from . import parent_manifest
from .basebackup import BaseBackup, Options, base_backup
from .inventory import config_archive, facts, inventory
from .manifest import wal_range
from .watch import watched
from .work import Work

_SERVER_SIDE = ("zstd", "lz4")  # the server's gzip has one thread and no peer worth the CPU: we do that better


def copy(work: Work, parent: Optional[BackupRecord]) -> BackupRecord:
    """Everything of one backup but its record's publication. An incremental one when there is a parent."""
    backup = work.settings.backup
    archived = proof.relies_on_archive(work.server, work.settings.cluster)
    if archived:
        proof.prove_archiving(work.server, work.goes_to.required, work.progress)
    with work.staging("physical") as staging:
        options = Options(
            application_name=f"dbops {work.label}",
            server_compression=server_compression(work.settings.compression, work.server),
            suffix=work.shape.codec_suffix if server_compression(work.settings.compression, work.server) else "",
            checkpoint=backup.checkpoint,
            max_rate_kib_s=backup.max_rate_kib_s,
            parent_manifest=_fetch_manifest(work, parent, staging) if parent else None,
        )
        with watched(work.server, options.application_name, work.progress):
            with base_backup(work.server, os.path.join(staging, "backup"), options) as running:
                objects = list(_store_archives(work, running, options))
                running.wait()
        wal = wal_range(running.manifest_path, segment_size=work.server.segment_size)
        objects.append(_store_file(work, running.manifest_path, "backup_manifest", "manifest"))
        if work.shape.cipher is not None:
            parent_manifest.keep(work.settings, work.server.identity, work.label, running.manifest_path)
        objects.append(_store_file(work, running.wal_path, "pg_wal.tar", "wal"))
    stopped = datetime.now(timezone.utc)
    objects.extend(_store_surroundings(work))
    if archived:
        work.progress.report(Step("wait for the archive"))
        proof.wait_for_wal(work.server, work.goes_to.required, wal)
    return BackupRecord(
        label=work.label,
        cluster=work.settings.cluster,
        method="physical",
        type="incremental" if parent else "full",
        parent=parent.label if parent else None,
        started=work.started,
        stopped=stopped,
        system_identifier=work.server.system_identifier,
        postgres_version=work.server.version,
        postgres_version_num=work.server.version_num,
        objects=tuple(objects),
        database_bytes=work.server.size_bytes,
        wal=wal,
        tablespaces=tuple(TablespaceRecord(item.oid, item.name, item.path) for item in work.server.tablespaces),
        from_standby=work.server.in_recovery,
        host=socket.gethostname(),
        by=current_identity().name,
        reason=work.reason,
        tool_version=__version__,
        extra=facts(work.server),
    )


def server_compression(compression: CompressionSettings, server: Server) -> Optional[str]:
    """pg_basebackup's `--compress` word when the server compresses, None when we do."""
    possible = compression.codec in _SERVER_SIDE and compression.codec in server.compressions
    if compression.server_side == "never" or not possible:
        return None
    details = [] if compression.level is None else [f"level={compression.level}"]
    if compression.codec == "zstd":
        details = details or ["level=1"]
        threads = compression.threads or default_threads()
        details += [f"workers={threads}"] if threads > 1 else []
    return f"server-{compression.codec}" + (f":{','.join(details)}" if details else "")


def _store_archives(work: Work, running: BaseBackup, options: Options) -> Iterator[StoredObject]:
    for archive in running.archives():
        yield work.repository.put_object(
            work.label,
            archive.name,
            archive.chunks,
            work.shape,
            kind="base" if archive.tablespace_oid is None else "tablespace",
            compressed_by_server=options.server_compression is not None,
            tablespace_oid=archive.tablespace_oid,
        )


def _store_file(work: Work, path: str, name: str, kind: str) -> StoredObject:
    with open(path, "rb", buffering=0) as stream:
        return work.repository.put_object(work.label, name, read_chunks(stream), work.shape, kind=kind)


def _store_surroundings(work: Work) -> Iterator[StoredObject]:
    """What lies beside the data: configuration outside the data directory, and what the cluster needs to run."""
    small = replace(work.shape, threads=1)
    archive = config_archive(work.server, work.settings.host.config_paths)
    if archive:
        yield work.repository.put_object(work.label, "config.tar", [archive], small, kind="config")
    content = inventory(work.server)
    yield work.repository.put_object(work.label, "inventory.json", [content], small, kind="inventory")


def _fetch_manifest(work: Work, parent: BackupRecord, staging: str) -> str:
    """The parent's manifest as a file that the cluster's user can read; the server asks for all of it."""
    path = os.path.join(staging, "parent_manifest")
    parent_manifest.fetch(work.settings, work.repository, parent, path)
    work.server.identity.give(path)
    return path
