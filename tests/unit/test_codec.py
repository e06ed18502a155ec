# SPDX-License-Identifier: GPL-3.0-or-later
"""Codecs and the pipeline: what goes in comes out, damage is always told, the field's own programs agree."""

from __future__ import annotations

import io
import itertools
import shutil
import subprocess
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.codecs import CODECS, codec_named, codec_of
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.stream import (
    Outgoing,
    Shape,
    Side,
    ahead,
    incoming,
    read_chunks,
)
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, Corrupt

PACKING = ("gzip", "zstd", "lz4")
MIB = 1 << 20
SAMPLE = b"".join(b"%d,customer %d,%d.%02d\n" % (n, n % 97, n % 1000, n % 100) for n in range(3000))

payloads = st.lists(
    st.binary(max_size=300) | st.builds(lambda byte, count: byte * count, st.binary(min_size=1, max_size=3),
                                        st.integers(0, 100_000)),
    max_size=6,
)  # fmt: skip


def pack(name: str, *chunks: bytes, threads: int = 2) -> bytes:
    codec = codec_named(name)
    return b"".join(codec.compress(chunks, level=codec.fast_level, threads=threads))


def unpack(name: str, packed: bytes, size: int = 1000) -> bytes:
    return b"".join(codec_named(name).decompress(read_chunks(io.BytesIO(packed), size)))


def program(name: str, *arguments: str, data: bytes) -> bytes:
    path = shutil.which(name)
    assert path, f"install {name}: this test compares with it"
    return subprocess.run([path, *arguments], input=data, capture_output=True, check=True).stdout


@given(payloads, st.sampled_from(list(CODECS)), st.integers(1, 3), st.integers(1, 5000))
def test_what_goes_in_comes_out(chunks: list[bytes], name: str, threads: int, size: int):
    assert unpack(name, pack(name, *chunks, threads=threads), size) == b"".join(chunks)


@pytest.mark.parametrize("name", CODECS)
def test_more_than_one_block_comes_out_in_order(name: str):
    chunks = [bytes([n % 256]) * 999_983 for n in range(20)]  # over several blocks of the threaded codecs
    assert unpack(name, pack(name, *chunks), MIB) == b"".join(chunks)


@pytest.mark.parametrize("name", PACKING)
def test_nothing_at_all_is_a_stream_of_its_own_and_no_bytes_are_not(name: str):
    packed = pack(name)
    assert packed
    assert unpack(name, packed) == b""
    with pytest.raises(Corrupt, match="ends too early"):
        unpack(name, b"")


@pytest.mark.parametrize("name", PACKING)
def test_a_stream_cut_at_any_byte_is_corrupt(name: str):
    packed = pack(name, SAMPLE[:400])
    for length in range(len(packed)):
        with pytest.raises(Corrupt):
            unpack(name, packed[:length], 64)


