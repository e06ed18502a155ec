# SPDX-License-Identifier: GPL-3.0-or-later
"""What a repository costs, which class would cost less, and what may move there."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, NotFound
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo import cooling, prices
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.cooling import kept_by_a_tier_alone
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.retention import Decision
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.usage import (
    Kept,
    advice,
    cost_month,
    parts_for,
    per_day,
    usage,
    writes,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.report.collect import collect
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.report.model import Cost
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.schema import build
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import (
    RepositorySettings,
    Settings,
    from_mapping,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store import ObjectInfo, Trouble
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store.parts import part_size, parts_of
from tests.support.backups import backed_up, read_in_full
from tests.support.clouds import Cloud

MIB = 1 << 20
NOW = datetime(2026, 11, 25, tzinfo=timezone.utc)
_numbers = itertools.count(1)


def bucket(**more: Any) -> RepositorySettings:
    return build(RepositorySettings, {"type": "s3", "s3": {"bucket": "acme"}, **more}, where="test")


def held(size_bytes: int, *, days_ago: float = 0, storage_class: str = "STANDARD") -> ObjectInfo:
    return ObjectInfo("main/x", size_bytes, NOW - timedelta(days=days_ago), storage_class=storage_class)


@given(size_bytes=st.integers(0, 40 * MIB), first=st.sampled_from([5 * MIB, 8 * MIB]))
def test_the_parts_are_as_many_as_a_store_would_send(size_bytes: int, first: int):
    sent = list(parts_of(iter([b"x" * size_bytes]), first))
    assert parts_for(size_bytes, first) == len(sent)


def test_parts_grow_with_their_number():
    tib = 1 << 40
    assert parts_for(tib, 16 * MIB) < 10_000
    assert sum(part_size(number, 16 * MIB) for number in range(parts_for(tib, 16 * MIB))) >= tib


def test_a_small_object_is_one_request_and_a_directory_takes_none(tmp_path: Path):
    assert writes(1000, bucket()) == 1
    assert writes(40 * MIB, bucket()) == 3 + 3
    assert writes(40 * MIB, build(RepositorySettings, {"path": str(tmp_path)}, where="test")) == 0


def test_a_day_is_the_mean_of_the_last_ones():
    day = per_day([held(700), held(700, days_ago=3), held(10**9, days_ago=8)], bucket(), days=7, now=NOW)
    assert day == {"days": 7, "objects": 0.29, "stored_bytes": 200, "write_requests": 0.29}


def test_a_month_is_storage_and_requests_and_nothing_where_a_price_is_missing():
    table = prices.load(None)
    lying = [held(100 << 30), held(100 << 30, storage_class="GLACIER_IR")]
    cost = cost_month(lying, 1000.0, bucket(), table)
    assert cost == {"storage": 2.7, "requests": 0.15, "total": 2.85}
    assert cost_month([held(1, storage_class="REDUCED_REDUNDANCY")], 0.0, bucket(), table) is None


def told(*kept: Kept, item: RepositorySettings | None = None, window_days: int = 14) -> dict[str, str]:
    found = advice(kept, item or bucket(), window_days * 86_400, prices.load(None))
    return {one["topic"]: one["text"] for one in found}


def test_advice_is_given_where_it_saves_and_says_what_it_costs():
    monthly = Kept("20260101T020000Z-full", 100 << 30, "STANDARD", "monthly")
    said = told(monthly, Kept("20261124T020000Z-full", 100 << 30, "STANDARD", None))
    assert "cool: {monthly: GLACIER_IR} would save about 1.90 USD" in said["cool"]
    assert "costs 3.00 USD" in said["cool"]
    assert "milliseconds" in said["cool"]
    assert told(monthly, item=bucket(cool={"monthly": "GLACIER_IR"})) == {}
    assert "12 to 48 hours" in told(replace(monthly, storage_class="DEEP_ARCHIVE"))["thaws"]
    rare = bucket(s3={"bucket": "acme", "storage_class": "STANDARD_IA"})
    assert "30 days" in told(item=rare)["least_days"]
    assert told(item=rare, window_days=31) == {}


@pytest.mark.parametrize(
    ("content", "error", "named"),
    [
        ("nothing", BadInput, "JSON"),
        ('{"currency": "EUR", "s3": {"STANDARD": {"gib_month": -1}}}', BadInput, "gib_month"),
        ('{"currency": "EUR", "s3": {"STANDARD": {"gib_mnth": 1}}}', BadInput, "gib_mnth"),
        ('{"currency": "EUR", "s3": {"STANDARD": {"gib_month": "1"}}}', BadInput, "a number"),
        (None, NotFound, "prices.json"),
    ],
)
def test_a_table_of_prices_that_cannot_be_is_refused(
    tmp_path: Path, content: str | None, error: type[Exception], named: str
):
    file = tmp_path / "prices.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(error, match=named):
        prices.load(str(file))


def decisions(*said: tuple[str, str]) -> list[Decision]:
    return [Decision(label, True, tuple(reasons.split("; "))) for label, reasons in said]


def test_only_what_a_tier_alone_keeps_is_cool():
    found = kept_by_a_tier_alone(
        decisions(
            ("newest", "the newest valid backup; monthly 1 of 12: newest valid of 2026-11"),
            ("child", "monthly 2 of 12: newest valid of 2026-10"),
            ("full", "needed by child; held: audit"),
            ("both", "monthly 3 of 12: newest valid of 2026-09; yearly 2 of 3: newest valid of 2025"),
            ("proven", "yearly 3 of 3: newest valid of 2024; the last proven backup"),
            ("held", "held: audit"),
        )
    )
    assert found == {"child": "monthly", "full": "monthly", "both": "monthly"}


# -- with repositories


def settings_of(repository: dict[str, Any], **rules: Any) -> Settings:
    return from_mapping({"cluster": "main", "repositories": [repository], "retention": rules})


def filled(cloud: Cloud, **more: Any) -> tuple[Settings, list[str]]:
    """Two backups, of as many months; the older one is kept by `monthly` alone."""
    repository = {**cloud.repository(cloud.new_bucket()), **more}
    settings = settings_of(repository, keep_last=1, monthly=12)
    months = [datetime(2026, month, 3, tzinfo=timezone.utc) for month in (6, 7)]
    return settings, [backed_up(settings, month) for month in months]


COOL = {"s3": "GLACIER_IR", "gcs": "COLDLINE", "azure": "Cold"}


@pytest.mark.parametrize("kind", ["azure"])  # S3 is below, through the command
def test_what_only_monthly_keeps_moves_and_can_still_be_read(clouds: Callable[[str], Cloud], kind: str):
    settings, labels = filled(clouds(kind), cool={"monthly": COOL[kind]})
    plan = cooling.plan(settings)
    assert [move.label for move in plan.moves] == labels[:1]
    assert plan.preview()["changed"]
    cooling.run(plan, Silent())
    repository = open_repository(settings)
    classes = {
        info.key.split("/")[2]: info.storage_class
        for info in repository.store.list("main/backups/")
        if "tar" in info.key
    }
    assert classes[labels[0]] == COOL[kind] != classes[labels[1]]
    read_in_full(repository, labels)
    again = cooling.plan(settings)
    assert not again.needed
    assert cooling.run(again, Silent())["changed"] is False


def test_google_is_asked_to_rewrite_the_object(clouds: Callable[[str], Cloud]):
    """fake-gcs-server keeps no class on a rewrite, so only that the bytes survive it is seen here."""
    settings, labels = filled(clouds("gcs"), cool={"monthly": COOL["gcs"]})
    cooling.run(cooling.plan(settings), Silent())
    read_in_full(open_repository(settings), labels)


def test_what_is_locked_waits(clouds: Callable[[str], Cloud]):
    cloud, name = clouds("s3"), f"cool-{next(_numbers)}"
    cloud.s3().create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    settings = settings_of(
        {**cloud.repository(name), "cool": {"monthly": "GLACIER_IR"}, "lock": {"period": "30d"}},
        keep_last=1,
        monthly=12,
    )
    labels = [backed_up(settings, datetime(2026, month, 3, tzinfo=timezone.utc)) for month in (6, 7)]
    plan = cooling.plan(settings)
    assert ([move.label for move in plan.waiting], plan.moves) == ([labels[0]], ())
    assert plan.preview()["waiting"][0]["locked_until"]


def test_a_class_that_has_to_thaw_and_a_directory_are_refused(tmp_path: Path):
    with pytest.raises(BadInput, match="DEEP_ARCHIVE"):
        bucket(cool={"monthly": "DEEP_ARCHIVE"})
    with pytest.raises(BadInput, match="hourly"):
        bucket(cool={"hourly": "GLACIER_IR"})
    with pytest.raises(BadInput, match="directory"):
        build(RepositorySettings, {"path": str(tmp_path), "cool": {"monthly": "x"}}, where="test")


def test_the_command_tells_all_of_it_with_the_operators_own_prices(
    clouds: Callable[[str], Cloud], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    settings, labels = filled(clouds("s3"))
    item = settings.repository()
    assert item.s3 is not None
    file, table = tmp_path / "main.json", tmp_path / "prices.json"
    section = {"bucket": item.s3.bucket, "endpoint_url": item.s3.endpoint_url, "region": "us-east-1",
               "addressing_style": "path", "credentials_file": item.s3.credentials_file}  # fmt: skip
    repository = {"name": "cloud", "type": "s3", "s3": section, "cool": {"monthly": "GLACIER_IR"}}
    file.write_text(json.dumps({"cluster": "main", "repositories": [repository], "retention": {"monthly": 12}}))
    table.write_text(json.dumps({"currency": "EUR", "s3": {"STANDARD": {"gib_month": 1e6, "write_1000": 1}}}))
    assert main(["repo", "usage", "--config", str(file), "--prices", str(table)]) == 0
    said = capsys.readouterr().out
    assert all(label in said for label in labels)
    assert "EUR (storage" in said
    (shown,) = collect(settings).clusters[0].repositories  # the report's, by the built-in prices
    (told,) = usage(settings, prices.load(None))["repositories"]
    assert shown.cost == Cost(told["cost_month"]["total"], "USD", "list prices of 2025, built in")
    assert str(table) in said
    assert main(["repo", "cool", "--config", str(file)]) == 0
    assert "dbops repo cool --apply" in capsys.readouterr().out
    assert main(["repo", "cool", "--config", str(file), "--apply"]) == 0
    assert usage(settings, prices.load(None))["repositories"][0]["classes"]["GLACIER_IR"] > 0
    read_in_full(open_repository(settings), labels)


def test_usage_of_a_repository_that_is_away_is_an_error(clouds: Callable[[str], Cloud]):
    away = {**clouds("s3").repository("no-such-bucket-here"), "transfer": {"retry_budget_s": 0}}
    with pytest.raises(Trouble):
        usage(settings_of(away), prices.load(None))
