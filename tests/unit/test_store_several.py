# SPDX-License-Identifier: GPL-3.0-or-later
"""Several stores as one: the contract of a store, and what happens when one of them fails."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import NotFound, Unreachable
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store import AlreadyThere, Store
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store.local import LocalStore
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store.several import (
    Member,
    PartlyStored,
    Several,
)
from tests.support.store_contract import StoreContract, content, keys

CHUNK = bytes(1 << 16)


class Failing(LocalStore):
    """A disk that goes away after it has taken, or given, so many chunks."""

    def __init__(self, root: str, *, name: str, takes: int | None = None, gives: int | None = None) -> None:
        super().__init__(root, name=name)
        self.takes, self.gives = takes, gives

    def put(self, key: str, chunks: Iterable[bytes], **options: Any) -> Any:
        return super().put(key, self._until(chunks, self.takes), **options)

    def get(self, key: str, **options: Any) -> Iterator[bytes]:
        return self._until(super().get(key, **options), self.gives)

    def _until(self, chunks: Iterable[bytes], most: int | None) -> Iterator[bytes]:
        for number, chunk in enumerate(chunks):
            if number == most:
                raise Unreachable(f"{self.name} went away.")
            yield chunk
        if most == 0:
            raise Unreachable(f"{self.name} went away.")


class Hanging(LocalStore):
    def __init__(self, root: str, *, name: str) -> None:
        super().__init__(root, name=name)
        self.released = threading.Event()

    def put(self, key: str, chunks: Iterable[bytes], **options: Any) -> Any:
        self.released.wait(30)
        return super().put(key, chunks, **options)


def root(tmp_path: Path, name: str) -> str:
    (tmp_path / name).mkdir(exist_ok=True)
    return str(tmp_path / name)


def local(tmp_path: Path, name: str) -> LocalStore:
    return LocalStore(root(tmp_path, name), name=name)


class TestSeveral(StoreContract):
    """Two required ones are a store like any other."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Several:
        return Several([Member(local(tmp_path, "a")), Member(local(tmp_path, "b"))])

    @pytest.fixture
    def second_store(self, tmp_path: Path) -> Several:
        return Several([Member(local(tmp_path, "a")), Member(local(tmp_path, "b"))])


def test_a_stream_is_read_once_and_lies_in_all_of_them(tmp_path: Path):
    stores = [local(tmp_path, name) for name in "abc"]
    produced = []

    def source() -> Iterator[bytes]:
        for number in range(40):
            produced.append(number)
            yield bytes([number]) * 70_000

    Several([Member(store) for store in stores]).put("x/y", source(), if_absent=True)
    assert produced == list(range(40))
    assert {content(store, "x/y") for store in stores} == {b"".join(bytes([n]) * 70_000 for n in range(40))}


def test_the_source_is_never_far_ahead_of_the_slowest(tmp_path: Path):
    slow = Hanging(root(tmp_path, "slow"), name="slow")
    produced = []

    def source() -> Iterator[bytes]:
        for number in range(200):
            produced.append(number)
            if number == 20:  # never reached before the slow one takes something
                assert slow.released.is_set()
            yield CHUNK

    threading.Timer(0.5, slow.released.set).start()
    Several([Member(local(tmp_path, "a")), Member(slow)]).put("x", source())
    assert len(produced) == 200


@pytest.mark.parametrize("takes", [0, 1, 15])
def test_a_required_one_that_fails_fails_the_put_and_leaves_nothing_in_the_others(tmp_path: Path, takes: int):
    healthy = local(tmp_path, "a")
    both = Several([Member(healthy), Member(Failing(root(tmp_path, "b"), name="b", takes=takes))])
    with pytest.raises(Unreachable, match="b went away"):
        both.put("x", (CHUNK for _number in range(60)))
    assert keys(healthy) == []
    assert both.lost == {}


@pytest.mark.parametrize("takes", [0, 1, 15])
def test_an_optional_one_that_fails_is_dropped_and_told_once(tmp_path: Path, takes: int):
    told: list[tuple[str, str]] = []
    healthy, failing = local(tmp_path, "a"), Failing(root(tmp_path, "b"), name="b", takes=takes)
    both = Several(
        [Member(healthy), Member(failing, required=False)], on_lost=lambda name, why: told.append((name, why))
    )
    both.put("x", (CHUNK for _number in range(60)))
    both.put("y", [b"small"])
    both.put("z", iter([b"stream"]))
    assert keys(healthy) == ["x", "y", "z"]
    assert keys(failing) == []
    assert [name for name, _why in told] == list(both.lost) == ["b"]


def test_an_optional_one_that_hangs_is_dropped(tmp_path: Path):
    hanging = Hanging(root(tmp_path, "b"), name="b")
    both = Several([Member(local(tmp_path, "a")), Member(hanging, required=False)], patience_s=0.3)
    both.put("x", (CHUNK for _number in range(60)))
    hanging.released.set()
    assert "took nothing" in both.lost["b"]
    assert keys(both) == ["x"]


def test_a_small_object_that_one_takes_and_the_next_does_not_is_told_apart(tmp_path: Path):
    healthy = local(tmp_path, "a")
    both = Several([Member(healthy), Member(Failing(root(tmp_path, "b"), name="b", takes=0))])
    with pytest.raises(PartlyStored, match=r"stored in a, and not in 'b'.*went away"):
        both.put("backup.json", [b"{}"], if_absent=True)
    assert keys(healthy) == ["backup.json"]


@pytest.mark.parametrize(("there", "second_has"), [(b"same", True), (b"other", False)])
def test_what_one_has_already_comes_to_the_others_when_it_is_the_same(tmp_path: Path, there: bytes, second_has: bool):
    first, second = local(tmp_path, "a"), local(tmp_path, "b")
    first.put("x", [there])
    with pytest.raises(AlreadyThere):
        Several([Member(first), Member(second)]).put("x", [b"same"], if_absent=True)
    assert content(first, "x") == there
    assert keys(second) == ["x"] * second_has


@pytest.mark.parametrize("gives", [0, 1, 3])
def test_reading_goes_on_in_the_next_from_the_same_byte(tmp_path: Path, gives: int):
    told: list[str] = []
    failing, healthy = Failing(root(tmp_path, "a"), name="a", gives=gives), local(tmp_path, "b")
    whole = b"".join(bytes([number]) * (1 << 20) for number in range(5))
    for store in (failing, healthy):
        store.put("x", [whole])
    both = Several(
        [Member(failing, required=False), Member(healthy, required=False)], on_lost=lambda name, why: told.append(name)
    )
    assert b"".join(both.get("x")) == whole
    assert b"".join(both.get("x", start=100, length=3 << 20)) == whole[100 : 100 + (3 << 20)]
    assert told == ["a"]


def test_an_object_that_only_the_second_has_is_found_there_and_that_is_told(tmp_path: Path):
    told: list[str] = []
    first, second = local(tmp_path, "a"), local(tmp_path, "b")
    second.put("x", [b"here"])
    both = Several([Member(first), Member(second)], on_lost=lambda name, why: told.append(why))
    assert content(both, "x") == b"here"
    assert "'a' has no object 'x'" in told[0]
    with pytest.raises(NotFound):
        both.get("nowhere")


def test_absent_is_said_only_when_everybody_could_be_asked(tmp_path: Path):
    away: Store = LocalStore(str(tmp_path / "unmounted"), name="b")
    with pytest.raises(Unreachable):
        Several([Member(local(tmp_path, "a")), Member(away)]).head("x")
