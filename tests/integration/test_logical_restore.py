# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps come back: all of them, under any name, beside or in the place of others, and never by half."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup import logical as logical_backup
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import (
    BadInput,
    Busy,
    Corrupt,
    DbopsError,
    NotFound,
    Refused,
    ToolFailed,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore import logical, logical_plan, swap
from tests.support.dumps import (
    AWKWARD_NAMES,
    create_database,
    databases,
    dumped,
    nothing_changed,
    object_path,
    restored,
)
from tests.support.servers import content_hashes, differences, wait_until

SHOP = {"databases": ["shop"]}


@pytest.mark.parametrize(
    ("dump_format", "codec"),
    [
        ("custom", "zstd"), ("custom", "gzip"), ("custom", "none"), ("custom", "lz4"),
        ("plain", "zstd"), ("plain", "gzip"), ("plain", "none"),
        ("directory", "zstd"), ("directory", "gzip"), ("directory", "none"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_dump_in_any_shape_comes_back_into_a_new_database(server, repository_path, dump_format, codec, jobs):
    settings = server.engine_settings(
        repository_path, backup={**SHOP, "dump_format": dump_format}, compression={"codec": codec}
    )
    dumped(settings)
    result = restored(settings, databases={"shop": "copy"}, jobs=jobs)
    assert result["changed"]
    assert result["databases"][0]["tables_compared"] == 4
    assert differences(content_hashes(server, "shop"), content_hashes(server, "copy")) == []
    assert databases(server) == ["copy", "postgres", "shop", "template0", "template1"]
    assert not server.state.exists() or os.listdir(server.state) == ["last-logical.json"]


@pytest.mark.parametrize("dump_format", ["custom", "plain", "directory"])
def test_databases_of_any_name_come_back_together(server, repository_path, dump_format):
    for name in AWKWARD_NAMES:
        create_database(server, name)
    settings = server.engine_settings(repository_path, backup={"dump_format": dump_format})
    server.sql("create table t as select 1 as n", database="globals")
    dumped(settings)
    for name in [*AWKWARD_NAMES, "shop"]:
        server.sql('drop database "{}"'.format(name.replace('"', '""')))
    result = restored(settings)
    assert set(databases(server)) == {*AWKWARD_NAMES, "postgres", "shop", "template0", "template1"}
    assert server.value("select n from t", database="globals") == 1
    assert any("'postgres' is here already" in warning for warning in result["warnings"])


def test_a_database_gets_back_what_create_alter_and_grant_said_of_it(server, settings):
    server.psql("""
        create role app; create role reader;
        create database made owner app encoding 'LATIN1' locale 'C' template template0 connection limit 7;
        comment on database made is 'it''s a \\ comment';
        alter database made set search_path = "$user", 'odd, "name"', public;
        alter database made set work_mem = '7MB';
        alter database made set default_transaction_read_only = on;
        alter role reader in database made set app.name = E'a''b\\\\c';
        revoke all on database made from public; grant connect on database made to reader with grant option;
    """)
    what = """
        select pg_get_userbyid(datdba), encoding, datcollate, datconnlimit, shobj_description(oid, 'pg_database'),
            (select array_agg(a::text order by a::text) from unnest(datacl) a),
            (select array_agg(setrole::regrole::text || setconfig::text order by setrole) from pg_db_role_setting
             where setdatabase = d.oid)
        from pg_database d where datname = %s
    """
    before = server.sql(what, ("made",))
    dumped(settings)
    server.sql("drop database made")
    restored(settings, databases={"made": "made"})
    assert server.sql(what, ("made",)) == before


@pytest.mark.parametrize(
    ("since", "options", "columns"),
    [
        (15, "locale_provider icu icu_locale 'en-US' locale 'C'", "datlocprovider, datcollate"),
        (16, "locale_provider icu icu_locale 'und' icu_rules '&a < b' locale 'C'", "datlocprovider, daticurules"),
        (17, "locale_provider builtin builtin_locale 'C.UTF-8' locale 'C'", "datlocprovider, datlocale"),
    ],
)
def test_collation_providers_come_back(server, settings, since, options, columns):
    if server.installation.major < since:
        assert server.installation.major < 17  # the newest one has them all, so each is tested
        return
    if "icu" in options and not server.value("select exists (select from pg_collation where collname = 'und-x-icu')"):
        return  # a build without ICU
    create_database(server, "made", f"template template0 encoding 'UTF8' {options}")
    what = f"select {columns} from pg_database where datname = %s"
    before = server.sql(what, ("made",))
    dumped(settings)
    restored(settings, databases={"made": "again"})
    assert server.sql(what, ("again",)) == before


def test_a_name_of_full_length_can_be_restored_and_replaced(server, settings):
    name = "ü" * 31 + "x"
    create_database(server, name)
    dumped(settings)
    result = restored(settings, databases={name: name}, existing="replace")
    aside = result["databases"][0]["moved_aside"]
    assert len(aside.encode()) <= 63
    assert {name, aside} <= set(databases(server))


# -- refused before anything happens


def test_an_existing_database_is_refused(server, settings):
    dumped(settings)
    with nothing_changed(server), pytest.raises(Refused, match="'shop' exists already"):
        restored(settings, databases={"shop": "shop"})


def test_a_database_that_the_backup_does_not_hold_is_named(server, repository_path):
    settings = server.engine_settings(repository_path, backup=SHOP)
    dumped(settings)
    with pytest.raises(BadInput, match="holds no database 'shpo'"):
        restored(settings, databases={"shpo": "x"})


def test_two_databases_cannot_become_one(server, settings):
    dumped(settings)
    with nothing_changed(server), pytest.raises(BadInput, match="would become 'x'"):
        restored(settings, databases={"shop": "x", "postgres": "x"})


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        ({"label": "20200101T000000Z-dump"}, NotFound, "There is no backup"),
        ({"label": "nonsense"}, BadInput, "not a backup's label"),
        ({"before": "2026-01-01 12:00"}, BadInput, "not one certain instant"),
        ({"before": "2001-01-01T00:00:00Z"}, NotFound, "No logical backup had finished"),
        ({"file": "/no/such.dump"}, NotFound, "no file"),
        ({"label": "20200101T000000Z-dump", "file": "/x.dump"}, BadInput, "Both a file and a backup"),
        ({"existing": "overwrite"}, BadInput, "existing cannot be"),
        ({"jobs": 0}, BadInput, "jobs must lie"),
    ],
)
def test_what_cannot_be_found_is_said_and_nothing_happens(server, repository_path, request_, error, words):
    settings = server.engine_settings(repository_path, backup=SHOP)
    dumped(settings)
    with nothing_changed(server), pytest.raises(error, match=words):
        restored(settings, databases={"shop": "copy"}, **request_)


def test_an_owner_that_does_not_exist_is_found_before_anything_is_made(server, settings):
    server.psql("create role app; alter database shop owner to app")
    dumped(settings)
    server.psql("alter database shop owner to postgres; drop role app")
    with nothing_changed(server), pytest.raises(Refused, match="Role 'app', which owns 'shop'"):
        restored(settings, databases={"shop": "copy"})
    restored(settings, databases={"shop": "copy"}, no_owner=True)
    assert "copy" in databases(server)


def test_an_object_s_owner_that_does_not_exist_fails_with_advice_and_leaves_no_database(server, settings):
    server.psql("create role app")
    server.psql("alter table orders owner to app", database="shop")
    dumped(settings)
    server.psql("alter table orders owner to postgres", database="shop")
    server.psql("drop role app")
    with nothing_changed(server), pytest.raises(ToolFailed) as caught:
        restored(settings, databases={"shop": "copy"})
    assert "no_owner" in caught.value.hint
    restored(settings, databases={"shop": "copy"}, no_owner=True)


def test_a_full_disk_is_foreseen(server, settings, monkeypatch):
    dumped(settings)
    usage = shutil.disk_usage
    monkeypatch.setattr(logical_plan.shutil, "disk_usage", lambda path: usage(path)._replace(free=1 << 20))
    with nothing_changed(server), pytest.raises(Refused, match="bytes free"):
        restored(settings, databases={"shop": "copy"})


# -- damage


@pytest.mark.parametrize("dump_format", ["custom", "plain", "directory"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_object_is_refused_and_no_database_stays(server, repository_path, dump_format, damage):
    settings = server.engine_settings(repository_path, backup={**SHOP, "dump_format": dump_format})
    record = dumped(settings)
    stored = record.of_kind("database")[0]
    path = object_path(settings, record.label, stored.name)
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[random.randrange(len(content))] ^= 1
    elif damage == "truncate":
        del content[random.randrange(len(content)) :]
    path.unlink() if damage == "remove" else path.write_bytes(content)
    for request in ({}, {"validate_only": True}):
        with nothing_changed(server), pytest.raises(DbopsError, match=stored.name.split(".")[0]) as caught:
            restored(settings, databases={"shop": "copy"}, **request)
        assert isinstance(caught.value, Corrupt)


def test_rows_that_do_not_come_back_are_named_table_by_table(server, settings, monkeypatch):
    honest = logical_backup._json

    def lie(content):
        if "public.orders" in content.get("shop", {}):
            content = {**content, "shop": {**content["shop"], "public.orders": 10001, "public.gone": 3}}
        return honest(content)

    monkeypatch.setattr(logical_backup, "_json", lie)
    dumped(settings)
    with nothing_changed(server), pytest.raises(Corrupt) as caught:
        restored(settings, databases={"shop": "copy"})
    assert "public.orders: 10000 rows, 10001 were dumped" in caught.value.message
    assert "public.gone: missing, 3 rows were dumped" in caught.value.message
    assert "public.customers" not in caught.value.message
    result = restored(settings, databases={"shop": "copy"}, allow_errors=True)
    assert any("public.orders" in warning for warning in result["warnings"])


def test_a_materialised_view_that_was_stale_is_no_difference(server, settings):
    server.psql("create materialized view seen as select * from orders; delete from orders where id > 9000",
                database="shop")  # fmt: skip
    dumped(settings)
    restored(settings, databases={"shop": "copy"})
    assert server.value("select count(*) from seen", database="copy") == 9000


def test_validate_only_reads_all_and_changes_nothing_even_without_a_server(server, settings):
    dumped(settings)
    server.stop()
    for item in server.data.iterdir():
        shutil.rmtree(item) if item.is_dir() else item.unlink()
    result = restored(settings, validate_only=True)
    assert not result["changed"]
    assert result["msg"].endswith("reads well: postgres, shop.")


# -- in the place of an existing one


def test_replacing_moves_the_old_one_aside_after_a_safety_backup_of_it(server, settings):
    label = dumped(settings).label
    before = content_hashes(server, "shop")
    server.psql("delete from orders; create table newer as select 7 as n", database="shop")
    result = restored(settings, label=label, databases={"shop": "shop"}, existing="replace")
    aside = result["databases"][0]["moved_aside"]
    assert differences(before, content_hashes(server, "shop")) == []
    assert server.value("select n from newer", database=aside) == 7
    safety = open_repository(settings).catalog().entry(result["safety_backup"]).record
    assert (safety.databases, safety.reason) == (("shop",), "safety before restore")
    restored(settings, label=safety.label, databases={"shop": "undone"})
    assert server.value("select n from newer", database="undone") == 7


@pytest.mark.parametrize("moment", ["load", "compare", "swap"])
def test_a_replacement_that_fails_half_way_leaves_the_old_one_untouched(server, settings, monkeypatch, moment):
    server.psql("create database other", database="postgres")
    dumped(settings)

    def fail(*_arguments, **_options):
        raise Corrupt("as if", hint="it were so")

    if moment == "load":
        real = logical.Loader.load

        def load_then_fail(self, source, *arguments):
            real(self, source, *arguments)
            return fail() if "shop" in source.name else []

        monkeypatch.setattr(logical.Loader, "load", load_then_fail)
    else:
        monkeypatch.setattr(logical, {"compare": "_rows_of", "swap": "swap"}[moment], fail)
    before = content_hashes(server, "shop")
    with nothing_changed(server), pytest.raises(Corrupt, match="as if"):
        restored(settings, databases={"other": "other", "shop": "shop"}, existing="replace")
    assert differences(before, content_hashes(server, "shop")) == []


def test_a_database_in_use_is_not_replaced_unless_its_sessions_may_be_ended(server, settings):
    dumped(settings)
    with server.connection("shop") as client:
        with nothing_changed(server), pytest.raises(Busy, match="'shop' is in use"):
            restored(settings, databases={"shop": "shop"}, existing="replace")
        restored(settings, databases={"shop": "shop"}, existing="replace", disconnect=True)
        with pytest.raises(Exception, match=r"terminating connection|closed"):
            client.cursor().execute("select 1")


def test_a_client_that_comes_late_stops_the_swap_and_nothing_is_lost(server, settings, monkeypatch):
    dumped(settings)
    monkeypatch.setattr(swap, "_ATTEMPTS", 1)
    plan = logical.plan(settings, logical.Request(databases={"shop": "shop"}, existing="replace"))
    with nothing_changed(server), server.connection("shop"), pytest.raises(Busy, match="being accessed by other users"):
        logical.run(plan, Silent())


def test_a_preview_says_what_would_happen_and_does_nothing(server, settings):
    label = dumped(settings).label
    with nothing_changed(server):
        plan = logical.plan(settings, logical.Request(databases={"shop": "shop"}, existing="replace"))
        preview = plan.preview()
    assert preview["changed"]
    assert preview["backup"] == label
    assert preview["databases"][0]["replaces"]
    assert preview["databases"][0]["rows"] == 10512


def test_the_login_database_itself_can_be_replaced(server, settings):
    server.psql("create table t as select 1 as n")
    dumped(settings)
    restored(settings, databases={"postgres": "postgres"}, existing="replace")
    assert server.value("select n from t") == 1


CHILD = """
import json, sys
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore import load, logical
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import from_mapping

real = load.Loader.load
def load_and_wait(self, *arguments):
    real(self, *arguments)
    print("loaded", flush=True)
    input()

load.Loader.load = load_and_wait
settings = from_mapping(json.loads(sys.stdin.readline()))
logical.run(logical.plan(settings, logical.Request(databases={"shop": "shop"}, existing="replace")), Silent())
"""


def test_a_killed_restore_leaves_the_old_one_and_the_next_says_what_it_found(server, settings, repository_path):
    dumped(settings)
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdin.write(json.dumps(server.engine_mapping(repository_path)).encode() + b"\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"loaded\n"
        child.kill()
    assert server.value("select count(*) from orders", database="shop") == 10000
    wait_until(lambda: server.value("select count(*) from pg_stat_activity where datname ~ 'dbops'") == 0, "it is gone")
    result = restored(settings, databases={"shop": "shop"}, existing="replace")
    assert any("was killed; drop it" in warning for warning in result["warnings"])


# -- globals


def test_globals_make_missing_roles_and_leave_existing_ones_alone(server, settings):
    server.psql("""
        create role "odd; ""role" login password 'old'; create role app login password 'old' connection limit 3;
        create role kept login password 'old'; grant app to "odd; ""role"; grant app to kept;
        comment on role app is 'semi; colon -- and ''quote';
        alter role app set search_path = a, "b;c"; alter role kept set work_mem = '5MB';
        create database owned owner app;
    """)
    app = server.sql("select rolname, rolpassword, rolconnlimit, rolconfig from pg_authid a join pg_roles using (oid)"
                     .replace("rolname, rolpassword, rolconnlimit", "a.rolname, a.rolpassword, a.rolconnlimit")
                     + " where a.rolname = 'app'")  # fmt: skip
    dumped(settings)
    server.psql("""
        drop database owned; drop role app; drop role "odd; ""role";
        alter role kept password 'new'; alter role kept set work_mem = '9MB';
    """)
    kept = server.value("select rolpassword from pg_authid where rolname = 'kept'")
    result = restored(settings, databases={"owned": "owned"}, globals=True)
    assert server.value("select rolpassword from pg_authid where rolname = 'kept'") == kept
    assert server.value("select rolconfig from pg_roles where rolname = 'kept'") == ["work_mem=9MB"]
    assert server.sql("select a.rolname, a.rolpassword, a.rolconnlimit, rolconfig from pg_authid a join pg_roles "
                      "using (oid) where a.rolname = 'app'") == app  # fmt: skip
    assert server.value("select pg_has_role('odd; \"role', 'app', 'member')")
    assert server.value("select shobj_description('app'::regrole, 'pg_authid')") == "semi; colon -- and 'quote"
    assert result["globals"]["created_roles"] == ["app", 'odd; "role']
    assert set(result["globals"]["kept"]) >= {"kept", "postgres"}


def test_a_failing_global_makes_no_role_at_all_and_tells_no_password(server, settings):
    server.psql("create role first; create role second; grant first to second granted by postgres")
    server.psql("create role app login password 'secret'; create tablespace far location '{}'".format(
        server.os_user.own_directory(server.base / "far")))  # fmt: skip
    dumped(settings)
    server.psql("drop tablespace far; drop role first; drop role second; drop role app")
    (server.base / "far").rename(server.base / "moved")
    with nothing_changed(server), pytest.raises(DbopsError, match="tablespace 'far'") as caught:
        restored(settings, databases={"shop": "copy"}, globals=True)
    assert "SCRAM" not in str(caught.value) + str(caught.value.__cause__)
    result = restored(settings, databases={"shop": "copy"}, globals=True, no_tablespaces=True)
    assert "copy" in databases(server)
    assert result["globals"]["created_tablespaces"] == []
