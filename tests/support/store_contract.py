# SPDX-License-Identifier: GPL-3.0-or-later
"""What every store promises. A store's own test file inherits `StoreContract` and provides the fixture `store`.

`second_store` is the same place opened once more, as another process would.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, Busy, NotFound
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.store import AlreadyThere, Store

BAD_KEYS = [
    "",
    "/a",
    "a/",
    "a//b",
    "..",
    "a/../b",
    "./a",
    "a/.",
    ".hidden",
    "a/.b",
    ".part-x",
    "a\0b",
    "a/" + "b" * 241,
]
GOOD_KEYS = ["a", "a/b", "a b", "ä/ü%2F'\"", "-x", "a..b", "x" * 240]


def content(store: Store, key: str) -> bytes:
    return b"".join(store.get(key))


def keys(store: Store, prefix: str = "") -> list[str]:
    return [info.key for info in store.list(prefix)]


class ProducerFailed(Exception):
    """Not an OSError, and none of ours: whatever a producer may raise."""


def failing(error: BaseException) -> Iterator[bytes]:
    yield b"first"
    raise error


class StoreContract:
    @pytest.mark.parametrize("key", GOOD_KEYS)
    def test_what_is_put_is_what_is_got(self, store: Store, key: str):
        info = store.put(key, [b"one ", b"", b"two"])
        assert (info.key, info.size_bytes) == (key, 7)
        assert content(store, key) == b"one two"
        assert (store.head(key).key, store.head(key).size_bytes) == (key, 7)
        assert keys(store) == [key]

    def test_an_object_may_be_empty(self, store: Store):
        assert store.put("a", []).size_bytes == 0
        assert content(store, "a") == b""
        assert keys(store) == ["a"]

    def test_an_object_larger_than_any_buffer_comes_back_whole(self, store: Store):
        chunks = [bytes([number % 251]) * 700_001 for number in range(13)]
        store.put("big", iter(chunks))
        assert content(store, "big") == b"".join(chunks)

    def test_a_put_replaces_the_object_in_one_step(self, store: Store):
        store.put("a", [b"old"])
        reading = store.get("a")
        store.put("a", [b"newer"])
        assert content(store, "a") == b"newer"
        assert b"".join(reading) in (b"old", b"newer")

    def test_with_if_absent_the_first_writer_wins(self, store: Store):
        store.put("a/b", [b"first"], if_absent=True)
        with pytest.raises(AlreadyThere, match="a/b"):
            store.put("a/b", [b"second"], if_absent=True)
        assert content(store, "a/b") == b"first"

    def test_of_many_writers_at_once_exactly_one_wins(self, store: Store):
        start, won = threading.Barrier(6), []

        def write(number: int) -> None:
            start.wait(10)
            try:
                store.put("race", [b"%d" % number] * 100, if_absent=True)
                won.append(number)
            except AlreadyThere:
                pass

        threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(won) == 1
        assert content(store, "race") == b"%d" % won[0] * 100

    @pytest.mark.parametrize("if_absent", [False, True])
    @pytest.mark.parametrize(
        "error", [ProducerFailed("no more"), OSError(5, "the source's disk"), KeyboardInterrupt()], ids=repr
    )
    def test_a_failing_producer_leaves_nothing_and_keeps_its_words(
        self, store: Store, error: BaseException, if_absent: bool
    ):
        with pytest.raises(type(error)) as caught:
            store.put("new/sub/a", failing(error), if_absent=if_absent)
        assert caught.value is error
        assert keys(store) == []
        assert list(store.children("new/")) == []
        assert list(store.children("")) == []
        with pytest.raises(NotFound):
            store.head("new/sub/a")

    def test_a_failing_put_leaves_the_old_object_as_it_was(self, store: Store):
        store.put("a", [b"old"])
        with pytest.raises(ProducerFailed):
            store.put("a", failing(ProducerFailed()))
        assert content(store, "a") == b"old"
        assert keys(store) == ["a"]

    @pytest.mark.parametrize(
        ("start", "length", "expected"),
        [
            (0, None, b"0123456789"),
            (3, None, b"3456789"),
            (3, 4, b"3456"),
            (8, 10, b"89"),
            (10, None, b""),
            (0, 0, b""),
        ],
    )
    def test_a_range_is_exactly_that(self, store: Store, start: int, length: int, expected: bytes):
        store.put("a", [b"0123456789"])
        assert b"".join(store.get("a", start=start, length=length)) == expected

    def test_what_is_not_there_is_proven_absent_before_the_first_chunk(self, store: Store):
        store.put("a/b", [b"x"])
        for key in ("b", "a/c", "a/b2", "x/y/z"):
            with pytest.raises(NotFound, match=key):
                store.head(key)
        with pytest.raises(NotFound):
            store.get("nothing")  # without reading from it

    def test_many_are_read_in_the_order_asked_for(self, store: Store):
        wanted = [f"d{number % 3}/e/{number}" for number in range(20)]
        for key in wanted:
            store.put(key, [key.encode()])
        asked = ["d0/e/missing", *reversed(wanted), "top", "nowhere/x"]
        store.put("top", [b"t"])
        found = list(store.read_many(iter(asked)))
        assert [key for key, _content in found] == asked
        assert dict(found) == {
            **{key: key.encode() for key in wanted},
            "top": b"t",
            "d0/e/missing": None,
            "nowhere/x": None,
        }

    def test_a_list_is_by_prefix_and_in_order(self, store: Store):
        for key in ("b/2", "b/1", "b/10/x", "ba", "a", "c/b/1"):
            store.put(key, [b""])
        assert keys(store) == ["a", "b/1", "b/10/x", "b/2", "ba", "c/b/1"]
        assert keys(store, "b") == ["b/1", "b/10/x", "b/2", "ba"]
        assert keys(store, "b/") == ["b/1", "b/10/x", "b/2"]
        assert keys(store, "b/1") == ["b/1", "b/10/x"]
        assert keys(store, "b/10/") == ["b/10/x"]
        assert keys(store, "x") == keys(store, "b/x/y/") == []

    def test_children_are_what_has_something_below(self, store: Store):
        for key in ("b/2/x", "b/1/y/z", "b/leaf", "a"):
            store.put(key, [b""])
        assert list(store.children("b/")) == ["1", "2"]
        assert list(store.children("")) == ["b"]
        assert list(store.children("nowhere/")) == []

    def test_delete_removes_one_object_and_asks_for_no_more(self, store: Store):
        store.put("a/b/c", [b""])
        store.put("a/d", [b""])
        store.delete("a/b/c")
        store.delete("a/b/c")
        store.delete("never/was")
        assert keys(store) == ["a/d"]

    def test_a_folder_goes_with_its_last_object(self, store: Store):
        store.put("a/b/c", [b""])
        store.put("a/d", [b""])
        store.delete("a/b/c")
        assert list(store.children("a/")) == []

    def test_sweep_removes_no_object(self, store: Store):
        store.put("a/b", [b"x"])
        assert store.sweep("") == 0
        assert store.sweep("a/") == 0
        assert store.sweep("nowhere/") == 0
        assert content(store, "a/b") == b"x"

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_a_key_that_could_leave_its_place_is_refused_everywhere(self, store: Store, key: str):
        for call in (
            lambda: store.put(key, [b""]),
            lambda: store.get(key),
            lambda: store.head(key),
            lambda: store.delete(key),
            lambda: list(store.read_many([key])),
        ):
            with pytest.raises(BadInput):
                call()
        assert keys(store) == []

    @pytest.mark.parametrize("prefix", ["../", "a/../../", "./"])
    def test_a_prefix_that_could_leave_its_place_is_refused(self, store: Store, prefix: str):
        for call in (store.list, store.children, store.sweep):
            with pytest.raises(BadInput):
                list(call(prefix))  # type: ignore[arg-type]

    def test_an_exclusive_lock_excludes_everybody_and_says_who_has_it(self, store: Store, second_store: Store):
        with store.lock("c/backup"):
            for shared in (False, True):
                with pytest.raises(Busy, match="process"), second_store.lock("c/backup", shared=shared):
                    pytest.fail("two hold it")
            with second_store.lock("c/other"):
                pass
        with second_store.lock("c/backup"):
            pass

    def test_a_shared_lock_lets_sharers_in_and_names_nobody_else(self, store: Store, second_store: Store):
        with store.lock("c/content"):
            pass  # leaves its name behind
        with store.lock("c/content", shared=True), second_store.lock("c/content", shared=True):
            with pytest.raises(Busy, match="another run"), store.lock("c/content"):
                pytest.fail("an exclusive lock beside a shared one")

    def test_a_lock_is_no_object_and_goes_with_an_exception(self, store: Store, second_store: Store):
        with pytest.raises(ProducerFailed), store.lock("c/backup"):  # noqa: PT012
            assert keys(store) == []
            assert list(store.children("c/")) == []
            raise ProducerFailed
        with second_store.lock("c/backup"):
            pass

    def test_metadata_never_harms(self, store: Store):
        store.put("a", [b"x"], metadata={"sha256": "0" * 64, "kind": "base ä"})
        assert store.head("a").metadata in ({}, {"sha256": "0" * 64, "kind": "base ä"})
        assert content(store, "a") == b"x"

    def test_room_is_a_number_or_unknown(self, store: Store):
        free = store.free_bytes()
        assert free is None or free > 0

    def test_what_is_there_can_be_made_durable_by_anyone_who_finds_it(self, store: Store, second_store: Store):
        store.put("a/b", [b"x"], if_absent=True, relied_on=True)
        second_store.settle("a/b")
        assert content(store, "a/b") == b"x"
        with pytest.raises(NotFound):
            store.settle("a/c")
        with pytest.raises(AlreadyThere):
            second_store.put("a/b", [b"y"], if_absent=True, relied_on=True)
        assert content(store, "a/b") == b"x"
