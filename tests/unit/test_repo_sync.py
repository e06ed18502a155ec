# SPDX-License-Identifier: GPL-3.0-or-later
"""Repositories brought up to date from one another: whole, verified, resumable, and nothing that expires again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.stream import Shape
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import (
    BadInput,
    Busy,
    Corrupt,
    DbopsError,
    Refused,
    Unreachable,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.walfile import wal_name
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo import expire, holds, sync
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.archive import WalArchive
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.info import info
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import Repository, open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings, from_mapping
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store.local import LocalStore
from tests.support.backups import DAY, START, backed_up, chain_of, read_in_full
from tests.support.physical import flip_a_bit

NOW = START + 30 * DAY
SYSTEM = "7500000000000000001"


def two(tmp_path: Path, far: dict[str, Any] | None = None, **sections: Any) -> Settings:
    """Repositories near and far; far may have settings of its own."""
    for name in ("near", "far"):
        (tmp_path / name).mkdir(exist_ok=True)
    repositories = [
        {"name": "near", "path": str(tmp_path / "near")},
        {"name": "far", "path": str(tmp_path / "far"), **(far or {})},
    ]
    return from_mapping({"cluster": "main", "repositories": repositories, **sections})


def tree(path: Path) -> dict[str, bytes]:
    return {
        str(item.relative_to(path)): item.read_bytes()
        for item in sorted(path.rglob("*"))
        if item.is_file() and not item.name.startswith(".")
    }


def run(settings: Settings, **options: Any) -> dict[str, Any]:
    return sync.run(sync.plan(settings, now=NOW, **options), Silent())


def archive(settings: Settings, name: str, *segments: int) -> None:
    there = WalArchive(open_repository(settings, name), SYSTEM)
    for number in segments:
        content = f"segment {number}".encode() * 100
        text = f"0000000100000000{number:08X}"
        there.put(wal_name(text), content, hashlib.sha256(content).hexdigest(), Shape("gzip"))


def test_everything_comes_along_to_the_byte_and_the_second_run_finds_nothing_to_do(tmp_path: Path):
    settings = two(tmp_path)
    labels = chain_of(settings, START, 2)
    backed_up(settings, START + 3 * DAY, "dump", databases=("shop",))
    archive(settings, "near", 1, 2, 3)
    holds.hold(settings, labels[0], reason="audit", repository="near")
    near = open_repository(settings, "near").store
    for key in ("main/proofs/" + labels[0] + "/20260102T000000Z.json", "main/restore_points/20260102T000000Z-x.json"):
        near.put(key, [b"{}"])
    preview = sync.plan(settings, now=NOW).preview()
    assert tree(tmp_path / "far") == {}
    assert preview["changed"]
    assert preview["sync"][0]["backups"] == []  # far has nothing for near
    result = run(settings)
    assert result["changed"]
    assert tree(tmp_path / "far") == tree(tmp_path / "near")
    read_in_full(open_repository(settings, "far"), labels)
    again = sync.plan(settings, now=NOW)
    assert not again.needed
    assert run(settings)["changed"] is False
    json.dumps(result)


def test_each_gets_what_only_the_other_has(tmp_path: Path):
    settings = two(tmp_path)
    first = backed_up(settings, START)
    other_way = from_mapping({"cluster": "main", "repositories": [{"name": "far", "path": str(tmp_path / "far")}]})
    second = backed_up(other_way, START + DAY)
    result = run(settings)
    assert [(item["from"], item["to"], item["backups"]) for item in result["sync"]] == [
        ("far", "near", [second]),
        ("near", "far", [first]),
    ]
    assert tree(tmp_path / "far") == tree(tmp_path / "near")


def test_only_the_named_direction_is_copied(tmp_path: Path):
    settings = two(tmp_path)
    backed_up(settings, START)
    assert run(settings, target="near")["changed"] is False
    assert run(settings, source="far")["changed"] is False
    assert run(settings, source="near", target="far")["changed"] is True
    with pytest.raises(BadInput, match="itself"):
        sync.plan(settings, source="near", target="near")


def test_a_run_that_was_killed_half_way_lists_nothing_and_the_next_one_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = two(tmp_path)
    label = backed_up(settings, START)
    put, written = LocalStore.put, []

    def put_until_killed(self: LocalStore, key: str, chunks: Any, **options: Any) -> Any:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(key)
        return put(self, key, chunks, **options)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "put", put_until_killed)
        with pytest.raises(KeyboardInterrupt):
            run(settings)
    far = open_repository(settings, "far").catalog()
    assert (far.entries, far.unfinished) == ((), (label,))
    written.clear()
    monkeypatch.setattr(
        LocalStore,
        "put",
        lambda self, key, *more, **options: (written.append(key), put(self, key, *more, **options))[1],
    )
    run(settings)
    assert tree(tmp_path / "far") == tree(tmp_path / "near")
    assert [key.rsplit("/", 1)[1] for key in written] == ["32768.tar.gz", "backup.json"] or len(written) == 2


def test_a_damaged_object_is_not_copied_and_all_the_rest_is(tmp_path: Path):
    settings = two(tmp_path)
    bad, good = backed_up(settings, START), backed_up(settings, START + DAY)
    child = backed_up(settings, START + 2 * DAY, "incremental", parent=bad)
    archive(settings, "near", 1, 2)
    path = tmp_path / "near/main/backups" / bad / "base.tar.gz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    segment = next((tmp_path / "near/main/wal").rglob("*00000001.gz"))
    segment.write_bytes(flip_a_bit(segment.read_bytes(), 0.98))
    with pytest.raises(Corrupt, match=rf"2 could not be copied.*{bad}"):
        run(settings)
    far = open_repository(settings, "far")
    assert [entry.record.label for entry in far.catalog().entries] == [good]
    assert child not in {entry.record.label for entry in far.catalog().entries}  # it rests on what is not there
    assert not (tmp_path / "far/main/backups" / bad / "base.tar.gz").exists()
    assert [item.name.text[-1] for item in WalArchive(far, SYSTEM).files()] == ["2"]


def test_what_is_there_with_other_content_is_never_replaced(tmp_path: Path):
    settings = two(tmp_path)
    label = backed_up(settings, START)
    far = open_repository(settings, "far").store
    far.put(f"main/backups/{label}/base.tar.gz", [b"somebody else's"])
    with pytest.raises(Refused, match="other content"):
        run(settings)
    assert b"".join(far.get(f"main/backups/{label}/base.tar.gz")) == b"somebody else's"
    assert open_repository(settings, "far").catalog().entries == ()


def test_two_records_of_one_label_are_told_and_left_alone(tmp_path: Path):
    settings = two(tmp_path)
    backed_up(settings, START, database_bytes=1)
    only_far = from_mapping({"cluster": "main", "repositories": [{"name": "far", "path": str(tmp_path / "far")}]})
    backed_up(only_far, START, database_bytes=2)
    plans = sync.plan(settings, now=NOW)
    assert not plans.needed
    assert any("not the same in far and near" in text for text in plans.warnings)


def test_what_the_targets_own_rules_would_expire_is_not_copied(tmp_path: Path):
    settings = two(tmp_path, {"retention": {"keep_last": 2}}, retention={"keep_last": 5})
    labels = [backed_up(settings, START + number * DAY) for number in range(6)]
    run(settings)
    assert [entry.record.label for entry in open_repository(settings, "far").catalog().entries] == labels[:3:-1]
    for name, kept in (("near", 5), ("far", 2)):
        plan = expire.plan(settings, repository=name, now=NOW)
        assert sum(line.keep for line in plan.lines) == kept
        assert expire.apply(plan, Silent(), now=NOW)["changed"] == (name == "near")
    assert not sync.plan(settings, now=NOW).needed
    assert [(item["name"], item["lacks"]) for item in info(settings)["repositories"]] == [("near", []), ("far", [])]


def test_a_repository_that_is_away_is_told_or_fails_as_it_is_needed(tmp_path: Path):
    settings = two(tmp_path)
    backed_up(settings, START)
    (tmp_path / "far").rmdir()
    with pytest.raises(Unreachable, match="'far' is not there"):
        sync.plan(settings, now=NOW)
    optional = from_mapping(
        {
            "cluster": "main",
            "repositories": [
                {"name": "near", "path": str(tmp_path / "near")},
                {"name": "far", "path": str(tmp_path / "far"), "required": False},
            ],
        }
    )
    plans = sync.plan(optional, now=NOW)
    assert not plans.needed
    assert any("'far' is left out" in text for text in plans.warnings)
    with pytest.raises(Unreachable):
        sync.plan(optional, target="far", now=NOW)


def test_one_repository_has_nobody_to_copy_from(tmp_path: Path):
    with pytest.raises(BadInput, match="fewer than two"):
        sync.plan(from_mapping({"cluster": "main", "repositories": [{"path": str(tmp_path)}]}))


def test_two_runs_into_one_repository_exclude_each_other(tmp_path: Path):
    settings = two(tmp_path)
    backed_up(settings, START)
    plans = sync.plan(settings, now=NOW)
    target = open_repository(settings, "far")
    with target.store.lock("main/sync"), pytest.raises(Busy):
        sync.run(plans, Silent())


def test_expiry_waits_for_a_copy_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = two(tmp_path, retention={"keep_last": 1})
    backed_up(settings, START)
    backed_up(settings, START + DAY)
    plans = sync.plan(settings, now=NOW)
    put = LocalStore.put
    met: list[DbopsError] = []

    def put_and_expire(self: LocalStore, key: str, chunks: Any, **options: Any) -> Any:
        with pytest.raises(Busy) as caught:
            expire.apply(expire.plan(settings, repository="near", now=NOW), Silent(), now=NOW)
        met.append(caught.value)
        return put(self, key, chunks, **options)

    monkeypatch.setattr(LocalStore, "put", put_and_expire)
    sync.run(plans, Silent())
    assert met


@pytest.fixture(autouse=True)
def nothing_is_ever_deleted(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    if "expire" not in request.node.name:

        def refuse(self: Repository, label: str) -> int:
            raise AssertionError(f"{label} would be removed")

        monkeypatch.setattr(Repository, "remove", refuse)
    return
