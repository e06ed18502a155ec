# SPDX-License-Identifier: GPL-3.0-or-later
"""An anonymised subset on real servers: whole under its keys, masked the same way each time, and no original in it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, Corrupt, DbopsError, Refused
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed import masks, profile, run, subset, subset_rules
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed.subset_rules import ColumnRule, Rules
from tests.support.cities import ANCHOR, EXAMPLE, City, cities_below
from tests.support.module_runs import run_module
from tests.support.servers import Templates

RULES = subset_rules.load(str(EXAMPLE / "seed" / "anonymise.yml"))
HEAVY = profile.load(str(EXAMPLE / "seed" / "heavy.yml"))
RIDERS = 20


@pytest.fixture(scope="module")
def cities(templates: Templates, base_directory: Path) -> Iterator[list[City]]:
    """One per PostgreSQL version, each with a database `restored` full of people: as if from a backup."""
    with cities_below(base_directory / "subsets", templates) as made:
        for city in made:
            city.server.sql("create database restored template empty_city")
            run.seed(city.settings, HEAVY, Silent(), database="restored", anchor=ANCHOR)
        yield made


@pytest.fixture
def city(cities: list[City]) -> City:
    return cities[-1]


@pytest.fixture(scope="module")
def refusing(cities: list[City]) -> str:
    """A database for all that is refused: it stays empty, or the test that filled it fails."""
    return cities[-1].database()


def assert_untouched(city: City, database: str) -> None:
    assert city.server.value("select count(*) from users", database=database) == 0
    assert city.server.value("select to_regnamespace('dbops_seed')::text", database=database) is None


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "key"
    path.write_text("0123456789abcdef" * 4)
    path.chmod(0o600)
    return str(path)


def take(city: City, database: str, key: str, rules: Rules = RULES, **more: Any) -> dict[str, Any]:
    how = {"source": subset.Source("restored"), "roots": RIDERS, "key_file": key, **more}
    return subset.take(city.settings, rules, Silent(), database=database, **how)


def column(city: City, database: str, query: str) -> list[Any]:
    return [row[0] for row in city.server.sql(query, database=database)]


def without(rules: Rules, name: str) -> Rules:
    return dataclasses.replace(rules, columns={key: rule for key, rule in rules.columns.items() if key != name})


def with_rule(rules: Rules, name: str, rule: ColumnRule) -> Rules:
    return dataclasses.replace(rules, columns={**rules.columns, name: rule})


def test_riders_come_with_all_that_is_theirs_and_nobody_can_be_told(cities, key):
    copies = []
    for city in cities:
        database = city.database()
        planned = take(city, database, key, dry_run=True)
        assert city.server.value("select count(*) from users", database=database) == 0
        done = take(city, database, key)
        assert done["rows"] == planned["rows"]
        assert done["checked"] > done["originals"] > 1000
        # Whole: every foreign key held when the rows came, and each driver has the licence and the car.
        assert done["rows"]["users"] > RIDERS
        assert min(done["rows"][table] for table in ("rides", "payments", "vehicles", "wallets", "ratings")) > 0
        lonely = (
            "select id from rides where driver_id not in "
            "(select user_id from drivers join vehicles on vehicles.driver_id = drivers.id)"
        )
        assert column(city, database, lonely) == []
        for personal in ("users.email", "users.phone_number", "users.id", "rides.id", "drivers.license_number"):
            table, name = personal.split(".")
            both = (set(column(city, it, f"select {name} from {table}")) for it in (database, "restored"))
            assert not set.intersection(*both), personal
        assert take(city, database, key)["changed"] is False
        copies.append(city.server.sql("select t::text from users t order by 1", database=database))
    assert len(copies) > 1
    assert all(other == copies[0] for other in copies), "the same key gives the same copy on every version"


def test_what_was_equal_stays_equal_and_how_often_it_came_too(city, key):
    database = city.database()
    take(city, database, key, roots=HEAVY.counts["riders"])  # everybody, so that the two can be compared
    for table, name in (
        ("rides", "rider_id"),
        ("rides", "driver_id"),
        ("rides", "status"),
        ("(select * from users where role = 'rider') riders", "first_name"),
        ("favorite_locations", "name"),
        ("payments", "amount"),
        ("ratings", "feedback"),
    ):
        often = f"select count(*) from {table} where {name} is not null group by {name} order by 1"
        assert column(city, database, often) == column(city, "restored", often), f"{table}.{name}"
    # A receipt and the transaction that names it were masked in the same way.
    orphans = "select reference_id from wallet_transactions where reference_id not in (select receipt from payments)"
    assert column(city, database, orphans) == []
    # Whoever lives somewhere lives nearby now: the middle of the city is where it was, and homes are few.
    middle = "select round(avg(pickup_latitude), 2), round(avg(pickup_longitude), 2) from rides"
    assert city.server.sql(middle, database=database) == city.server.sql(middle, database="restored")


def test_another_key_gives_other_people(city, key, tmp_path):
    first, second = city.database(), city.database()
    take(city, first, key)
    other = tmp_path / "other"
    other.write_text("f" * 64)
    other.chmod(0o600)
    take(city, second, str(other))
    emails = "select email from users"
    assert not set(column(city, first, emails)) & set(column(city, second, emails))


def test_a_column_that_repeats_a_masked_one_is_caught_and_nothing_stays(city, refusing, key):
    """`notifications.title` is kept, for it is one of five texts; here somebody has written an address into one."""
    planted = "restored_and_careless"
    city.server.sql(f"create database {planted} template restored")
    city.server.sql(
        "update notifications set title = 'Thanks, ' || upper(email) || '!' from users where users.id = user_id",
        database=planted,
    )
    with pytest.raises(Corrupt, match=r"survived in notifications.title \(\d+\)") as caught:
        take(city, refusing, key, source=subset.Source(planted))
    assert "@" not in str(caught.value), "the originals are not repeated"
    assert_untouched(city, refusing)


@pytest.mark.parametrize(("kind", "named"), [("email", "users.email"), ("address", "rides.pickup_address"),
                                             ("uuid", "users.id"), ("json", "notifications.data")])  # fmt: skip
def test_a_mask_that_masks_nothing_is_caught(city, refusing, key, kind, named, monkeypatch):
    original = masks.Masker.mask
    monkeypatch.setattr(
        masks.Masker, "mask", lambda self, it, value, keep=0: value if it == kind else original(self, it, value, keep)
    )
    with pytest.raises(Corrupt, match=named.replace(".", r"\.")):
        take(city, refusing, key)
    assert_untouched(city, refusing)


def test_a_place_that_did_not_move_is_caught(city, refusing, key, monkeypatch):
    monkeypatch.setattr(masks.Masker, "place", lambda _self, latitude, longitude, _radius: (latitude, longitude))
    with pytest.raises(Corrupt, match=r"rides\.pickup_latitude, pickup_longitude"):
        take(city, refusing, key)
    assert_untouched(city, refusing)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (without(RULES, "users.email"), "say nothing about users.email, which may hold personal data"),
        (without(RULES, "notifications.data"), "say nothing about notifications.data"),
        (dataclasses.replace(RULES, places={}), "say nothing about .*rides.pickup_latitude"),
        (
            with_rule(RULES, "users.phone_number", ColumnRule(keep="we need them")),
            "keep users.phone_number, whose name",
        ),
        (with_rule(RULES, "users.shoe_size", ColumnRule(mask="code")), "name users.shoe_size"),
        (dataclasses.replace(RULES, skip=(*RULES.skip, "friends")), "name friends; the source has no such table"),
        (dataclasses.replace(RULES, skip=(*RULES.skip, "wallets"), follow=()), "refers to a table that is skipped"),
        (with_rule(RULES, "users.email", ColumnRule(mask="code", keep_first=99)), "could not be masked"),
    ],
    ids=["no-rule", "no-rule-json", "no-rule-place", "kept", "column", "table", "skipped-parent", "keeps-all"],
)
def test_rules_that_would_let_something_through_are_refused(city, refusing, key, rules, message):
    with pytest.raises(DbopsError, match=message):
        take(city, refusing, key, rules)
    assert_untouched(city, refusing)


def test_more_riders_than_there_are_and_a_target_with_rows_are_refused(city, key):
    database = city.database()
    with pytest.raises(BadInput, match="501 users are asked for, and the source has 500"):
        take(city, database, key, roots=501)
    city.seed(profile.load(str(EXAMPLE / "seed" / "light.yml")), database)
    with pytest.raises(Refused, match="Profile 'light'"):
        take(city, database, key)
    with pytest.raises(BadInput, match="The source is the target"):
        take(city, "restored", key)
    city.server.sql("create database shop_live template empty_city")
    with pytest.raises(Refused, match="looks like production"):
        take(city, "shop_live", key)


def test_a_subset_is_not_taken_for_a_profiles_rows(city, key):
    database = city.database()
    take(city, database, key)
    with pytest.raises(Refused, match=r"subset ridehailing.* is in"):
        run.reset(city.settings, HEAVY, database=database)
    with pytest.raises(Refused, match="asked for was profile 'heavy'"):
        city.seed(HEAVY, database)
    with pytest.raises(Refused, match="is loaded in"):
        take(city, database, key, roots=RIDERS + 1)


def test_the_key_is_a_file_of_ones_own(city, refusing, tmp_path):
    path = tmp_path / "key"
    with pytest.raises(DbopsError, match="no key file"):
        take(city, refusing, str(path))
    path.write_text("k" * 64)
    path.chmod(0o644)
    with pytest.raises(Refused, match="open to others"):
        take(city, refusing, str(path))
    path.chmod(0o600)
    path.write_text("short")
    with pytest.raises(BadInput, match="has 5 bytes"):
        take(city, refusing, str(path))
    assert_untouched(city, refusing)


def test_the_command_plans_and_takes_it(city, key, tmp_path, capsys):
    config, database = tmp_path / "main.json", city.database()
    config.write_text(json.dumps(city.server.engine_mapping(None)))
    words = ["seed", "subset", str(EXAMPLE / "seed" / "anonymise.yml"), "--config", str(config), "--database", database,
             "--from-database", "restored", "--roots", str(RIDERS), "--key-file", key]  # fmt: skip
    assert main([*words, "--plan"]) == 0
    assert "Would copy" in capsys.readouterr().out
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "none of" in said
    assert "users" in said


def test_the_module_takes_it_once(city, key):
    database = city.database()
    arguments = {
        "rules": str(EXAMPLE / "seed" / "anonymise.yml"),
        "source_database": "restored",
        "database": database,
        "roots": RIDERS,
        "key_file": key,
        "login_unix_socket": str(city.server.sockets),
        "login_port": city.server.port,
        "login_user": "postgres",
        "os_user": city.server.os_user.name,
        "data_directory": str(city.server.data),
        "cluster": "main",
    }
    planned = run_module("pg_seed_subset", check=True, **arguments)
    assert planned["changed"] is True
    assert city.server.value("select count(*) from users", database=database) == 0
    done = run_module("pg_seed_subset", **arguments)
    assert done["changed"] is True
    assert done["rows"] == planned["rows"]
    assert run_module("pg_seed_subset", **arguments)["changed"] is False
