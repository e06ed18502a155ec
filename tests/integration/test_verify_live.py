# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy compared with the running primary to the row, and the canary by which the true RPO is measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, Refused
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health.check import check
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health.metrics import exposition
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg import canary
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import from_mapping
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.verify.plan import Request
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.verify.run import verify
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal import restore_point
from tests.support.dumps import dumped
from tests.support.recovering import Protected, at
from tests.support.servers import Installation, Templates, installations

ROWS = "rows as on the primary"


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
    return verify(settings, Request(**request), Silent())["verification"]


def check_of(found, name):
    (item,) = [item for item in found["checks"] if item["name"] == name]
    return item


def bad(found):
    return {item["name"]: item["verdict"] for item in found["checks"] if item["verdict"] != "pass"}


def test_a_copy_has_exactly_the_rows_of_the_primary_and_a_changed_count_is_a_failure(protected, monkeypatch):
    server, settings = protected.server, protected.settings
    label = protected.backup()
    server.psql("create unlogged table spare as select generate_series(1, 100) n; delete from orders where id % 9 = 0;",
                database="shop")  # fmt: skip
    with server.connection("shop") as open_one, open_one.cursor() as cursor:
        cursor.execute("begin")  # in progress the whole time: not committed there, nor here
        cursor.execute("delete from orders where id % 10 = 0")
        found = verified(settings, target="live")
        cursor.execute("rollback")
    assert (found["label"], found["verdict"], bad(found)) == (label, "pass", {}), found["checks"]
    assert check_of(found, ROWS)["details"]["tables"] >= 5
    rows = server.value("select count(*) from orders", database="shop")
    assert rows == 10000 - 10000 // 9

    if server.installation != installations()[-1]:
        return  # what follows is about the comparison, which no version does otherwise: two more restores prove it once
    make = restore_point.make

    def make_late(session, *words):
        server.sql("insert into canary select max(n) + 1 from canary")  # commits between snapshot and point
        return make(session, *words)

    with monkeypatch.context() as patched:
        patched.setattr(restore_point, "make", make_late)
        found = verified(settings, target="live", until="content")
    assert bad(found) == {ROWS: "could_not_verify"}

    # rows that no WAL ever had: the catalog says permanent, and nothing of the table was logged
    server.psql("set allow_system_table_mods = on; update pg_class set relpersistence = 'p' where relname = 'spare';",
                database="shop")  # fmt: skip
    found = verified(settings, target="live", until="content")
    assert (found["verdict"], bad(found)) == ("fail", {ROWS: "fail"})
    assert "shop: public.spare: 0 rows, 100 are there" in check_of(found, ROWS)["message"]


def test_what_keeps_the_primary_from_being_counted_is_a_doubt(newest):
    server, settings = newest.server, newest.settings
    newest.backup()
    server.sql("create role reader login in role pg_read_all_data, pg_monitor")
    reader = replace(settings, connection=replace(settings.connection, login_user="reader"))
    found = verified(reader, target="live")
    assert bad(found) == {"rows of the primary": "could_not_verify"}
    assert "pg_create_restore_point" in str(found["checks"])
    dumped(settings)
    with pytest.raises(BadInput, match="is a dump"):
        verified(settings, target="live", method="logical")
    server.stop("immediate")
    found = verified(settings, target="live", method="physical", until="wal")
    assert bad(found) == {"rows of the primary": "could_not_verify"}


def test_the_canary_measures_the_window_and_the_true_rpo_of_an_idle_database(newest, capsys):
    server = newest.server
    mapping = {**newest.mapping, "canary": {"enabled": True}, "health": {"min_count": 1, "min_size_bytes": 1}}
    config = newest.place / "settings.json"
    config.write_text(json.dumps(mapping))
    settings = from_mapping(mapping)

    def of_the_canary(now=None):
        _data, facts, findings = check(settings, now=now)
        (item,) = [item for item in findings if item.check == "canary"]
        return item.severity.value, exposition(facts, findings)

    assert of_the_canary()[0] == "WARNING"  # nobody writes it yet
    server.sql("drop table canary")  # another one's, in public
    for number in (1, 2):
        assert main(["--config", str(config), "--quiet", "--output", "json", "canary"]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["canary"]["number"] == number
    severity, text = of_the_canary()
    assert severity == "OK"
    moment = canary.write(settings).at
    assert of_the_canary(now=moment + timedelta(seconds=301))[0] == "WARNING"

    newest.backup()
    written = canary.write(settings)
    newest.archive()
    lost = canary.write(settings)  # never archived: gone, if the cluster were
    found = verified(settings, until="content")
    assert (found["verdict"], bad(found)) == ("pass", {})
    details = check_of(found, "canary")["details"]
    assert details["number"] == written.number == lost.number - 1
    begun = datetime.fromisoformat(found["started"].replace("Z", "+00:00"))
    assert abs(found["rpo"]["seconds"] - (begun - written.at).total_seconds()) < 0.01
    _severity, text = of_the_canary()
    assert f'dbops_canary_timestamp_seconds{{cluster="main"}} {round(lost.at.timestamp(), 3)}' in text
    assert f'method="physical",repo="a"}} {found["rpo"]["seconds"]}' in text

    earlier = verified(settings, target=at(protected_point(server, written)), until="content")
    assert (bad(earlier), earlier["rpo"]) == ({}, None)


def protected_point(server, written):
    """Just after that canary: the next one's commit proves that a recovery stops there."""

    class Moment:
        time = written.at.astimezone(timezone.utc) + timedelta(milliseconds=1)

    return Moment()


def test_a_canary_that_is_not_there_or_not_allowed_is_told(newest):
    server, settings = newest.server, replace(newest.settings, canary=canary_settings(newest))
    newest.backup()
    found = verified(settings, target="backup", until="content")
    assert bad(found) == {"canary": "could_not_verify"}
    server.sql("create role writer login")
    with pytest.raises(Refused, match="may not make the canary"):
        canary.write(replace(settings, connection=replace(settings.connection, login_user="writer")))
    server.sql("create schema dbops authorization writer")
    assert canary.write(replace(settings, connection=replace(settings.connection, login_user="writer"))).number == 1


def canary_settings(protected):
    return from_mapping({**protected.mapping, "canary": {"enabled": True}}).canary
