# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps of real servers: what is stored, what is refused, and what a run that dies leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup import logical, snapshot, take
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import (
    BadInput,
    Refused,
    ToolFailed,
    Unreachable,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg import server as pg_server
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from tests.support.dumps import AWKWARD_NAMES, create_database, dumped
from tests.support.servers import wait_until

FORMATS = ["custom", "plain", "directory"]


def counts_of(settings, record):
    repository = open_repository(settings)
    return json.loads(b"".join(repository.read_object(record.label, record.of_kind("counts")[0])))


def test_rows_are_counted_in_the_dumps_own_snapshot(server, settings):
    server.psql(
        """
        create table parted (n int) partition by range (n);
        create table low partition of parted for values from (0) to (10);
        create table high partition of parted for values from (10) to (20);
        insert into parted select generate_series(5, 14) where true;
        create materialized view seen as select * from parted;
        create materialized view unseen as select * from parted with no data;
        create schema "s.x"; create table "s.x"."t ""q" (n int); insert into "s.x"."t ""q" values (1);
        create temp table fleeting (n int);
        create table parent (n int); create table child () inherits (parent); insert into child values (1), (2);
        """,
        database="shop",
    )
    counts = counts_of(settings, dumped(settings))
    assert counts["postgres"] == {}
    assert counts["shop"] == {
        "public.attachments": 10,
        "public.child": 2,
        "public.customers": 500,
        "public.high": 5,
        "public.low": 5,
        'public."odd ""name"" ü/."': 2,
        "public.orders": 10000,
        "public.parent": 0,
        "public.seen": 10,
        '"s.x"."t ""q"': 1,
    }


@pytest.mark.parametrize("dump_format", FORMATS)
def test_any_database_name_works_and_its_object_has_a_tame_one(server, repository_path, dump_format):
    for name in AWKWARD_NAMES:
        create_database(server, name)
        server.sql("create table t as select 1 as n", database=name) if "=" not in name else None
    settings = server.engine_settings(repository_path, backup={"dump_format": dump_format})
    record = dumped(settings)
    assert set(record.databases) == {*AWKWARD_NAMES, "postgres", "shop"}
    names = [item.name for item in record.objects]
    assert len(set(names)) == len(names)
    for item in record.of_kind("database"):
        assert "/" not in item.name
        assert b"".join(open_repository(settings).read_object(record.label, item))


def test_a_database_that_does_not_exist_is_named_before_anything_is_copied(server, repository_path, monkeypatch):
    monkeypatch.setattr(logical, "_output", lambda *_arguments: pytest.fail("something was copied"))
    settings = server.engine_settings(repository_path, backup={"databases": ["shop", "shpo", "absent"]})
    with pytest.raises(BadInput, match="'shpo', 'absent'"):
        dumped(settings)


def test_all_databases_leaves_out_templates_and_what_accepts_no_connections(server, settings):
    server.sql("create database closed allow_connections false")
    databases, size = logical.estimate(settings, pg_server.look(settings.connection, settings.host))
    assert databases == ("postgres", "shop")
    assert size == server.value("select sum(pg_database_size(datname))::bigint from pg_database where datname in "
                                "('postgres', 'shop')")  # fmt: skip


def test_a_closed_database_that_is_named_is_refused(server, repository_path):
    server.sql("create database closed allow_connections false")
    with pytest.raises(BadInput, match="'closed' accepts no connections"):
        dumped(server.engine_settings(repository_path, backup={"databases": ["closed"]}))


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("create table private (n int)", r"may not read public\.private"),
        ("grant select on all tables in schema public to backer; alter table orders enable row level security",
         r"sees only some rows of public\.orders"),
        ("create schema hidden; create table hidden.t (n int); grant select on hidden.t to backer",
         r"may not read hidden\.t"),
    ],
)  # fmt: skip
def test_a_role_that_may_not_read_everything_is_refused_with_the_table(server, repository_path, trouble, words):
    server.psql("create role backer login")
    server.psql("grant select on all tables in schema public to backer; grant select on all sequences in schema public"
                " to backer", database="shop")  # fmt: skip
    server.psql(trouble, database="shop")
    settings = server.engine_settings(
        repository_path, connection={"login_user": "backer"}, backup={"databases": ["shop"]}
    )
    with pytest.raises(Refused, match=words):
        dumped(settings)
    assert open_repository(settings).catalog().entries == ()


