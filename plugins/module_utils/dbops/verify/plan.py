# SPDX-License-Identifier: GPL-3.0-or-later
"""What would be verified: which backup, recovered to which point, and where. Nothing is changed."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Optional

from ..errors import BadInput, NotFound
from ..pg.osuser import Identity, cluster_identity
from ..pg.tools import find_tools
from ..repo.archive import WalArchive
from ..repo.coverage import Line, Window, window_of
from ..repo.record import BackupRecord
from ..repo.repository import Catalog, Entry, Repository, open_repository
from ..repo.window import Interval
from ..restore.edges import WalReader
from ..restore.space import needed_bytes
from ..restore.target import Target, iso_micro
from ..schema import one_of
from ..settings import METHODS, Settings
from .scratch import require_room, require_short
from .verdict import LEVELS, Finding, Verdict, failed, passed

CHOICES = ("latest", "oldest_unverified", "random")
LIVE = "live"
TARGETS = ("end", "backup", "random", LIVE)
_ROOM = 256 << 20  # for what a server writes besides the data: its WAL, the log, amcheck's sorts


@dataclass(frozen=True)
class Request:
    """`backup`: a label, or one of CHOICES. `target`: one of TARGETS, or an instant; `end` is that of the archived WAL,
    or the backup's own where no WAL is archived; `live` is a restore point that is made now on the running primary,
    with its rows counted there. `until`: the level to stop after."""

    backup: str = "latest"
    target: str = "end"
    method: Optional[str] = None
    repository: Optional[str] = None
    until: str = LEVELS[-1]
    scratch_path: Optional[str] = None
    keep: bool = False  # leave the scratch instance running, for a person to look into

    def check(self) -> None:
        one_of("until", self.until, LEVELS)
        if self.method is not None:
            one_of("method", self.method, METHODS)
        if self.scratch_path is not None and not os.path.isabs(self.scratch_path):
            raise BadInput(
                f"scratch_path must be an absolute path, got {self.scratch_path!r}.", hint="Begin it with a slash."
            )

    def asks(self, level: str) -> bool:
        return LEVELS.index(level) <= LEVELS.index(self.until)


@dataclass(frozen=True)
class VerifyPlan:
    """`recovery` None: the backup alone is restored, without archived WAL. `wal` is what the archive's list says."""

    settings: Settings
    request: Request
    repository: Repository
    chain: tuple[BackupRecord, ...]
    identity: Identity
    root: str
    needed_bytes: int
    recovery: Optional[Target]
    wal: Optional[Finding]

    @property
    def record(self) -> BackupRecord:
        return self.chain[-1]

    @property
    def at_the_backups_end(self) -> bool:
        """Whether what is restored is as the backup saw it, so that it can be compared with what was noted then."""
        return self.recovery is None or self.recovery.kind == "immediate"

    @property
    def wal_breaks_off(self) -> bool:
        """Whether the list of WAL alone says that the target cannot be reached."""
        broken = self.wal is not None and self.wal.verdict is not Verdict.PASS
        return broken and (self.recovery is None or self.recovery.kind == "latest")

    def preview(self) -> dict[str, Any]:
        where = "its own end" if self.recovery is None else str(self.recovery)
        if self.request.target == LIVE:
            where = "a restore point that is made on the running primary, whose rows are counted"
        return {
            "changed": True,
            "msg": f"Would restore {self.record.label} below {self.root}, recover it to {where}, look at it, "
            "and remove it.",
            "verification": None,
            "plan": {
                "label": self.record.label,
                "chain": [record.label for record in self.chain],
                "method": self.record.method,
                "repository": self.repository.name,
                "target": where,
                "scratch_path": self.root,
                "needed_bytes": self.needed_bytes,
                "until": self.request.until,
            },
            "warnings": [],
        }


