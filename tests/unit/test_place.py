# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a restore goes and how it takes the place of what was there: the old is never lost, wherever it is killed."""

from __future__ import annotations

import errno
import json
import os
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import (
    BadInput,
    NotFound,
    Refused,
    Unreachable,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.osuser import current_identity
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.restore import physical, place, rollback
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import from_mapping

NOW = datetime(2026, 11, 22, 13, 5, tzinfo=timezone.utc)
STAMP = "20261122T130500Z"
LABEL = "20261122T120000Z-full"
OID = 16384


class Killed(BaseException):
    """SIGKILL, as far as a test in the same process can have it: no handler of ours may catch and mend."""


@pytest.fixture
def base(tmp_path):
    return tmp_path.resolve()


def cluster(path, content, **tablespaces):
    """Something that counts as a data directory, with links to its tablespaces by oid."""
    (path / "pg_tblspc").mkdir(parents=True)
    (path / "PG_VERSION").write_text("18\n")
    (path / "which").write_text(content)
    for oid, space in tablespaces.items():
        (path / "pg_tblspc" / oid[1:]).symlink_to(space)
    return path


def tablespace(path, content):
    (path / "PG_18_202506291").mkdir(parents=True)
    (path / "PG_18_202506291" / "which").write_text(content)
    return path


def content_of(data, oid=None):
    return ((data / "pg_tblspc" / str(oid) / "PG_18_202506291") if oid else data).joinpath("which").read_text()


@pytest.fixture
def old(base):
    """An old cluster with one tablespace: (data directory, tablespace)."""
    space = tablespace(base / "space", "old")
    return cluster(base / "data", "old", **{f"o{OID}": space}), space


def filled(data, spaces):
    """Judge, prepare and fill as a restore does; the places, ready to be swapped."""
    places = place.judge(str(data), in_place=True, cluster=True)
    below = {oid: place.judge(str(path), in_place=True, cluster=False) for oid, path in spaces.items()}
    for item in (places, *below.values()):
        place.prepare(item, current_identity())
    os.rmdir(places.partial)
    links = {f"o{oid}": item.path for oid, item in below.items()}
    cluster(data.parent / os.path.basename(places.partial), "new", **links)
    for item in below.values():
        os.rmdir(item.partial)
        tablespace(data.parent / os.path.basename(item.partial), "new")
    return places, below


def settings(data):
    return from_mapping({"cluster": "main", "host": {"data_directory": str(data)}}, where="test")


# -- judging a target


def test_a_missing_directory_is_made_and_an_empty_one_taken(base):
    (base / "empty").mkdir()
    for name in ("missing", "empty"):
        found = place.judge(str(base / name), in_place=False, cluster=True)
        assert (found.path, found.occupied, found.keep_directory) == (str(base / name), False, False)
    assert not (base / "missing").exists(), "judging changes nothing"


@pytest.mark.parametrize("path", ["", "data", "./data", "/", "/etc", "/usr/", "/var/../etc", "/root"])
def test_what_cannot_be_a_data_directory_is_refused(path):
    with pytest.raises(BadInput, match="cannot be a target"):
        place.judge(path, in_place=True, cluster=True)


def test_a_target_in_no_directory_is_not_found(base):
    with pytest.raises(NotFound, match="does not exist"):
        place.judge(str(base / "no" / "such"), in_place=False, cluster=True)


def test_a_file_is_no_target(base):
    (base / "file").write_text("x")
    with pytest.raises(Refused, match="is a file"):
        place.judge(str(base / "file"), in_place=True, cluster=True)


def test_a_directory_with_something_in_it_is_refused_unless_in_place(old):
    with pytest.raises(Refused, match="not empty") as caught:
        place.judge(str(old[0]), in_place=False, cluster=True)
    assert "moved aside, never removed" in caught.value.hint
    assert place.judge(str(old[0]), in_place=True, cluster=True).occupied


def test_in_place_of_something_that_is_no_cluster_is_refused(base):
    (base / "home").mkdir()
    (base / "home" / "letters.txt").write_text("dear")
    with pytest.raises(Refused, match="holds no cluster"):
        place.judge(str(base / "home"), in_place=True, cluster=True)
    with pytest.raises(Refused, match="is no tablespace"):
        place.judge(str(base / "home"), in_place=True, cluster=False)


def test_a_tablespace_of_several_versions_is_one(old):
    (old[1] / "PG_15_202209061").mkdir()
    assert place.judge(str(old[1]), in_place=True, cluster=False).occupied


def test_a_link_to_a_data_directory_stays_a_link(base, old):
    (base / "link").symlink_to(old[0])
    assert place.judge(str(base / "link"), in_place=True, cluster=True).path == str(old[0])


def test_an_empty_mount_point_is_filled_as_it_is(base, monkeypatch):
    (base / "disk").mkdir()
    monkeypatch.setattr("os.path.ismount", lambda path: str(path).endswith("disk"))
    found = place.judge(str(base / "disk"), in_place=False, cluster=True)
    assert found.keep_directory
    assert place.prepare(found, current_identity()) == str(base / "disk")
    assert found.disk == str(base / "disk"), "the space that counts is the mounted one"
    cluster(base / "disk", "new")
    place.swap(found, {}, label=LABEL)
    assert content_of(base / "disk") == "new"


def test_a_mount_point_in_use_cannot_be_moved_and_says_so(old, monkeypatch):
    monkeypatch.setattr("os.path.ismount", lambda path: True)
    with pytest.raises(Refused, match="mount point") as caught:
        place.judge(str(old[0]), in_place=True, cluster=True)
    assert "another directory" in caught.value.hint


def test_a_failed_restore_leaves_a_mount_point_empty_again(base, monkeypatch):
    (base / "disk").mkdir()
    monkeypatch.setattr("os.path.ismount", lambda path: True)
    found = place.judge(str(base / "disk"), in_place=False, cluster=True)
    place.prepare(found, current_identity())
    cluster(base / "disk", "half", **{f"o{OID}": base})
    place.discard(found)
    assert list((base / "disk").iterdir()) == []
    assert base.exists(), "what a link points to stays"


@pytest.mark.parametrize("inner", ["data", "data/spaces", "data/pg_tblspc/x", "other/../data/x"])
def test_a_tablespace_inside_the_data_directory_or_another_one_is_refused(base, inner):
    (base / "data").mkdir()
    (base / "data-of-somebody-else").mkdir()
    places = [place.Place(os.path.normpath(base / name), False, False) for name in ("data", inner)]
    with pytest.raises(BadInput, match="cannot both"):
        place.require_apart(places)
    place.require_apart([places[0], place.Place(str(base / "data-of-somebody-else"), False, False)])


def test_a_tablespace_that_another_cluster_uses_is_refused(base, old):
    space = place.judge(str(old[1]), in_place=True, cluster=False)
    with pytest.raises(Refused, match="is a tablespace of the cluster in") as caught:
        place.require_not_of(space, [str(old[0])])
    assert "Map it" in caught.value.hint
    place.require_not_of(space, [str(cluster(base / "stranger", "x"))])


def test_remains_of_a_killed_restore_are_replaced(base):
    found = place.judge(str(base / "data"), in_place=False, cluster=True)
    cluster(base / "data.dbops-restore", "half")
    assert os.listdir(place.prepare(found, current_identity())) == []
    assert os.stat(found.partial).st_mode & 0o777 == 0o700


# -- the swap


def test_the_old_goes_aside_and_still_hangs_together(old):
    data, space = old
    moved = place.swap(*filled(data, {OID: space}), label=LABEL, now=NOW)
    aside = data.with_name(f"data.before-{STAMP}")
    assert moved.data_directory == str(aside)
    assert (content_of(data), content_of(data, OID)) == ("new", "new")
    assert (content_of(aside), content_of(aside, OID)) == ("old", "old")
    assert sorted(path.name for path in data.parent.iterdir()) == [
        "data", f"data.before-{STAMP}", "space", f"space.before-{STAMP}",
    ]  # fmt: skip


def test_an_old_directory_in_the_way_is_never_overwritten(old):
    data, space = old
    places = filled(data, {OID: space})
    cluster(data.with_name(f"data.before-{STAMP}"), "older")
    moved = place.swap(*places, label=LABEL, now=NOW)
    assert moved.directories == {str(path): f"{path}.before-20261122T130501Z" for path in (data, space)}, (
        "all have the stamp of one restore"
    )
    assert content_of(data.with_name("data.before-20261122T130501Z")) == "old"
    assert content_of(data.with_name(f"data.before-{STAMP}")) == "older"


def test_a_failure_in_the_middle_of_the_swap_puts_the_old_back(old, monkeypatch):
    data, space = old
    places = filled(data, {OID: space})
    monkeypatch.setattr(place, "_move_in", lambda item: (_nothing for _nothing in ()).throw(OSError(5, "broken disk")))
    with pytest.raises(OSError, match="broken disk"):
        place.swap(*places, label=LABEL, now=NOW)
    assert (content_of(data), content_of(data, OID)) == ("old", "old")
    assert not (data / place.NOTE).exists()


def steps_of_the_swap(monkeypatch, kill_before):
    """Count every change of the file system in the swap; the process is killed before the given one."""
    count = 0

    def counted(original):
        def call(*args, **kwargs):
            nonlocal count
            if not str(args[0]).endswith(".dbops"):  # the note's own temporary file
                count += 1
                if count == kill_before:
                    raise Killed
            return original(*args, **kwargs)

        return call

    for name in ("rename", "unlink", "symlink"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    monkeypatch.setattr(place, "undo_half_swap", lambda *_args, **_options: None)  # who is killed, mends nothing
    return lambda: count


@pytest.mark.parametrize("step", range(1, 9))
def test_killed_at_any_step_the_old_is_whole_after_the_next_restore_began(old, monkeypatch, step):
    """Before it the old data is either in its place, or complete aside of a target that is absent or complete."""
    data, space = old
    places = filled(data, {OID: space})
    with monkeypatch.context() as patch:
        done = steps_of_the_swap(patch, step)
        try:
            place.swap(*places, label=LABEL, now=NOW)
        except Killed:
            pass
        else:
            assert done() < step, "every step was counted"
    aside = data.with_name(f"data.before-{STAMP}")
    if aside.exists():
        assert (content_of(aside), content_of(aside, OID)) == ("old", "old")
        assert not data.exists() or (content_of(data), content_of(data, OID)) == ("new", "new")
        return
    assert content_of(data) == "old"
    place.undo_half_swap(str(data), now=NOW)
    assert (content_of(data), content_of(data, OID)) == ("old", "old")
    assert os.readlink(data / "pg_tblspc" / str(OID)) == str(space)
    assert not (data / place.NOTE).exists()
    later = NOW + timedelta(minutes=1)
    place.swap(*filled(data, {OID: space}), label=LABEL, now=later)
    assert (content_of(data), content_of(data, OID)) == ("new", "new")
    rollback.run(rollback.plan(settings(data)))
    assert (content_of(data), content_of(data, OID)) == ("old", "old")


def test_there_is_nothing_to_undo_where_nothing_was_killed(old):
    assert place.undo_half_swap(str(old[0])) == []
    assert (content_of(old[0]), content_of(old[0], OID)) == ("old", "old")


# -- rollback


@pytest.fixture
def restored(old):
    place.swap(*filled(old[0], {OID: old[1]}), label=LABEL, now=NOW)
    return old


def test_a_rollback_brings_everything_back_and_keeps_what_was_restored(restored):
    data, space = restored
    plan = rollback.plan(settings(data), now=NOW)
    assert (plan.restored, plan.moved[str(space)]) == (LABEL, f"{space}.before-{STAMP}")
    assert content_of(data) == "new", "the plan changes nothing"
    rollback.run(plan)
    assert (content_of(data), content_of(data, OID)) == ("old", "old")
    away = data.with_name(f"data.rolled-back-{STAMP}")
    assert (content_of(away), content_of(away, OID)) == ("new", "new")
    assert sorted(path.name for path in data.parent.iterdir()) == [
        "data", f"data.rolled-back-{STAMP}", "space", f"space.rolled-back-{STAMP}",
    ]  # fmt: skip


def test_two_rollbacks_within_a_second_keep_both(restored):
    data, space = restored
    rollback.run(rollback.plan(settings(data), now=NOW))
    place.swap(*filled(data, {OID: space}), label=LABEL, now=NOW)
    rollback.run(rollback.plan(settings(data), now=NOW))
    assert (content_of(data), content_of(data, OID)) == ("old", "old")
    kept = sorted(data.parent.glob("data.rolled-back-*"))
    assert [(content_of(path), content_of(path, OID)) for path in kept] == [("new", "new")] * 2


def test_a_rollback_that_was_done_cannot_be_done_again(restored):
    rollback.run(rollback.plan(settings(restored[0])))
    with pytest.raises(NotFound, match="Nothing lies aside"):
        rollback.plan(settings(restored[0]))


def test_the_newest_of_two_restores_is_taken_back_first(restored):
    data, space = restored
    place.swap(*filled(data, {OID: space}), label="20261122T123000Z-full", now=NOW + timedelta(hours=1))
    (data / "which").write_text("newest")
    rollback.run(rollback.plan(settings(data), now=NOW))
    assert content_of(data) == "new"
    rollback.run(rollback.plan(settings(data), now=NOW + timedelta(hours=2)))
    assert (content_of(data), content_of(data, OID)) == ("old", "old")


@pytest.mark.parametrize("step", range(1, 12))
def test_a_rollback_killed_at_any_step_is_finished_by_the_next(restored, monkeypatch, step):
    data, _space = restored
    plan = rollback.plan(settings(data), now=NOW)
    with monkeypatch.context() as patch:
        done = steps_of_the_swap(patch, step)
        try:
            rollback.run(plan)
        except Killed:
            pass
        else:
            assert done() < step
            return
    if (data / place.NOTE).exists() or not list(data.parent.glob("data.before-*")):
        assert content_of(data) == "old", "only the note was left to be removed"
    else:
        rollback.run(rollback.plan(settings(data), now=NOW + timedelta(seconds=1)))
    assert (content_of(data), content_of(data, OID)) == ("old", "old")
    kept = [(content_of(path), content_of(path, OID)) for path in data.parent.glob("data.rolled-back-*")]
    assert kept == [("new", "new")]


def test_without_its_tablespace_the_old_cluster_is_not_put_back(restored):
    data, space = restored
    os.rename(f"{space}.before-{STAMP}", data.parent / "elsewhere")
    os.rename(space, data.parent / "gone")
    with pytest.raises(Refused, match="is gone"):
        rollback.plan(settings(data))


def test_a_note_about_another_directory_is_refused(restored):
    data, _space = restored
    note = data.with_name(f"data.before-{STAMP}") / place.NOTE
    note.write_text(json.dumps({"restored": LABEL, "moved": {str(data.parent): str(data.parent)}}))
    with pytest.raises(Refused, match="is about"):
        rollback.plan(settings(data))


def test_without_a_directory_there_is_nothing_to_roll_back():
    with pytest.raises(NotFound, match="No data directory"):
        rollback.plan(from_mapping({"cluster": "main"}, where="test"))


def test_a_directory_that_an_overlay_cannot_rename_is_told_as_that():
    plan = SimpleNamespace(record=SimpleNamespace(label="l"), data=SimpleNamespace(path="/d"))
    for code, hint in ((errno.EXDEV, "give the data a volume"), (errno.ENOSPC, "Free space there")):
        with pytest.raises(Unreachable, match="into /d: /d ") as caught, physical._explained(plan):
            raise OSError(code, os.strerror(code), "/d")
        assert hint in caught.value.hint
