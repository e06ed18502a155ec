# SPDX-License-Identifier: GPL-3.0-or-later
"""Seed data on real servers: exact, equal everywhere, proven, safe, and gone again without a trace."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, Corrupt, DbopsError, Refused
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent, Step
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed import guard, profile, proof, run
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed.plan import at_scale
from tests.support.cities import ANCHOR, EXAMPLE, City, cities_below
from tests.support.disks import mounted
from tests.support.playbooks import Controller, changed
from tests.support.servers import Templates, installations

LIGHT, MEDIUM, HEAVY = (profile.load(str(EXAMPLE / "seed" / f"{name}.yml")) for name in ("light", "medium", "heavy"))
EXACT = {
    "light": {"users": 11, "drivers": 5, "wallets": 10, "rides": 9, "payments": 5},
    "medium": {"users": 52, "drivers": 20, "wallets": 50, "rides": 200, "payments": 140, "favorite_locations": 45,
               "notifications": 100, "promo_codes": 4},
    "heavy": {"users": 710, "drivers": 200, "wallets": 700, "rides": 5000, "payments": 3750, "notifications": 5000,
              "eta_predictions": 1875, "eta_model_stats": 3, "referral_codes": 100, "promo_codes": 50},
}  # fmt: skip


@pytest.fixture(scope="module")
def cities(templates: Templates, base_directory: Path) -> Iterator[list[City]]:
    """One per PostgreSQL version, the newest last."""
    with cities_below(base_directory / "cities", templates) as made:
        yield made


@pytest.fixture
def city(cities: list[City]) -> City:
    return cities[-1]


@pytest.mark.parametrize("wanted", [LIGHT, MEDIUM, HEAVY], ids=lambda it: it.name)
def test_counts_are_exact_and_the_rows_equal_on_every_version(cities, wanted):
    hashes = []
    for city in cities:
        database = city.database()
        result = city.seed(wanted, database)
        assert result["changed"] is True
        assert result["rows"] == {**result["rows"], **EXACT[wanted.name]}
        assert city.server.value("select count(*) from ride_types", database=database) == 3, "not ours to fill"
        again = city.seed(wanted, database, anchor="now")
        assert (again["changed"], again["rows"]) == (False, result["rows"])
        hashes.append(result["hashes"])
    assert len(hashes) > 1
    assert all(other == hashes[0] for other in hashes)
    assert len(set(hashes[0].values())) > len(EXACT[wanted.name]), "the hash tells tables apart"


def test_heavy_leaves_no_table_empty(city):
    rows = city.seed(HEAVY, city.database())["rows"]
    assert [table for table, count in rows.items() if count == 0] == []


@pytest.mark.parametrize("wanted", [LIGHT, MEDIUM], ids=lambda it: it.name)
def test_the_number_of_workers_changes_nothing_not_even_the_catalog(city, wanted):
    empty = city.catalog("empty_city")
    alone = city.seed(wanted, city.database())
    for workers in (2, 4):
        database = city.database()
        assert city.seed(wanted, database, workers=workers)["hashes"] == alone["hashes"]
        assert city.catalog(database) == empty


def test_another_seed_gives_other_rows(city):
    alone, other = (city.seed(it, city.database()) for it in (LIGHT, dataclasses.replace(LIGHT, seed=12)))
    assert alone["hashes"]["rides"] != other["hashes"]["rides"]
    assert alone["rows"] == other["rows"]


# What makes each invariant say no. One that no row can break would be a check that cannot fail.
BROKEN = {
    "times follow the state machine": "update rides set started_at = null where status = 'in_progress'",
    "what happened lies before the anchor": "update payments set processed_at = '2026-11-21'",
    "created_at is the moment of the event": "update rides set created_at = created_at - interval '1 second'",
    "nobody rides before their sign-up": "update users set created_at = '2026-11-20'",
    "nobody drives before their approval": "update drivers set approved_at = '2026-11-20' where total_rides > 0",
    "a driver's rides never overlap": "update rides set completed_at = completed_at + interval '9 days'",
    "one open ride for a driver, one unscheduled open ride for a rider": """
        update rides set rider_id = (select rider_id from rides where status = 'accepted' limit 1)
        where status = 'in_progress'""",
    "open rides are recent": "update rides set requested_at = '2026-11-19' where status = 'accepted'",
    "open rides are driven by drivers online, at most two thirds of them": "update drivers set is_online = false",
    "who works is approved, by an administrator who was there": "update users set role = 'rider' where role = 'admin'",
    "drivers.total_rides counts completed rides, drivers.rating is the mean of the ratings":
        "update drivers set total_rides = total_rides - 1 where total_rides > 20",
    "one payment for each completed ride, of its fare less the discount":
        "update payments set amount = amount + 1, driver_earnings = driver_earnings + 1 where receipt = 'S-000000007'",
    "ledgers chain, never below zero, and end at the balance":
        "update wallets set balance = balance + 0.01 where id in (select wallet_id from wallet_transactions limit 1)",
    "each rider's debit has its driver's credit": "delete from wallet_transactions where id = 9",
    "distance comes from the coordinates, duration and fare from the distance":
        "update rides set pickup_latitude = pickup_latitude + 0.001 where estimated_distance > 12",
    "points lie in the city": "update favorite_locations set latitude = longitude / -10 + 30 where name = 'Gym'",
    "demand follows the hours of the week":
        "update rides set requested_at = date_trunc('day', requested_at) + interval '11 hours'",
    "some riders come again and again": "update rides set rider_id = (select id from users order by md5(id::text || "
        "rides.id::text) limit 1)",
    "distances are log-normal, cut off by the city": "update rides set estimated_distance = 4",
    "promo codes count their uses, within validity, limits and the discount's own rule":
        "update promo_codes set total_uses = total_uses + 1 where code = 'RIDE1001'",
    "referral totals count their rows, and who is referred comes after who refers":
        "delete from referrals where id = (select id from referrals limit 1)",
    "a driver is where the newest location says, and got there at a possible speed":
        "delete from driver_locations where recorded_at > '2026-11-20 11:59:30Z'",
    "predictions agree with their rides": "update eta_predictions set time_of_day = (time_of_day + 1) % 24",
    "read means sent, and after it": """
        update notifications set read_at = sent_at - interval '1 minute' where is_read""",
    "columns that a live system always fills are filled": "update rides set pricing_version_id = null",
    "shares are exact": "update payments set method = 'cash' where receipt in ('S-000000001', 'S-000000002')",
}  # fmt: skip
# The schema itself would refuse these; the invariant must not rely on that.
DROPPED = {
    "demand follows the hours of the week": "alter table rides drop constraint rides_times_check",
    "read means sent, and after it": "alter table notifications drop constraint notifications_read_check",
}


@pytest.fixture(scope="module")
def heavy(cities: list[City]) -> tuple[City, str]:
    database = cities[-1].database()
    cities[-1].seed(HEAVY, database)
    return cities[-1], database


def test_every_invariant_has_its_breach():
    assert set(BROKEN) == {invariant.name for invariant in HEAVY.invariants}


@pytest.mark.parametrize("invariant", HEAVY.invariants, ids=lambda it: it.name)
def test_a_broken_promise_is_found_and_named(heavy, invariant):
    city, database = heavy
    plan = at_scale(dataclasses.replace(HEAVY, invariants=(invariant,)), 1, ANCHOR)
    with city.transaction(database, plan) as connection:
        rows = proof.counts(connection, at_scale(HEAVY, 1, ANCHOR))
        assert proof.findings([connection], plan, rows) == []
        connection.run("set local session_replication_role = replica")
        if invariant.name in DROPPED:
            connection.run(DROPPED[invariant.name])
        connection.run(BROKEN[invariant.name])
        found = proof.findings([connection], plan, rows)
    assert [it.promise for it in found] == [invariant.name]


def test_verify_proves_again_and_names_what_changed(city):
    database = city.database()
    result = city.seed(MEDIUM, database)
    assert run.verify(city.settings, MEDIUM, database=database)["hashes"] == result["hashes"]
    city.server.sql("update drivers set total_rides = 99 where total_rides > 2", database=database)
    with pytest.raises(Corrupt, match=r"total_rides counts completed rides.*rows break it, such as"):
        run.verify(city.settings, MEDIUM, database=database)
    with pytest.raises(BadInput, match="loaded, and this is"):
        run.verify(city.settings, LIGHT, database=database)


def test_reset_takes_what_seeding_made_and_nothing_else(city):
    database = city.database()
    before = city.catalog(database)
    city.seed(HEAVY, database)
    city.server.sql(
        "insert into users (email, phone_number, password_hash, first_name, last_name, role) "
        "values ('me@example.org', '1', '-', 'A', 'B', 'rider')",
        database=database,
    )
    planned = run.reset(city.settings, HEAVY, database=database, dry_run=True)
    assert city.server.value("select count(*) from rides", database=database) == 5000
    done = run.reset(city.settings, HEAVY, database=database)
    assert done["rows"] == planned["rows"]
    left = {t: city.server.value(f"select count(*) from {t}", database=database) for t in HEAVY.tables()}
    assert {table: count for table, count in left.items() if count} == {"users": 1}
    assert city.server.value("select count(*) from currencies", database=database) == 20
    assert city.server.value("select count(*) from revenue_by_day", database=database) == 0
    assert city.server.value("select to_regnamespace('dbops_seed')::text", database=database) is None
    assert city.catalog(database) == before
    assert run.reset(city.settings, HEAVY, database=database)["changed"] is False
    with pytest.raises(Refused, match="users"):
        city.seed(LIGHT, database)
    assert city.server.value("select count(*) from rides", database=database) == 0


class CutOff(Silent):
    """Ends every session of the load when it comes to a step."""

    def __init__(self, city: City, database: str, step: str) -> None:
        super().__init__()
        self.city, self.database, self.step = city, database, step

    def report(self, step: Step) -> None:
        if step.phase == self.step:
            self.city.server.sql(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s", (self.database,)
            )


@pytest.mark.parametrize("step", ["seed: s_trips", "seed: payments", "seed: validate keys of rides"])
def test_a_load_that_is_cut_off_goes_on_or_is_taken_back(city, step):
    database, fresh = city.database(), city.catalog("empty_city")
    cut = CutOff(city, database, step)
    with pytest.raises(DbopsError):
        run.seed(city.settings, MEDIUM, cut, database=database, anchor=ANCHOR, workers=2)
    with pytest.raises(Refused, match="unfinished load"):
        city.seed(LIGHT, database)
    if step == "seed: payments":
        run.reset(city.settings, MEDIUM, database=database)
        assert city.catalog(database) == fresh
    resumed = city.seed(MEDIUM, database, workers=2)
    assert resumed["hashes"] == city.seed(MEDIUM, city.database())["hashes"]
    assert city.catalog(database) == fresh


def test_a_server_that_crashed_in_the_middle_is_told_and_a_reset_helps(templates, place):
    server = templates.server(installations()[-1], place / "pg")
    server.start()
    city = City(server)
    database = city.database()
    cut = CutOff(city, database, "seed: payments")
    with pytest.raises(DbopsError):
        run.seed(city.settings, MEDIUM, cut, database=database, anchor=ANCHOR, workers=2)
    server.kill()
    server.start()
    with pytest.raises(Refused, match="crashed"):
        city.seed(MEDIUM, database, workers=2)
    run.reset(city.settings, MEDIUM, database=database)
    assert city.seed(MEDIUM, database)["changed"] is True
    assert city.catalog(database) == city.catalog("empty_city")


def test_the_present_moves_and_the_keys_stay(city):
    database = city.database()
    first = city.seed(MEDIUM, database)
    keys = "select string_agg(id::text, ' ' order by id) from rides"
    before = city.server.value(keys, database=database)
    moved = run.shift(city.settings, MEDIUM, Silent(), database=database, anchor="2026-11-27T00:00:00Z")
    assert moved["changed"] is True
    assert moved["hashes"]["rides"] != first["hashes"]["rides"]
    assert city.server.value(keys, database=database) == before
    newest = city.server.value("select max(requested_at)::text from rides", database=database)
    assert newest.startswith(("2026-11-26", "2026-11-27"))
    again = run.shift(city.settings, MEDIUM, Silent(), database=database, anchor="2026-11-27")
    assert again["changed"] is False


def with_part(name: str, **changes: object) -> profile.Profile:
    parts = tuple(dataclasses.replace(it, **changes) if it.name == name else it for it in LIGHT.parts)
    return dataclasses.replace(LIGHT, parts=parts)


def without(name: str, column: str) -> dict[str, str]:
    columns = next(part for part in LIGHT.parts if part.name == name).columns
    return {key: value for key, value in columns.items() if key != column}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (with_part("users", table="people"), "fills people, and there is no such table"),
        (with_part("users", columns={**LIGHT.parts[9].columns, "nick": "'x'"}), "there is no such column"),
        (with_part("users", columns=without("users", "email")), r"leaves out users.email, which must not be null"),
        (with_part("vehicles", columns={**without("vehicles", "year"), "year": "1800"}), "vehicles_year_check"),
        (with_part("vehicles", columns={**without("vehicles", "plate"), "plate": "'same'"}), "vehicles_plate_key"),
        (with_part("vehicles", columns={**without("vehicles", "driver_id"), "driver_id": "id"}), "Part 'vehicles'"),
        (dataclasses.replace(LIGHT, fits=profile.Fits(first=12, last=12)), "has schema version 34, .* fits 12"),
        (with_part("vehicles", rows="drivers + 1"), "vehicles has exactly 6 rows, and has 5"),
    ],
    ids=["table", "column", "null", "check", "unique", "foreign-key", "version", "count"],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_what_does_not_fit_leaves_nothing_behind(city, wanted, message, workers):
    database = city.database()
    with pytest.raises(DbopsError, match=message):
        city.seed(wanted, database, workers=workers)
    assert city.server.value("select count(*) from users", database=database) == 0
    assert city.server.value("select to_regnamespace('dbops_seed')::text", database=database) is None


def test_a_database_that_looks_like_production_is_allowed_by_its_exact_name_only(city):
    city.server.sql("create database city_prod template empty_city")
    with pytest.raises(Refused, match="looks like production by its name"):
        city.seed(LIGHT, "city_prod")
    with pytest.raises(Refused):
        city.seed(LIGHT, "city_prod", allow="city")
    assert city.seed(LIGHT, "city_prod", allow="city_prod")["changed"] is True
    large = guard.Impression("shop", guard.LARGE_BYTES + 1, guard.MANY_SESSIONS + 1)
    assert len(large.signs_of_production()) == 2
    assert guard.Impression("reproduction", 1, 1).signs_of_production() == []


def test_the_command_plans_loads_verifies_shifts_and_resets(city, place, capsys):
    database = city.database()
    config = place / "main.json"
    config.write_text(json.dumps(city.server.engine_mapping(None)))
    light = str(EXAMPLE / "seed" / "light.yml")

    def dbops(action: str, *words: str) -> str:
        code = main(["seed", action, light, "--config", str(config), "--database", database, *words])
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out

    assert "Would seed at least" in dbops("load", "--plan")
    assert city.server.value("select count(*) from users", database=database) == 0
    assert "Seeded 69 rows of profile 'light'" in dbops("load", "--anchor", ANCHOR)
    assert "Profile 'light' is there" in dbops("load")
    assert "69 seeded rows" in dbops("verify")
    assert "Would move" in dbops("shift", "--anchor", "2026-11-21", "--plan")
    assert "Seeded 69 rows" in dbops("shift", "--anchor", "2026-11-21")
    assert "Would remove 69" in dbops("reset", "--plan")
    assert "Removed 69" in dbops("reset")
    assert city.server.value("select count(*) from users", database=database) == 0


@pytest.mark.slow
def test_the_playbook_loads_every_profile_on_every_version_and_changes_nothing_again(cities, place):
    hosts = {}
    for city in cities:
        major = city.server.installation.major
        config = city.server.os_user.own_directory(place / f"host{major}", 0o755) / "main.json"
        config.write_text(json.dumps(city.server.engine_mapping(None)))
        hosts[f"pg{major}"] = {"dbops_config_path": str(config)}
        for wanted in (LIGHT, MEDIUM, HEAVY):
            city.server.sql(f"create database played_{wanted.name} template empty_city")
    controller = Controller(place, {"dbops_seed_anchor": ANCHOR}, hosts)

    def play(wanted: profile.Profile, *words: str) -> set[int]:
        path = {"dbops_seed_profile": str(EXAMPLE / "seed" / f"{wanted.name}.yml")}
        screen = controller.play("seed", *words, dbops_seed_database=f"played_{wanted.name}", **path)
        return {changed(screen, host) for host in hosts}

    assert play(MEDIUM, "--check", "--diff") == {1}
    assert cities[0].server.value("select count(*) from users", database="played_medium") == 0
    for wanted in (LIGHT, MEDIUM, HEAVY):
        assert play(wanted) == {1}
        results = [controller.result("seed", host) for host in hosts]
        for result in results:
            assert result["rows"] == {**result["rows"], **EXACT[wanted.name]}
            assert result["digest"] == wanted.digest()
            assert f"{len(wanted.invariants)} invariants hold" in result["msg"]
            assert result["hashes"] == results[0]["hashes"]
    assert play(MEDIUM) == {0}


def test_a_server_without_room_for_that_many_sessions_is_told_before_a_row(templates, place):
    server = templates.server(installations()[-1], place / "pg")
    server.settings["max_connections"] = "12"
    server.settings["max_wal_senders"] = "2"
    server.start()
    city = City(server)
    database = city.database()
    with pytest.raises(Refused, match=r"40 workers are asked for, and the server has room for [0-9]+ sessions"):
        city.seed(LIGHT, database, workers=40)
    assert city.server.value("select to_regnamespace('dbops_seed')::text", database=database) is None
    assert city.seed(LIGHT, database, workers=4)["changed"] is True


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_is_full_leaves_nothing_or_is_gone_on_from(city, place, workers):
    user = city.server.os_user
    with mounted(place / "small", 22, uid=user.uid, gid=user.gid) as disk:
        space, database = f"small{workers}", f"city_small{workers}"
        city.server.sql(f"create tablespace {space} location '{disk}'")
        city.server.sql(f"create database {database} template empty_city tablespace {space}")
        try:
            with pytest.raises(DbopsError, match="No space left on device"):
                city.seed(HEAVY, database, workers=workers, scale=2)
            city.server.psql("checkpoint")  # what was rolled back is given back
            if workers == 1:
                assert city.server.value("select count(*) from users", database=database) == 0
            else:
                run.reset(city.settings, HEAVY, database=database)
            assert city.server.value("select to_regnamespace('dbops_seed')::text", database=database) is None
            assert city.catalog(database) == city.catalog("empty_city")
        finally:
            city.server.sql(f"drop database {database} with (force)")
            city.server.sql(f"drop tablespace {space}")
