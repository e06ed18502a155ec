# SPDX-License-Identifier: GPL-3.0-or-later
"""Physical backups and restores as the tests ask for them: through the same functions that every door calls."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup import take
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.record import BackupRecord
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import Catalog, open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore import physical, validate
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings
from tests.support.servers import PgServer, cluster_hashes, differences


def taken(settings: Settings, **request: Any) -> BackupRecord:
    """Take a physical backup; its record as the catalog now lists it."""
    result = take.run(take.plan(settings, take.Request(method="physical", **request)), Silent())
    return record_of(settings, result["backup"]["label"])


def record_of(settings: Settings, label: str) -> BackupRecord:
    return catalog_of(settings).entry(label).record


def catalog_of(settings: Settings) -> Catalog:
    return open_repository(settings).catalog()


def labels_of(settings: Settings) -> list[str]:
    return [entry.record.label for entry in catalog_of(settings).entries]


def restored(settings: Settings, **request: Any) -> dict[str, Any]:
    return physical.run(physical.plan(settings, physical.Request(**request)), Silent())["restore"]


def validated(settings: Settings, **request: Any) -> dict[str, Any]:
    return validate.validate(settings, progress=Silent(), **request)["validation"]


def repository_of(settings: Settings) -> Path:
    return Path(settings.repositories[0].path) / settings.cluster


def objects_of(settings: Settings, label: str) -> dict[str, Path]:
    """The stored files of one backup by name, its record among them."""
    return {path.name: path for path in sorted((repository_of(settings) / "backups" / label).iterdir())}


@contextlib.contextmanager
def running(original: PgServer, data: Path, base: Path) -> Iterator[PgServer]:
    """A server over a restored data directory, stopped at the end."""
    server = original.over(data, base)
    server.start()
    try:
        yield server
    finally:
        server.stop("immediate")


def assert_same_content(original: PgServer, data: Path, base: Path, expected: dict[str, str]) -> None:
    """What a server over this data directory holds is what `cluster_hashes` had found before."""
    with running(original, data, base) as server:
        assert differences(expected, cluster_hashes(server)) == []
        assert not server.value("select pg_is_in_recovery()")


def add_rows(server: PgServer, how_many: int = 300, note: str = "more") -> None:
    """Change the sample database, so that the next backup differs."""
    server.psql(
        f"insert into orders (customer_id, amount, note) select 1 + n % 500, n, '{note}' "
        f"from generate_series(1, {how_many}) n;\n"
        f"update customers set name = name || ' {note}' where id % 7 = 0;",
        database="shop",
    )


def add_tablespace(server: PgServer, path: Path, name: str) -> int:
    """A tablespace in a new directory with a table in it; its oid."""
    server.os_user.own_directory(path)
    server.sql(f"create tablespace \"{name}\" location '{path}'")
    server.sql(
        f'create table "in {name}" tablespace "{name}" as select n, md5(n::text) as h from generate_series(1, 3000) n',
        database="shop",
    )
    return int(server.value("select oid::bigint from pg_tablespace where spcname = %s", (name,)))


def picture(*directories: Path) -> dict[str, str]:
    """Every path below with its kind, mode, owner and content: equal before and after means untouched."""
    found = {}
    for top in directories:
        for path in [top, *sorted(top.rglob("*"))]:
            status = path.lstat()
            if path.is_symlink():
                content = os.readlink(path)
            elif path.is_file():
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                content = ""
            found[str(path)] = f"{status.st_mode:o} {status.st_uid} {content}"
    return found


@contextlib.contextmanager
def untouched(*directories: Path, settings: Settings | None = None) -> Iterator[None]:
    """Whatever happens inside, these directories, and with settings the list of backups, are as before."""

    def state() -> Any:
        return picture(*directories), labels_of(settings) if settings else None

    before = state()
    yield
    assert state() == before


def changed_bytes(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def flip_a_bit(raw: bytes, at: float = 0.5) -> bytes:
    """The same bytes but for one bit, `at` a fraction of the way."""
    position = min(len(raw) - 1, int(len(raw) * at))
    return raw[:position] + bytes([raw[position] ^ 0x10]) + raw[position + 1 :]
