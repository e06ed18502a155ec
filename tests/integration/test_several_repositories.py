# SPDX-License-Identifier: GPL-3.0-or-later
"""One cluster, several repositories: written to at once, read from in order, and none of them is all there is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup import take
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import Corrupt, DbopsError, Unreachable
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.info import info
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore import logical, logical_plan, physical
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store.local import LocalStore
from tests.support.backups import read_in_full
from tests.support.physical import assert_same_content, changed_bytes, flip_a_bit, taken
from tests.support.servers import PgServer, Templates, cluster_hashes, installations


@pytest.fixture
def server(templates: Templates, place: Path) -> PgServer:
    """The newest PostgreSQL alone: repositories do not care."""
    server = templates.server(installations()[-1], place / "pg")
    server.start()
    return server


def settings_of(server: PgServer, place: Path, *optional: str, **sections: Any) -> Settings:
    """Repositories near and far; those named are optional."""
    for name in ("near", "far"):
        if not (place / name).exists():
            server.os_user.own_directory(place / name, 0o750)
    repositories = [
        {"name": name, "path": str(place / name), "required": name not in optional} for name in ("near", "far")
    ]
    return server.engine_settings(None, repositories=repositories, **sections)


def labels(settings: Settings, name: str) -> list[str]:
    return [entry.record.label for entry in open_repository(settings, name).catalog().entries]


def tree(place: Path, name: str) -> dict[str, bytes]:
    """Every object in a repository with its bytes."""
    top = place / name
    return {
        str(path.relative_to(top)): path.read_bytes()
        for path in sorted(top.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def dying(monkeypatch: pytest.MonkeyPatch, name: str, after: int) -> None:
    """That repository goes away once it has taken so many chunks of a base backup."""
    put = LocalStore.put

    def broken(chunks: Any) -> Iterator[bytes]:
        for number, chunk in enumerate(chunks):
            if number >= after:
                raise Unreachable("the disk is gone")
            yield chunk

    def put_or_die(self: LocalStore, key: str, chunks: Any, **options: Any) -> Any:
        return put(self, key, broken(chunks) if self.name == name and "base.tar" in key else chunks, **options)

    monkeypatch.setattr(LocalStore, "put", put_or_die)


def test_a_backup_is_read_once_and_lies_in_both_to_the_byte(server: PgServer, place: Path):
    settings = settings_of(server, place)
    record = taken(settings)
    assert labels(settings, "near") == labels(settings, "far") == [record.label]
    assert tree(place, "near") == tree(place, "far")
    read_in_full(open_repository(settings, "far"), [record.label])


def test_an_optional_one_that_dies_half_way_costs_the_backup_nothing_and_is_shown_as_lagging(
    server: PgServer, place: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = settings_of(server, place, "far")
    first = taken(settings)
    with monkeypatch.context() as patched:
        dying(patched, "far", 1)
        progress = Silent()
        result = take.run(take.plan(settings, take.Request(type="full")), progress)
    label = result["backup"]["label"]
    assert [(item["name"], item["stored"]) for item in result["backup"]["repositories"]] == [
        ("near", True), ("far", False),
    ]  # fmt: skip
    assert any("'far' is left out" in text and "the disk is gone" in text for text in progress.warnings)
    told = info(settings)
    assert [(item["name"], item["lacks"]) for item in told["repositories"]] == [("near", []), ("far", [label])]
    assert any("'far' lags" in text for text in told["warnings"])
    assert labels(settings, "far") == [first.label]
    read_in_full(open_repository(settings), [label])
    third = taken(settings)
    assert labels(settings, "far") == [third.label, label, first.label]  # it has caught up by itself
    assert info(settings)["warnings"] == []


def test_a_required_one_that_dies_half_way_fails_the_backup_and_nothing_is_listed(
    server: PgServer, place: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = settings_of(server, place)
    with monkeypatch.context() as patched:
        dying(patched, "far", 1)
        with pytest.raises(Unreachable, match="the disk is gone"):
            taken(settings)
    for name in ("near", "far"):
        assert labels(settings, name) == []
        assert not any("/backups/" in path for path in tree(place, name))
    record = taken(settings)
    assert labels(settings, "near") == labels(settings, "far") == [record.label]


def test_one_that_is_not_there_is_told_before_anything_is_copied(server: PgServer, place: Path):
    settings = settings_of(server, place)
    shutil.rmtree(place / "far")
    with pytest.raises(Unreachable, match="'far' is not there"):
        take.plan(settings, take.Request())
    optional = settings_of(server, place, "far")
    shutil.rmtree(place / "far")
    plan = take.plan(optional, take.Request())
    assert plan.preview()["plan"]["repositories"] == ["near"]
    assert any("'far' is left out" in text for text in plan.warnings)


def test_an_incremental_needs_its_parent_in_every_required_one(server: PgServer, place: Path):
    settings = settings_of(server, place)
    full = taken(settings)
    assert taken(settings, type="incremental").parent == full.label
    shutil.rmtree(place / "far" / "main" / "backups")
    again = taken(settings, type="incremental")
    assert (again.type, again.parent) == ("full", None)
    optional = settings_of(server, place, "far")
    shutil.rmtree(place / "far" / "main" / "backups")
    record = taken(optional, type="incremental")
    assert record.parent == again.label
    assert set(labels(optional, "far")) == set(labels(optional, "near"))  # copied after the backup


@pytest.mark.parametrize("harm", ["unmounted", "no record", "object gone", "bit flipped"])
def test_a_restore_goes_on_in_the_next_repository_and_says_so(server: PgServer, place: Path, harm: str):
    settings = settings_of(server, place)
    before = cluster_hashes(server)
    record = taken(settings)
    backup = place / "near" / "main" / "backups" / record.label
    base = backup / record.of_kind("base")[0].name
    if harm == "unmounted":
        os.rename(place / "near", place / "elsewhere")
    elif harm == "no record":
        (backup / "backup.json").unlink()
    elif harm == "object gone":
        base.unlink()
    else:
        changed_bytes(base, flip_a_bit)
    progress = Silent()
    plan = physical.plan(settings, physical.Request(target=str(place / "new")))
    result = physical.run(plan, progress)
    told = " ".join([*result["warnings"], *progress.warnings])
    assert "near" in told
    assert "far" in told or harm == "object gone"
    assert_same_content(server, place / "new", place / "over", before)
    named = physical.Request(target=str(place / "named"), repository="near")  # taken at its word
    with pytest.raises(DbopsError):
        physical.run(physical.plan(settings, named), Silent())
    assert not (place / "named").exists()


def test_a_backup_damaged_everywhere_is_refused_and_leaves_nothing(server: PgServer, place: Path):
    settings = settings_of(server, place)
    record = taken(settings)
    for name in ("near", "far"):
        base = place / name / "main" / "backups" / record.label / record.of_kind("base")[0].name
        changed_bytes(base, flip_a_bit)
    with pytest.raises(Corrupt):
        physical.run(physical.plan(settings, physical.Request(target=str(place / "new"))), Silent())
    assert not (place / "new").exists()


def test_a_dump_is_found_in_the_second_repository(server: PgServer, place: Path):
    settings = settings_of(server, place, backup={"method": "logical", "databases": ["shop"]})
    take.run(take.plan(settings, take.Request()), Silent())
    os.rename(place / "near", place / "elsewhere")
    request = logical_plan.Request(databases={"shop": "shop_again"})
    plan = logical_plan.plan(settings, request)
    assert any("'near' was passed over" in text for text in plan.warnings)
    logical.run(plan, Silent())
    assert server.value("select count(*) from orders", database="shop_again") > 0
