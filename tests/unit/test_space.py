# SPDX-License-Identifier: GPL-3.0-or-later
"""Room for a restore: asked of every file system that it fills, with all that it puts there."""

from __future__ import annotations

import os
import shutil

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.stream import Side
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import Refused
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.record import StoredObject
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore.place import Place
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore.space import require_space
from tests.support.records import backup

FULL = backup(0, database_bytes=1000, objects=(StoredObject("base.tar.zst", "base", "zstd", Side(300, "")),))
INCREMENTAL = backup(
    1, parent=FULL, database_bytes=1000, objects=(StoredObject("base.tar", "base", "none", Side(50, ""), Side(50, "")),)
)
CHAIN = (FULL, INCREMENTAL)  # the members take 1050 bytes, what they are combined into 1000
MOUNT_POINT = Place("/proc", occupied=False, keep_directory=True)  # on every Linux, and never on the root's file system


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch):
    """Let the file systems have so many bytes, by the path that is asked."""

    def has(**by_path: int) -> None:
        known = {f"/{name}".replace("/root", "/"): size for name, size in by_path.items()}
        real = shutil.disk_usage("/")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: real._replace(free=known[path]))

    return has


def test_the_mount_point_used_here_is_one():
    assert os.stat("/proc").st_dev != os.stat("/").st_dev


def test_a_chain_beside_its_target_needs_room_for_members_and_whole_together(free):
    place = Place("/target", occupied=False, keep_directory=False)
    free(root=2050)
    assert require_space(CHAIN, place, []) == 2050
    free(root=2049)
    with pytest.raises(Refused, match="needs about 2050 bytes in /, which has 2049"):
        require_space(CHAIN, place, [])


def test_beside_a_mount_point_the_members_need_room_on_the_file_system_above(free):
    free(root=1050, proc=1000)
    assert require_space(CHAIN, MOUNT_POINT, []) == 2050
    free(root=1049, proc=10**6)
    with pytest.raises(Refused, match="needs about 1050 bytes in /, which has 1049"):
        require_space(CHAIN, MOUNT_POINT, [])
    free(root=10**6, proc=999)
    with pytest.raises(Refused, match="needs about 1000 bytes in /proc, which has 999"):
        require_space(CHAIN, MOUNT_POINT, [])


def test_a_single_backup_needs_nothing_beside_a_mount_point(free):
    free(root=0, proc=1000)
    assert require_space((FULL,), MOUNT_POINT, []) == 1000


def test_the_members_are_checked_even_where_tablespaces_lie_elsewhere(free):
    place = Place("/target", occupied=False, keep_directory=False)
    free(root=1050, proc=0)
    assert require_space(CHAIN, place, [MOUNT_POINT]) == 2050
    free(root=1049, proc=10**6)
    with pytest.raises(Refused, match="needs about 1050 bytes in /"):
        require_space(CHAIN, place, [MOUNT_POINT])
