# SPDX-License-Identifier: GPL-3.0-or-later
"""Expiry on real directories: it deletes what it showed, never more, and when in doubt nothing."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import (
    Busy,
    Corrupt,
    NotFound,
    Refused,
    Unreachable,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo import expire, holds
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.info import info
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store.local import LocalStore
from tests.support.backups import DAY, START, backed_up, chain_of, listed, read_in_full, repository_settings

NOW = START + 30 * DAY


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return repository_settings(tmp_path / "repository", retention={"keep_last": 2})


def place(settings: Settings, *parts: str) -> Path:
    return Path(settings.repository().path, "main", *parts)


def fates(preview: dict[str, Any]) -> dict[str, bool]:
    return {item["label"]: item["keep"] for item in preview["expire"]["backups"]}


def why(preview: dict[str, Any], label: str) -> str:
    return "; ".join(next(item for item in preview["expire"]["backups"] if item["label"] == label)["reasons"])


def damage(settings: Settings, label: str, content: bytes = b"{") -> None:
    place(settings, "backups", label, "backup.json").write_bytes(content)


def apply(settings: Settings, now: datetime = NOW) -> dict[str, Any]:
    return expire.apply(expire.plan(settings, now=now), Silent(), now=now)


def test_the_plan_shows_every_backup_with_its_fate_and_touches_nothing(settings: Settings):
    labels = [backed_up(settings, START + number * DAY) for number in range(4)]
    files = sorted(place(settings).rglob("*"))
    preview = expire.plan(settings, now=NOW).preview()
    assert sorted(place(settings).rglob("*")) == files
    assert fates(preview) == {labels[0]: False, labels[1]: False, labels[2]: True, labels[3]: True}
    assert list(fates(preview)) == sorted(labels, reverse=True)
    assert all(item["reasons"] for item in preview["expire"]["backups"])
    assert preview["changed"] is True
    assert preview["expire"]["delete"] == [labels[1], labels[0]]
    gone = [item for item in preview["expire"]["backups"] if not item["keep"]]
    assert preview["expire"]["freed_bytes"] == sum(item["stored_bytes"] for item in gone) > 0
    json.dumps(preview)


def test_apply_deletes_exactly_what_was_shown_and_says_what_it_freed(settings: Settings):
    labels = [backed_up(settings, START + number * DAY) for number in range(4)]
    plan = expire.plan(settings, now=NOW)
    result = expire.apply(plan, Silent(), now=NOW)
    assert (result["changed"], result["expire"]["deleted"]) == (True, [labels[1], labels[0]])
    assert result["expire"]["freed_bytes"] == plan.freed_bytes
    assert listed(settings) == [labels[3], labels[2]]
    assert not place(settings, "backups", labels[0]).exists()
    read_in_full(open_repository(settings), listed(settings))
    again = apply(settings)
    assert (again["changed"], again["expire"]["delete"]) == (False, [])


def test_a_chain_goes_from_its_newest_end_and_a_kept_child_keeps_it_all(settings: Settings):
    old = chain_of(settings, START, 3)
    new = chain_of(settings, START + DAY, 3)
    plan = expire.plan(settings, now=NOW)
    assert plan.delete_order == tuple(reversed(old))
    assert all(fates(plan.preview())[label] for label in new)
    assert f"needed by {new[1]}" in why(plan.preview(), new[0])


def test_more_than_was_shown_is_refused_and_nothing_is_deleted(settings: Settings):
    labels = [backed_up(settings, START + number * DAY) for number in range(3)]
    plan = expire.plan(settings, now=NOW)
    newest = backed_up(settings, START + 9 * DAY)  # now the second oldest would go too
    with pytest.raises(Refused, match=labels[1]):
        expire.apply(plan, Silent(), now=NOW)
    assert listed(settings) == [newest, *reversed(labels)]


def test_less_than_was_shown_is_fine(settings: Settings):
    labels = [backed_up(settings, START + number * DAY) for number in range(4)]
    plan = expire.plan(settings, now=NOW)
    holds.hold(settings, labels[0], reason="audit")
    result = expire.apply(plan, Silent(), now=NOW)
    assert result["expire"]["deleted"] == [labels[1]]
    assert labels[0] in listed(settings)


def test_the_last_proven_backup_stays(settings: Settings):
    labels = [backed_up(settings, START + number * DAY) for number in range(5)]
    for label in labels[:2]:
        folder = place(settings, "proofs", label)
        folder.mkdir(parents=True)
        proof = {"verdict": "pass", "level": "restored", "finished": "2026-01-05T00:00:00.000Z"}
        (folder / "20260105T000000Z.json").write_text(json.dumps(proof))
    preview = expire.plan(settings, now=NOW).preview()
    assert preview["expire"]["delete"] == [labels[2], labels[0]]
    assert "proven" in why(preview, labels[1])


def test_without_a_rule_everything_stays(tmp_path: Path):
    settings = repository_settings(tmp_path / "repository")
    labels = [backed_up(settings, START + number * DAY) for number in range(3)]
    assert apply(settings)["changed"] is False
    assert listed(settings) == labels[::-1]


# --- doubt ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 99}'])
@pytest.mark.parametrize("broken", [0, 1, 2, 3])
def test_an_unreadable_record_keeps_its_whole_chain_and_says_why(settings: Settings, broken: int, content: bytes):
    chain = chain_of(settings, START, 3)
    old = [backed_up(settings, START - 2 * DAY), backed_up(settings, START - DAY)]
    for number in range(1, 4):
        backed_up(settings, START + number * DAY)
    damage(settings, chain[broken], content)
    preview = expire.plan(settings, now=NOW).preview()
    for label in chain:
        if label == chain[broken] or chain.index(label) > broken:
            assert fates(preview)[label], "it, and what rests on it"
    if broken:
        for label in chain[:broken]:
            assert fates(preview)[label], "what it may rest on"
        assert chain[broken] in why(preview, chain[0])
        assert not fates(preview)[old[1]], "what it cannot rest on goes"
    assert not fates(preview)[old[0]]
    assert "kept" in why(preview, chain[broken])
    assert any(chain[broken] in warning for warning in preview["warnings"])
    apply(settings)
    assert place(settings, "backups", chain[broken], "base.tar.gz").exists()


def test_an_unreadable_record_counts_for_no_rule(settings: Settings):
    labels = [backed_up(settings, START + number * DAY) for number in range(4)]
    damage(settings, labels[3])
    assert fates(expire.plan(settings, now=NOW).preview()) == {
        labels[0]: False, labels[1]: True, labels[2]: True, labels[3]: True,
    }  # fmt: skip


def test_a_listing_that_fails_raises_and_deletes_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    labels = [backed_up(settings, START + number * DAY) for number in range(4)]
    plan = expire.plan(settings, now=NOW)
    genuine = LocalStore.list

    def failing(self: LocalStore, prefix: str = "") -> Any:
        if "holds" in prefix:
            raise Unreachable("the store does not answer")
        return genuine(self, prefix)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "list", failing)
        for call in (lambda: expire.plan(settings, now=NOW), lambda: expire.apply(plan, Silent(), now=NOW)):
            with pytest.raises(Unreachable):
                call()
    assert listed(settings) == labels[::-1]


def test_one_record_that_cannot_be_reached_fails_the_whole_listing(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    labels = [backed_up(settings, START + number * DAY) for number in range(4)]
    genuine = LocalStore.read_many

    def failing(self: LocalStore, keys: Any) -> Any:
        for key, content in genuine(self, keys):
            yield key, Unreachable("timed out") if labels[2] in key else content

    monkeypatch.setattr(LocalStore, "read_many", failing)
    with pytest.raises(Unreachable, match="timed out"):
        expire.plan(settings, now=NOW)


def test_a_clock_behind_the_backups_is_refused(settings: Settings):
    backed_up(settings, START)
    with pytest.raises(Refused, match="in the future"):
        expire.plan(settings, now=START - timedelta(hours=1))


@pytest.mark.parametrize("lock", ["backup", "restore"])
def test_a_running_backup_or_restore_makes_it_wait(settings: Settings, lock: str):
    labels = [backed_up(settings, START + number * DAY) for number in range(3)]
    plan = expire.plan(settings, now=NOW)
    repository = open_repository(settings)
    with repository.backing_up() if lock == "backup" else repository.restoring(), pytest.raises(Busy):
        expire.apply(plan, Silent(), now=NOW)
    assert listed(settings) == labels[::-1]


# --- remains ----------------------------------------------------------------------------------------------------------


def test_the_remains_of_killed_runs_are_shown_and_removed(settings: Settings):
    kept = backed_up(settings, START)
    remains = backed_up(settings, START + DAY, publish=False)
    place(settings, "backups", remains, ".part-1234").write_bytes(b"x")
    preview = expire.plan(settings, now=NOW).preview()
    assert (preview["changed"], [item["label"] for item in preview["expire"]["unfinished"]]) == (True, [remains])
    result = apply(settings)
    assert (result["changed"], result["expire"]["cleaned"], result["expire"]["deleted"]) == (True, [remains], [])
    assert result["expire"]["freed_bytes"] == preview["expire"]["unfinished"][0]["stored_bytes"]
    assert not place(settings, "backups", remains).exists()
    assert listed(settings) == [kept]


def test_remains_that_were_not_shown_are_left_for_the_next_run(settings: Settings):
    labels = [backed_up(settings, START + number * DAY) for number in range(3)]
    plan = expire.plan(settings, now=NOW)
    remains = backed_up(settings, START + 9 * DAY, publish=False)
    assert expire.apply(plan, Silent(), now=NOW)["expire"]["deleted"] == labels[:1]
    assert place(settings, "backups", remains).exists()


def test_what_an_earlier_run_left_half_deleted_is_removed_by_the_plan_that_showed_it(settings: Settings):
    labels = [backed_up(settings, START + number * DAY) for number in range(4)]
    plan = expire.plan(settings, now=NOW)
    place(settings, "backups", labels[0], "backup.json").unlink()
    result = expire.apply(plan, Silent(), now=NOW)
    assert (result["expire"]["deleted"], result["expire"]["cleaned"]) == ([labels[1]], [labels[0]])


def test_remains_that_are_held_are_left_alone(settings: Settings):
    label = backed_up(settings, START)
    backed_up(settings, START + DAY)
    holds.hold(settings, label, reason="audit")
    place(settings, "backups", label, "backup.json").unlink()
    preview = expire.plan(settings, now=NOW).preview()
    assert preview["expire"]["unfinished"] == []
    assert any(label in warning and "held" in warning for warning in preview["warnings"])
    apply(settings)
    open_repository(settings).clean([label])
    assert place(settings, "backups", label, "base.tar.gz").exists()


# --- holds ------------------------------------------------------------------------------------------------------------


def test_a_hold_keeps_a_backup_with_its_chain_until_it_is_released(settings: Settings):
    chain = chain_of(settings, START, 2)
    for number in range(1, 4):
        backed_up(settings, START + number * DAY)
    assert holds.hold(settings, chain[1], reason="audit", by="me")["changed"] is True
    preview = expire.plan(settings, now=NOW).preview()
    assert (fates(preview)[chain[0]], fates(preview)[chain[1]], fates(preview)[chain[2]]) == (True, True, False)
    assert "held: audit" in why(preview, chain[1])
    assert holds.release(settings, chain[1])["changed"] is True
    assert not fates(expire.plan(settings, now=NOW).preview())[chain[1]]


def test_a_second_hold_changes_nothing_and_the_first_reason_stays(settings: Settings):
    label = backed_up(settings, START)
    holds.hold(settings, label, reason="first")
    again = holds.hold(settings, label, reason="second")
    assert (again["changed"], again["hold"]["reason"]) == (False, "first")
    holds.release(settings, label)
    assert holds.release(settings, label)["changed"] is False


def test_a_dry_run_says_what_would_be_and_does_not_do_it(settings: Settings):
    label = backed_up(settings, START)
    assert holds.hold(settings, label, reason="x", dry_run=True)["changed"] is True
    assert info(settings)["backups"][0]["held"] is None
    holds.hold(settings, label, reason="x")
    assert holds.release(settings, label, dry_run=True)["changed"] is True
    assert info(settings)["backups"][0]["held"] == "x"


def test_an_unknown_label_is_not_found_by_hold_and_release(settings: Settings):
    backed_up(settings, START)
    for call in (lambda label: holds.hold(settings, label, reason="x"), lambda label: holds.release(settings, label)):
        with pytest.raises(NotFound, match="20200101T000000Z-full"):
            call("20200101T000000Z-full")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"reason": null}', b'{"reason": 5}', b"\xff"])
def test_a_hold_that_cannot_be_read_holds(settings: Settings, content: bytes):
    labels = [backed_up(settings, START + number * DAY) for number in range(4)]
    place(settings, "holds").mkdir(exist_ok=True)
    place(settings, "holds", f"{labels[0]}.json").write_bytes(content)
    assert fates(expire.plan(settings, now=NOW).preview())[labels[0]] is True


def test_a_hold_meets_busy_while_an_expiry_deletes(settings: Settings):
    label = backed_up(settings, START)
    with open_repository(settings).expiring(), pytest.raises(Busy):
        holds.hold(settings, label, reason="too late")


# --- info -------------------------------------------------------------------------------------------------------------


def test_info_shows_chains_newest_first(settings: Settings):
    chain = chain_of(settings, START, 2)
    dump = backed_up(settings, START + DAY, "dump", databases=("ride", "a\x1b[2Jb"))
    found = info(settings)
    by_label = {item["label"]: item for item in found["backups"]}
    assert list(by_label) == [dump, *reversed(chain)]
    assert by_label[chain[2]]["chain"] == chain
    assert by_label[chain[0]]["children"] == [chain[1]]
    assert by_label[dump]["chain"] == [dump]
    assert by_label[dump]["verified"] == "unverified"
    assert found["totals"]["backups"] == 4
    assert found["totals"]["stored_bytes"] == sum(item["stored_bytes"] for item in found["backups"])
    assert [item["label"] for item in info(settings, method="logical")["backups"]] == [dump]
    assert next(item["name"] for item in info(settings, label=dump)["backups"][0]["objects"]) == "base.tar.gz"
    json.dumps(found)


def test_info_says_which_chain_is_broken_and_by_what(settings: Settings):
    chain = chain_of(settings, START, 2)
    damage(settings, chain[0])
    unfinished = backed_up(settings, START + DAY, publish=False)
    found = info(settings)
    assert [(item["label"], item["chain"]) for item in found["backups"]] == [(chain[2], []), (chain[1], [])]
    assert all(item["chain_broken"] == f"{chain[0]} cannot be read" for item in found["backups"])
    assert [item["label"] for item in found["unreadable"]] == [chain[0]]
    assert found["unfinished"] == [unfinished]
    with pytest.raises(Corrupt):
        info(settings, label=chain[0])
    with pytest.raises(NotFound):
        info(settings, label="20200101T000000Z-full")


def test_a_proof_that_cannot_be_read_proves_nothing(settings: Settings):
    labels = [backed_up(settings, START + number * DAY) for number in range(2)]
    good = {"verdict": "pass", "level": "restored", "finished": "2026-01-05T00:00:00.000Z"}
    for label, proofs in (
        (labels[0], [good, {**good, "verdict": "could_not_verify", "level": "read"}]),
        (labels[1], [{**good, "finished": "?"}, 5]),
    ):
        folder = place(settings, "proofs", label)
        folder.mkdir(parents=True)
        for number, proof in enumerate(proofs):
            (folder / f"2026010{number + 1}T000000Z.json").write_text(json.dumps(proof))
    by_label = {item["label"]: item for item in info(settings)["backups"]}
    assert (by_label[labels[0]]["verified"], by_label[labels[1]]["verified"]) == ("restored", "unverified")
    assert by_label[labels[0]]["verified_at"] == "2026-01-05T00:00:00.000Z"


def test_a_record_that_a_list_lacks_is_asked_for_before_its_backup_counts_as_unfinished(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    backed_up(settings, START)
    remains = backed_up(settings, START + DAY, publish=False)
    repository = open_repository(settings)
    assert repository.unfinished() == [remains]
    behind = [item for item in repository.store.list() if not item.key.endswith("backup.json")]
    monkeypatch.setattr(
        repository.store, "list", lambda prefix="": (item for item in behind if item.key.startswith(prefix))
    )
    assert repository.unfinished() == [remains]
