# SPDX-License-Identifier: GPL-3.0-or-later
"""Seed data on real servers: exact, equal everywhere, proven, safe, and gone again without a trace."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, Corrupt, DbopsError, Refused
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent, Step
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed import guard, profile, proof, run
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed.plan import at_scale
from tests.support.cities import ANCHOR, EXAMPLE, City, cities_below
from tests.support.disks import mounted
from tests.support.playbooks import Controller, changed, unfolded
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


@pytest.fixture(scope="module")
def refusing(cities: list[City]) -> str:
    """A database for all that is refused: it stays empty, or the test that filled it fails."""
    return cities[-1].database()


@dataclasses.dataclass(frozen=True)
class Seeded:
    """A database with a profile's rows, as one session made them in one transaction. It is read, and left as it is."""

    city: City
    database: str
    result: dict


@pytest.fixture(scope="module")
def seeded(cities: list[City]) -> dict[str, list[Seeded]]:
    """By the profile's name, in the order of `cities`."""
    made: dict[str, list[Seeded]] = {}
    for wanted in (LIGHT, MEDIUM, HEAVY):
        for city in cities:
            database = city.database()
            made.setdefault(wanted.name, []).append(Seeded(city, database, city.seed(wanted, database)))
    return made


@pytest.mark.parametrize("wanted", [LIGHT, MEDIUM, HEAVY], ids=lambda it: it.name)
def test_counts_are_exact_and_the_rows_equal_on_every_version(seeded, wanted):
    hashes = []
    for it in seeded[wanted.name]:
        rows = it.result["rows"]
        assert it.result["changed"] is True
        assert rows == {**rows, **EXACT[wanted.name]}
        if wanted is HEAVY:
            assert [table for table, count in rows.items() if count == 0] == [], "heavy fills every table"
        assert it.city.server.value("select count(*) from ride_types", database=it.database) == 3, "not ours to fill"
        again = it.city.seed(wanted, it.database, anchor="now")
        assert (again["changed"], again["rows"]) == (False, rows)
        hashes.append(it.result["hashes"])
    assert len(hashes) > 1
    assert all(other == hashes[0] for other in hashes)
    assert len(set(hashes[0].values())) > len(EXACT[wanted.name]), "the hash tells tables apart"


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("wanted", [LIGHT, MEDIUM, HEAVY], ids=lambda it: it.name)
def test_neither_workers_nor_chunks_change_a_row_or_the_catalog(city, seeded, wanted, workers, monkeypatch):
    monkeypatch.setattr(f"{at_scale.__module__}.CHUNK", 997)  # `seeded` made each part in one piece
    database = city.database()
    assert city.seed(wanted, database, workers=workers)["hashes"] == seeded[wanted.name][-1].result["hashes"]
    assert city.catalog(database) == city.catalog("empty_city")


def test_another_seed_gives_other_rows(city, seeded):
    alone, other = seeded["light"][-1].result, city.seed(dataclasses.replace(LIGHT, seed=12), city.database())
    assert alone["hashes"]["rides"] != other["hashes"]["rides"]
    assert alone["rows"] == other["rows"]


# What makes each invariant say no. One that no row can break would be a check that cannot fail.
BROKEN = {
    "times follow the state machine": "update rides set started_at = null where status = 'in_progress'",
    "what happened lies before the anchor": "update payments set processed_at = '2026-11-21'",
    "created_at is the moment of the event": "update rides set created_at = created_at - interval '1 second'",
    "nobody rides before their sign-up": "update users set created_at = '2026-11-20'",
    "riders ride, and drivers drive": """
        update users set role = 'driver' where id = (select rider_id from rides where status = 'cancelled' limit 1)""",
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
        "update payments set amount = amount + 1, driver_earnings = driver_earnings + 1 where receipt = "
        "(select min(receipt) from payments)",
    "ledgers chain, never below zero, and end at the balance":
        "update wallets set balance = balance + 0.01 where id in (select wallet_id from wallet_transactions limit 1)",
    "each rider's debit has its driver's credit": "delete from wallet_transactions where id = 9",
    "distance comes from the coordinates, duration and fare from the distance":
        "update rides set pickup_latitude = pickup_latitude + 0.001 where estimated_distance > 12",
    "points lie in the city": "update favorite_locations set latitude = longitude / -10 + 30 where name = 'Gym'",
    "demand follows the hours of the week":
        "update rides set requested_at = date_trunc('day', requested_at) + interval '11 hours'",
    "some riders come again and again": """
        update rides r set rider_id = u.id from (select id, row_number() over (order by id) as nth from rides) s
        join (select id, row_number() over (order by id) - 1 as nth from users where role = 'rider') u
        on u.nth = s.nth % 500 where s.id = r.id""",
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
    "what rows refer to without a foreign key is there":
        "delete from payments where receipt = (select min(reference_id) from wallet_transactions)",
    "columns that a live system always fills are filled": "update rides set pricing_version_id = null",
    "shares are exact": "update payments set method = 'cash' where receipt = "
        "(select min(receipt) from payments where method = 'card')",
}  # fmt: skip
# The schema itself would refuse these; the invariant must not rely on that.
DROPPED = {
    "demand follows the hours of the week": "alter table rides drop constraint rides_times_check",
    "read means sent, and after it": "alter table notifications drop constraint notifications_read_check",
}