@pytest.mark.parametrize("name", PACKING)
def test_a_long_stream_cut_anywhere_is_corrupt(name: str):
    packed = pack(name, *[bytes([n]) * MIB + SAMPLE for n in range(9)])
    for length in range(1, len(packed), max(1, len(packed) // 50)):
        with pytest.raises(Corrupt):
            unpack(name, packed[:length], MIB)


@pytest.mark.parametrize("name", PACKING)
@given(data=st.data())
@settings(max_examples=200)
def test_a_flipped_bit_never_yields_other_content(name: str, data: st.DataObject):
    packed = bytearray(pack(name, SAMPLE))
    bit = data.draw(st.integers(0, len(packed) * 8 - 1))
    packed[bit // 8] ^= 1 << bit % 8
    try:
        plain = unpack(name, bytes(packed))
    except Corrupt:
        return
    assert plain == SAMPLE  # a time in gzip's header, a reserved bit: nobody's content


@pytest.mark.parametrize("name", PACKING)
@pytest.mark.parametrize("garbage", [b"\0", b"x", b"garbage" * 100, b"\0" * 5000])
def test_anything_after_the_end_is_corrupt(name: str, garbage: bytes):
    with pytest.raises(Corrupt):
        unpack(name, pack(name, SAMPLE) + garbage)


@pytest.mark.parametrize("name", PACKING)
def test_what_was_never_packed_is_corrupt(name: str):
    with pytest.raises(Corrupt):
        unpack(name, SAMPLE)


@pytest.mark.parametrize("name", PACKING)
def test_the_fields_own_program_opens_ours(name: str):
    packed = pack(name, *[SAMPLE] * 200)  # several frames
    assert program(name, "-dc", data=packed) == SAMPLE * 200
    assert program(name, "-dc", data=pack(name)) == b""


@pytest.mark.parametrize("name", PACKING)
def test_we_open_theirs_and_several_of_them_in_a_row(name: str):
    one, two = program(name, "-c", data=SAMPLE), program(name, "-c", "-9", data=b"more")
    assert unpack(name, one) == SAMPLE
    assert unpack(name, one + two + program(name, "-c", data=b"") + pack(name, b"end")) == SAMPLE + b"more" + b"end"
    assert codec_of(one).name == name


@pytest.mark.parametrize("name", PACKING)
@pytest.mark.parametrize("size", [1, 3, 1000, MIB])
def test_chunks_may_be_cut_anywhere(name: str, size: int):
    packed = pack(name, SAMPLE) + pack(name, SAMPLE)
    assert unpack(name, packed, size) == SAMPLE * 2


@pytest.mark.parametrize("name", PACKING)
def test_unpacking_takes_little_memory_whatever_the_data(name: str):
    def zeros() -> Iterator[bytes]:
        return itertools.repeat(b"\0" * MIB, 256)

    codec = codec_named(name)
    packed = b"".join(codec.compress(zeros(), level=codec.fast_level, threads=1))
    tracemalloc.start()
    try:
        size = largest = 0
        for plain in codec.decompress(read_chunks(io.BytesIO(packed), MIB)):
            size += len(plain)
            largest = max(largest, len(plain))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 256 * MIB
    assert largest <= 8 * MIB
    assert peak < 32 * MIB


def test_an_unknown_codec_is_bad_input_that_names_the_known_ones():
    with pytest.raises(BadInput, match="'rar'") as caught:
        codec_named("rar")
    assert "zstd" in caught.value.hint


# --- the pipeline -----------------------------------------------------------------------------------------------------


def stored(name: str, plain: bytes) -> tuple[bytes, Side, Side]:
    outgoing = Outgoing(read_chunks(io.BytesIO(plain), 777), Shape(name))
    packed = b"".join(outgoing)
    return packed, outgoing.stored, outgoing.plain


def home(packed: bytes, name: str, stored_side: Side, plain_side: Side | None) -> bytes:
    chunks = incoming(
        read_chunks(io.BytesIO(packed), 500), name="main/base.tar", codec=name, stored=stored_side, plain=plain_side
    )
    return b"".join(chunks)


@pytest.mark.parametrize("name", CODECS)
def test_the_pipeline_brings_home_what_it_took_out_and_counts_both_sides(name: str):
    packed, outer, inner = stored(name, SAMPLE)
    assert (outer.size_bytes, inner.size_bytes) == (len(packed), len(SAMPLE))
    assert home(packed, name, outer, inner) == home(packed, name, outer, None) == SAMPLE


@pytest.mark.parametrize("name", CODECS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_flipped_bit_of_a_stored_object_is_corrupt_and_names_it(name: str, data: st.DataObject):
    packed, outer, inner = stored(name, SAMPLE[:2000])
    bit = data.draw(st.integers(0, len(packed) * 8 - 1))
    damaged = bytearray(packed)
    damaged[bit // 8] ^= 1 << bit % 8
    for side in (inner, None):
        with pytest.raises(Corrupt, match=r"main/base\.tar"):
            home(bytes(damaged), name, outer, side)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("change", [lambda packed: packed[:-1], lambda packed: packed + b"x", lambda _packed: b""])
def test_a_stored_object_of_another_length_is_corrupt(name: str, change):
    packed, outer, inner = stored(name, SAMPLE)
    with pytest.raises(Corrupt, match=r"main/base\.tar"):
        home(change(packed), name, outer, inner)


def test_a_reader_never_gets_the_last_chunk_of_something_else():
    packed, outer, _inner = stored("none", SAMPLE)
    got: list[bytes] = []
    chunks = incoming([packed[:100], packed[100:-1] + b"?"], name="x", codec="none", stored=outer, plain=None)
    with pytest.raises(Corrupt):
        got.extend(chunks)
    assert b"".join(got) in (b"", packed[:100])


class Broken(Exception):
    pass


@pytest.mark.parametrize("name", CODECS)
def test_a_failing_producers_own_error_comes_through_all_stages(name: str):
    def source() -> Iterator[bytes]:
        yield SAMPLE
        raise Broken

    with pytest.raises(Broken):
        b"".join(Outgoing(source(), Shape(name)))


def test_a_reader_that_leaves_stops_the_producer_and_closes_it():
    closed: list[bool] = []

    def source() -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            closed.append(True)

    chunks = ahead(source())
    assert next(chunks) == b"x"
    chunks.close()  # type: ignore[attr-defined]
    assert closed == [True]
