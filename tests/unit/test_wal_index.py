# SPDX-License-Identifier: GPL-3.0-or-later
"""A million segments as bits: the same answers as one by one, and never an old list for what has changed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.wal import int_to_lsn, segment_name
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.archive import WalArchive
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.repository import Repository
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.wal_index import WalIndex, WalKeys, log_of
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.wal_listing import listing
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.window import Base, Segments, intervals
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import RepositorySettings
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store import beneath
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store.local import LocalStore
from tests.support.records import NOON
from tests.support.servers import wait_until

BIG = 1 << 30  # four segments to a directory: many directories from few segments
SIZE = 16 << 20
PLACES = st.dictionaries(st.tuples(st.integers(1, 3), st.integers(0, 20)), st.integers(1, 999), max_size=30)
NUMBER = st.integers(0, 22)


def index_of(stored: dict[tuple[int, int], int], segment_size: int = BIG) -> WalIndex:
    per_log = 0x100000000 // segment_size
    found: dict[tuple[int, int], list[tuple[int, int, str]]] = {}
    for (timeline, number), size in stored.items():
        suffix = ".gz" if size % 3 == 0 else ".zst.gpg"
        found.setdefault((timeline, number // per_log), []).append((number % per_log, size, suffix))
    logs = {place: log for place, entries in found.items() for log in [log_of(entries)] if log}
    return WalIndex(logs, segment_size, "main/wal/7001/")


@given(PLACES)
def test_it_is_the_mapping_that_it_was_made_from(stored):
    index = index_of(stored)
    assert dict(index) == stored
    assert list(index) == sorted(stored)
    assert (len(index), index.total_bytes) == (len(stored), sum(stored.values()))
    assert index.timelines == tuple(sorted({timeline for timeline, _number in stored}))
    keys = WalKeys(index)
    assert {key.rsplit("/", 1)[1] for key in keys.values()} == {
        segment_name(timeline, number * BIG, BIG) + (".gz" if size % 3 == 0 else ".zst.gpg")
        for (timeline, number), size in stored.items()
    }
    assert (9, 9) not in index
    assert "x" not in keys


@given(PLACES, NUMBER, NUMBER)
def test_it_finds_holes_and_ends_as_one_by_one(stored, begin, end):
    index, low, high = index_of(stored), min(begin, end), max(begin, end)
    for timeline in (1, 2, 3):
        numbers = [number for line, number in stored if line == timeline]
        holes = [number for number in range(low, high + 1) if number not in numbers]
        assert index.first_missing(timeline, low, high) == (holes[0] if holes else None)
        assert index.last(timeline, low, high) == max((n for n in numbers if low <= n <= high), default=None)
        assert index.last(timeline, low) == max((n for n in numbers if low <= n), default=None)
    assert index.holes() == Segments(stored.keys(), BIG).holes()


@given(
    PLACES,
    st.sets(st.tuples(st.integers(1, 3), NUMBER), max_size=2),
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 18), st.integers(0, 2)), max_size=5),
    st.integers(1, 19),
)
def test_a_window_is_the_same_from_bits_as_from_a_set(stored, dropped, chosen, fork):
    bases = [
        Base(f"b{number}", timeline, first * BIG + 40, (first + more) * BIG + 99, NOON)
        for number, (timeline, first, more) in enumerate(chosen)
    ]
    histories = {
        2: [(1, int_to_lsn(fork * BIG + 7))],
        3: [(1, int_to_lsn(fork * BIG + 7)), (2, int_to_lsn((fork + 1) * BIG))],
    }
    plain, bits = Segments(set(stored), BIG, dropped), Segments(index_of(stored), BIG, dropped)
    for timeline in (1, 2, 3):
        assert intervals(timeline, bases, bits, histories) == intervals(timeline, bases, plain, histories)
    assert (bits.holes(), bits.count(), bits.last_of_all()) == (plain.holes(), plain.count(), plain.last_of_all())


# -- from a store


@pytest.fixture
def archive(tmp_path: Path) -> WalArchive:
    """Segments 250 to 260 and a history, listed a while after the last of them came."""
    root = tmp_path / "repo"
    for number in range(250, 261):
        name = segment_name(1, number * SIZE, SIZE)
        path = root / "main" / "wal" / "7001" / name[:16] / f"{name}.zst"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * number)
    (root / "main" / "wal" / "7001" / "00000002.history.zst").write_bytes(b"x")
    stray = root / "main" / "wal" / "7001" / "0000000100000000" / f"{segment_name(1, 999 * SIZE, SIZE)}.zst"
    stray.write_bytes(b"in a directory of another log")
    (root / "main" / "wal" / "7001" / "not ours").mkdir()
    store = LocalStore(str(root))
    settings = RepositorySettings(name="disk", path=str(root))
    return WalArchive(Repository(settings, "main", store, cache=str(tmp_path / "state")), "7001")


def later(monkeypatch: pytest.MonkeyPatch, archive: WalArchive) -> None:
    """When the directories are old enough to be believed, and their next change has another time."""
    folders = list(Path(str(archive.repository.settings.path)).glob("main/wal/7001/*"))
    newest = max(os.stat(folder).st_ctime for folder in folders)
    wait_until(lambda: time.time() > newest + 0.05, "the clock's next tick has come")
    monkeypatch.setattr(beneath, "SETTLED_S", 0)


def listed_folders(archive: WalArchive, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    real = archive.repository.store.list
    with monkeypatch.context() as patch:
        patch.setattr(archive.repository.store, "list", lambda prefix="": (asked.append(prefix), real(prefix))[1])
        listing(archive, SIZE)
    return asked


def test_what_did_not_change_is_not_listed_again(archive, monkeypatch):
    index, histories = listing(archive, SIZE)
    assert [number for _timeline, number in index] == list(range(250, 261))
    assert [file.name.text for file in histories] == ["00000002.history"]
    assert len(listed_folders(archive, monkeypatch)) == 2  # younger than a minute: nothing is kept
    later(monkeypatch, archive)
    assert len(listed_folders(archive, monkeypatch)) == 2
    assert listed_folders(archive, monkeypatch) == []
    assert dict(listing(archive, SIZE)[0]) == dict(index)


def test_what_came_and_what_went_is_seen_at_once(archive, monkeypatch):
    later(monkeypatch, archive)
    listing(archive, SIZE)
    gone = segment_name(1, 252 * SIZE, SIZE)
    root = Path(str(archive.repository.settings.path)) / "main" / "wal" / "7001"
    (root / gone[:16] / f"{gone}.zst").unlink()
    assert [number for _timeline, number in listing(archive, SIZE)[0]] == [250, 251, *range(253, 261)]
    later(monkeypatch, archive)
    new = segment_name(1, 261 * SIZE, SIZE)
    (root / new[:16] / f"{new}.zst").write_bytes(b"xyz")
    index = listing(archive, SIZE)[0]
    assert index[1, 261] == 3
    assert index.holes() == 1
    later(monkeypatch, archive)
    for path in (root / gone[:16]).iterdir():
        path.unlink()
    (root / gone[:16]).rmdir()
    assert [number for _timeline, number in listing(archive, SIZE)[0]] == list(range(256, 262))


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": 1}'])
def test_a_kept_list_that_is_not_whole_is_none(archive, monkeypatch, content):
    later(monkeypatch, archive)
    whole = dict(listing(archive, SIZE)[0])
    (path,) = Path(str(archive.repository.cache)).glob("wal-index/*.json")
    data = json.loads(path.read_text())
    path.write_text(content)
    assert dict(listing(archive, SIZE)[0]) == whole
    for log in data["logs"].values():
        log["mask"] = "1"
    path.write_text(json.dumps(data))
    assert dict(listing(archive, SIZE)[0]) == whole


def test_where_nothing_can_be_kept_and_where_folders_tell_nothing_all_is_listed(archive, monkeypatch):
    whole = dict(listing(archive, SIZE)[0])
    archive.repository.cache = None
    assert dict(listing(archive, SIZE)[0]) == whole
    monkeypatch.setattr(archive.repository.store, "folder", lambda prefix: None)
    found, histories = listing(archive, SIZE)
    assert {place for place in found if place[1] < 999} == set(whole)
    assert len(histories) == 1
