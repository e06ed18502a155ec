# SPDX-License-Identifier: GPL-3.0-or-later
"""The command against a real server, and stopped in the middle of a real backup: nothing stays of it anywhere."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import PgServer, wait_until

ENGINE_PARENT = Path(__file__).resolve().parents[2] / "plugins" / "module_utils"


@pytest.fixture
def config(server: PgServer, repository_path: Path, place: Path) -> Path:
    path = place / "main.json"
    path.write_text(json.dumps(server.engine_mapping(repository_path)))
    return path


def dbops(config: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "dbops", *arguments, "--config", str(config), "--output", "json"],
        cwd=ENGINE_PARENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def result(process: subprocess.Popen[bytes]) -> dict[str, object]:
    output, errors = process.communicate(timeout=120)
    assert b"Traceback" not in errors
    last: dict[str, object] = json.loads(output.splitlines()[-1])
    assert last["event"] == "result"
    return last


def files_below(*roots: Path) -> list[Path]:
    return [path for root in roots for path in root.rglob("*") if path.is_file() and not path.name.startswith(".lock-")]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (["--method", "physical", "--max-rate", "64"], {}),  # bytes trickle
        (["--method", "physical"], {"backup": {"checkpoint": "spread"}}),  # the server makes us wait for the first byte
    ],
    ids=["copying", "waiting"],
)
def test_a_stopped_backup_leaves_nothing_and_is_not_listed(
    server: PgServer, repository_path: Path, config: Path, number: signal.Signals, code: int,
    arguments: list[str], settings: dict[str, object],
):  # fmt: skip
    config.write_text(json.dumps(server.engine_mapping(repository_path, **settings)))
    server.psql("update orders set note = note || 'x'", database="shop")  # so that a spread checkpoint takes its time
    with dbops(config, "backup", *arguments) as process:
        wait_until(lambda: server.value("select count(*) from pg_stat_progress_basebackup") > 0, "the backup has begun")
        process.send_signal(number)
        stopped = result(process)
    assert process.returncode == code
    assert stopped["error_code"] == "stopped"
    assert [path for path in files_below(repository_path) if path.name != "RECOVER.md"] == []
    assert [path.name for path in files_below(server.state)] == ["last-physical.json"]  # how it went: not well
    assert json.loads((server.state / "last-physical.json").read_text())["ok"] is False
    server.psql("checkpoint")  # PostgreSQL looks at its client again only when the checkpoint is done
    wait_until(lambda: server.value("select count(*) from pg_stat_progress_basebackup") == 0, "the server noticed")
    with dbops(config, "info") as listing:
        found = result(listing)
    assert (found["backups"], found["unfinished"]) == ([], [])


def test_backup_info_validate_restore_and_expire_by_the_command(
    server: PgServer, repository_path: Path, config: Path, place: Path
):
    taken = []
    for arguments in (["--reason", "the first"], ["--method", "logical"], ["--max-age", "1h"]):
        with dbops(config, "backup", *arguments) as process:
            taken.append(result(process))
        assert process.returncode == 0, taken[-1]
    full, dump = taken[0]["backup"]["label"], taken[1]["backup"]["label"]  # type: ignore[index]
    assert (taken[2]["changed"], taken[2]["plan"]["newest"]) == (False, full)  # type: ignore[index]
    with dbops(config, "info") as process:
        assert [item["label"] for item in result(process)["backups"]] == [dump, full]  # type: ignore[union-attr, index]
    for label in (full, dump):
        with dbops(config, "validate", label) as process:
            assert result(process)["changed"] is False
        assert process.returncode == 0
    target = server.os_user.own_directory(place / "restored-parent", 0o755) / "data"
    with dbops(config, "restore", full, "--target", str(target), "--plan") as process:
        assert result(process)["restore"]["label"] == full  # type: ignore[index]
    assert not target.exists()
    with dbops(config, "restore", full, "--target", str(target), "--verify") as process:
        restored = result(process)
    assert process.returncode == 0, restored
    assert (target / "PG_VERSION").read_text().strip() == str(server.installation.major)
    with dbops(config, "restore", dump, "--database", "shop=shop_again") as process:
        assert result(process)["changed"] is True
    assert server.value("select count(*) from orders", database="shop_again") == 10000
    with dbops(config, "restore", dump, "--database", "shop", "--existing", "replace") as process:
        assert result(process)["error_code"] == "refused"
    with dbops(config, "expire", "--keep-last", "1", "--apply") as process:
        assert result(process)["changed"] is False
