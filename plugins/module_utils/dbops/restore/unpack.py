# SPDX-License-Identifier: GPL-3.0-or-later
"""From stored objects to a complete data directory that is not in its place yet.

A full backup is unpacked where it will lie. A chain is unpacked member by member beside it and combined into it by
pg_combinebackup, oldest first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Callable, Optional

from ..errors import Corrupt
from ..pg.osuser import Identity
from ..pg.tools import Tools
from ..progress import Meter, Progress, Step
from ..repo.record import BackupRecord, StoredObject
from ..repo.repository import Repository
from .durable import Flusher, write_durably
from .extract import extract
from .place import NOTE, Place

CONTROL = "global/pg_control"
# A standby's backup brings its signal file, and restored it is a primary. A note of an earlier restore is not ours.
_LEFT_OUT = ("standby.signal", "recovery.signal", NOTE)


@dataclass(frozen=True)
class Job:
    """What is to be unpacked and whose it becomes; `programs` are needed for a chain and for verifying."""

    repository: Repository
    chain: tuple[BackupRecord, ...]
    identity: Identity
    programs: Callable[[], Tools]
    tablespaces: Mapping[int, Place]

    @property
    def record(self) -> BackupRecord:
        return self.chain[-1]


def fetch(job: Job, root: str, roots: Mapping[int, str], meter: Meter, progress: Progress) -> Optional[bytes]:
    """Unpack everything below root. The content of pg_control when it is still to be written, else None."""
    if len(job.chain) == 1:
        held = _unpack(job, job.record, root, roots, meter)
        _unpack_wal(job, root)
        return held[CONTROL]
    parts = [os.path.join(f"{root}.chain", record.label) for record in job.chain]
    shutil.rmtree(f"{root}.chain", ignore_errors=True)
    try:
        for record, part in zip(job.chain, parts):
            _unpack_part(job, record, part, meter)
        progress.report(Step("combine", 0, None, note=f"{len(parts)} backups"))
        _combine(job, parts, root, roots)
    finally:
        shutil.rmtree(f"{root}.chain", ignore_errors=True)
    _unpack_wal(job, root)
    return None


def _unpack(job: Job, record: BackupRecord, root: str, roots: Mapping[int, str], meter: Meter) -> dict[str, bytes]:
    """One backup's archives. pg_control is held back: without it nothing can start what is not complete yet."""
    flusher = Flusher(root)
    held: dict[str, bytes] = {}

    def count(size: int) -> None:
        meter.add(size)
        flusher.wrote(size)

    for item in record.objects:
        if item.kind in ("base", "tablespace"):
            into = root if item.tablespace_oid is None else roots[item.tablespace_oid]
            done = extract(
                job.repository.read_object(record.label, item),
                into,
                owner=job.identity,
                name=f"{record.label}/{item.name}",
                hold=lambda name: name in (CONTROL, "tablespace_map"),
                on_bytes=count,
            )
            held.update(done.held)
    if CONTROL not in held:
        raise Corrupt(f"{record.label} brings no {CONTROL}.", hint="Restore another backup.")
    _write_object(job, record, record.of_kind("manifest")[0], os.path.join(root, "backup_manifest"))
    return held


def _unpack_part(job: Job, record: BackupRecord, part: str, meter: Meter) -> None:
    """One member of a chain, complete, in a directory of its own that pg_combinebackup can read."""
    for path in (os.path.dirname(part), part):
        if not os.path.isdir(path):
            os.mkdir(path, 0o700)
            job.identity.give(path)
    roots = {space.oid: f"{part}.{space.oid}" for space in record.tablespaces}
    for path in roots.values():
        os.mkdir(path, 0o700)
        job.identity.give(path)
    held = _unpack(job, record, part, roots, meter)
    for oid, path in roots.items():
        _link(part, oid, path, job.identity)
    write_durably(os.path.join(part, CONTROL), held[CONTROL])


def _combine(job: Job, parts: list[str], root: str, roots: Mapping[int, str]) -> None:
    mapping = [f"--tablespace-mapping={parts[-1]}.{oid}={path}" for oid, path in roots.items()]
    job.programs().run("pg_combinebackup", [*parts, "--output", root, "--no-sync", *mapping])


def _unpack_wal(job: Job, root: str) -> None:
    for item in job.record.of_kind("wal"):
        extract(
            job.repository.read_object(job.record.label, item),
            os.path.join(root, "pg_wal"),
            owner=job.identity,
            name=f"{job.record.label}/{item.name}",
        )


def link_tablespaces(job: Job, root: str) -> None:
    """Links to where the tablespaces will finally lie; we make them, so no tablespace_map is left for the server."""
    for oid, item in job.tablespaces.items():
        _link(root, oid, item.path, job.identity)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(root, "tablespace_map"))


def _link(root: str, oid: int, path: str, owner: Identity) -> None:
    link = os.path.join(root, "pg_tblspc", str(oid))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(link)
    os.symlink(path, link)
    owner.give(link)


def leave_out(root: str) -> None:
    """Remove what was true where the backup was taken, and is not here."""
    for name in _LEFT_OUT:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(root, name))


def verify(job: Job, root: str, control_file: Optional[bytes], progress: Progress) -> None:
    """pg_verifybackup over what was unpacked; WAL is checked apart, since it came in its own archive."""
    progress.report(Step("verify", note="pg_verifybackup"))
    final = {oid: item for oid, item in job.tablespaces.items() if item.partial != item.path}
    for oid, item in final.items():
        _link(root, oid, item.partial, job.identity)
    if control_file is not None:
        write_durably(os.path.join(root, CONTROL), control_file)
    ignore = [f"--ignore={name}" for name in ("tablespace_map", *_LEFT_OUT)]
    try:
        job.programs().run("pg_verifybackup", ["--no-parse-wal", "--quiet", *ignore, root])
    finally:
        if control_file is not None:
            os.unlink(os.path.join(root, CONTROL))
        for oid, item in final.items():
            _link(root, oid, item.path, job.identity)


def _write_object(job: Job, record: BackupRecord, item: StoredObject, path: str) -> None:
    with open(path, "xb") as stream:
        for chunk in job.repository.read_object(record.label, item):
            stream.write(chunk)
    os.chmod(path, 0o600)
    job.identity.give(path)
