# SPDX-License-Identifier: GPL-3.0-or-later
"""A store that goes away half-way through a recovery: PostgreSQL is stopped and not promoted, and told how to resume.

The store is S3 behind a proxy that cuts every connection from the moment that a certain segment is asked for. Nothing
is fetched ahead, so by then everything before that segment has been replayed.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import Unreachable
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import from_mapping
from tests.support.clouds import Cloud, readable_by
from tests.support.fault_proxy import FaultProxy, Request
from tests.support.playbooks import Controller, unfolded
from tests.support.processes import settings_file
from tests.support.recovering import Protected, Side
from tests.support.servers import Installation, PgServer, Templates, installations, wait_until

PORT = 5988


@pytest.fixture
def proxy(clouds: Callable[[str], Cloud]) -> Iterator[FaultProxy]:
    with FaultProxy(clouds("s3").url) as proxy:
        yield proxy


def protected_by(
    installation: Installation, templates: Templates, place: Path, cloud: Cloud, proxy: FaultProxy
) -> Iterator[Protected]:
    """Archiving to S3 through the proxy, with a backup and three segments after it."""
    user = PgServer(installation, place / "pg").os_user
    repository = readable_by(cloud, user, place / "secrets").repository(cloud.new_bucket())
    repository["s3"]["endpoint_url"] = proxy.url
    repository["transfer"]["retry_budget_s"] = 1
    made = Protected(templates.server(installation, place / "pg", summarize_wal=False), place, cloud=repository)
    made.mapping["archiving"]["prefetch_bytes"] = 0
    made.settings = from_mapping(made.mapping, where="test settings")
    made.backup()
    for number in (1, 2, 3):
        made.row(number)
        made.archive()
    yield made
    made.server.stop("immediate")


@pytest.fixture
def protected(
    installation: Installation, templates: Templates, place: Path, clouds: Callable[[str], Cloud], proxy: FaultProxy
) -> Iterator[Protected]:
    yield from protected_by(installation, templates, place, clouds("s3"), proxy)


@pytest.fixture
def newest(templates: Templates, place: Path, clouds: Callable[[str], Cloud], proxy: FaultProxy) -> Iterator[Protected]:
    yield from protected_by(installations()[-1], templates, place, clouds("s3"), proxy)


def goes_away_at(proxy: FaultProxy, segment: str) -> None:
    """From the server's own question for it on: the plan, which reads the last segments, has been made by then."""
    away = False

    def plan(request: Request) -> str | None:
        nonlocal away
        away = away or (segment in request.path and recovering())
        return "reset" if away else None

    def recovering() -> bool:
        return any(before in request.path and request.number > planned for request, _fault in proxy.seen)

    before = f"{segment[:16]}{int(segment[16:], 16) - 1:08X}"
    planned = proxy.seen[-1][0].number
    proxy.plan = plan


def assert_stopped_unpromoted_and_half_way(data: Path, segment: str) -> None:
    assert not (data / "postmaster.pid").exists()
    assert (data / "recovery.signal").exists()
    assert not list((data / "pg_wal").glob("00000002*"))
    log = (data / "dbops-recovery.log").read_text()
    assert "restored log file" in log
    assert f'restored log file "{segment}"' not in log
    assert "archive recovery complete" not in log


def resumed(said: str) -> None:
    """By the very words of the message."""
    command = re.search(r"it goes on from there: (.+?)\. Its log is", said)
    assert command is not None, said
    subprocess.run(shlex.split(command[1]), check=True, stdout=subprocess.DEVNULL, cwd="/")


def test_the_command_ends_with_the_server_stopped_and_says_how_to_resume(protected, proxy, place, capsys):
    segment = protected.archive()
    config = settings_file(place / "settings.json", protected.mapping)
    target = place / "side"
    words = ["restore", "--latest", "--side", "--target", str(target), "--port", str(PORT)]
    goes_away_at(proxy, segment)

    assert main(["--config", str(config), *words]) == Unreachable.exit_code
    said = capsys.readouterr().err
    assert f"{segment}" in said
    assert "was not promoted" in said
    assert_stopped_unpromoted_and_half_way(target, segment)

    proxy.plan = lambda request: None
    resumed(" ".join(said.split()))
    side = Side(
        protected.server, target, {"recovery": {"socket_directory": str(target / "dbops_recovery"), "port": PORT}}
    )
    try:
        wait_until(lambda: side.value("select pg_is_in_recovery()") is False, "it is at its end")
        assert side.rows() == [1, 2, 3]
        left = (target / "postgresql.auto.conf").read_text()
        assert ("restore_command" in left, "recovery_target" in left, "archive_mode = 'off'" in left) == (0, 0, 1)
    finally:
        side.stop()


@pytest.mark.slow
def test_the_playbook_fails_with_the_same_words_and_in_place_too_nothing_is_promoted(newest, proxy, place):
    segment = newest.archive()
    config = settings_file(place / "settings.json", newest.mapping)
    variables = {"dbops_config_path": str(config), "dbops_live_progress": False}
    controller = Controller(place, {**variables, "dbops_lib_path": str(place / "arc/lib")}, {"db1": {}})
    goes_away_at(proxy, segment)

    said = unfolded(controller.play("pitr", fails=True, dbops_pitr_latest=True, dbops_confirm="main"))
    assert "was not promoted" in said
    assert_stopped_unpromoted_and_half_way(newest.server.data, segment)

    proxy.plan = lambda request: None
    resumed(said)
    wait_until(lambda: newest.server.value("select pg_is_in_recovery()") is False, "it is at its end")
    assert [number for (number,) in newest.server.sql("select n from canary order by n")] == [1, 2, 3]
    left = (newest.server.data / "postgresql.auto.conf").read_text()
    assert ("restore_command" in left, "recovery_" in left) == (False, False), "a standby of it would stop there too"
    assert not (newest.server.data / "dbops_recovery").exists()
