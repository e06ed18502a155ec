# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at a server, and every way in which it can refuse: each error names the object and the next step."""

from __future__ import annotations

import dataclasses
import traceback
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import (
    BadInput,
    DbopsError,
    NotFound,
    Refused,
    Unreachable,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.connection import (
    connected,
    located,
    password_in_passfile,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.osuser import cluster_identity
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.server import Server, look
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings
from tests.support.servers import Installation, PgServer, installations

PASSWORD = "s3cret:with\\odd ' signs"


def look_with(server: PgServer, **overrides: object) -> Server:
    settings = server.engine_settings(**overrides)
    return look(settings.connection, settings.host)


def everything_shown(error: BaseException) -> str:
    """All that a log could get to see of an exception."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(getattr(error, "__dict__", ""))


@pytest.fixture
def tcp_server(server: PgServer) -> PgServer:
    """Over TCP it wants passwords; the role `backup` has one."""
    server.settings["listen_addresses"] = "127.0.0.1"
    server.set_hba("local all all trust", "host all all 127.0.0.1/32 scram-sha-256")
    server.restart()
    server.sql("create role backup login replication password %s in role pg_read_all_settings", (PASSWORD,))
    return server


# -- a look that works


def test_a_look_tells_what_a_backup_records(server: PgServer, settings: Settings) -> None:
    seen = look(settings.connection, settings.host)
    assert seen.major == server.installation.major
    assert seen.version.startswith(str(server.installation.major))
    assert seen.system_identifier == str(server.value("select system_identifier from pg_control_system()"))
    assert Path(seen.data_directory) == server.data
    assert seen.local
    assert not seen.in_recovery
    assert seen.segment_size == 16 << 20
    assert seen.settings["data_checksums"] == "on"
    assert seen.size_bytes == server.value("select sum(pg_database_size(oid)) from pg_database")
    seen.require_replication()


def test_tablespaces_are_listed_with_their_places(server: PgServer, settings: Settings, place: Path) -> None:
    directory = server.os_user.own_directory(place / "fast disk")
    server.sql(f"create tablespace fast location '{directory}'")
    tablespaces = look(settings.connection, settings.host).tablespaces
    assert [(item.name, item.path) for item in tablespaces] == [("fast", str(directory))]


def test_a_standby_says_that_it_is_one(server: PgServer, place: Path) -> None:
    standby = server.standby(place / "standby")
    assert look_with(standby).in_recovery
    assert look_with(standby).system_identifier == look_with(server).system_identifier


def test_the_programs_are_those_of_the_running_server_when_nobody_names_them(server: PgServer) -> None:
    settings = server.engine_settings()
    seen = look(settings.connection, dataclasses.replace(settings.host, bin_dir=None))
    assert Path(seen.tools.bin_dir).resolve() == server.installation.bin_dir.resolve()


def test_the_data_directory_alone_leads_to_socket_and_port(server: PgServer) -> None:
    nothing_said = dataclasses.replace(server.engine_settings().connection, login_unix_socket="", login_port=5432)
    found = located(nothing_said, str(server.data))
    assert (found.login_unix_socket, found.login_port) == (str(server.sockets), server.port)
    assert look(nothing_said, server.engine_settings().host).major == server.installation.major


def test_a_least_privileged_role_sees_all_that_a_backup_needs(server: PgServer) -> None:
    server.sql("create role backup login replication in role pg_read_all_data, pg_read_all_settings")
    seen = look_with(server, connection={"login_user": "backup"})
    seen.require_replication()
    as_superuser = look_with(server)
    unlike = {"connection": seen.connection, "tools": seen.tools, "identity": seen.identity}
    assert dataclasses.replace(as_superuser, **unlike) == seen


def test_a_database_closed_to_the_role_costs_the_size_and_nothing_else(server: PgServer) -> None:
    server.sql("create role backup login replication in role pg_read_all_data, pg_read_all_settings")
    server.sql("revoke connect on database shop from public")
    seen = look_with(server, connection={"login_user": "backup"})
    assert seen.size_bytes is None
    assert seen.major == server.installation.major


def test_a_session_role_is_taken(server: PgServer) -> None:
    server.sql("create role plain")
    assert not look_with(server, connection={"session_role": "plain"}).may_replicate


# -- a server that cannot be reached


def test_a_server_that_is_down_is_unreachable_and_the_error_says_where_it_was_sought(server: PgServer) -> None:
    server.stop()
    with pytest.raises(Unreachable, match="Is the server running") as caught:
        look_with(server)
    assert str(server.sockets) in caught.value.message
    assert str(server.port) in caught.value.message


def test_a_killed_server_is_unreachable_although_its_pid_file_is_still_there(server: PgServer) -> None:
    server.kill()
    assert (server.data / "postmaster.pid").exists()
    with pytest.raises(Unreachable, match="Is the server running"):
        look_with(server, connection={"login_unix_socket": ""})


def test_a_tcp_port_where_nobody_listens_is_unreachable(server: PgServer) -> None:
    with pytest.raises(Unreachable, match=rf"127\.0\.0\.1 port {server.port} as 'postgres'"):
        look_with(server, connection={"login_host": "127.0.0.1", "login_unix_socket": ""})


def test_a_server_that_takes_no_connections_is_unreachable_in_its_own_words(server: PgServer) -> None:
    server.stop()
    (server.data / "standby.signal").touch()
    server.settings["hot_standby"] = "off"
    server.start()
    with pytest.raises(Unreachable, match="the database system is not accepting connections"):
        look_with(server)


# -- a server that refuses us


def test_a_wrong_password_is_named_as_such_and_never_shown(tcp_server: PgServer) -> None:
    settings = tcp_server.engine_settings(connection={"login_host": "127.0.0.1", "login_user": "backup"})
    identity = cluster_identity(settings.host.os_user, settings.host.data_directory)
    wrong = "wr0ng-and-private"
    with password_in_passfile(settings.connection, wrong, identity) as connection:
        with pytest.raises(Unreachable, match="the password of role 'backup' was not accepted") as caught:
            look(connection, settings.host)
    assert wrong not in everything_shown(caught.value)
    assert "passfile" in caught.value.hint


def test_the_right_password_opens_and_its_file_is_gone_afterwards(tcp_server: PgServer) -> None:
    settings = tcp_server.engine_settings(connection={"login_host": "127.0.0.1", "login_user": "backup"})
    identity = cluster_identity(settings.host.os_user, settings.host.data_directory)
    with password_in_passfile(settings.connection, PASSWORD, identity) as connection:
        assert connection.passfile is not None
        passfile = Path(connection.passfile)
        assert passfile.stat().st_mode & 0o077 == 0
        assert look(connection, settings.host).local
    assert not passfile.exists()


def test_no_password_at_all_is_told_from_a_server_that_is_down(tcp_server: PgServer) -> None:
    with pytest.raises(Unreachable, match="the password of role 'backup' was not accepted"):
        look_with(
            tcp_server,
            connection={"login_host": "127.0.0.1", "login_user": "backup", "passfile": "/nonexistent/passfile"},
        )


def test_a_password_among_the_connection_parameters_is_refused_and_not_repeated(server: PgServer) -> None:
    with pytest.raises(BadInput, match="connect_params must not hold 'password'") as caught:
        look_with(server, connection={"connect_params": {"password": PASSWORD}})
    assert PASSWORD not in everything_shown(caught.value)


def test_a_missing_line_in_pg_hba_is_said(server: PgServer) -> None:
    server.set_hba("local all postgres trust")
    server.sql("create role backup login")
    with pytest.raises(Unreachable, match=r"no pg_hba\.conf entry") as caught:
        look_with(server, connection={"login_user": "backup"})
    assert "'backup'" in caught.value.hint


def test_a_role_that_is_not_there_is_said(server: PgServer) -> None:
    with pytest.raises(Unreachable, match="there is no role 'nobody-such'"):
        look_with(server, connection={"login_user": "nobody-such"})


def test_a_database_that_is_not_there_is_not_found(server: PgServer) -> None:
    with pytest.raises(NotFound, match="there is no database 'no such \"one\"'"):
        look_with(server, connection={"login_db": 'no such "one"'})


def test_peer_authentication_names_both_sides_of_the_mismatch(server: PgServer) -> None:
    server.set_hba("local all postgres trust", "local all all peer")
    server.sql("create role backup login")
    with pytest.raises(Unreachable, match=r"(?i)peer authentication failed") as caught:
        look_with(server, connection={"login_user": "backup"})
    assert repr(server.os_user.name) in caught.value.hint
    assert "'backup'" in caught.value.message
    assert "pg_ident.conf" in caught.value.hint


def test_a_mapped_peer_gets_in_as_the_servers_os_user_even_when_we_are_root(server: PgServer) -> None:
    server.sql("create role backup login in role pg_read_all_settings")
    (server.data / "pg_ident.conf").write_text(f"dbops {server.os_user.name} backup\n")
    server.set_hba("local all postgres trust", "local all all peer map=dbops")
    settings = server.engine_settings(connection={"login_user": "backup"})
    identity = cluster_identity(settings.host.os_user, settings.host.data_directory)
    with connected(settings.connection, identity) as session:
        assert session.value("select current_user::text") == "backup"


def test_an_os_user_that_this_host_does_not_have_is_bad_input(server: PgServer) -> None:
    with pytest.raises(BadInput, match="no OS user 'no-such-user'"):
        look_with(server, host={"os_user": "no-such-user"})


# -- a server that lets us in, but not far enough


def test_a_role_without_replication_is_refused_before_anything_is_copied(server: PgServer) -> None:
    server.sql("create role reader login in role pg_read_all_data, pg_read_all_settings")
    seen = look_with(server, connection={"login_user": "reader"})
    with pytest.raises(Refused, match="Role 'reader' may not take a physical backup: it lacks REPLICATION"):
        seen.require_replication()


def test_too_few_wal_senders_are_refused(server: PgServer) -> None:
    server.settings["max_wal_senders"] = "1"
    server.restart()
    with pytest.raises(Refused, match="max_wal_senders is 1"):
        look_with(server).require_replication()


def test_a_role_that_may_not_see_the_settings_is_told_which_right_it_lacks(server: PgServer) -> None:
    server.sql("create role backup login replication")
    settings = server.engine_settings(connection={"login_user": "backup"})
    with pytest.raises(Unreachable, match="pg_read_all_settings"):
        look(settings.connection, dataclasses.replace(settings.host, data_directory=None))


# -- programs that do not fit


def test_programs_of_another_major_version_are_refused_by_number(server: PgServer, place: Path) -> None:
    bin_dir, major = another_version(server.installation, place)
    with pytest.raises(BadInput, match=f"The server is PostgreSQL {server.installation.major}") as caught:
        look_with(server, host={"bin_dir": str(bin_dir)})
    assert f"{bin_dir} (PostgreSQL {major})" in caught.value.hint


def test_a_directory_without_programs_is_refused(server: PgServer, place: Path) -> None:
    with pytest.raises(BadInput, match="no client programs") as caught:
        look_with(server, host={"bin_dir": str(place)})
    assert f"{place} (none)" in caught.value.hint


def test_every_refusal_says_what_to_do_next(server: PgServer) -> None:
    for overrides in (
        {"connection": {"login_db": "absent"}},
        {"connection": {"login_user": "absent"}},
        {"connection": {"login_unix_socket": "/nonexistent"}},
        {"host": {"os_user": "absent"}},
        {"host": {"bin_dir": "/nonexistent"}},
    ):
        with pytest.raises(DbopsError) as caught:
            look_with(server, **overrides)
        assert caught.value.hint, overrides


def another_version(installation: Installation, place: Path) -> tuple[Path, int]:
    """Real programs of another version; where only one is installed, one that answers as a 13 does."""
    for other in installations():
        if other.major != installation.major:
            return other.bin_dir, other.major
    program = place / "pg_basebackup"
    program.write_text("#!/bin/sh\necho 'pg_basebackup (PostgreSQL) 13.22'\n")
    program.chmod(0o755)
    return place, 13
