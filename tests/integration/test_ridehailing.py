# SPDX-License-Identifier: GPL-3.0-or-later
"""The example application does business on what its seed profiles made."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed import profile
from tests.support.cities import EXAMPLE, City
from tests.support.servers import Templates, content_hashes, differences, installations


def test_activity_ends_rides_has_them_paid_and_begins_others(templates: Templates, place: Path) -> None:
    server = templates.server(installations()[-1], place / "pg")
    server.start()
    city = City(server)
    database = city.database()
    city.seed(profile.load(str(EXAMPLE / "seed" / "medium.yml")), database)
    unpaid = "select id from rides where status = 'completed' and id not in (select ride_id from payments)"
    open_before = server.value("select count(*) from rides where status = 'in_progress'", database=database)
    assert open_before > 0
    for round_number in (1, 2):
        before = content_hashes(server, database)
        server.psql((EXAMPLE / "activity.sql").read_text(), database)
        changed = {line.split(":")[0] for line in differences(before, content_hashes(server, database))}
        assert {"table public.rides", "table public.notifications"} <= changed
        assert ("table public.payments" in changed) == (round_number == 1), "medium has few rides that are under way"
        assert server.sql(unpaid, database=database) == []
    assert server.value("select count(*) from rides where status = 'in_progress'", database=database) == 0
