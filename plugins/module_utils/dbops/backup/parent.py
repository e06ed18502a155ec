# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an incremental backup can be taken, and on which parent. Pure: facts in, a choice out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ..errors import Corrupt, Refused
from ..pg.wal import int_to_lsn, lsn_to_int
from ..repo.record import BackupRecord
from ..repo.repository import Catalog

FIRST_MAJOR = 17


@dataclass(frozen=True)
class Summary:
    """One WAL summary file that the server has: [start, end) of a timeline."""

    timeline: int
    start: int
    end: int


@dataclass(frozen=True)
class Facts:
    """What decides, as the server tells it. `summaries` is None where the role may not see them."""

    major: int
    summarize_wal: bool
    system_identifier: str
    data_checksums: str
    summaries: Optional[Sequence[Summary]]
    restored: str = ""  # which restore the data directory comes from


@dataclass(frozen=True)
class Choice:
    """A parent for an incremental, or the reason why only a full backup will do."""

    parent: Optional[BackupRecord]
    reason: str


def choose_parent(catalog: Catalog, facts: Facts, *, max_chain: int) -> Choice:
    """Refused where no incremental can ever be taken; a full one, with the reason, where just this one cannot."""
    if facts.major < FIRST_MAJOR:
        raise Refused(
            f"PostgreSQL {facts.major} cannot take incremental backups: they came with {FIRST_MAJOR}.",
            hint="Take a full backup (type=full), or upgrade the server.",
        )
    if not facts.summarize_wal:
        raise Refused(
            "An incremental backup needs WAL summaries, and summarize_wal is off.",
            hint="Set summarize_wal = on and reload; the next full backup after that can be a parent.",
        )
    physical = [item.record for item in catalog.entries if item.record.method == "physical"]
    mine = [record for record in physical if record.system_identifier == facts.system_identifier]
    if not mine:
        return Choice(None, "there is no backup of this system yet to build on")
    parent = mine[0]
    try:
        chain = catalog.chain(parent.label)
    except Corrupt as error:
        return Choice(None, error.message)
    if len(chain) > max_chain:
        return Choice(None, f"the chain on {chain[0].label} already has {len(chain) - 1} incrementals (max_chain)")
    if parent.extra.get("data_checksums", "") != facts.data_checksums:
        return Choice(None, f"data checksums were switched since {parent.label}")
    if parent.extra.get("restored", "") != facts.restored:
        # Both went on from the same position in WAL, each with changes of its own, and no summary tells them apart.
        return Choice(None, f"the cluster was restored since {parent.label}")
    gap = _gap(parent, facts.summaries)
    if gap:
        return Choice(None, gap)
    return Choice(parent, f"on {parent.label}")


def _gap(parent: BackupRecord, summaries: Optional[Sequence[Summary]]) -> str:
    """Empty unless the summaries prove a hole since the parent's start.

    The newest WAL is not summarised yet, and the server waits for that itself; what it lacks before, it never gets.
    """
    if not summaries or parent.wal is None:
        return ""
    reach = lsn_to_int(parent.wal.start_lsn)
    latest = max(summary.end for summary in summaries)
    for summary in sorted(summaries, key=lambda item: (item.start, item.end)):
        if summary.start <= reach < summary.end:
            reach = summary.end
    if reach < latest:
        return f"WAL summaries since {parent.label} are missing from {int_to_lsn(reach)} on"
    return ""
