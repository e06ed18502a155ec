# SPDX-License-Identifier: GPL-3.0-or-later
"""The example database is the same everywhere, and makes sense."""

from __future__ import annotations

from pathlib import Path

import psycopg2
import psycopg2.errors
import pytest

from tests.support.servers import PgServer, Templates, content_hashes, differences, installations

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "ridehailing"
SCALE = 0.05

NEVER = {
    "a wallet that differs from the sum of its transactions": """
        select id from wallets where balance <>
            coalesce((select sum(amount) from wallet_transactions t where t.wallet_id = wallets.id), 0)""",
    "a transaction that does not continue from the one before": """
        select * from (
            select balance_before, lag(balance_after, 1, 0.0) over (partition by wallet_id order by id) as left_off
            from wallet_transactions
        ) as steps where balance_before <> left_off""",
    "a payment other than fare less discount": """
        select * from payments join rides on rides.id = ride_id where amount <> fare - discount""",
    "a completed ride without a payment": """
        select id from rides where status = 'completed'
            and not exists (select from payments where ride_id = rides.id)""",
    "a payment for a ride that was not completed": """
        select * from payments join rides on rides.id = ride_id where rides.status <> 'completed'""",
    "a driver on two rides at once": """
        select * from rides a join rides b on a.driver_id = b.driver_id and a.id < b.id
        where a.status <> 'cancelled' and b.status <> 'cancelled'
          and tstzrange(a.requested_at, a.completed_at) && tstzrange(b.requested_at, b.completed_at)""",
    "a ride before its rider signed up": """
        select * from rides join users on users.id = rider_id where requested_at < created_at""",
    "a total that is not the number of rides": """
        select * from drivers where total_rides <>
            (select count(*) from rides where driver_id = drivers.id and status = 'completed')""",
    "a promotion that was counted wrongly": """
        select * from promo_codes where total_uses <>
            (select count(*) from promo_code_uses where promo_code_id = promo_codes.id)""",
    "a point outside San Francisco": """
        select * from rides
        where pickup_latitude not between 37.7 and 37.8 or pickup_longitude not between -122.5 and -122.4""",
    "anything after the last day": """
        select * from rides where greatest(requested_at, completed_at) > '2026-11-08 02:00Z'""",
    "a position that found no partition of its day": "select * from driver_locations_other",
}


def load(server: PgServer, database: str, *, seed: int = 2026, activity: int = 0) -> dict[str, str]:
    server.sql(f"create database {database}")
    server.psql((EXAMPLE / "schema.sql").read_text(), database)
    server.psql((EXAMPLE / "seed_demo.sql").read_text(), database, {"scale": SCALE, "seed": seed})
    for _number in range(activity):
        server.psql((EXAMPLE / "activity.sql").read_text(), database)
    return content_hashes(server, database)


def rows_only(hashes: dict[str, str]) -> dict[str, str]:
    return {name: line for name, line in hashes.items() if name.startswith(("table ", "sequence "))}


def test_the_rows_make_sense(server: PgServer) -> None:
    load(server, "ridehailing")
    broken = {what: len(server.sql(query, database="ridehailing")) for what, query in NEVER.items()}
    assert {what: count for what, count in broken.items() if count} == {}
    statuses = dict(server.sql("select status, count(*) from rides group by 1", database="ridehailing"))
    assert set(statuses) == {"requested", "accepted", "in_progress", "completed", "cancelled"}
    assert statuses["completed"] > sum(statuses.values()) * 0.7


def test_equal_seeds_give_equal_rows_and_another_seed_others(server: PgServer) -> None:
    first = load(server, "one", activity=2)
    assert differences(first, load(server, "two", activity=2)) == []
    assert rows_only(load(server, "three", seed=7)) != rows_only(first)


def test_every_version_of_postgresql_makes_the_same_rows(templates: Templates, place: Path) -> None:
    seen = {}
    for installation in installations():
        server = templates.server(installation, place / str(installation.major))
        server.start()
        seen[installation.major] = rows_only(load(server, "ridehailing", activity=1))
        server.stop()
    assert len({str(sorted(hashes.items())) for hashes in seen.values()}) == 1


def test_activity_changes_rides_payments_and_notifications(server: PgServer) -> None:
    before = load(server, "ridehailing")
    server.psql((EXAMPLE / "activity.sql").read_text(), "ridehailing")
    changed = {line.split(":")[0] for line in differences(before, content_hashes(server, "ridehailing"))}
    assert {"table public.rides", "table public.payments", "table public.notifications"} <= changed


def test_the_application_role_may_ride_and_not_rewrite_the_books(server: PgServer) -> None:
    load(server, "ridehailing")
    with server.connection("ridehailing") as connection, connection.cursor() as cursor:
        cursor.execute("set role ride_app")
        cursor.execute("update rides set updated_at = now() where status = 'requested'")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="payments"):
            cursor.execute("update payments set amount = 0")
