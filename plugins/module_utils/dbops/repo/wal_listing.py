# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive's list, read anew only where something may have changed.

A segment's directory is full after 256 of them, and then nothing in it changes any more. Where the store can say that a
directory is as it was (a local one: by its inode and times), what was listed before is taken from this host's state.
A cloud cannot say so: there the whole list is read, a thousand keys a request.

What is kept is about names and sizes at the time of listing. Whether the bytes are still good, no list ever tells.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Optional

from ..pg.walfile import Kind
from ..store import ObjectInfo
from .archive import ArchivedFile, WalArchive, archived_file
from .wal_index import Log, WalIndex, log_of

_FORMAT = 1
_FOLDER = re.compile(r"[0-9A-F]{16}")
Logs = dict[str, tuple[str, Log]]  # by directory: its stamp (empty: do not keep) and what lies there


def listing(archive: WalArchive, segment_size: int) -> tuple[WalIndex, list[ArchivedFile]]:
    """Every segment, and the histories. A failed listing raises: half of it would show gaps, or hide them."""
    root = archive.root
    folder = archive.repository.store.folder(root)
    if folder is None:
        return _whole(archive, segment_size)
    path = _path(archive)
    before = _read(path, segment_size)
    logs: Logs = {}
    for name, stamp in folder.folders.items():
        if not _FOLDER.fullmatch(name):
            continue
        kept = before.get(name)
        if kept is not None and stamp and kept[0] == stamp:
            logs[name] = kept
            continue
        log = log_of(_entries(archive.repository.store.list(f"{root}{name}/"), f"{root}{name}/{name}"))
        if log is not None:
            logs[name] = (stamp, log)
    if _lasting(logs) != _lasting(before):
        _write(path, segment_size, logs)
    files = [file for item in folder.objects for file in archived_file(item)]
    return _index(logs, segment_size, root), [file for file in files if file.name.kind is Kind.HISTORY]


def _whole(archive: WalArchive, segment_size: int) -> tuple[WalIndex, list[ArchivedFile]]:
    histories: list[ArchivedFile] = []
    by_folder: dict[str, list[tuple[int, int, str]]] = {}
    for file in archive.files():
        if file.name.kind is Kind.HISTORY:
            histories.append(file)
        elif file.name.kind is Kind.SEGMENT:
            by_folder.setdefault(file.name.text[:16], []).append(_entry(file))
    logs = {name: ("", log) for name, found in by_folder.items() for log in [log_of(found)] if log is not None}
    return _index(logs, segment_size, archive.root), histories


def _entries(items: Iterable[ObjectInfo], begin: str) -> Iterator[tuple[int, int, str]]:
    """Of the segments that lie where they belong, which is where they are looked for: their keys have that `begin`."""
    for item in items:
        if item.key.startswith(begin):
            for file in archived_file(item):
                if file.name.kind is Kind.SEGMENT:
                    yield _entry(file)


def _entry(file: ArchivedFile) -> tuple[int, int, str]:
    text = file.name.text
    return int(text[16:], 16), file.stored_bytes, file.key[file.key.rindex(text) + len(text) :]


def _index(logs: Logs, segment_size: int, root: str) -> WalIndex:
    by_place = {(int(name[:8], 16), int(name[8:], 16)): log for name, (_stamp, log) in logs.items()}
    return WalIndex(by_place, segment_size, root)


# -- what was listed before


def _path(archive: WalArchive) -> Optional[str]:
    cache = archive.repository.cache
    if cache is None:
        return None
    where = f"{archive.repository.settings.type} {archive.repository.settings.location} {archive.repository.cluster}"
    name = f"{archive.system_identifier}-{hashlib.sha256(where.encode()).hexdigest()[:16]}.json"
    return os.path.join(cache, "wal-index", name)


def _lasting(logs: Logs) -> dict[str, str]:
    return {name: stamp for name, (stamp, _log) in logs.items() if stamp}


def _read(path: Optional[str], segment_size: int) -> Logs:
    """Nothing where there is none, or where it is not whole: then all is listed again."""
    if path is None:
        return {}
    try:
        with open(path, encoding="ascii") as stream:
            data: Any = json.load(stream)
        if data["format"] != _FORMAT or data["segment_size"] != segment_size:
            return {}
        return {str(name): _kept(item) for name, item in data["logs"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _kept(item: Mapping[str, Any]) -> tuple[str, Log]:
    log = Log(int(item["mask"], 16), int(item["bytes"]), str(item["suffix"]), str(item["files"]))
    if log.files.count(",") + 1 != log.count:
        raise ValueError("sizes and segments differ in number")
    return str(item["stamp"]), log


def _write(path: Optional[str], segment_size: int, logs: Logs) -> None:
    """A convenience: where it cannot be kept, the list is read again next time."""
    if path is None:
        return
    kept = {
        name: {
            "stamp": stamp,
            "mask": f"{log.mask:x}",
            "bytes": log.total_bytes,
            "suffix": log.suffix,
            "files": log.files,
        }
        for name, (stamp, log) in logs.items()
        if stamp
    }
    temporary = f"{path}.{os.getpid()}"
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(temporary, "w", encoding="ascii") as stream:
            json.dump({"format": _FORMAT, "segment_size": segment_size, "logs": kept}, stream)
        os.replace(temporary, path)
