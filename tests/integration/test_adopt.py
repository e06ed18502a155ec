# SPDX-License-Identifier: GPL-3.0-or-later
"""A side instance becomes a cluster: archiving under its own name, and never into somebody else's archive."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops import settings as engine_settings
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import NotFound, Refused
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore import adopt
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.wal import setup
from tests.support.module_runs import run_module
from tests.support.recovering import Protected, Side
from tests.support.servers import Installation, Templates, wait_until


@pytest.fixture
def protected(installation: Installation, templates: Templates, place: Path) -> Iterator[Protected]:
    made = Protected(templates.server(installation, place / "pg", summarize_wal=False), place)
    made.backup()
    made.row(1)
    made.archive()
    yield made
    made.server.stop("immediate")


def settings_file(protected: Protected, cluster: str, data: Path) -> Path:
    mapping = protected.server.engine_mapping(
        None,
        repositories=[{"name": "a", "path": str(protected.place / "repo")}],
        archiving={"codec": protected.archiving.codec, "linger_s": 1},
    )
    state = protected.server.os_user.own_directory(protected.place / f"state-{cluster}", 0o755)
    mapping["cluster"] = cluster
    mapping["host"].update(data_directory=str(data), state_path=str(state))
    path = protected.place / f"{cluster}.json"
    path.write_text(json.dumps(mapping))
    path.chmod(0o644)
    return path


def archiving(protected: Protected, config: Path) -> dict[str, Any]:
    """The server's own archive_command is not of the set-up's making."""
    lib_path = protected.place / "arc/lib"
    return {
        "take_over": True,
        "python": protected.archiving.python,
        "lib_path": str(lib_path),
        "config": str(config),
    }


def archived(protected: Protected, cluster: str) -> list[str]:
    return sorted(path.name for path in protected.place.glob(f"repo/{cluster}/wal/*/**/*") if path.is_file())


def test_under_another_name_it_archives_there_and_the_original_notices_nothing(protected):
    with protected.recovered(latest=True) as side:
        config = settings_file(protected, "copy", side.data)
        arguments = {"cluster": "copy", "login_user": "postgres", **archiving(protected, config)}
        refused = run_module("pg_restore_adopt", **{**arguments, "take_over": False}, confirm="copy")
        assert "already archives" in refused["msg"]
        refused = run_module("pg_restore_adopt", **arguments, confirm="copy")
        assert "is used by the server in" in refused["msg"]  # the original's port comes back with its configuration
        port = side.recovery["port"]
        assert "confirm=copy" in run_module("pg_restore_adopt", **arguments, port=port)["msg"]
        planned = run_module("pg_restore_adopt", check=True, **arguments, port=port)
        assert planned["adopt"]["runs_with"]["archive_mode"] == "on"
        assert side.value("show archive_mode") == "off"
        before = archived(protected, "main")

        done = run_module("pg_restore_adopt", **arguments, port=port, confirm="copy")
        assert (done["failed"], done["adopt"]["new_identity"], done["adopt"]["timeline"]) == (False, True, 2)
        adopted = Side(protected.server, side.data, {"recovery": {**sockets(protected), "port": port}})
        assert adopted.value("show archive_mode") == "on"
        assert not (side.data / "dbops_recovery").exists()
        adopted.sql("insert into canary values (2)")
        segment = adopted.value("select pg_walfile_name(pg_switch_wal())")
        wait_until(lambda: any(name.startswith(segment) for name in archived(protected, "copy")), "it is archived")
        assert archived(protected, "main") == before
        assert protected.server.value("select count(*) from canary") == 1
        with pytest.raises(NotFound, match="no side instance"):
            adopt.plan(engine_settings.load("copy", path=str(config)), adopt.Request())


def test_in_the_original_s_place_it_goes_on_in_its_archive_once_and_alone(protected, capsys):
    with protected.recovered(latest=True) as side, protected.recovered(latest=True) as late:
        config = settings_file(protected, "main", side.data)
        options = ["--config", str(config), "adopt", "--take-over", "--python", protected.archiving.python]
        wanted = setup.Request(**archiving(protected, config))
        settings = engine_settings.load("main", path=str(config))
        with pytest.raises(Refused, match="The cluster still runs"):
            adopt.plan(settings, adopt.Request(archiving=wanted))
        protected.server.stop()
        late.stop()  # another server of the same system would do as well
        assert main([*options, "--plan"]) in (0, NotFound.exit_code)  # the checkout may be closed to the OS user
        capsys.readouterr()
        done = adopt.run(adopt.plan(settings, adopt.Request(archiving=wanted)))
        assert done["adopt"]["new_identity"] is False
        adopted = Side(protected.server, side.data, {"recovery": sockets(protected)})
        segment = adopted.value("select pg_walfile_name(pg_switch_wal())")
        assert segment.startswith("00000002")
        wait_until(lambda: any(name.startswith(segment) for name in archived(protected, "main")), "it is archived")
        side.stop()

        protected.server.run("pg_ctl", "-D", late.data, "-l", late.data / "log", "-w", "start", keep_output=False)
        other = engine_settings.load("main", path=str(config), overrides={"host": {"data_directory": str(late.data)}})
        with pytest.raises(Refused, match="of timeline 2 already"):
            adopt.plan(other, adopt.Request(archiving=wanted))


def sockets(protected: Protected) -> dict[str, object]:
    return {"socket_directory": str(protected.server.sockets), "port": protected.server.port}
