# SPDX-License-Identifier: GPL-3.0-or-later
"""A zstd stream is cut so that no piece unpacks to much, whatever its bytes are, and put together it is the same."""

from __future__ import annotations

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.codecs import codec_named
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.codec.zstd_blocks import pieces
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import Corrupt

MIB = 1 << 20
BOUND = MIB + (256 << 10)  # eight blocks of 128 KiB, and what the decoder had kept back
ZEROS = bytes(MIB)


def packed(chunks, level=1, **options):
    packer = zstandard.ZstdCompressor(level=level, **options).compressobj()
    return b"".join([packer.compress(chunk) for chunk in chunks] + [packer.flush()])


def cut(raw, *, every=MIB):
    return list(pieces(raw[start : start + every] for start in range(0, len(raw), every)))


def unpacked_sizes(raw, **options):
    """What each piece unpacks to."""
    frame = zstandard.ZstdDecompressor().decompressobj()
    sizes = []
    for piece in cut(raw, **options):
        size = 0
        while piece:
            if frame.eof:
                frame = zstandard.ZstdDecompressor().decompressobj()
            size += len(frame.decompress(piece))
            piece = frame.unused_data if frame.eof else b""
        sizes.append(size)
    return sizes


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_any_bytes_come_out_as_they_went_in(chunks):
    found = list(pieces(chunks))
    assert b"".join(found) == b"".join(chunks)
    assert all(found)


FRAMES = [
    packed([b"hello"]),
    packed([]),
    packed([b"x" * 400_000]),
    packed([bytes(range(256)) * 3000], level=3, write_checksum=True),
    packed([bytes(300_000)], write_content_size=False),
    zstandard.ZstdCompressor(write_checksum=False).compress(bytes(70_000)),  # the frame says how much it holds
    b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"skip!",
    b"\x5f\x2a\x4d\x18" + bytes(4),
]


@given(st.lists(st.sampled_from(FRAMES), max_size=5), st.integers(1, 40), st.binary(max_size=20))
def test_frames_cut_anywhere_come_out_as_they_went_in(frames, every, behind):
    raw = b"".join(frames) + behind
    assert b"".join(cut(raw, every=every)) == raw


@pytest.mark.parametrize("every", [1, 7, 4096, MIB])
def test_gigabytes_of_zeros_unpack_a_little_at_a_time(every):
    count = 2048 if every > 4096 else 64
    raw = packed(ZEROS for _number in range(count))
    assert len(raw) < count * 100, "these are not the tiny blocks that this test is about"
    sizes = unpacked_sizes(raw, every=every)
    assert sum(sizes) == count * MIB
    assert max(sizes) <= BOUND


@pytest.mark.parametrize("options", [{"threads": 2}, {"write_checksum": True}, {"level": 19}, {"level": 3}])
def test_so_do_they_however_they_were_packed(options):
    sizes = unpacked_sizes(packed((ZEROS for _number in range(100)), **options))
    assert sum(sizes) == 100 * MIB
    assert max(sizes) <= BOUND


def test_many_frames_one_behind_the_other_are_bounded_too():
    frame = packed([ZEROS])
    sizes = unpacked_sizes(frame * 100)
    assert sum(sizes) == 100 * MIB
    assert max(sizes) <= BOUND


def test_tiny_frames_are_bounded_too():
    """Each frame unpacks to less than a block, but there are thousands in one chunk."""
    frame = packed([bytes(100 << 10)])
    sizes = unpacked_sizes(frame * 2000)
    assert sum(sizes) == 2000 * (100 << 10)
    assert max(sizes) <= BOUND


def test_skippable_frames_between_them_change_nothing():
    skipped = b"\x53\x2a\x4d\x18" + (3 * MIB).to_bytes(4, "little") + bytes(3 * MIB)
    sizes = unpacked_sizes(skipped + packed([ZEROS] * 20) + skipped + packed([ZEROS] * 20))
    assert sum(sizes) == 40 * MIB
    assert max(sizes) <= BOUND


def test_the_codec_hands_out_bounded_chunks_and_all_of_them():
    raw = packed(ZEROS for _number in range(300))
    total = largest = 0
    for chunk in codec_named("zstd").decompress([raw]):
        total += len(chunk)
        largest = max(largest, len(chunk))
    assert total == 300 * MIB
    assert largest <= BOUND


def test_data_that_does_not_shrink_is_not_cut_to_dust():
    import random

    raw = packed([random.Random(1).randbytes(4 * MIB)])
    assert len(cut(raw)) <= 4 * 2 + len(raw) // MIB + 1


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_frame_is_corrupt_and_not_endless(position, change):
    raw = bytearray(packed([bytes(range(256)) * 2000, ZEROS], write_checksum=True))
    position %= len(raw)
    raw[position] = (raw[position] + change) % 256
    total = 0
    try:
        for chunk in codec_named("zstd").decompress([bytes(raw)]):
            total += len(chunk)
    except Corrupt:
        assert total <= 512_000 + MIB
    else:  # a bit that means nothing, such as one of the window's size
        assert total == 512_000 + MIB
