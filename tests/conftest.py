"""The collection is importable under its full name, in the tests and in every process that they start."""

# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.support.clouds import Cloud

# How fast a busy machine is, is no property of the code: no deadline for an example, nor for making one.
settings.register_profile("dbops", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dbops")

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLLECTIONS = ROOT / ".ansible" / "collections"


def pytest_configure() -> None:
    """Refuse to start without the link of `make setup`: every import would fail, each with a riddle of its own."""
    link = COLLECTIONS / "ansible_collections" / "dbops" / "postgres"
    if not (link / "galaxy.yml").exists():
        raise pytest.UsageError(f"{link} does not lead to this checkout. Next: run make setup, then pytest again.")
    known = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    if str(COLLECTIONS) not in known:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(COLLECTIONS), *known])
    os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(COLLECTIONS)
    os.environ["ANSIBLE_INJECT_FACT_VARS"] = "false"
    _let_what_we_start_be_stopped()


def _let_what_we_start_be_stopped() -> None:
    """Under nohup and in the background these signals are ignored, and so would every program be deaf to a test's.

    A handler that does nothing keeps this process as it is, and is not inherited.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_received: None)


@pytest.fixture(scope="session")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Cloud]]:
    """The server of a type, s3, gcs or azure; started when it is first asked for, stopped with the session."""
    from tests.support.clouds import CLOUDS

    running: dict[str, Cloud] = {}
    with contextlib.ExitStack() as stack:

        def server(kind: str) -> Cloud:
            if kind not in running:
                running[kind] = stack.enter_context(CLOUDS[kind](tmp_path_factory.mktemp(kind)))
            return running[kind]

        yield server