def test_every_invariant_has_its_breach():
    assert set(BROKEN) == {invariant.name for invariant in HEAVY.invariants}


@pytest.mark.parametrize("invariant", HEAVY.invariants, ids=lambda it: it.name)
def test_a_broken_promise_is_found_and_named(city, seeded, invariant):
    database = seeded["heavy"][-1].database
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
def test_a_load_that_is_cut_off_goes_on_or_is_taken_back(city, seeded, step):
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
    assert resumed["hashes"] == seeded["medium"][-1].result["hashes"]
    assert city.catalog(database) == fresh


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


def with_counts(**counts: int) -> profile.Profile:
    return dataclasses.replace(LIGHT, counts={**LIGHT.counts, **counts})


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
        (with_counts(notifications=10), "notifications has exactly 10 rows, and has 9"),
        (with_counts(payments=6), "shares are exact: 1 rows break it"),
        (with_counts(active=9), "Part 's_past' of the profile"),
    ],
    ids=["table", "column", "null", "check", "unique", "foreign-key", "version", "rows", "count", "paid", "over"],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_what_does_not_fit_leaves_nothing_behind(city, refusing, wanted, message, workers):
    with pytest.raises(DbopsError, match=message):
        city.seed(wanted, refusing, workers=workers)
    assert city.server.value("select count(*) from users", database=refusing) == 0
    assert city.server.value("select to_regnamespace('dbops_seed')::text", database=refusing) is None


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


def hosts_of(city: City, place: Path) -> dict[str, dict[str, object]]:
    """One for each profile, all of the same server, so that one run of a playbook fills a database with each."""
    major = city.server.installation.major
    config = city.server.os_user.own_directory(place / f"host{major}", 0o755) / "main.json"
    config.write_text(json.dumps(city.server.engine_mapping(None)))
    return {
        f"{name}{major}": {
            "dbops_config_path": str(config),
            "dbops_seed_profile": str(EXAMPLE / "seed" / f"{name}.yml"),
            "dbops_seed_database": city.database(),
        }
        for name in EXACT
    }


@pytest.mark.slow
def test_the_playbook_fills_every_version_from_every_source_and_changes_nothing_again(cities, seeded, place):
    hosts = {name: host for city in cities for name, host in hosts_of(city, place).items()}
    city, newest = cities[-1], cities[-1].server.installation.major
    key = place / "subset.key"
    key.write_text("0123456789abcdef" * 4)
    key.chmod(0o600)
    hosts["subset"] = {
        "dbops_config_path": hosts[f"heavy{newest}"]["dbops_config_path"],
        "dbops_seed_rules": str(EXAMPLE / "seed" / "anonymise.yml"),
        "dbops_seed_roots": 20,
        "dbops_seed_key_file": str(key),
        "dbops_seed_source_database": seeded["heavy"][-1].database,
        "dbops_seed_database": city.database(),
    }
    controller = Controller(place, {"dbops_seed_anchor": ANCHOR}, hosts)

    def play(*words: str, on: Collection[str]) -> set[int]:
        screen = controller.play("seed", "--limit", ",".join(on), *words)
        return {changed(screen, host) for host in on}

    either = (f"medium{newest}", "subset")  # one of each kind tells enough of what changes nothing
    assert play("--check", "--diff", on=either) == {1}
    for name in either:
        assert city.server.value("select count(*) from users", database=hosts[name]["dbops_seed_database"]) == 0
    assert play(on=hosts) == {1}
    for wanted in (LIGHT, MEDIUM, HEAVY):
        results = [controller.result("seed", f"{wanted.name}{city.server.installation.major}") for city in cities]
        for result in results:
            assert result["rows"] == {**result["rows"], **EXACT[wanted.name]}
            assert result["digest"] == wanted.digest()
            assert f"{len(wanted.invariants)} invariants hold" in result["msg"]
            assert result["hashes"] == results[0]["hashes"]
    subset = controller.result("seed", "subset")
    assert "original values is in the" in subset["msg"]
    assert subset["rows"]["users"] > 20
    assert play(on=either) == {0}
    screen = controller.play("seed", "--limit", "subset", fails=True, dbops_seed_state="absent")
    assert "cannot be made absent" in unfolded(screen)


def test_a_server_without_room_is_told_before_a_row_and_one_that_crashed_in_the_middle_after_it(templates, place):
    server = templates.server(installations()[-1], place / "pg")
    server.settings["max_connections"] = "12"
    server.settings["max_wal_senders"] = "2"
    server.start()
    city = City(server)
    database = city.database()
    with pytest.raises(Refused, match=r"40 workers are asked for, and the server has room for [0-9]+ sessions"):
        city.seed(LIGHT, database, workers=40)
    assert city.server.value("select to_regnamespace('dbops_seed')::text", database=database) is None

    cut = CutOff(city, database, "seed: payments")
    with pytest.raises(DbopsError):
        run.seed(city.settings, MEDIUM, cut, database=database, anchor=ANCHOR, workers=2)
    server.kill()
    server.start()
    with pytest.raises(Refused, match="crashed"):
        city.seed(MEDIUM, database, workers=2)
    run.reset(city.settings, MEDIUM, database=database)
    assert city.seed(MEDIUM, database, workers=4)["changed"] is True
    assert city.catalog(database) == city.catalog("empty_city")


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
