# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers with the reference application's schema, whose databases are made in a moment."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg import fingerprint
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed import load, profile, run
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed.plan import Plan
from tests.support.servers import PgServer, Templates, installations, kill_below

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "ridehailing"
ANCHOR = "2026-11-20T12:00:00Z"
_numbers = itertools.count(1)


@contextlib.contextmanager
def cities_below(place: Path, templates: Templates) -> Iterator[list[City]]:
    """One running per PostgreSQL version, the newest last; gone at the end."""
    place.mkdir(mode=0o755)
    try:
        made = []
        for installation in installations():
            server = templates.server(installation, place / str(installation.major))
            server.start()
            made.append(City(server))
        yield made
    finally:
        kill_below(place)


def migrations() -> list[Path]:
    return sorted((EXAMPLE / "migrations").glob("*.up.sql"))


def migrate(server: PgServer, database: str, *paths: Path) -> None:
    """As golang-migrate does it: a file is a transaction, unless an index is built alongside."""
    scripts = []
    for path in paths:
        text = path.read_text(encoding="utf-8")
        version = int(path.name[:6])
        scripts += [text] if "concurrently" in text else ["begin;", text, "commit;"]
        scripts.append(
            "create table if not exists schema_migrations (version bigint primary key, dirty boolean not null);"
            f"truncate schema_migrations; insert into schema_migrations values ({version}, false);"
        )
    server.psql("\n".join(scripts), database)


class City:
    """A server whose databases have the reference application's schema."""

    def __init__(self, server: PgServer) -> None:
        self.server, self.settings = server, server.engine_settings()
        server.sql("create database empty_city")
        migrate(server, "empty_city", *migrations())

    def database(self) -> str:
        name = f"city{next(_numbers)}"
        self.server.sql(f"create database {name} template empty_city")
        return name

    def seed(self, wanted: profile.Profile, database: str, **how: object) -> dict:
        return run.seed(self.settings, wanted, Silent(), database=database, **{"anchor": ANCHOR, **how})

    @contextlib.contextmanager
    def transaction(self, database: str, plan: Plan) -> Iterator:
        """Rolled back at the end; the profile's functions are there."""
        with run.connections(self.settings, database, 1) as (connection,):
            with run.transaction(connection, keep=False):
                load.make_functions(connection, plan)
                yield connection

    def catalog(self, database: str) -> str:
        with run.connections(self.settings, database, 1) as (connection,):
            return fingerprint.of_tables(connection, profile.load(str(EXAMPLE / "seed" / "heavy.yml")).tables()).sha256
