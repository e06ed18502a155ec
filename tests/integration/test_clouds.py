# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups, WAL and recovery with repositories in object stores: moto's S3, fake-gcs-server and Azurite on loopback."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.stream import Shape
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import NotFound
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.walfile import wal_name
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo import expire
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.archive import pack
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.info import info
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import RetentionSettings
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal.targets import archives
from tests.support.clouds import SECRET_KEY, Cloud, readable_by
from tests.support.physical import assert_same_content, labels_of, restored, taken, validated
from tests.support.processes import settings_file
from tests.support.recovering import Protected, at
from tests.support.servers import Installation, PgServer, Templates, cluster_hashes


@pytest.fixture
def s3(clouds: Callable[[str], Cloud], installation: Installation, place: Path) -> Cloud:
    """The server, with credentials that the database server's OS user can read."""
    return readable_by(clouds("s3"), PgServer(installation, place / "pg").os_user, place / "secrets")


@pytest.fixture
def protected(installation: Installation, templates: Templates, place: Path, s3: Cloud) -> Iterator[Protected]:
    """Archiving to S3, with a first row; no backup yet."""
    repository = s3.repository(s3.new_bucket(), prefix="clusters")
    made = Protected(templates.server(installation, place / "pg", summarize_wal=False), place, cloud=repository)
    made.row(0)
    yield made
    made.server.stop("immediate")


def test_backup_archive_and_recovery_on_s3(protected: Protected, capsys: pytest.CaptureFixture[str], place: Path):
    seen: list[bytes] = []
    first = protected.backup()
    point = protected.row(1)
    protected.row(2)
    protected.archive()
    with protected.recovered(time=at(point)) as side:
        seen += command_lines()
        assert side.rows() == [0, 1]
        assert side.recovery["base"] == first

    data = info(protected.settings)
    assert data["repository"]["path"].startswith("s3://dbops-")
    assert [item["label"] for item in data["backups"]] == [first]
    window = data["recovery_window"][0]
    assert window["segments"] >= 2
    assert all(interval["broken_by"] is None for line in window["lines"] for interval in line["intervals"])

    second = protected.backup()
    expire.apply(expire.plan(replace(protected.settings, retention=RetentionSettings(keep_last=1))), Silent())
    assert labels_of(protected.settings) == [second]
    config = settings_file(place / "settings.json", protected.mapping)
    assert main(["--config", str(config), "info"]) == 0
    said = capsys.readouterr()
    stored = open_repository(protected.settings).store
    everything = b"".join(b"".join(stored.get(item.key)) for item in stored.list("main/backups/") if "json" in item.key)
    assert SECRET_KEY not in said.out + said.err
    assert SECRET_KEY.encode() not in everything
    assert not [line for line in seen if SECRET_KEY.encode() in line]


@pytest.mark.parametrize("kind", ["gcs", "azure"])
def test_a_backup_and_its_wal_on_another_cloud(
    kind: str, clouds: Callable[[str], Cloud], server: PgServer, place: Path
):
    cloud = clouds(kind)
    settings = server.engine_settings(None, repositories=[cloud.repository(cloud.new_bucket(), prefix="a/b")])
    record = taken(settings)
    before = cluster_hashes(server)
    (archive,) = archives(settings, record.system_identifier)
    name = wal_name(str(server.value("select pg_walfile_name(pg_switch_wal())")))
    packed = pack(name, [(server.data / "pg_wal" / name.text).read_bytes()], Shape("zstd", 1, threads=1))
    assert [archive.put_packed(packed).value for _twice in range(2)] == ["new", "identical"]
    assert archive.get(name) == (server.data / "pg_wal" / name.text).read_bytes()
    with pytest.raises(NotFound):
        archive.get(wal_name("0000000100000000000000FF"))
    assert validated(settings)["verdict"] == "pass"
    server.stop()
    restored(settings, target=str(place / "new"))
    assert_same_content(server, place / "new", place / "over", before)
    assert info(settings)["repository"]["free_bytes"] is None


def command_lines() -> list[bytes]:
    """Of every process that runs now."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                found.append(Path(f"/proc/{entry}/cmdline").read_bytes() + Path(f"/proc/{entry}/environ").read_bytes())
            except OSError:
                continue
    return found
