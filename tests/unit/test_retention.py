# SPDX-License-Identifier: GPL-3.0-or-later
"""Retention promises, one test each, and properties that hold for any catalog."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, Refused
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.retention import (
    Candidate,
    Decision,
    Policy,
    RetentionPlan,
    plan,
)

UTC = timezone.utc
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)  # a Sunday
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DAY_S = 86400


def backup(label: str, start: datetime, **changes: Any) -> Candidate:
    """A valid physical full backup of one hour, changed as the test needs it."""
    if "parent" in changes:
        changes.setdefault("type", "incremental")
    facts = {"method": "physical", "type": "full", "parent": None, "system_identifier": "7001", **changes}
    return Candidate(label=label, start_time=start, **{"stop_time": start + HOUR, **facts})


def dump(label: str, start: datetime, *databases: str, **changes: Any) -> Candidate:
    return backup(label, start, method="logical", type="dump", databases=databases, **changes)


def dailies(count: int, **changes: Any) -> list[Candidate]:
    """`day0` is today's, `day1` yesterday's, ..., each started at 02:00 UTC."""
    return [backup(f"day{i}", NOW - i * DAY - 10 * HOUR, **changes) for i in range(count)]


def changed(candidates: Sequence[Candidate], label: str, **changes: Any) -> list[Candidate]:
    return [dataclasses.replace(c, **changes) if c.label == label else c for c in candidates]


def kept(result: RetentionPlan) -> set[str]:
    return {decision.label for decision in result.decisions if decision.keep}


def decision_on(label: str, result: RetentionPlan) -> Decision:
    return next(decision for decision in result.decisions if decision.label == label)


def why(label: str, result: RetentionPlan) -> str:
    return "; ".join(decision_on(label, result).reasons)


# --- the policy -------------------------------------------------------------------------------------------------------


def test_a_policy_without_a_rule_keeps_everything_and_says_so():
    result = plan(changed(dailies(5), "day4", valid=False), Policy(min_redundancy=2), NOW)
    assert kept(result) == {"day0", "day1", "day2", "day3", "day4"}
    assert all("no rule" in "; ".join(decision.reasons) for decision in result.decisions)
    assert result.delete_order == ()


@pytest.mark.parametrize(
    "name", ["keep_last", "keep_within_s", "daily", "weekly", "monthly", "yearly", "min_redundancy"]
)
@pytest.mark.parametrize("value", [-1, 1.5, "3", True])
def test_a_policy_value_that_is_no_count_is_refused_by_name(name: str, value: object):
    with pytest.raises(BadInput, match=name):
        Policy(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["keep_last", "keep_within_s"])
def test_zero_is_refused_where_it_could_mean_off_or_keep_none(name: str):
    with pytest.raises(BadInput, match=name) as caught:
        Policy(**{name: 0})  # type: ignore[arg-type]
    assert "Leave" in caught.value.hint


def test_a_tier_cannot_be_unset_by_none():
    with pytest.raises(BadInput, match="daily"):
        Policy(daily=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["start_time", "stop_time"])
def test_a_time_without_a_zone_is_refused_by_label(name: str):
    with pytest.raises(BadInput, match=f"'zoneless'.* {name} .* no time zone"):
        dataclasses.replace(backup("zoneless", NOW - DAY), **{name: (NOW - DAY).replace(tzinfo=None)})


@pytest.mark.parametrize(("method", "kind"), [("magical", "full"), ("physical", "dump"), ("logical", "full")])
def test_an_unknown_kind_of_backup_is_refused_by_label(method: str, kind: str):
    with pytest.raises(BadInput, match="'odd'"):
        backup("odd", NOW, method=method, type=kind)


def test_a_present_without_a_zone_is_refused():
    with pytest.raises(BadInput, match="time zone"):
        plan(dailies(1), Policy(keep_last=1), NOW.replace(tzinfo=None))


def test_an_empty_listing_has_an_empty_plan():
    assert plan([], Policy(keep_last=1), NOW).decisions == ()


# --- safeguards -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("valid", [True, False])
def test_a_clock_behind_the_newest_backup_expires_nothing(valid: bool):
    catalog = changed(dailies(5), "day0", valid=valid)
    with pytest.raises(Refused, match="'day0' starts in the future") as caught:
        plan(catalog, Policy(keep_last=1), NOW - 10 * HOUR - timedelta(seconds=1))
    assert "clock" in caught.value.hint


def test_a_clock_behind_the_end_of_a_finished_backup_expires_nothing_but_seconds_are_forgiven():
    catalog = dailies(3)  # day0 stopped at 03:00
    stop = NOW - 9 * HOUR
    assert plan(catalog, Policy(keep_last=1), stop - timedelta(minutes=5)).delete_order
    with pytest.raises(Refused, match="'day0' stops in the future"):
        plan(catalog, Policy(keep_last=1), stop - timedelta(minutes=5, seconds=1))


def test_a_listing_that_names_a_backup_twice_expires_nothing():
    with pytest.raises(Refused, match="'day1' twice"):
        plan([*dailies(3), *dailies(2)[1:]], Policy(keep_last=1), NOW)


def test_a_hold_keeps_the_backup_and_its_ancestors_and_gives_the_reason():
    catalog = [
        *dailies(3),
        backup("old-full", NOW - 50 * DAY),
        backup("old-incr", NOW - 49 * DAY, parent="old-full"),
        backup("old-held", NOW - 48 * DAY, parent="old-incr", held="audit 2026"),
        backup("old-after", NOW - 47 * DAY, parent="old-held"),
    ]
    result = plan(catalog, Policy(keep_last=1), NOW)
    assert kept(result) == {"day0", "old-full", "old-incr", "old-held"}
    assert "held: audit 2026" in why("old-held", result)
    assert "needed by old-held" in why("old-incr", result)
    assert "needed by old-incr" in why("old-full", result)


def test_a_hold_without_words_and_a_hold_on_a_broken_backup_hold_too():
    catalog = changed(changed(dailies(4), "day2", held=""), "day3", held="evidence", valid=False)
    assert kept(plan(catalog, Policy(keep_last=1), NOW)) == {"day0", "day2", "day3"}


def test_the_last_proven_backup_stays_until_a_newer_one_is_proven():
    catalog = changed(changed(dailies(9), "day5", proven=True), "day7", proven=True)
    result = plan(catalog, Policy(keep_last=1), NOW)
    assert kept(result) == {"day0", "day5"}
    assert "last proven" in why("day5", result)


def test_the_last_proven_backup_of_the_old_cluster_stays_while_the_new_one_has_none():
    old = backup("old", NOW - 30 * DAY, system_identifier="6000", proven=True)
    assert "old" in kept(plan([*dailies(3), old], Policy(keep_last=1), NOW))
    assert "old" not in kept(plan([*changed(dailies(3), "day0", proven=True), old], Policy(keep_last=1), NOW))


def test_invalid_backups_count_for_nothing():
    catalog = [dataclasses.replace(c, valid=c.label not in ("day0", "day1", "day3")) for c in dailies(8)]
    result = plan(catalog, Policy(keep_last=2), NOW)
    assert {"day2", "day4"} <= kept(result)
    assert "day5" in result.delete_order
    assert decision_on("day3", result).keep is False
    assert "not valid" in why("day3", result)


def test_a_broken_backup_stays_until_a_good_one_began_after_it_ended():
    running = backup("running", NOW - 2 * DAY, valid=False, stop_time=NOW - 3 * HOUR)
    during = backup("during", NOW - DAY)
    assert "running" in kept(plan([running, during], Policy(keep_last=1), NOW))
    after = backup("after", NOW - 2 * HOUR)
    assert "running" not in kept(plan([running, during, after], Policy(keep_last=1), NOW))


def test_nothing_is_deleted_while_no_backup_is_valid():
    result = plan(dailies(6, valid=False), Policy(keep_last=1), NOW)
    assert result.delete_order == ()
    assert result.remaining == ()


def test_an_incremental_on_an_invalid_parent_counts_for_nothing():
    catalog = [
        backup("good", NOW - 9 * DAY),
        backup("bad", NOW - 5 * DAY, valid=False),
        backup("on-bad", NOW - 4 * DAY, parent="bad"),
    ]
    result = plan(catalog, Policy(keep_last=1), NOW)
    assert kept(result) == {"good", "bad", "on-bad"}  # no good one came later
    later = plan([*catalog, backup("later", NOW - DAY)], Policy(keep_last=1), NOW)
    assert kept(later) == {"later"}
    assert later.delete_order == ("on-bad", "bad", "good")
    assert "ancestor" in why("on-bad", later)


def test_a_backup_whose_parent_is_not_listed_is_kept_with_its_children_and_says_why():
    catalog = [
        *dailies(2),
        backup("orphan", NOW - 30 * DAY, parent="vanished"),
        backup("child", NOW - 29 * DAY, parent="orphan"),
    ]
    result = plan(catalog, Policy(keep_last=1), NOW)
    assert kept(result) == {"day0", "orphan", "child"}
    assert "its parent vanished is not in the listing" in why("orphan", result)
    assert "in doubt" in why("child", result)
    assert result.remaining[0].labels == ("day0",)


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ([backup("odd", NOW - 30 * DAY, type="incremental")], "names no parent"),
        ([backup("odd", NOW - 30 * DAY, parent="odd")], "circle"),
        (
            [backup("odd", NOW - 30 * DAY, parent="b"), backup("b", NOW - 29 * DAY, parent="odd")],
            "circle",
        ),
        (
            [backup("odd", NOW - 30 * DAY, parent="b"), backup("b", NOW - 29 * DAY)],
            "younger than itself",
        ),
        (
            [
                backup("odd", NOW - 30 * DAY, parent="b"),
                backup("b", NOW - 29 * DAY, parent="c"),  # in order itself, but newer than the child that keeps it
                backup("c", NOW - 31 * DAY),
            ],
            "younger than itself",
        ),
        (
            [backup("odd", NOW - 30 * DAY, parent="b"), backup("b", NOW - 31 * DAY, system_identifier="6000")],
            "something else",
        ),
        ([backup("odd", NOW - 30 * DAY, stop_time=NOW - 31 * DAY)], "stops before it starts"),
    ],
)
def test_a_backup_whose_record_contradicts_itself_stays_with_its_parents_and_says_why(
    odd: list[Candidate], reason: str
):
    result = plan([*dailies(3), *odd], Policy(keep_last=1), NOW)
    assert kept(result) == {"day0"} | {c.label for c in odd}
    assert reason in why("odd", result)
    assert "odd" not in result.remaining[0].labels


# --- rules ------------------------------------------------------------------------------------------------------------


def test_keep_last_keeps_so_many_and_no_more():
    result = plan(dailies(10), Policy(keep_last=3), NOW)
    assert kept(result) == {"day0", "day1", "day2"}
    assert result.delete_order == ("day3", "day4", "day5", "day6", "day7", "day8", "day9")
    assert "keep_last=3" in why("day3", result)
    assert "the newest valid backup" in decision_on("day0", result).reasons  # every rule wants it; it would stay anyway


def test_age_is_the_start_time_and_never_the_name():
    catalog = [backup("zzz", NOW - 9 * DAY), backup("mmm", NOW - 2 * DAY), backup("aaa", NOW - DAY)]
    assert kept(plan(catalog, Policy(keep_last=1), NOW)) == {"aaa"}
    assert [d.label for d in plan(catalog, Policy(keep_last=1), NOW).decisions] == ["aaa", "mmm", "zzz"]


def test_a_kept_incremental_keeps_its_whole_chain_and_not_its_siblings():
    catalog = [
        backup("full", NOW - 9 * DAY),
        backup("i1", NOW - 8 * DAY, parent="full"),
        backup("i2", NOW - 7 * DAY, parent="i1"),
        backup("sibling", NOW - 6 * DAY, parent="full"),
        backup("i3", NOW - 5 * DAY, parent="i2"),
    ]
    result = plan(catalog, Policy(keep_last=1), NOW)
    assert kept(result) == {"full", "i1", "i2", "i3"}
    assert result.delete_order == ("sibling",)


def test_a_chain_goes_child_first_even_when_all_started_in_the_same_second():
    start = NOW - 9 * DAY
    catalog = [
        *dailies(2),
        backup("c", start, stop_time=start + 3 * HOUR),
        backup("b", start, parent="c", stop_time=start + 2 * HOUR),
        backup("a", start, parent="b"),
    ]
    assert plan(catalog, Policy(keep_last=2), NOW).delete_order == ("a", "b", "c")


def test_the_window_keeps_all_in_it_and_the_newest_that_ended_before_it():
    window_start = NOW - 7 * DAY
    catalog = [
        backup("inside", window_start + DAY),
        backup("across", window_start - HOUR / 2),  # started before, stopped within: no base for the window's start
        backup("on-the-dot", window_start - HOUR),
        backup("anchor", window_start - HOUR - timedelta(seconds=1)),
        backup("older", window_start - 3 * DAY),
    ]
    result = plan(catalog, Policy(keep_within_s=7 * DAY_S), NOW)
    assert kept(result) == {"inside", "across", "on-the-dot", "anchor"}
    assert "anchor" in why("anchor", result)
    assert result.window_start == window_start


def test_an_invalid_backup_is_no_anchor():
    catalog = changed(dailies(12), "day8", valid=False)
    assert "day9" in kept(plan(changed(catalog, "day7", valid=False), Policy(keep_within_s=7 * DAY_S), NOW))


def test_an_anchor_that_is_incremental_keeps_its_full():
    catalog = [
        backup("new", NOW - DAY),
        backup("incr", NOW - 8 * DAY, parent="full"),
        backup("full", NOW - 20 * DAY),
        backup("older", NOW - 21 * DAY),
    ]
    assert kept(plan(catalog, Policy(keep_within_s=7 * DAY_S), NOW)) == {"new", "incr", "full"}


def test_a_window_longer_than_the_calendar_keeps_everything():
    assert plan(dailies(5), Policy(keep_within_s=10**15), NOW).delete_order == ()


def test_after_an_upgrade_the_old_anchor_stays_until_the_new_cluster_has_its_own():
    old = [backup(f"old{i}", NOW - i * DAY, system_identifier="6000") for i in range(10, 14)]
    new = backup("new", NOW - 5 * DAY)
    policy = Policy(keep_within_s=7 * DAY_S)
    assert kept(plan([*old, new], policy, NOW)) == {"new", "old10"}
    assert kept(plan([*old, new], policy, NOW + 3 * DAY)) == {"new"}


def test_a_cluster_that_still_lived_in_the_window_keeps_an_anchor_of_its_own():
    catalog = [
        backup("new", NOW - DAY),
        backup("old-inside", NOW - 3 * DAY, system_identifier="6000"),
        backup("trial-upgrade", NOW - 9 * DAY),
        backup("old-anchor", NOW - 10 * DAY, system_identifier="6000"),
        backup("old-older", NOW - 11 * DAY, system_identifier="6000"),
    ]
    result = plan(catalog, Policy(keep_within_s=7 * DAY_S), NOW)
    assert kept(result) == {"new", "old-inside", "trial-upgrade", "old-anchor"}


def test_min_redundancy_beats_the_policy_and_counts_fulls():
    catalog = [backup(f"full{i}", NOW - (7 * i + 1) * DAY) for i in range(5)]
    catalog += [backup(f"incr{i}", NOW - 7 * i * DAY - HOUR * 2, parent=f"full{i}") for i in range(5)]
    result = plan(catalog, Policy(keep_last=1, min_redundancy=3), NOW)
    assert kept(result) == {"incr0", "full0", "full1", "full2"}
    assert "min_redundancy: valid full backup 3 of 3" in why("full2", result)


def test_the_newest_full_stays_even_with_a_minimum_of_zero_and_a_newer_incremental_elsewhere():
    catalog = [
        backup("newest-full", NOW - 2 * DAY),
        backup("full", NOW - 3 * DAY),
        backup("incr", NOW - DAY, parent="full"),
        backup("older", NOW - 4 * DAY),
    ]
    assert kept(plan(catalog, Policy(keep_last=1, min_redundancy=0), NOW)) == {"newest-full", "full", "incr"}


def test_the_minimum_is_met_by_the_current_cluster_first_and_filled_up_from_the_old_one():
    old = [backup(f"old{i}", NOW - i * DAY, system_identifier="9999") for i in range(10, 14)]
    policy = Policy(keep_last=1, min_redundancy=2)
    assert kept(plan([*old, *dailies(1)], policy, NOW)) == {"day0", "old10"}
    assert kept(plan([*old, *dailies(2)], policy, NOW)) == {"day0", "day1"}


def test_an_old_clusters_newer_backups_do_not_stand_in_for_the_current_ones():
    catalog = [
        backup("current2", NOW - DAY),
        backup("trial", NOW - 2 * DAY, system_identifier="9999"),
        backup("current1", NOW - 3 * DAY),
    ]
    assert kept(plan(catalog, Policy(keep_last=1, min_redundancy=2), NOW)) == {"current2", "current1"}


def test_the_minimum_is_counted_per_method():
    catalog = [*dailies(3), *(dump(f"dump{i}", NOW - (i + 20) * DAY, "app") for i in range(3))]
    result = plan(catalog, Policy(keep_last=1), NOW)
    assert kept(result) == {"day0", "dump0"}


def test_each_database_keeps_its_own_newest_dumps():
    catalog = [
        dump("app-new", NOW - DAY, "app"),
        dump("both-old", NOW - 2 * DAY, "app", "billing"),
        dump("app-mid", NOW - 3 * DAY, "app"),
        dump("both-older", NOW - 4 * DAY, "app", "billing"),
    ]
    result = plan(catalog, Policy(keep_last=1), NOW)
    assert kept(result) == {"app-new", "both-old"}
    assert "'billing'" in why("both-old", result)
    assert "'app'" not in why("both-old", result)


def test_a_new_database_does_not_make_the_old_dumps_stay_for_ever():
    catalog = [dump("with-new", NOW - DAY, "app", "tenant2"), *(dump(f"d{i}", NOW - i * DAY, "app") for i in (2, 3))]
    assert kept(plan(catalog, Policy(keep_last=1), NOW)) == {"with-new"}


def test_an_invalid_dump_is_not_replaced_by_a_dump_of_another_database():
    catalog = [dump("app", NOW - DAY, "app"), dump("bad", NOW - 2 * DAY, "billing", valid=False)]
    assert "bad" in kept(plan(catalog, Policy(keep_last=1), NOW))


def test_dumps_of_globals_alone_are_a_series_too():
    catalog = [dump(f"g{i}", NOW - (i + 1) * DAY) for i in range(3)]
    assert kept(plan(catalog, Policy(keep_last=1), NOW)) == {"g0"}


def test_many_databases_share_one_line_of_reason():
    catalog = [dump("all", NOW - DAY, *(f"db{i}" for i in range(5)))]
    result = plan(catalog, Policy(keep_last=1), NOW)
    assert "keep_last 1 of 1 (database 'db0', 'db1', 'db2' and 2 more)" in decision_on("all", result).reasons


# --- tiers ------------------------------------------------------------------------------------------------------------


def test_a_missed_sunday_promotes_the_newest_of_that_week():
    catalog = [c for c in dailies(15) if c.label != "day7"]  # day0 and day7 are Sundays
    result = plan(catalog, Policy(weekly=2), NOW)
    assert kept(result) == {"day0", "day8"}
    assert "weekly 2 of 2: newest valid of 2026-W46" in why("day8", result)


def test_an_invalid_sunday_promotes_the_newest_of_that_week():
    result = plan(changed(dailies(15), "day7", valid=False), Policy(weekly=2), NOW)
    assert kept(result) == {"day0", "day8"}


def test_buckets_are_utc_whatever_zone_the_times_carry():
    zone = timezone(timedelta(hours=14))
    catalog = [  # 21 November 23:30 and 22 November 00:30 in UTC; both the 22nd at +14:00
        backup("late", datetime(2026, 11, 22, 13, 30, tzinfo=zone)),
        backup("early", datetime(2026, 11, 22, 14, 30, tzinfo=zone)),
    ]
    assert kept(plan(catalog, Policy(daily=2), NOW)) == {"late", "early"}


def test_a_week_belongs_to_its_iso_year():
    now = datetime(2027, 1, 5, 12, tzinfo=UTC)
    catalog = [  # Thursday 31 December and Friday 1 January are both in 2026-W53
        backup("thursday", datetime(2026, 12, 31, 2, tzinfo=UTC)),
        backup("friday", datetime(2027, 1, 1, 2, tzinfo=UTC)),
    ]
    assert kept(plan(catalog, Policy(weekly=5), now)) == {"friday"}


def test_tiers_add_up_and_a_backup_may_serve_several():
    result = plan(dailies(400), Policy(daily=3, weekly=2, monthly=2, yearly=2), NOW)
    # 22, 21, 20 Nov; Sunday 15 Nov; 31 Oct; 31 Dec 2025
    assert kept(result) == {"day0", "day1", "day2", "day7", "day22", "day326"}
    assert len(decision_on("day0", result).reasons) >= 4


def test_an_outage_costs_no_tier_its_older_backups():
    catalog = [c for c in dailies(30) if int(c.label[3:]) >= 20]
    assert kept(plan(catalog, Policy(daily=3), NOW)) == {"day20", "day21", "day22"}


def test_each_databases_tiers_are_its_own():
    catalog = [dump(f"app{i}", NOW - (i + 1) * DAY, "app") for i in range(10)]
    catalog += [dump(f"billing{i}", NOW - (30 * i + 5) * DAY, "billing") for i in range(5)]
    assert kept(plan(catalog, Policy(daily=3), NOW)) == {
        *("app0", "app1", "app2"),
        *("billing0", "billing1", "billing2"),
    }


def test_the_plan_says_what_remains_restorable():
    old = [backup("old", NOW - 4 * DAY, system_identifier="6000")]
    catalog = [*dailies(2), *old, dump("d", NOW - DAY, "app"), dump("e", NOW - 2 * DAY, "app")]
    physical, before, dumps = plan(catalog, Policy(keep_last=3), NOW).remaining
    assert (physical.method, physical.system_identifier, physical.labels) == ("physical", "7001", ("day0", "day1"))
    assert (physical.oldest, physical.newest) == (NOW - DAY - 9 * HOUR, NOW - 9 * HOUR)
    assert (before.system_identifier, before.labels) == ("6000", ("old",))
    assert (dumps.method, dumps.database, dumps.labels) == ("logical", "app", ("d", "e"))


# --- 400 simulated days -----------------------------------------------------------------------------------------------

GFS = Policy(daily=30, weekly=13, monthly=12, yearly=2)
BUCKETS = {
    "daily": lambda t: t.date(),
    "weekly": lambda t: t.date() - timedelta(days=t.weekday()),
    "monthly": lambda t: (t.year, t.month),
    "yearly": lambda t: t.year,
}


def promised_by_tiers(taken: Iterable[Candidate], policy: Policy) -> set[str]:
    """Said again, another way: of all good backups ever taken, the newest of each of the last N periods."""
    promised: set[str] = set()
    for tier, bucket_of in BUCKETS.items():
        newest: dict[Any, Candidate] = {}
        for candidate in sorted(taken, key=lambda c: c.start_time):
            newest[bucket_of(candidate.start_time)] = candidate
        promised |= {newest[bucket].label for bucket in sorted(newest, reverse=True)[: getattr(policy, tier)]}
    return promised


def test_over_400_days_every_tier_of_dumps_holds_exactly_what_it_promises():
    first = datetime(2026, 1, 1, 2, tzinfo=UTC)
    store: list[Candidate] = []
    taken: list[Candidate] = []
    for day in range(400):
        today = first + day * DAY
        if day % 17 and not 200 <= day < 212 and not (today.weekday() == 6 and day % 3 == 0):  # missed days and Sundays
            store.append(dump(f"{today:%Y%m%d}", today, "app", valid=day % 11 != 0))
            taken += [store[-1]] if store[-1].valid else []
        result = plan(store, GFS, today + 6 * HOUR)
        store = [c for c in store if c.label in kept(result)]
        assert {c.label for c in store if c.valid} == promised_by_tiers(taken, GFS)
    assert len({c.start_time.date() for c in taken}) > 300
    assert len(store) < 30 + 13 + 12 + 2


def test_over_400_days_every_tier_of_chains_holds_what_it_promises_and_every_chain_is_whole():
    first = datetime(2026, 1, 1, 2, tzinfo=UTC)
    store: list[Candidate] = []
    taken: list[Candidate] = []
    for day in range(400):
        today = first + day * DAY
        system = "6000" if day < 250 else "7001"  # an upgrade on day 250
        previous = taken[-1] if taken and taken[-1].system_identifier == system else None
        if day % 13 == 5:
            continue
        parent = previous.label if previous and today.weekday() != 6 else None
        kind = "incremental" if parent else "full"
        label = f"{400 - day:03}"  # names run backwards: they must not matter
        latest = backup(label, today, parent=parent, type=kind, valid=day % 19 != 7, system_identifier=system)
        store.append(latest)
        taken += [latest] if latest.valid else []
        result = plan(store, GFS, today + 6 * HOUR)
        store = [c for c in store if c.label in kept(result)]
        labels = {c.label for c in store}
        assert promised_by_tiers(taken, GFS) <= labels
        assert all(c.parent in labels for c in store if c.parent)
    assert len(store) < 200  # it does expire


# --- any catalog ------------------------------------------------------------------------------------------------------


@st.composite
def catalogs(draw: st.DrawFn) -> tuple[list[Candidate], datetime]:
    """A history of one cluster: chains, dumps, upgrades, holds, failures, lost parents, names in any order."""
    size = draw(st.integers(0, 14))
    labels = draw(st.permutations([f"b{i:02}" for i in range(size)]))
    clock = datetime(2026, 2, 20, 22, tzinfo=UTC)
    system = 7
    history: list[Candidate] = []
    for label in labels:
        clock += timedelta(hours=draw(st.sampled_from([0, 0, 1, 5, 24, 24, 24 * 6, 24 * 31])))
        system = draw(st.sampled_from([system] * 8 + [system - 1, system - 2, 7]))
        kind = draw(st.sampled_from(["full", "incremental", "incremental", "dump"]))
        parents = [c for c in history if c.method == "physical" and c.system_identifier == str(system)]
        parent: Optional[str] = None
        if kind == "incremental":
            parent = draw(st.sampled_from([c.label for c in parents[-3:]] * 4 + ["lost"]))
        history.append(
            Candidate(
                label=label,
                method="logical" if kind == "dump" else "physical",
                type=kind,
                parent=parent,
                start_time=clock,
                stop_time=clock + timedelta(hours=draw(st.sampled_from([0, 1, 1, 30]))),
                system_identifier=str(system),
                databases=tuple(draw(st.sets(st.sampled_from("abc"), max_size=2))) if kind == "dump" else (),
                held=draw(st.sampled_from([None] * 12 + ["", "audit"])),
                proven=draw(st.sampled_from([False] * 4 + [True])),
                valid=draw(st.sampled_from([True] * 4 + [False])),
            )
        )
    now = max((c.stop_time for c in history), default=clock) + timedelta(hours=draw(st.integers(0, 24 * 40)))
    return draw(st.permutations(history)), now


def counts(largest: int) -> st.SearchStrategy[int]:
    return st.integers(0, largest)


policies = st.builds(
    Policy,
    keep_last=st.none() | st.integers(1, 4),
    keep_within_s=st.none() | st.integers(1, 60 * 24).map(lambda hours: hours * 3600),
    daily=counts(4),
    weekly=counts(3),
    monthly=counts(2),
    yearly=counts(1),
    min_redundancy=counts(3),
)
any_case = given(catalogs(), policies)


def ancestors(candidate: Candidate, listed: dict[str, Candidate]) -> list[Candidate]:
    found = []
    while candidate.parent in listed:
        candidate = listed[candidate.parent]
        found.append(candidate)
    return found


def restorable(catalog: Iterable[Candidate]) -> list[Candidate]:
    """Newest first, worked out the slow way."""
    listed = {c.label: c for c in catalog}
    good = []
    for candidate in listed.values():
        chain = [candidate, *ancestors(candidate, listed)]
        if all(c.valid for c in chain) and chain[-1].parent is None and chain[-1].type != "incremental":
            good.append((candidate.start_time, len(chain), candidate.stop_time, candidate.label, candidate))
    return [entry[-1] for entry in sorted(good, key=lambda entry: entry[:-1], reverse=True)]


def series_of(catalog: Iterable[Candidate]) -> dict[tuple[str, str], list[Candidate]]:
    series: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in catalog:
        for database in candidate.databases or ("",):
            series.setdefault((candidate.method, database), []).append(candidate)
    return series


def left_over(catalog: Iterable[Candidate], result: RetentionPlan) -> list[Candidate]:
    return [c for c in catalog if c.label in kept(result)]


@any_case
def test_every_backup_gets_one_decision_with_a_reason_and_what_goes_is_in_the_delete_order(case, policy):
    catalog, now = case
    result = plan(catalog, policy, now)
    assert sorted(d.label for d in result.decisions) == sorted(c.label for c in catalog)
    assert all(d.reasons and all(d.reasons) for d in result.decisions)
    starts = {c.label: c.start_time for c in catalog}
    in_order = [starts[d.label] for d in result.decisions]
    assert in_order == sorted(in_order, reverse=True)
    assert sorted(result.delete_order) == sorted(d.label for d in result.decisions if not d.keep)


@any_case
def test_nothing_kept_is_orphaned(case, policy):
    catalog, now = case
    listed = {c.label for c in catalog}
    left = left_over(catalog, plan(catalog, policy, now))
    labels = {c.label for c in left}
    assert all(c.parent in labels for c in left if c.parent in listed)
    assert all(c.label in labels for c in catalog if c.parent and c.parent not in listed)


@any_case
def test_a_parent_is_never_deleted_before_its_child(case, policy):
    catalog, now = case
    order = plan(catalog, policy, now).delete_order
    for child in catalog:
        if child.parent in order:
            assert order.index(child.label) < order.index(child.parent)


@any_case
def test_no_series_falls_below_its_minimum(case, policy):
    catalog, now = case
    result = plan(catalog, policy, now)
    after = series_of(restorable(left_over(catalog, result)))
    for key, before in series_of(restorable(catalog)).items():
        for system in (None, before[0].system_identifier):  # all, and the current cluster

            def whole(backups: Sequence[Candidate], system: Optional[str] = system) -> int:
                return sum(c.type != "incremental" and system in (None, c.system_identifier) for c in backups)

            assert whole(after[key]) >= min(max(1, policy.min_redundancy), whole(before))


@any_case
def test_the_newest_valid_the_newest_full_and_the_last_proven_stay(case, policy):
    catalog, now = case
    labels = kept(plan(catalog, policy, now))
    for backups in series_of(restorable(catalog)).values():
        assert backups[0].label in labels
        fulls = [c for c in backups if c.type != "incremental" and c.system_identifier == backups[0].system_identifier]
        assert fulls[0].label in labels
        proven = [c for c in backups if c.proven]
        assert not proven or proven[0].label in labels
    for backups in series_of(c for c in catalog if c.valid).values():  # valid itself, whatever its chain
        newest = max(c.start_time for c in backups)
        assert any(c.label in labels for c in backups if c.start_time == newest)


@any_case
def test_what_is_held_stays_with_all_its_ancestors(case, policy):
    catalog, now = case
    labels = kept(plan(catalog, policy, now))
    listed = {c.label: c for c in catalog}
    for candidate in catalog:
        if candidate.held is not None:
            assert {c.label for c in [candidate, *ancestors(candidate, listed)]} <= labels


@any_case
def test_planning_again_deletes_nothing_more(case, policy):
    catalog, now = case
    left = left_over(catalog, plan(catalog, policy, now))
    again = plan(left, policy, now)
    assert again.delete_order == ()
    assert kept(again) == {c.label for c in left}


@given(catalogs(), policies, st.data())
def test_an_expiry_that_was_killed_is_finished_by_the_next_one_and_never_widened(case, policy, data):
    catalog, now = case
    order = plan(catalog, policy, now).delete_order
    done = data.draw(st.integers(0, len(order)))
    rest = [c for c in catalog if c.label not in order[:done]]
    assert plan(rest, policy, now).delete_order == order[done:]


@given(catalogs(), policies, st.randoms(use_true_random=False))
def test_the_order_of_the_listing_does_not_matter(case, policy, random):
    catalog, now = case
    shuffled = random.sample(catalog, len(catalog))
    assert plan(shuffled, policy, now) == plan(catalog, policy, now)


@any_case
def test_what_cannot_be_restored_saves_its_parents_and_condemns_nobody(case, policy):
    catalog, now = case
    good = restorable(catalog)
    junk = [c for c in catalog if c not in good]
    labels = kept(plan(catalog, policy, now))
    listed = {c.label: c for c in catalog}
    saved = {a.label for c in junk if c.label in labels for a in ancestors(c, listed)}
    alone = kept(plan(good, policy, now))
    assert {c.label for c in good} & labels == alone | (saved & {c.label for c in good})


def base_for(catalog: Iterable[Candidate], moment: datetime) -> Optional[str]:
    """The backup that a restore to `moment` starts from: the newest by start of those that had stopped by then."""
    return next((c.label for c in restorable(catalog) if c.stop_time <= moment), None)


@settings(max_examples=300)
@given(catalogs(), policies.filter(lambda policy: policy.keep_within_s))
def test_every_moment_of_the_window_keeps_the_base_it_had(case, policy):
    """For all t in [now - keep_within, now] and each series: base_for(t) is the same backup before and after.

    The same holds for each cluster by itself that has a restorable backup which stopped in the window. Between two
    stop times the base cannot change, so the stop times and the window's two ends stand for every t.
    """
    catalog, now = case
    window_start = now - timedelta(seconds=policy.keep_within_s)
    left = left_over(catalog, plan(catalog, policy, now))
    moments = [window_start, now, *(c.stop_time for c in catalog if c.stop_time >= window_start)]
    physical = [c for c in catalog if c.method == "physical"]
    alive = {c.system_identifier for c in restorable(catalog) if c.stop_time >= window_start and c in physical}
    groups = [physical, *([c for c in physical if c.system_identifier == system] for system in alive)]
    groups += [
        [c for c in catalog if c.method == "logical" and name in (c.databases or ("",))] for name in ("", *"abc")
    ]
    for group in groups:
        remaining = [c for c in group if c in left]
        for moment in moments:
            assert base_for(remaining, moment) == base_for(group, moment)


@any_case
def test_every_tier_holds_the_newest_good_backup_of_its_last_periods(case, policy):
    catalog, now = case
    labels = kept(plan(catalog, policy, now))
    for backups in series_of(reversed(restorable(catalog))).values():
        assert promised_by_tiers(backups, policy) <= labels


@given(catalogs(), st.integers(1, 4))
def test_nothing_stays_that_no_promise_needs(case, keep_last):
    """Without this, a plan that keeps everything would pass all the others."""
    catalog, now = case
    result = plan(catalog, Policy(keep_last=keep_last), now)
    needed = {c.label for c in catalog if c.held is not None} | {
        c.label
        for c in catalog
        if c.parent == "lost" or any(a.parent == "lost" for a in ancestors(c, {x.label: x for x in catalog}))
    }
    good = restorable(catalog)
    for backups in series_of(good).values():
        current = [
            c for c in backups if c.system_identifier == backups[0].system_identifier and c.type != "incremental"
        ]
        needed |= {c.label for c in [*backups[:keep_last], *current[:1], *[c for c in backups if c.proven][:1]]}
    newest_start = {key: backups[0].start_time for key, backups in series_of(good).items()}
    for key, backups in series_of(c for c in catalog if c not in good).items():
        needed |= {c.label for c in backups if key not in newest_start or c.stop_time >= newest_start[key]}
    listed = {c.label: c for c in catalog}
    needed |= {a.label for label in set(needed) for a in ancestors(listed[label], listed)}
    assert kept(result) == needed
