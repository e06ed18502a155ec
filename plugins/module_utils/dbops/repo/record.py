# SPDX-License-Identifier: GPL-3.0-or-later
"""`backup.json`: what one backup is. Written once, never changed; its reader refuses what it does not understand."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any, Optional

from ..codec.stream import Side
from ..errors import Corrupt, DbopsError, Refused

FORMAT = 1
# The last key: sha256 of every byte above its line. The objects' hashes are only worth as much as the record is.
_SEAL = b',\n "sha256_above": "'


@dataclass(frozen=True)
class StoredObject:
    """`kind`: base, tablespace, manifest, wal, globals, database, config, inventory or counts.

    `plain` is None where the server compressed and the content never passed through us: backup_manifest vouches.
    """

    name: str
    kind: str
    codec: str
    stored: Side
    plain: Optional[Side] = None
    tablespace_oid: Optional[int] = None
    database: Optional[str] = None
    dump_format: Optional[str] = None
    encryption: Optional[str] = None  # gpg or age
    keys: tuple[str, ...] = ()  # whose private keys open it, as the method calls them
    generation: int = 0  # how often it was encrypted anew, see rekeyed.py


@dataclass(frozen=True)
class TablespaceRecord:
    oid: int
    name: str
    path: str


@dataclass(frozen=True)
class WalRange:
    """What replay needs to become consistent; `included` says that the backup brings it along."""

    timeline: int
    start_lsn: str
    stop_lsn: str
    segment_size: int
    included: bool = True


@dataclass(frozen=True)
class BackupRecord:
    label: str
    cluster: str
    method: str  # physical | logical
    type: str  # full | incremental | dump
    started: datetime
    stopped: datetime
    system_identifier: str
    postgres_version: str
    postgres_version_num: int
    objects: tuple[StoredObject, ...]
    database_bytes: Optional[int] = None
    parent: Optional[str] = None
    wal: Optional[WalRange] = None
    tablespaces: tuple[TablespaceRecord, ...] = ()
    databases: tuple[str, ...] = ()
    from_standby: bool = False
    host: str = ""
    by: str = ""
    reason: str = ""
    tool_version: str = ""
    notes: tuple[str, ...] = ()
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def stored_bytes(self) -> int:
        return sum(item.stored.size_bytes for item in self.objects)

    @property
    def encryption(self) -> str:
        """The methods of its objects: none, gpg, age, or several of them joined by a plus."""
        return "+".join(sorted({item.encryption or "none" for item in self.objects})) or "none"

    @property
    def duration_s(self) -> float:
        return (self.stopped - self.started).total_seconds()

    @property
    def codec(self) -> str:
        data = [item for item in self.objects if item.kind in ("base", "database")]
        return data[0].codec if data else "none"

    def of_kind(self, kind: str) -> list[StoredObject]:
        return [item for item in self.objects if item.kind == kind]

    def find(self, name: str) -> StoredObject:
        for item in self.objects:
            if item.name == name:
                return item
        raise Corrupt(f"Backup {self.label} lists no object {name!r}.", hint="Restore another backup.")


def iso(moment: datetime) -> str:
    """ISO-8601 in UTC with milliseconds and Z: how every time is written."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_iso(text: str) -> datetime:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no zone")
    return moment.astimezone(timezone.utc)


def to_json(record: BackupRecord) -> bytes:
    data = {"format": FORMAT, **asdict(record)}
    data["started"], data["stopped"] = iso(record.started), iso(record.stopped)
    data["stored_bytes"] = record.stored_bytes
    data["objects"] = [
        {key: value for key, value in item.items() if key == "plain" or value not in (None, (), 0)}
        for item in data["objects"]
    ]
    text = json.dumps(data, indent=1, ensure_ascii=False)
    body = text.encode("utf-8", "surrogatepass").rstrip(b"\n}")  # a name from a SQL_ASCII database may be no UTF-8
    return body + _SEAL + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def from_json(raw: bytes, *, where: str) -> BackupRecord:
    """Refused for a newer format, Corrupt for anything that is not a record of ours, to the last bit."""
    try:
        data = json.loads(raw.decode("utf-8", "surrogatepass"))
        written = data["format"]
        if isinstance(written, int) and written > FORMAT:
            raise Refused(
                f"{where} has format {written}; this dbops {_version()} reads up to {FORMAT}.",
                hint="Use the newer dbops that wrote it (see tool_version inside), or follow RECOVER.md by hand.",
            )
        if written != FORMAT:
            raise ValueError(f"format {written!r}")
        body, seal, end = raw.rpartition(_SEAL)
        if not seal or end != hashlib.sha256(body).hexdigest().encode() + b'"\n}\n':
            raise ValueError("its sha256_above is wrong: it was changed after it was written")
        return _record(data)
    except DbopsError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise Corrupt(f"{where} cannot be read: {exc!r}.", hint="Take it from another repository.") from exc


def _record(data: dict[str, Any]) -> BackupRecord:
    for key in ("format", "stored_bytes", "sha256_above"):
        data.pop(key, None)
    for key in ("tablespaces", "databases", "notes"):
        data[key] = tuple(data.get(key, ()))
    data["objects"] = tuple(_object(item) for item in data["objects"])
    data["tablespaces"] = tuple(TablespaceRecord(**item) for item in data["tablespaces"])
    data["wal"] = WalRange(**data["wal"]) if data.get("wal") else None
    data["started"], data["stopped"] = from_iso(data["started"]), from_iso(data["stopped"])
    return BackupRecord(**data)


def _object(item: dict[str, Any]) -> StoredObject:
    plain = item.get("plain")
    name = item["name"]
    if "/" in name or name in ("", ".", ".."):
        raise ValueError(f"object name {name!r}")
    item["stored"], item["plain"] = Side(**item["stored"]), Side(**plain) if plain else None
    if "keys" in item:
        item["keys"] = tuple(item["keys"])
    return StoredObject(**item)


def _version() -> str:
    from .. import __version__

    return __version__
