# SPDX-License-Identifier: GPL-3.0-or-later
"""Verification on real servers: a good backup is proven, each kind of damage has its verdict, nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup import logical as logical_backup
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import Unreachable
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg import tables
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.osuser import cluster_identity
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.tools import find_tools
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo import expire
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.info import info
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.proofs import read_proofs
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import open_repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings_verify import Assertion
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.verify.plan import Request
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.verify.run import verify
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.verify.structure import page_checksums
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.verify.verdict import Verdict
from tests.support.dumps import dumped
from tests.support.physical import changed_bytes, flip_a_bit, objects_of, taken
from tests.support.recovering import Protected, wait_until
from tests.support.servers import Installation, Templates, installations


@pytest.fixture
def newest(templates: Templates, place: Path) -> Iterator[Protected]:
    """For what no version of PostgreSQL does otherwise than another."""
    made = Protected(templates.server(installations()[-1], place / "pg", summarize_wal=False), place)
    yield made
    made.server.stop("immediate")


@pytest.fixture
def protected(installation: Installation, templates: Templates, place: Path) -> Iterator[Protected]:
    made = Protected(templates.server(installation, place / "pg", summarize_wal=False), place)
    made.row(0)
    yield made
    made.server.stop("immediate")


def verified(settings, **request):
    result = verify(settings, Request(**request), Silent())
    return result["verification"]


def verdicts(found):
    return {item["name"]: item["verdict"] for item in found["checks"] if item["verdict"] != "pass"}


def left_behind(settings):
    return list(Path(settings.state_path).glob("verify/*"))


def with_assertions(settings, *assertions):
    return replace(settings, verify=replace(settings.verify, assertions=tuple(Assertion(*item) for item in assertions)))


COUNT = ("orders", "select count(*) from orders", "shop")


INVOICES = """
create table invoices (number text unique);
create sequence numbers owned by invoices.number;
alter table invoices alter column number set default 'R-' || nextval('numbers');
insert into invoices default values
"""


def test_a_good_backup_is_proven_wherever_its_wal_leads_and_nothing_is_left(protected, capsys):
    protected.server.psql(INVOICES, database="shop")
    label = protected.backup()
    before = retention_reasons(protected.settings, label)
    protected.row(1)
    protected.archive()
    protected.row(2)
    protected.archive()
    settings = with_assertions(protected.settings, (*COUNT, "10000"))
    found = verified(settings)
    assert verdicts(found) == {}
    assert (found["label"], found["verdict"], found["level"]) == (label, "pass", "assertions")
    assert {found[part]["verdict"] for part in ("restore", "validation", "cleanup")} == {"pass"}
    assert found["recovery"]["target_reached"]
    assert found["phases"]["recovery_s"] > 0
    assert found["rto_estimate"]["label"].startswith("estimate")
    assert left_behind(settings) == []

    (listed,) = info(settings)["backups"]
    assert (listed["verified"], listed["verified_at"]) == ("assertions", found["finished"])
    assert before == []
    assert retention_reasons(settings, label) == ["the last proven backup"]

    instant = verified(settings, backup="random", target="random", until="restore")
    assert (instant["verdict"], instant["recovery"]["target_kind"]) == ("pass", "time")
    alone = verified(settings, backup=label, target="backup", until="restore")
    assert (alone["verdict"], alone["level"]) == ("pass", "restore")
    assert alone["validation"]["verdict"] == "could_not_verify"  # nobody looked
    assert len(read_proofs(open_repository(settings))) == 3
    assert left_behind(settings) == []


def retention_reasons(settings, label):
    (line,) = [line for line in expire.plan(settings).lines if line.label == label]
    return [reason for reason in line.reasons if "proven" in reason]


def test_each_damage_of_the_content_has_a_check_that_names_it(protected):
    server = protected.server
    server.psql(
        """
        set allow_system_table_mods = on;
        create role clerk; alter table customers owner to clerk;
        delete from pg_authid where rolname = 'clerk';
        update pg_index set indisready = false, indisvalid = false
            where indexrelid = 'orders_customer_id_idx'::regclass;
        insert into orders (customer_id, amount) select 1, n from generate_series(1, 50) n;
        update pg_index set indisready = true, indisvalid = true
            where indexrelid = 'orders_customer_id_idx'::regclass;
        set session_replication_role = replica;
        delete from customers where id = 7;
        select setval('orders_id_seq', 5);
        """,
        database="shop",
    )
    taken(protected.settings)
    found = verified(with_assertions(protected.settings, (*COUNT, "10000")), target="backup")
    assert found["verdict"] == "fail"
    assert (found["restore"]["verdict"], found["validation"]["verdict"], found["level"]) == ("pass", "fail", "restore")
    assert verdicts(found) == dict.fromkeys(
        ["heaps and indexes", "every row reads", "roles", "constraints", "sequences", "orders"], "fail"
    )
    messages = {item["name"]: item["message"] for item in found["checks"]}
    assert "orders_customer_id_idx" in messages["heaps and indexes"]
    assert "customers" in messages["roles"]
    assert "orders_customer_id_fkey" in messages["constraints"]
    assert "10050, expected 10000" in messages["orders"]
    (listed,) = info(protected.settings)["backups"]
    assert listed["verified"] == "unverified"


def test_a_flipped_heap_page_is_found(protected):
    server = protected.server
    path = server.data / str(server.value("select pg_relation_filepath('orders')", database="shop"))
    server.stop()
    if server.run("pg_controldata", "-D", server.data).find("checksum version:           0") < 0:
        server.run("pg_checksums", "--disable", "-D", server.data)  # else not even the backup would be taken
    with open(path, "r+b") as stream:  # the line pointers of the third page
        stream.seek(2 * 8192 + 24)
        stream.write(os.urandom(64))
    server.start()
    taken(protected.settings)
    found = verified(protected.settings, target="backup", until="structure")
    assert found["verdict"] == "fail"
    assert verdicts(found)["heaps and indexes"] == "fail"
    assert "orders" in str(found["checks"])


def test_a_page_whose_checksum_is_wrong_is_found(protected):
    server = protected.server
    server.stop()
    if server.run("pg_controldata", "-D", server.data).find("checksum version:           0") > 0:
        server.run("pg_checksums", "--enable", "-D", server.data)
    identity = cluster_identity(server.os_user.name, None)
    tools = find_tools(server.installation.major, identity, bin_dir=str(server.installation.bin_dir))
    assert page_checksums(tools, str(server.data)).verdict is Verdict.PASS
    server.start()
    path = server.data / str(server.value("select pg_relation_filepath('orders')", database="shop"))
    server.stop()
    changed_bytes(path, flip_a_bit)
    finding = page_checksums(tools, str(server.data))
    assert finding.verdict is Verdict.FAIL
    assert path.name in finding.message
    server.start()


def test_damage_in_the_repository_is_a_failure_and_names_what_is_damaged(protected):
    first = protected.backup()
    protected.row(1)
    lost = protected.archive()
    protected.row(2)
    protected.archive()
    protected.archiving.stored(lost).unlink()
    found = verified(protected.settings, until="restore")
    assert (found["verdict"], verdicts(found)) == ("fail", {"no segment is missing": "fail"})
    assert lost in str(found["checks"])
    base = objects_of(protected.settings, first)
    path = next(path for name, path in base.items() if name.startswith("base.tar"))
    changed_bytes(path, flip_a_bit)
    found = verified(protected.settings, target="backup")
    assert (found["verdict"], found["level"]) == ("fail", None)
    assert "base.tar" in str(found["checks"])
    assert left_behind(protected.settings) == []
    proofs = read_proofs(open_repository(protected.settings), first)
    assert [proof["verdict"] for proof in proofs] == ["fail", "fail"]


def test_dumps_are_loaded_into_an_empty_server_and_their_rows_compared(server, settings, monkeypatch):
    server.psql("create role clerk; alter table customers owner to clerk;", database="shop")
    label = dumped(settings).label
    found = verified(with_assertions(settings, (*COUNT, "10000")))
    assert (found["label"], found["verdict"], found["level"]) == (label, "pass", "assertions"), found["checks"]
    assert left_behind(settings) == []

    with monkeypatch.context() as patched:
        count = tables._count
        patched.setattr(
            tables, "_count", lambda session, table: (count(session, table) or 0) + (table.name == "orders")
        )
        dumped(settings)
    found = verified(settings)
    assert (found["verdict"], verdicts(found)) == ("fail", {"every row is back": "fail"})
    assert "public.orders: 10000 rows, 10001 were dumped" in str(found["checks"])

    with monkeypatch.context() as patched:  # a globals.sql that lacks the role
        patched.setattr(logical_backup, "read_chunks", lambda stream: [without_the_clerk(stream.read())])
        dumped(settings)
    found = verified(settings)
    assert (found["verdict"], verdicts(found)) == ("fail", {"the dumps load": "fail"})
    assert "clerk" in str(found["checks"])


def without_the_clerk(content):
    if b"CREATE ROLE" not in content:
        return content
    return b"\n".join(line for line in content.split(b"\n") if b"clerk" not in line)


def test_what_is_not_the_backups_fault_is_a_doubt_and_never_a_pass(protected, small_disk, capsys):
    server, settings = protected.server, protected.settings
    server.psql(
        """
        create extension hstore;
        set allow_system_table_mods = on;
        update pg_extension set extname = 'no_such_extension' where extname = 'hstore';
        """,
        database="shop",
    )
    taken(settings)
    found = verified(settings, target="backup")
    assert (found["verdict"], verdicts(found)) == ("could_not_verify", {"extensions": "could_not_verify"})
    assert "no_such_extension" in str(found["checks"])

    found = verified(settings, scratch_path=str(small_disk / "scratch"))
    assert (found["verdict"], found["proof"]) == ("could_not_verify", None)
    assert "bytes, and" in found["checks"][0]["message"]

    repository = Path(settings.repositories[0].path)
    away = repository.rename(repository.with_name("away"))
    found = verified(settings)
    assert (found["verdict"], found["label"]) == ("could_not_verify", None)
    config = protected.place / "settings.json"
    config.write_text(json.dumps(server.engine_mapping(None, repositories=[{"name": "a", "path": str(repository)}])))
    assert main(["--config", str(config), "--quiet", "verify"]) == Unreachable.exit_code
    assert "COULD NOT VERIFY" in capsys.readouterr().out
    away.rename(repository)


def test_what_a_killed_verification_left_is_removed_by_the_next_one(newest):
    settings = newest.settings
    newest.backup()
    config = newest.place / "settings.json"
    mapping = newest.server.engine_mapping(None, repositories=[{"name": "a", "path": str(newest.place / "repo")}])
    config.write_text(json.dumps(mapping))
    words = [sys.executable, "-m", "ansible_collections.dbops.postgres.plugins.module_utils.dbops", "--config", config]
    process = subprocess.Popen([*map(str, words), "verify", "--target", "backup"], stderr=subprocess.DEVNULL)
    pids = []
    wait_until(lambda: pids.extend(running_in(settings)) or pids, "the scratch server runs")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(left_behind(settings)) == 1
    found = verified(settings, target="backup", until="restore")
    assert found["verdict"] == "pass"
    assert len(found["cleanup"]["swept"]) == 1
    assert left_behind(settings) == []
    assert not any(Path(f"/proc/{pid}/cwd").exists() and "verify-" in os.readlink(f"/proc/{pid}/cwd") for pid in pids)


def running_in(settings):
    return [
        int(path.read_text().splitlines()[0])
        for path in Path(settings.state_path).glob("verify/*/data/postmaster.pid")
        if len(path.read_text().splitlines()) > 7
    ]
