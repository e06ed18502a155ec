# SPDX-License-Identifier: GPL-3.0-or-later
"""The pipeline every stored byte goes through, and backwards on its way home.

out:  chunks → count + sha256 → compress → encrypt → count + sha256 → the store's `put`
home: the store's `get` → count + sha256 → decrypt → decompress → count + sha256 → chunks

Stages overlap in threads with short queues between them: hashing, compression and file writing all let other
threads run, and memory is bounded by the queues, never by the stream's length.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Callable, Optional, TypeVar

from ..errors import Corrupt, NoKey
from .ciphers import Cipher
from .codecs import codec_named, default_threads

CHUNK = 1 << 20
_DEPTH = 4
_HEAD = 16 << 10
Passed = TypeVar("Passed")


@dataclass(frozen=True)
class Side:
    """What passed one side of the pipeline."""

    size_bytes: int
    sha256: str


@dataclass
class Tally:
    """Counts and hashes chunks on their way past; `side` is the truth once the stream has ended."""

    size_bytes: int = 0
    _hash: Any = field(default_factory=hashlib.sha256)

    def watch(self, chunks: Iterable[bytes], on_bytes: Optional[Callable[[int], None]] = None) -> Iterator[bytes]:
        for chunk in chunks:
            self._hash.update(chunk)
            self.size_bytes += len(chunk)
            if on_bytes is not None:
                on_bytes(len(chunk))
            yield chunk

    @property
    def side(self) -> Side:
        return Side(self.size_bytes, self._hash.hexdigest())


@dataclass(frozen=True)
class Shape:
    """How a stream is to be shaped; `level` and `threads` of None and 0 mean the codec's own choice."""

    codec: str = "zstd"
    level: Optional[int] = None
    threads: int = 0
    cipher: Optional[Cipher] = None  # None: not encrypted

    @property
    def suffix(self) -> str:
        return self.codec_suffix + (self.cipher.suffix if self.cipher else "")

    @property
    def codec_suffix(self) -> str:
        return codec_named(self.codec).suffix


class Outgoing:
    """One stream on its way out. Iterate it into a store's `put`; then `plain` and `stored` say what passed."""

    def __init__(
        self, chunks: Iterable[bytes], shape: Shape, *, on_bytes: Optional[Callable[[int], None]] = None
    ) -> None:
        self._chunks = chunks
        self._shape = shape
        self._on_bytes = on_bytes
        self._plain = Tally()
        # What nothing changes is hashed once: on fast disks that is most of what we do to a stream.
        self._stored = self._plain if shape.codec == "none" and shape.cipher is None else Tally()
        self.head = b""  # the first bytes of what is encrypted

    def __iter__(self) -> Iterator[bytes]:
        codec = codec_named(self._shape.codec)
        plain = self._plain.watch(self._chunks, self._on_bytes)
        packed = plain
        if codec.name != "none":
            level = codec.fast_level if self._shape.level is None else self._shape.level
            packed = codec.compress(ahead(plain), level=level, threads=self._shape.threads or default_threads())
        if self._shape.cipher is not None:
            return self._stored.watch(self._remembering(self._shape.cipher.encrypt(packed)))  # its pipes are the queue
        return ahead(packed) if self._stored is self._plain else self._stored.watch(ahead(packed))

    def _remembering(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if len(self.head) < _HEAD:
                self.head += chunk[:_HEAD]
            yield chunk

    @property
    def plain(self) -> Side:
        return self._plain.side

    @property
    def stored(self) -> Side:
        return self._stored.side


def incoming(
    chunks: Iterable[bytes],
    *,
    name: str,
    codec: str,
    stored: Side,
    plain: Optional[Side] = None,
    cipher: Optional[Cipher] = None,
    on_bytes: Optional[Callable[[int], None]] = None,
) -> Iterator[bytes]:
    """The plain chunks of a stored object; Corrupt, naming the object, as soon as anything differs.

    The last chunk comes only after both sides matched, but earlier ones come before: whoever acts on them must be
    able to throw the work away. `on_bytes` counts stored bytes.
    """
    outer, inner = Tally(), Tally()
    checked = _expect(outer.watch(chunks, on_bytes), outer, stored, name, "stored bytes")
    try:
        packed = ahead(checked) if cipher is None else cipher.decrypt(checked)
        unpacked = codec_named(codec).decompress(packed)
        if plain is None or (plain == stored and codec == "none" and cipher is None):
            yield from ahead(unpacked)
        else:
            yield from _expect(inner.watch(ahead(unpacked)), inner, plain, name, "content")
    except (Corrupt, NoKey) as exc:
        if name in exc.message:
            raise
        raise type(exc)(f"{name}: {exc.message}", hint=exc.hint) from exc


def _expect(chunks: Iterator[bytes], tally: Tally, side: Side, name: str, what: str) -> Iterator[bytes]:
    held = b""
    for chunk in chunks:
        if held:
            yield held
        held = chunk
    if tally.side != side:
        raise Corrupt(
            f"{name} is not what was stored: its {what} are {tally.size_bytes} bytes with sha256 {tally.side.sha256}, "
            f"expected {side.size_bytes} bytes with {side.sha256}.",
            hint="Restore another backup, or this one from another repository; keep the object for examination.",
        )
    if held:
        yield held


def read_chunks(stream: IO[bytes], size: int = CHUNK) -> Iterator[bytes]:
    while True:
        chunk = stream.read(size)
        if not chunk:
            return
        yield chunk


_END = object()


def ahead(chunks: Iterable[Passed], depth: int = _DEPTH) -> Generator[Passed, None, None]:
    """The same chunks, or whatever passes, produced by a thread that runs up to `depth` of them ahead of the reader.

    An exception in the producer is raised in the reader; a reader that leaves stops the producer.
    """
    channel: queue.Queue[Any] = queue.Queue(maxsize=depth)
    left = threading.Event()

    def offer(item: Any) -> bool:
        while not left.is_set():
            try:
                channel.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        try:
            for chunk in chunks:
                if not offer(chunk):
                    break
            else:
                offer(_END)
        except BaseException as exc:  # noqa: BLE001  # handed to the reader, who raises it
            offer(exc)
        finally:
            close = getattr(chunks, "close", None)
            if left.is_set() and close is not None:
                close()

    thread = threading.Thread(target=produce, name="dbops-stream", daemon=True)
    thread.start()
    try:
        while True:
            item = channel.get()
            if item is _END:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        left.set()
        thread.join()