def test_a_role_that_may_not_see_passwords_dumps_all_but_passwords_and_says_so(server, repository_path):
    server.psql("create role backer login; create role app login password 'secret'")
    server.psql("grant select on all tables in schema public to backer; grant select on all sequences in schema public"
                " to backer; grant select on large object 4242 to backer", database="shop")  # fmt: skip
    record = dumped(
        server.engine_settings(repository_path, connection={"login_user": "backer"}, backup={"databases": ["shop"]})
    )
    assert "passwords are not in this backup" in record.notes[0]
    repository = open_repository(server.engine_settings(repository_path))
    script = b"".join(repository.read_object(record.label, record.of_kind("globals")[0])).decode()
    assert "CREATE ROLE app;" in script
    assert "PASSWORD" not in script


@pytest.mark.parametrize(
    ("chosen", "tables"),
    [
        ({"include_tables": ["customers", "attach*"]}, {"public.customers", "public.attachments"}),
        ({"exclude_tables": ["public.O?ders", '"odd ""name"" ü/."']}, {"public.customers", "public.attachments"}),
        ({"include_tables": ["public.*"], "exclude_tables": ["*s"]}, {'public."odd ""name"" ü/."'}),
        ({"include_tables": ['"odd*"', "(customers|orders)"]}, {"public.customers", "public.orders"}),
    ],
)
def test_patterns_choose_what_is_counted_as_pg_dump_chooses_what_is_dumped(server, repository_path, chosen, tables):
    settings = server.engine_settings(repository_path, backup={"databases": ["shop"], "dump_format": "plain", **chosen})
    record = dumped(settings)
    script = b"".join(open_repository(settings).read_object(record.label, record.of_kind("database")[0])).decode()
    copied = {line.split(" (")[0][5:] for line in script.splitlines() if line.startswith("COPY ")}
    assert set(counts_of(settings, record)["shop"]) == copied == tables
    assert json.loads(record.extra[next(iter(chosen))]) == next(iter(chosen.values()))


def test_a_pattern_that_fits_nothing_is_refused_before_anything_is_copied(server, repository_path, monkeypatch):
    monkeypatch.setattr(logical, "_output", lambda *_arguments: pytest.fail("something was copied"))
    create_database(server, "zoo")
    settings = server.engine_settings(
        repository_path, backup={"include_tables": ["customers"], "databases": ["shop", "zoo"]}
    )
    with pytest.raises(BadInput, match="No table of 'zoo' fits 'customers'"):
        dumped(settings)


def test_a_table_that_was_emptied_meanwhile_is_not_counted_wrong(server, settings, monkeypatch):
    """TRUNCATE is not undone by a snapshot: the dump has the rows, a count after it would say none."""
    real = logical._store

    def store_then_truncate(*arguments):
        stored = real(*arguments)
        server.sql("truncate attachments", database="shop")
        return stored

    directory = server.engine_settings(
        Path(settings.repositories[0].path), backup={"databases": ["shop"], "dump_format": "directory"}
    )
    monkeypatch.setattr(logical, "_store", store_then_truncate)
    record = dumped(directory)
    assert "public.attachments" not in counts_of(directory, record)["shop"]
    assert "emptied while it was dumped" in " ".join(record.notes)


def test_counting_waits_for_pg_dumps_locks_and_not_for_anybody_elses(server, slow, monkeypatch):
    """Taken the other way round, our lock, a third session's and pg_dump's could wait for each other for ever."""
    done = threading.Event()

    def lock_orders_until_done():
        with server.connection("shop") as third:
            third.autocommit = False
            third.cursor().execute("lock table orders in access exclusive mode")
            done.wait(60)

    third = threading.Thread(target=lock_orders_until_done)
    real, locked_by_pg_dump = snapshot.count_rows, []

    def count_behind_a_waiting_lock(session, tables):
        locks = "select count(*) from pg_locks l join pg_stat_activity using (pid) where relation = 'orders'::regclass "
        locked_by_pg_dump.append(server.value(locks + "and granted and application_name = 'dbops'", database="shop"))
        third.start()
        wait_until(lambda: server.value(locks + "and not granted", database="shop"), "the third session waits")
        return real(session, tables)

    monkeypatch.setattr(snapshot, "count_rows", count_behind_a_waiting_lock)
    try:
        record = dumped(slow)
    finally:
        done.set()
        third.join(timeout=60)
    assert locked_by_pg_dump == [1]
    assert counts_of(slow, record)["shop"].keys() >= {"public.big", "public.customers"}
    assert "public.orders" not in counts_of(slow, record)["shop"]
    assert any("public.orders" in note and "lock timeout" in note for note in record.notes)


def test_settings_of_the_database_cannot_end_a_dump_half_way(server, slow, repository_path):
    for setting in (
        "statement_timeout = '5ms'",
        "idle_in_transaction_session_timeout = '5ms'",
        "lock_timeout = '1ms'",
    ):
        server.sql(f"alter database shop set {setting}")
    server.sql("alter database shop set default_transaction_isolation = 'read committed'")
    settings = server.engine_settings(repository_path)
    assert counts_of(settings, dumped(settings))["shop"]["public.big"] == 60000