def plan(settings: Settings, request: Request, *, dice: Optional[random.Random] = None) -> VerifyPlan:
    """Everything that can be looked at beforehand. Whatever cannot be known raises; see `run.verify` for verdicts."""
    request.check()
    dice = dice or random.Random()
    repository = open_repository(settings, request.repository)
    catalog = repository.catalog()
    entry = choose(catalog, request.backup, request.method, dice)
    chain = tuple(catalog.chain(entry.record.label))
    identity = cluster_identity(settings.host.os_user, settings.host.data_directory)
    root = request.scratch_path or settings.verify.scratch_path or os.path.join(settings.state_path, "verify")
    require_short(root)
    needed = needed_bytes(chain) + _ROOM
    find_tools(entry.record.postgres_version_num // 10000, identity, bin_dir=settings.host.bin_dir)
    require_room(root, needed, entry.record.label)
    recovery, wal = None, None
    if entry.record.method == "physical":
        recovery, wal = _recovery(settings, request, repository, catalog, entry.record, identity, dice)
    return VerifyPlan(settings, request, repository, chain, identity, root, needed, recovery, wal)


def choose(catalog: Catalog, backup: str, method: Optional[str], dice: random.Random) -> Entry:
    """NotFound when there is none of that kind."""
    if backup not in CHOICES:
        return catalog.entry(backup)
    entries = [entry for entry in catalog.entries if method in (None, entry.record.method)]
    if not entries:
        raise NotFound(f"There is no {f'{method} ' if method else ''}backup to verify.", hint="See dbops info.")
    if backup == "random":
        return dice.choice(entries)
    if backup == "latest":
        return max(entries, key=lambda entry: (entry.record.stopped, entry.record.label))
    # never proven first, the oldest of them; then the one whose proof is the oldest
    beginning = datetime.min.replace(tzinfo=timezone.utc)
    return min(entries, key=lambda entry: (entry.proven_at or beginning, entry.record.stopped, entry.record.label))


def _recovery(
    settings: Settings,
    request: Request,
    repository: Repository,
    catalog: Catalog,
    record: BackupRecord,
    identity: Identity,
    dice: random.Random,
) -> tuple[Optional[Target], Optional[Finding]]:
    if request.target == "backup":
        return None, None
    window = window_of(repository, catalog, record.system_identifier)
    if not window.segments.present and request.target == "end":
        return None, None
    found = interval_of(window, record.label)
    if found is None:
        return None, failed(
            f"{record.label} cannot be rolled forward: archived WAL that it needs is missing.",
            "It restores to its own end alone. Find out who removed the WAL (dbops wal info), and take a new backup.",
        )
    line, interval = found
    wal = continuous(interval)
    if request.target in ("end", LIVE) or (request.target == "random" and interval.broken_by):
        return Target("latest", timeline=str(line.timeline)), wal
    if request.target != "random":
        return Target("time", request.target, timeline=str(line.timeline)), wal
    archive = WalArchive(repository, record.system_identifier)
    tools = find_tools(record.postgres_version_num // 10000, identity, bin_dir=settings.host.bin_dir)
    with WalReader(archive, window, tools, cache=settings.state_path) as reader:
        last = reader.edge(line, interval).time
    instant = random_instant(record.stopped, last, dice)
    if instant is None:  # nothing was committed since: the end is the only point there is
        return Target("latest", timeline=str(line.timeline)), wal
    return Target("time", iso_micro(instant), timeline=str(line.timeline)), wal


def interval_of(window: Window, label: str) -> Optional[tuple[Line, Interval]]:
    """The newest line that this backup can be rolled forward on; None when it cannot."""
    for line in reversed(window.lines):
        for interval in line.intervals:
            if label in interval.bases:
                return line, interval
    return None


def continuous(interval: Interval) -> Finding:
    if interval.broken_by is None:
        return passed("Every segment from the backup to the end of the archived WAL is there.", **interval.describe())
    return failed(
        f"Segment {interval.broken_by} is missing from the archive, and there is WAL beyond it.",
        "Nothing behind it can be reached from this backup. Take a new backup, and find out who removed it.",
        **interval.describe(),
    )


def random_instant(start: datetime, last: Optional[datetime], dice: random.Random) -> Optional[datetime]:
    """After the backup's end and before the last commit: PostgreSQL stops only when it sees a later one."""
    if last is None:
        return None
    span = (last - start) / timedelta(microseconds=1)
    if span <= 2:
        return None
    return start + timedelta(microseconds=dice.randrange(1, int(span)))
