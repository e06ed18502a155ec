# SPDX-License-Identifier: GPL-3.0-or-later
"""Being somebody else for a moment."""

from __future__ import annotations

import os
import pwd

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.osuser import acting_as, identity_of


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_libpq_looks_into_the_home_of_whom_we_act_as_and_ours_comes_back(monkeypatch):
    nobody = identity_of("nobody")
    monkeypatch.setenv("HOME", "/root")
    with acting_as(nobody):
        assert (os.geteuid(), os.environ["HOME"]) == (nobody.uid, pwd.getpwnam("nobody").pw_dir)
    assert (os.geteuid(), os.environ["HOME"]) == (0, "/root")
    monkeypatch.delenv("HOME")
    with pytest.raises(KeyError, match="stop"), acting_as(nobody):
        raise KeyError("stop")
    assert os.geteuid() == 0
    assert "HOME" not in os.environ
