# SPDX-License-Identifier: GPL-3.0-or-later
"""Small backups that are consistent in themselves, made through the engine's own repository, without a server."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.stream import Shape
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo import layout
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.record import BackupRecord
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import Repository, open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings, from_mapping

START = datetime(2026, 1, 1, 2, 0, tzinfo=timezone.utc)
DAY = timedelta(days=1)


def repository_settings(path: Path, **sections: Any) -> Settings:
    """Settings of a cluster `main` with that directory, which is made if missing, as its repository."""
    path.mkdir(parents=True, exist_ok=True)
    return from_mapping({"cluster": "main", "repositories": [{"path": str(path)}], **sections})


def backed_up(
    settings: Settings,
    started: datetime,
    kind: str = "full",
    *,
    publish: bool = True,
    files: int = 3,
    shape: Shape | None = None,
    **facts: Any,
) -> str:
    """Store one backup of `files` little objects; its label."""
    repository = open_repository(settings)
    label = layout.label_for(started, kind)
    shape = shape or Shape("gzip")
    objects = tuple(
        repository.put_object(
            label,
            name,
            [f"{label} {name}".encode() * 50],
            shape or Shape("gzip"),
            kind="base" if not number else "config",
        )
        for number, name in enumerate(["base.tar", *(f"{16384 + number}.tar" for number in range(files - 1))])
    )
    record = BackupRecord(
        label=label,
        cluster=settings.cluster,
        method="logical" if kind == "dump" else "physical",
        type=kind,
        started=started,
        stopped=started + timedelta(minutes=10),
        **{
            "system_identifier": "7500000000000000001",
            "postgres_version": "18.1",
            "postgres_version_num": 180001,
            "objects": objects,
            "database_bytes": 1_000_000,
            **facts,
        },
    )
    if publish:
        repository.publish(record)
    return label


def chain_of(settings: Settings, started: datetime, incrementals: int) -> list[str]:
    """A full backup and its incrementals, one an hour, each on the one before."""
    labels = [backed_up(settings, started)]
    for number in range(1, incrementals + 1):
        labels.append(backed_up(settings, started + number * timedelta(hours=1), "incremental", parent=labels[-1]))
    return labels


def listed(settings: Settings) -> list[str]:
    """Newest first."""
    return [entry.record.label for entry in open_repository(settings).catalog().entries]


def read_in_full(repository: Repository, labels: Iterable[str]) -> None:
    """Every object of these backups to its last byte, with its chain; whatever is wrong raises."""
    catalog = repository.catalog()
    for label in labels:
        for record in catalog.chain(label):
            for item in record.objects:
                for _chunk in repository.read_object(record.label, item):
                    pass
