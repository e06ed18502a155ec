# SPDX-License-Identifier: GPL-3.0-or-later
"""Every test here runs once per PostgreSQL version on this machine: 18 always, others as they are installed."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings
from tests.support.disks import mounted
from tests.support.servers import Installation, PgServer, Templates, installations, kill_below, session_directory

_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.integration)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "installation" in metafunc.fixturenames:
        found = installations()
        metafunc.parametrize("installation", found, ids=[f"pg{item.major}" for item in found], scope="session")


@pytest.fixture(scope="session")
def base_directory() -> Iterator[Path]:
    with session_directory() as base:
        yield base


@pytest.fixture(scope="session")
def templates(base_directory: Path) -> Templates:
    return Templates(base_directory)


@pytest.fixture
def place(base_directory: Path) -> Iterator[Path]:
    """This test's own directory, which servers can reach: pytest's tmp_path is private. No server outlives the test."""
    path = base_directory / f"t{next(_numbers)}"
    path.mkdir(mode=0o755)
    yield path
    kill_below(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def server(installation: Installation, templates: Templates, place: Path) -> PgServer:
    """A running server with the sample database; summarize_wal is on from 17."""
    server = templates.server(installation, place / "pg")
    server.start()
    return server


@pytest.fixture
def repository_path(installation: Installation, place: Path) -> Path:
    """An empty directory of the servers' OS user."""
    return PgServer(installation, place / "pg").os_user.own_directory(place / "repository", 0o750)


@pytest.fixture
def small_disk(installation: Installation, place: Path) -> Iterator[Path]:
    """A file system of 8 MB, smaller than any cluster, of the servers' OS user."""
    user = PgServer(installation, place / "pg").os_user
    with mounted(place / "disk", 8, uid=user.uid, gid=user.gid) as path:
        yield path


@pytest.fixture
def settings(server: PgServer, repository_path: Path) -> Settings:
    return server.engine_settings(repository_path)
