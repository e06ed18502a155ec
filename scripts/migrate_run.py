# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the server that `make migrate-up` means, and hands over to the command."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT / "plugins" / "module_utils"))

from dbops.cli.main import main  # the path comes first

from demo_place import CLUSTER, EXAMPLE, DemoError, Place
from localpg.osuser import server_user
from localpg.server import SUPERUSER

DATABASE = "ridehailing_dev"


def run(words: list[str]) -> int:
    action, *rest = words
    path = os.environ.get("MIGRATIONS") or os.path.relpath(EXAMPLE / "migrations")
    where = ["--path", path]
    if action == "create":
        return main(["migrate", action, *where, *rest])
    config, database = os.environ.get("CONFIG"), os.environ.get("DATABASE")
    if config:
        named = ["--database", database] if database else []
        return main(["migrate", action, "--config", config, *where, *named, *rest])
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(demo_settings(database or DATABASE), file)
        file.flush()
        return main(["migrate", action, "--config", file.name, *where, *rest])


def demo_settings(database: str) -> dict[str, object]:
    """Of the demo's server as its superuser; the database is made where it is missing."""
    place = Place()
    if not place.variables.exists() or not place.is_running:
        raise DemoError(
            "There is no server to migrate: run `make demo`, which leaves its own running, or name a settings file "
            "with CONFIG=/etc/dbops/<cluster>.json."
        )
    server = place.server()
    if not server.value("select count(*) from pg_database where datname = %s", (database,)):
        server.sql(f'create database "{database}"')
    return {
        "cluster": CLUSTER,
        "connection": {
            "login_unix_socket": str(server.sockets),
            "login_port": server.port,
            "login_user": SUPERUSER,
        },
        "host": {"os_user": server_user().name},
        "migrations": {"database": database},
    }


if __name__ == "__main__":
    try:
        sys.exit(run(sys.argv[1:] or ["status"]))
    except DemoError as exc:
        print(f"migrate: {exc}", file=sys.stderr)
        sys.exit(1)
