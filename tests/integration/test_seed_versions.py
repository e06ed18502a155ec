# SPDX-License-Identifier: GPL-3.0-or-later
"""Which profile loads at which schema version: what the profiles say in `fits`, and what is so, for every migration."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import DbopsError
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.connection import Connection
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed import catalog, profile, run
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed.plan import at_scale
from tests.support.cities import ANCHOR, EXAMPLE, migrate, migrations
from tests.support.servers import Installation, Templates

PROFILES = [profile.load(str(EXAMPLE / "seed" / f"{name}.yml")) for name in ("light", "medium", "heavy")]


def loads(server: Connection, wanted: profile.Profile) -> bool:
    """Whether the profile's rows can be made and proven here, whatever it says itself; nothing stays."""
    anywhere = dataclasses.replace(wanted, fits=profile.Fits())
    try:
        catalog.check(server, anywhere)
        with run.transaction(server, keep=False):
            run.load_at_once(server, at_scale(anywhere, 1, ANCHOR), Silent())
    except DbopsError:
        return False
    return True


def test_each_profile_fits_exactly_the_versions_that_it_names(
    templates: Templates, place: Path, installation: Installation
):
    server = templates.server(installation, place / "pg")
    server.start()
    server.sql("create database city")
    fitting: dict[str, list[int]] = {it.name: [] for it in PROFILES}
    versions = []
    for path in migrations():
        migrate(server, "city", path)
        versions.append(int(path.name[:6]))
        with run.connections(server.engine_settings(), "city", 1) as (connection,):
            for wanted in PROFILES:
                try:
                    catalog.check(connection, wanted)
                except DbopsError:
                    says = False
                else:
                    says = True
                does = loads(connection, wanted)
                assert says == does, f"{wanted.name} at {versions[-1]}: says {says}, is {does}"
                if does:
                    fitting[wanted.name].append(versions[-1])
    assert versions == list(range(1, 35))
    assert fitting == {it.name: list(range(it.fits.first, (it.fits.last or 0) + 1)) for it in PROFILES}