@pytest.mark.parametrize("dump_format", FORMATS)
def test_a_standby_is_dumped_like_any_server(server, repository_path, place, dump_format):
    server.sql("create unlogged table scratch as select 1 as n", database="shop")
    standby = server.standby(place / "standby")
    record = dumped(standby.engine_settings(repository_path, backup={"dump_format": dump_format}))
    assert record.from_standby
    counts = counts_of(standby.engine_settings(repository_path), record)["shop"]
    assert counts["public.orders"] == 10000
    assert "public.scratch" not in counts  # it has no rows on a standby, and pg_dump leaves them out


# -- runs that die


@pytest.fixture
def slow(server, repository_path):
    """A table large enough to be interrupted in, and settings with which dumping it takes seconds."""
    server.psql("create table big as select n, repeat(md5(n::text), 20) as t from generate_series(1, 60000) n",
                database="shop")  # fmt: skip
    return server.engine_settings(
        repository_path, backup={"databases": ["shop"]}, compression={"codec": "zstd", "level": 19, "threads": 1}
    )


class KillPgDump(Silent):
    """SIGKILL for pg_dump when the first of its bytes have come."""

    def __init__(self, server):
        super().__init__()
        self._server = server
        self.killed = 0

    def report(self, step):
        if step.phase == "dump shop" and not self.killed:
            for pid in pids_of("pg_dump", str(self._server.sockets)):
                os.kill(pid, signal.SIGKILL)
                self.killed += 1


def pids_of(program, argument):
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (OSError, ValueError):
            continue
        if entry.name.isdigit() and os.path.basename(words[0]) == program and any(argument in word for word in words):
            found.append(int(entry.name))
    return found


@pytest.mark.parametrize("dump_format", ["custom", "plain"])
def test_a_killed_pg_dump_raises_and_leaves_nothing_that_is_listed(server, slow, repository_path, dump_format):
    settings = server.engine_settings(repository_path, backup={"databases": ["shop"], "dump_format": dump_format})
    killer = KillPgDump(server)
    with pytest.raises(ToolFailed, match="pg_dump was ended by signal 9"):
        take.run(take.plan(settings, take.Request(method="logical")), killer)
    assert killer.killed
    catalog = open_repository(settings).catalog()
    assert (catalog.entries, catalog.unfinished) == ((), ())


def test_a_server_that_dies_during_the_dump_leaves_nothing_that_is_listed(server, slow):
    class Kill(Silent):
        def report(self, step):
            if step.phase == "dump shop" and server.is_running:
                server.kill()

    with pytest.raises((ToolFailed, Unreachable)):
        take.run(take.plan(slow, take.Request(method="logical")), Kill())
    catalog = open_repository(slow).catalog()
    assert (catalog.entries, catalog.unfinished) == ((), ())


CHILD = """
import json, sys
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup import take
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import from_mapping

class Tell(Silent):
    def report(self, step):
        if step.phase == "dump shop":
            print("dumping", flush=True)

take.run(take.plan(from_mapping(json.load(sys.stdin)), take.Request(method="logical")), Tell())
"""


@pytest.mark.parametrize("dump_format", ["custom", "directory"])
def test_a_run_killed_in_mid_dump_is_no_backup_and_the_next_run_cleans_up(server, slow, repository_path, dump_format):
    mapping = server.engine_mapping(
        repository_path,
        backup={"databases": ["shop"], "dump_format": dump_format},
        compression={"codec": "zstd", "level": 19, "threads": 1},
    )
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdin.write(json.dumps(mapping).encode())
        child.stdin.close()
        assert child.stdout.readline() == b"dumping\n"
        child.kill()
    repository = open_repository(slow)
    catalog = repository.catalog()
    assert catalog.entries == ()
    assert len(catalog.unfinished) == 1
    wait_until(lambda: not pids_of("pg_dump", str(server.sockets)), "the orphaned pg_dump has ended")
    record = dumped(server.engine_settings(repository_path, backup={"databases": ["shop"]}))
    catalog = repository.catalog()
    assert [entry.record.label for entry in catalog.entries] == [record.label]
    assert catalog.unfinished == ()
    assert not list(repository_path.rglob(".part-*"))


def test_too_little_room_for_a_directory_dump_is_found_before_it_starts(server, repository_path, monkeypatch):
    settings = server.engine_settings(repository_path, backup={"databases": ["shop"], "dump_format": "directory"})
    usage = logical.shutil.disk_usage
    monkeypatch.setattr(logical.shutil, "disk_usage", lambda path: usage(path)._replace(free=1000))
    with pytest.raises(Refused, match="has 1000 bytes free"):
        dumped(settings)
    assert not (server.state / "staging-logical-default").exists()
