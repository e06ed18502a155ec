# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup records for deciders: one made-up backup a line, in a catalog as the repository lists it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.wal import int_to_lsn
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.layout import label_for
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.record import BackupRecord, WalRange
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import Catalog, Entry

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)


def backup(hours: float = 0, *, parent: BackupRecord | None = None, start: int = 0, **changes: Any) -> BackupRecord:
    """A physical backup begun `hours` after noon that took half an hour; incremental when it has a parent."""
    started = NOON + hours * HOUR
    kind = "incremental" if parent else "full"
    facts: dict[str, Any] = {
        "label": label_for(started, changes.get("type", kind)),
        "cluster": "main",
        "method": "physical",
        "type": kind,
        "parent": parent.label if parent else None,
        "started": started,
        "stopped": started + HOUR / 2,
        "system_identifier": "7001",
        "postgres_version": "18.6",
        "postgres_version_num": 180006,
        "objects": (),
        "wal": WalRange(1, int_to_lsn(start), int_to_lsn(start + 0x100), 16 << 20),
        "extra": {"data_checksums": "on"},
        **changes,
    }
    return BackupRecord(**facts)


def dump(hours: float = 0, **changes: Any) -> BackupRecord:
    return backup(hours, method="logical", type="dump", **changes)


def catalog(*records: BackupRecord, unreadable: dict[str, str] | None = None) -> Catalog:
    newest_first = sorted(records, key=lambda record: (record.started, record.label), reverse=True)
    return Catalog(tuple(Entry(record) for record in newest_first), (), unreadable or {})
