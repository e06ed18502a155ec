# SPDX-License-Identifier: GPL-3.0-or-later
"""Compression as small interchangeable parts: each turns an iterator of chunks into another one.

Every format is the one that the field's own program opens by hand: gzip, zstd and lz4 frames. gzip and lz4 have no
threads of their own, so blocks are compressed side by side and stored as frames one after the other, which
`gzip -d` and `lz4 -d` read as one stream.
"""

from __future__ import annotations

import collections
import os
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Protocol

from ..errors import BadInput, Corrupt, DbopsError, MissingLibrary
from .zstd_blocks import LARGEST, pieces

_BLOCK, _SMALL_BLOCK = 4 << 20, 1 << 20  # side by side, and one after the other
Chunks = Iterable[bytes]


class Codec(Protocol):
    name: str
    suffix: str  # what the stored object's name ends with, as the field's programs expect it
    fast_level: int

    def compress(self, chunks: Chunks, *, level: int, threads: int) -> Iterator[bytes]: ...

    def decompress(self, chunks: Chunks) -> Iterator[bytes]:
        """Corrupt when the bytes are damaged, end too early, or go on after the end."""


class NoCodec:
    name = "none"
    suffix = ""
    fast_level = 0

    def compress(self, chunks: Chunks, *, level: int, threads: int) -> Iterator[bytes]:
        del level, threads
        return iter(chunks)

    def decompress(self, chunks: Chunks) -> Iterator[bytes]:
        return iter(chunks)


class Gzip:
    name = "gzip"
    suffix = ".gz"
    fast_level = 1

    def compress(self, chunks: Chunks, *, level: int, threads: int) -> Iterator[bytes]:
        def frame(block: bytes) -> bytes:
            packer = zlib.compressobj(level, zlib.DEFLATED, 31)
            return packer.compress(block) + packer.flush()

        return _frames(chunks, frame, threads)

    def decompress(self, chunks: Chunks) -> Iterator[bytes]:
        return _unframe(_slices(chunks, 4 << 10), lambda: zlib.decompressobj(31), zlib.error, self.name)


class Zstd:
    name = "zstd"
    suffix = ".zst"
    fast_level = 1

    def compress(self, chunks: Chunks, *, level: int, threads: int) -> Iterator[bytes]:
        zstandard = self._library()
        compressor = zstandard.ZstdCompressor(level=level, threads=threads if threads > 1 else 0, write_checksum=True)
        if threads == 1:  # a block at once needs no copy of what came before it
            yield from _frames(chunks, compressor.compress, 1)
            return
        packer = compressor.compressobj()
        for chunk in chunks:
            packed = packer.compress(chunk)
            if packed:
                yield packed
        yield packer.flush()

    def decompress(self, chunks: Chunks) -> Iterator[bytes]:
        zstandard = self._library()
        # 2 GiB window: what `zstd --ultra --long=31` can make; the frame says how much is really needed.
        decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        return _unframe(
            pieces(chunks), lambda: decompressor.decompressobj(write_size=LARGEST), zstandard.ZstdError, self.name
        )

    @staticmethod
    def _library() -> Any:
        try:
            import zstandard
        except ImportError as exc:
            raise MissingLibrary("zstandard", needed_for="zstd compression", package="python3-zstandard") from exc
        return zstandard


class Lz4:
    name = "lz4"
    suffix = ".lz4"
    fast_level = 0

    def compress(self, chunks: Chunks, *, level: int, threads: int) -> Iterator[bytes]:
        frame = self._library()
        return _frames(
            chunks, lambda block: frame.compress(block, compression_level=level, content_checksum=True), threads
        )

    def decompress(self, chunks: Chunks) -> Iterator[bytes]:
        frame = self._library()
        return _unframe(_slices(chunks, 8 << 10), frame.LZ4FrameDecompressor, RuntimeError, self.name)

    @staticmethod
    def _library() -> Any:
        try:
            import lz4.frame
        except ImportError as exc:
            raise MissingLibrary("lz4", needed_for="lz4 compression", package="python3-lz4") from exc
        return lz4.frame


CODECS: dict[str, Codec] = {codec.name: codec for codec in (NoCodec(), Gzip(), Zstd(), Lz4())}
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}


def codec_named(name: str) -> Codec:
    try:
        return CODECS[name]
    except KeyError:
        raise BadInput(f"There is no codec {name!r}.", hint=f"Choose one of: {', '.join(CODECS)}.") from None


def codec_of(first_bytes: bytes) -> Codec:
    """The codec that wrote these bytes, by its magic; anything unknown counts as not compressed."""
    for magic, name in _MAGIC.items():
        if first_bytes.startswith(magic):
            return CODECS[name]
    return CODECS["none"]


def default_threads() -> int:
    """One per CPU that we may use, at most 4: the server needs the rest."""
    return max(1, min(4, len(os.sched_getaffinity(0))))


def _frames(chunks: Chunks, frame: Callable[[bytes], bytes], threads: int) -> Iterator[bytes]:
    """Compress blocks in `threads` threads, hand the frames out in order, hold at most threads + 1 blocks."""
    if threads <= 1:
        yield from map(frame, _blocks(chunks, _SMALL_BLOCK))
        return
    with ThreadPoolExecutor(max_workers=threads) as pool:
        waiting: collections.deque[Future[bytes]] = collections.deque()
        for block in _blocks(chunks, _BLOCK):
            waiting.append(pool.submit(frame, block))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _blocks(chunks: Chunks, least: int) -> Iterator[bytes]:
    """The chunks put together to `least` bytes or more; an empty stream is one empty block."""
    held: list[bytes] = []
    size = 0
    empty = True
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= least:
            yield b"".join(held)
            held, size, empty = [], 0, False
    if held or empty:
        yield b"".join(held)


def _slices(chunks: Chunks, size: int) -> Iterator[bytes]:
    """Pieces so small that what they unpack to stays small: deflate reaches 1:1030, lz4 1:255."""
    for chunk in chunks:
        for start in range(0, len(chunk), size):
            yield chunk[start : start + size]


def _unframe(chunks: Chunks, start: Callable[[], Any], damage: type[BaseException], name: str) -> Iterator[bytes]:
    """Read frames one after the other; a stream that stops inside of one, or never began one, is Corrupt."""
    frame = start()
    begun = False
    whole_frames = 0
    try:
        for chunk in chunks:
            while chunk:
                if frame.eof:
                    frame, begun = start(), False
                plain = frame.decompress(chunk)
                begun = True
                chunk = frame.unused_data if frame.eof else b""
                whole_frames += bool(frame.eof)
                if plain:
                    yield plain
    except DbopsError:
        raise
    except damage as exc:
        raise Corrupt(f"The {name} stream is damaged: {exc}.", hint="Take another copy or another backup.") from exc
    if not whole_frames or (begun and not frame.eof):
        raise Corrupt(f"The {name} stream ends too early.", hint="Take another copy or another backup.")
