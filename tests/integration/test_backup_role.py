# SPDX-License-Identifier: GPL-3.0-or-later
"""The backup role on a real server: made, complete, and let in with its password."""

from __future__ import annotations

import psycopg2
import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import Refused
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg import backup_role
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.scram import belongs_to

PASSWORD = "pa:ss\\wörd ﬁ\u00a0x"  # what SASLprep changes: a ligature and a space that is none


def ensure(settings, **more):
    return backup_role.run(backup_role.plan(settings.connection, settings.host, name="dbops", **more))


def test_the_role_is_made_once_and_is_complete(server, settings):
    assert ensure(settings)["changed"]
    assert server.sql(
        "select rolcanlogin, rolreplication, rolsuper, rolcreaterole, rolpassword is null from pg_authid "
        "where rolname = 'dbops'"
    ) == [(True, True, False, False, True)]
    for group in backup_role.MEMBER_OF:
        assert server.value("select pg_has_role('dbops', %s, 'usage')", (group,))
    for function in backup_role.MAY_CALL:
        assert server.value("select has_function_privilege('dbops', %s, 'execute')", (function,))
    assert not ensure(settings)["changed"]


def test_planning_makes_no_role(server, settings):
    plan = backup_role.plan(settings.connection, settings.host, name="dbops", password="x")
    assert plan.preview()["changed"]
    assert server.value("select count(*) from pg_roles where rolname = 'dbops'") == 0


def test_the_server_takes_the_password_that_was_set_and_no_other(server, settings):
    assert ensure(settings, password=PASSWORD)["changed"]
    assert not ensure(settings, password=PASSWORD)["changed"]
    server.set_hba("local all postgres trust", "local all dbops scram-sha-256")
    with server.connection("postgres", user="dbops", password=PASSWORD) as connection, connection.cursor() as cursor:
        cursor.execute("select current_user")
        assert cursor.fetchone() == ("dbops",)
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        with server.connection("postgres", user="dbops", password="another"):
            pass


def test_a_verifier_made_by_the_server_is_recognized(server):
    server.psql("set password_encryption = 'scram-sha-256'; create role r login password 'Grüße-ﬁ';")
    verifier = server.value("select rolpassword from pg_authid where rolname = 'r'")
    assert belongs_to(verifier, "Grüße-ﬁ")
    assert not belongs_to(verifier, "Grüße-x")


def test_the_password_is_in_no_log_even_when_every_statement_is(server, settings):
    server.settings["log_statement"] = "all"
    server.restart()
    ensure(settings, password="s3cret-enough")
    log = server.log.read_text()
    assert "create role" in log
    assert "s3cret-enough" not in log


def test_a_standby_refuses_and_sends_us_to_the_primary(server, settings, place, repository_path):
    standby = server.standby(place / "standby")
    with pytest.raises(Refused, match="standby"):
        backup_role.plan(*_where(standby, repository_path), name="dbops")
    ensure(settings)
    standby.wait_until_caught_up()
    assert not backup_role.plan(*_where(standby, repository_path), name="dbops").needed


def _where(server, repository_path):
    settings = server.engine_settings(repository_path)
    return settings.connection, settings.host
