# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollback stops the restored server and starts the old one by itself, when no service manager does."""

from __future__ import annotations

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup import take
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import Refused
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore import physical, rollback

HERE = "select note from shop_note"


@pytest.fixture
def restored(server, settings):
    """A server that was restored in place; what was written since its backup lies aside."""
    server.psql("create table shop_note as select 'in the backup' as note;")
    take.run(take.plan(settings, take.Request()), Silent())
    server.psql("update shop_note set note = 'written later';")
    physical.run(physical.plan(settings, physical.Request(in_place=True, stop=True, start=True)), Silent())
    assert server.value(HERE) == "in the backup"
    return server


def test_with_stop_and_start_the_old_server_answers_again(restored, settings):
    result = rollback.run(rollback.plan(settings, stop=True, start=True))
    assert result["rollback"]["started"]
    assert restored.value(HERE) == "written later"


def test_without_stop_a_running_server_is_refused_and_goes_on(restored, settings):
    with pytest.raises(Refused, match="A server runs in"):
        rollback.plan(settings, start=True)
    assert restored.value(HERE) == "in the backup"


def test_the_plan_itself_stops_nothing(restored, settings):
    assert rollback.plan(settings, stop=True, start=True).preview()["changed"]
    assert restored.value(HERE) == "in the backup"
