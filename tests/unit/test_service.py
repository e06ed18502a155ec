# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose service a server is, by its control group."""

from __future__ import annotations

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.service import service_in, service_of


@pytest.mark.parametrize(
    ("cgroups", "service"),
    [
        ("0::/system.slice/system-postgresql.slice/postgresql@17-main.service\n", "postgresql@17-main.service"),
        ("0::/system.slice/postgresql-17.service\n", "postgresql-17.service"),
        ("2:cpu:/\n1:name=systemd:/system.slice/patroni.service\n0::/\n", "patroni.service"),
        ("0::/user.slice/user-0.slice/session-3.scope\n", None),
        ("0::/system.slice/runner.service\n", None),
        ("0::/system.slice/postgresql.slice\n", None),
        ("0::/\n", None),
        ("", None),
    ],
)
def test_only_a_service_of_a_server_counts(cgroups: str, service: str | None):
    assert service_in(cgroups) == service


def test_what_does_not_run_is_in_no_service(tmp_path):
    assert service_of(str(tmp_path)) is None
