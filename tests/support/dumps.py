# SPDX-License-Identifier: GPL-3.0-or-later
"""Logical backups and restores as the tests ask for them: through the same two functions that every door calls."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup import take
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.codecs import codec_named
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.record import BackupRecord
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore import logical
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings
from tests.support.servers import PgServer

AWKWARD_NAMES = ["a b", "q\"uo'te", "sla/sh/..", "do.t", "a=b", "dbname=postgres", "ünï ☃", "globals", "-x", "back\\s"]


def dumped(settings: Settings, **request: Any) -> BackupRecord:
    """Take a logical backup; its record as the catalog now lists it."""
    plan = take.plan(settings, take.Request(method="logical", **request))
    label = take.run(plan, Silent())["backup"]["label"]
    return open_repository(settings).catalog().entry(label).record


def restored(settings: Settings, **request: Any) -> dict[str, Any]:
    return logical.run(logical.plan(settings, logical.Request(**request)), Silent())


def databases(server: PgServer) -> list[str]:
    return [name for (name,) in server.sql("select datname from pg_database order by 1")]


def create_database(server: PgServer, name: str, options: str = "") -> None:
    server.sql('create database "{}" {}'.format(name.replace('"', '""'), options))


def object_path(settings: Settings, label: str, name: str) -> Path:
    return Path(settings.repositories[0].path) / settings.cluster / "backups" / label / name


def pg_dump(server: PgServer, path: Path, *options: str, database: str = "shop") -> Path:
    """A dump as anyone would make it, in a place that everyone can read."""
    address = ["-h", str(server.sockets), "-p", str(server.port), "-U", "postgres", "-d", database]
    path.parent.chmod(0o777)
    server.run("pg_dump", *address, "-f", path, *options)
    return path


def compressed(path: Path, codec: str, suffix: str) -> Path:
    """As the field's programs do it; zstd and lz4 need not be installed, their libraries are."""
    packed = Path(f"{path}{suffix}")
    chunks = codec_named(codec).compress([path.read_bytes()], level=1, threads=1)
    packed.write_bytes(b"".join(chunks))
    return packed


@contextlib.contextmanager
def nothing_changed(server: PgServer) -> Iterator[None]:
    """Whatever happens inside, the same databases are there afterwards, and the shop's rows with them."""

    def state() -> Any:
        return databases(server), server.value("select count(*) from orders", database="shop")

    before = state()
    yield
    assert state() == before
