# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a backup to its last byte without restoring it: every hash, every frame, every tar entry.

This proves that the bytes are those that were stored. That PostgreSQL can use them, only a restore proves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Optional

from ..errors import Corrupt
from ..progress import Meter, Progress
from ..repo.record import BackupRecord, StoredObject
from ..repo.repository import Repository, open_repository
from ..settings import Settings
from .extract import scan
from .select import select

_NOT_IN_MANIFEST = ("backup_manifest", "tablespace_map")


def validate(
    settings: Settings,
    *,
    progress: Progress,
    label: Optional[str] = None,
    before: Optional[str] = None,
    repository: Optional[str] = None,
) -> dict[str, Any]:
    """A physical backup with the chain it rests on; Corrupt names the first object that is not what was stored."""
    source = open_repository(settings, repository)
    with source.restoring():
        catalog = source.catalog()
        record = select(catalog, label=label, before=before, method="physical").record
        chain = catalog.chain(record.label)
        meter = Meter(progress, "validate", total_bytes=sum(member.stored_bytes for member in chain))
        objects = [result for member in chain for result in _check_backup(source, member, meter)]
        meter.finish()
    return {
        "changed": False,
        "msg": f"{record.label} is what was stored, to the last byte; whether it restores, only a restore proves.",
        "validation": {
            "label": record.label,
            "chain": [member.label for member in chain],
            "verdict": "pass",
            "stored_bytes": meter.done_bytes,
            "objects": objects,
        },
        "warnings": [],
    }


def _check_backup(source: Repository, record: BackupRecord, meter: Meter) -> list[dict[str, Any]]:
    files: dict[str, int] = {}
    for item in record.objects:
        name = f"{record.label}/{item.name}"
        chunks = source.read_object(record.label, item, on_bytes=meter.add)
        if item.kind in ("base", "tablespace"):
            prefix = f"pg_tblspc/{item.tablespace_oid}/" if item.tablespace_oid is not None else ""
            files.update({prefix + path: size for path, size in scan(chunks, name=name).items()})
        elif item.kind in ("wal", "config"):
            scan(chunks, name=name)
        elif item.kind != "manifest":
            _drain(chunks)
    for item in record.of_kind("manifest"):
        _compare(_manifest(source, record, item, meter), files, record)
    return [
        {"backup": record.label, "name": item.name, "stored_bytes": item.stored.size_bytes, "verdict": "pass"}
        for item in record.objects
    ]


def _manifest(source: Repository, record: BackupRecord, item: StoredObject, meter: Meter) -> dict[str, int]:
    raw = b"".join(source.read_object(record.label, item, on_bytes=meter.add))
    try:
        listed = json.loads(raw)["Files"]
        return {_path(entry): int(entry["Size"]) for entry in listed}
    except (ValueError, KeyError, TypeError) as exc:
        raise Corrupt(f"{record.label}/{item.name} cannot be read: {exc!r}.", hint="Restore another backup.") from exc


def _path(entry: dict[str, Any]) -> str:
    if "Path" in entry:
        return str(entry["Path"])
    return bytes.fromhex(entry["Encoded-Path"]).decode("utf-8", "surrogateescape")


def _compare(listed: dict[str, int], found: dict[str, int], record: BackupRecord) -> None:
    """Archives and manifest come from one run: a file in only one of them, or of another size, is damage."""
    for path in _NOT_IN_MANIFEST:
        listed.pop(path, None)
        found.pop(path, None)
    for path in sorted(listed.keys() | found.keys()):
        if listed.get(path) != found.get(path):
            raise Corrupt(
                f"{record.label}: {path} has {_size(found.get(path))} in the archive, "
                f"and {_size(listed.get(path))} by the manifest.",
                hint="Restore another backup, and keep this one for examination.",
            )


def _size(size: Optional[int]) -> str:
    return "no entry" if size is None else f"{size} bytes"


def _drain(chunks: Iterable[bytes]) -> None:
    for _chunk in chunks:
        pass
