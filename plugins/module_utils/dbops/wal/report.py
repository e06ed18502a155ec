# SPDX-License-Identifier: GPL-3.0-or-later
"""How continuous archiving stands: what the server runs with, what waits, and what each repository really holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Optional

from ..errors import DbopsError
from ..pg.config_files import configuration
from ..pg.connection import connected
from ..pg.wal import lsn_to_int
from ..pg.walfile import Kind, parse_history
from ..repo.archive import WalArchive
from ..repo.continuity import Run, continuity
from ..repo.record import BackupRecord, iso
from ..repo.window import Base, Interval, Segments
from ..settings import Settings
from .drop_in import ESSENTIAL
from .parameters import Surroundings, surroundings
from .status import status
from .targets import archives

_ARCHIVER = (
    "select archived_count, last_archived_wal, last_archived_time, failed_count, last_failed_wal, last_failed_time, "
    "stats_reset, coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) as failing "
    "from pg_stat_archiver"
)


def report(settings: Settings, *, with_repositories: bool = True) -> dict[str, Any]:
    """One object, with lists that are there even when empty. A repository that cannot be read has its `error`."""
    server = surroundings(settings)
    settings = replace(settings, host=replace(settings.host, data_directory=server.data_directory))
    with connected(server.connection, server.identity) as session:
        archiver = {key: _told(value) for key, value in session.row(_ARCHIVER).items()}
    local = status(settings)
    pending = sorted(name for name, item in server.parameters.items() if item.pending_restart)
    found = [_repository(item, server) for item in _archives(settings, server, with_repositories)]
    enabled = _is_enabled(server)
    data = {
        "cluster": settings.cluster,
        "system_identifier": server.system_identifier,
        "timeline": local["timeline"],
        "in_recovery": server.in_recovery,
        "enabled": enabled,
        "settings": {name: item.describe() for name, item in server.parameters.items()},
        "overrides": _written_twice(server),
        "restart_pending": pending,
        "archiver": archiver,
        "backlog": local["backlog"],
        "worker": local["worker"],
        "last_error": local["last_error"],
        "repositories": found,
        "warnings": [],
    }
    return {"changed": False, "msg": _message(data), **data}


def _is_enabled(server: Surroundings) -> bool:
    values = {name: item.value for name, item in server.parameters.items()}
    return values["archive_mode"] != "off" and bool(values["archive_command"] or values.get("archive_library"))


def _written_twice(server: Surroundings) -> list[dict[str, Any]]:
    """Lines that say something else than the one that counts, and so have no effect, as the files are now."""
    lines = [line for line in configuration(server.config_file, server.data_directory) if line.name in ESSENTIAL]
    last = {line.name: line for line in lines}
    return [
        {
            "name": line.name,
            "value": line.value,
            "file": line.file,
            "line": line.number,
            "overridden_by": last[line.name].where,
        }
        for line in lines
        if line is not last[line.name] and line.value != last[line.name].value
    ]


def _archives(settings: Settings, server: Surroundings, wanted: bool) -> list[WalArchive]:
    return archives(settings, server.system_identifier) if wanted and settings.repositories else []


def _repository(archive: WalArchive, server: Surroundings) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "name": archive.name, "segments": 0, "stored_bytes": 0, "first": None, "last": None, "timelines": [],
        "partial": [], "dropped": [], "gaps": [], "missing": [], "orphaned": [], "window": [], "error": None,
    }  # fmt: skip
    try:
        return {**empty, **_content(archive, server)}
    except DbopsError as exc:
        return {**empty, "error": str(exc)}


def _content(archive: WalArchive, server: Surroundings) -> dict[str, Any]:
    files = list(archive.files())
    dropped = archive.dropped()
    size = server.segment_size
    names = sorted(item.name.text for item in files if item.name.kind is Kind.SEGMENT)
    segments = Segments({_place(name, size) for name in names}, size, {_place(name, size) for name in dropped})
    histories = {
        item.name.timeline: parse_history(archive.get(item.name).decode("utf-8", "replace"))
        for item in files
        if item.name.kind is Kind.HISTORY
    }
    records = [entry.record for entry in archive.repository.catalog().entries]
    mine = [record for record in records if record.system_identifier == archive.system_identifier]
    complete = {record.label for record in mine if record.wal is not None and record.wal.included}
    found = continuity(segments, [base for base in map(_base, mine) if base is not None], histories)

    def told(runs: tuple[Run, ...]) -> list[dict[str, object]]:
        return [run.describe(segments) for run in runs]

    return {
        "segments": len(names),
        "stored_bytes": sum(item.stored_bytes for item in files),
        "first": names[0] if names else None,
        "last": max(names, key=lambda name: (name[8:], name[:8])) if names else None,
        "timelines": sorted({int(name[:8], 16) for name in names} | set(histories)),
        "partial": sorted(item.name.text for item in files if item.name.kind is Kind.PARTIAL),
        "dropped": sorted(dropped),
        "gaps": told(found.gaps),
        "missing": [
            {"backup": label, "segments": list(lacking)}
            for label, lacking in found.missing.items()
            if label not in complete
        ],
        "orphaned": told(found.orphaned),
        "window": [_interval(item) for item in found.window],
    }


def _base(record: BackupRecord) -> Optional[Base]:
    if record.method != "physical" or record.wal is None:
        return None
    wal = record.wal
    return Base(record.label, wal.timeline, lsn_to_int(wal.start_lsn), lsn_to_int(wal.stop_lsn), record.stopped)


def _interval(interval: Interval) -> dict[str, object]:
    return {**interval.describe(), "start_time": iso(interval.start_time)}


def _place(name: str, size: int) -> tuple[int, int]:
    return int(name[:8], 16), int(name[8:16], 16) * (0x100000000 // size) + int(name[16:24], 16)


def _told(value: Any) -> Any:
    return iso(value) if isinstance(value, datetime) else value


def _message(data: Mapping[str, Any]) -> str:
    waiting = data["backlog"]["files"]
    parts = [f"Archiving of {data['cluster']} is {'on' if data['enabled'] else 'off'}"]
    if data["archiver"]["failing"]:
        parts.append(f"FAILING at {data['archiver']['last_failed_wal']}")
    parts.append(f"{waiting} file{'' if waiting == 1 else 's'} waiting")
    for item in data["repositories"]:
        if item["error"]:
            parts.append(f"{item['name']} cannot be read")
        elif item["gaps"] or item["missing"]:
            parts.append(f"{item['name']} has gaps")
    if data["restart_pending"]:
        parts.append(f"a restart is pending for {', '.join(data['restart_pending'])}")
    return "; ".join(parts) + "."
