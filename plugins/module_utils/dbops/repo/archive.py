# SPDX-License-Identifier: GPL-3.0-or-later
"""The WAL of one system in one repository. What is here is never overwritten, and what leaves here is verified.

<cluster>/wal/<system identifier>/<timeline and log: 16 hex>/<segment><codec's suffix>     .partial and .backup alike
<cluster>/wal/<system identifier>/<timeline>.history<codec's suffix>
<cluster>/wal/<system identifier>/dropped/<segment>       acknowledged, but never archived: the window ends before it

A key never depends on the content, so that of two writers of one name only the first can win; which content won stands
in the stamp at the object's head (codec/stamp.py).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Optional

from ..codec.codecs import CODECS, codec_named
from ..codec.stamp import STAMP_READ, stamp, stamped
from ..codec.stream import Shape, Tally
from ..errors import BadInput, Corrupt, NotFound, Refused
from ..pg.walfile import Kind, WalName, wal_name
from ..store import AlreadyThere
from . import layout
from .repository import Repository

_SUFFIXES = {codec.suffix: name for name, codec in CODECS.items()}


class Stored(enum.Enum):
    NEW = "new"
    IDENTICAL = "identical"  # it was there already: the same call again, which is normal after a crash


@dataclass(frozen=True)
class ArchivedFile:
    name: WalName
    key: str
    codec: str
    stored_bytes: int


@dataclass(frozen=True)
class PackedFile:
    """One file compressed, for all the repositories that are to have it."""

    name: WalName
    sha256: str  # of the plain content
    codec: str
    chunks: tuple[bytes, ...]  # without the stamp

    @property
    def stored_bytes(self) -> int:
        return sum(len(chunk) for chunk in self.chunks)


def pack(name: WalName, chunks: Iterable[bytes], shape: Shape) -> PackedFile:
    codec = codec_named(shape.codec)
    level = codec.fast_level if shape.level is None else shape.level
    plain = Tally()
    packed = tuple(chunk for chunk in codec.compress(plain.watch(chunks), level=level, threads=1) if chunk)
    return PackedFile(name, plain.side.sha256, shape.codec, packed)


class WalArchive:
    def __init__(self, repository: Repository, system_identifier: str) -> None:
        self.repository = repository
        self.name = repository.name
        self.system_identifier = system_identifier
        self._root = layout.wal_of(repository.cluster, system_identifier)

    def put(self, name: WalName, content: bytes, sha256: str, shape: Shape) -> Stored:
        """Durable when this returns. Refused when the name is taken by other content, which stays as it is."""
        packed = pack(name, [content], shape)
        if packed.sha256 != sha256:
            raise Corrupt(f"{name.text} is not what was announced.", hint="Read it again.")
        return self.put_packed(packed)

    def put_packed(self, packed: PackedFile) -> Stored:
        """The same for what is packed already."""
        name, sha256 = packed.name, packed.sha256
        suffix = codec_named(packed.codec).suffix
        taken = self._other_key(name, suffix)
        if taken is None:
            whole = (stamp(packed.codec, sha256), *packed.chunks)
            try:
                self.repository.store.put(self.key(name, suffix), whole, if_absent=True, relied_on=True)
                return Stored.NEW
            except AlreadyThere:
                taken = self.key(name, suffix)
        if self._content_of(taken) == sha256:
            self.repository.store.settle(taken)  # its writer may have died before its fsync
            return Stored.IDENTICAL
        raise Refused(
            f"{name.text} is already in repository {self.name!r} with other content; the archived one stays.",
            hint="Two servers archive as one cluster, or a file was damaged: find out before anything is removed.",
        )

    def get(self, name: WalName) -> bytes:
        """The plain content, verified. NotFound: this repository surely lacks it; Corrupt: it has it damaged."""
        return b"".join(self.stream(name))

    def stream(self, name: WalName) -> Iterator[bytes]:
        """The plain content in chunks; errors as of `get`. Corrupt may come after the last chunk: use none before."""
        key, codec = self._locate(name)
        where = f"{key} in repository {self.name!r}"
        expected = self._content_of(key)
        if expected is None:
            raise Corrupt(f"{where} has no checksum at its head.", hint="Use another copy.")
        plain = Tally()
        try:
            yield from plain.watch(codec_named(codec).decompress(self.repository.store.get(key)))
        except Corrupt as exc:
            raise Corrupt(f"{where}: {exc.message}", hint=exc.hint) from exc
        if plain.side.sha256 != expected:
            raise Corrupt(f"{where} is damaged: its checksum differs.", hint="Use another copy.")

    def content_of(self, name: WalName) -> Optional[str]:
        """The sha256 that the archived file claims for its content, None where it has none; NotFound as of `get`."""
        return self._content_of(self._locate(name)[0])

    def is_known(self) -> bool:
        """Whether this repository has anything of this system at all; an empty mount point has not."""
        return self.system_identifier in self.repository.store.children(layout.wal(self.repository.cluster))

    def mark_dropped(self, segment: str, reason: str) -> None:
        """Say for ever that this segment was given up: recovery cannot pass it."""
        key = f"{layout.dropped(self.repository.cluster, self.system_identifier)}{segment}"
        try:
            self.repository.store.put(key, [f"{reason}\n".encode()], if_absent=True, relied_on=True)
        except AlreadyThere:
            self.repository.store.settle(key)

    def dropped(self) -> list[str]:
        prefix = layout.dropped(self.repository.cluster, self.system_identifier)
        return [item.key[len(prefix) :] for item in self.repository.store.list(prefix)]

    def has(self, name: WalName) -> bool:
        try:
            self._locate(name)
        except NotFound:
            return False
        return True

    def files(self, *, timeline: Optional[int] = None) -> Iterator[ArchivedFile]:
        """Everything archived, by key. A listing that fails raises; names that are none of ours are passed over."""
        prefix = self._root if timeline is None else f"{self._root}{timeline:08X}"
        for item in self.repository.store.list(prefix):
            leaf = item.key.rsplit("/", 1)[1]
            for suffix, codec in _SUFFIXES.items():
                if suffix and leaf.endswith(suffix) and _is_wal(leaf[: -len(suffix)]):
                    yield ArchivedFile(wal_name(leaf[: -len(suffix)]), item.key, codec, item.size_bytes)

    def histories(self) -> dict[int, str]:
        """The content of every archived `.history` file, by its timeline."""
        found = {}
        for item in self.files():
            if item.name.kind is Kind.HISTORY:
                found[item.name.timeline] = self.get(item.name).decode("utf-8", "replace")
        return found

    def key(self, name: WalName, suffix: str) -> str:
        directory = "" if name.kind is Kind.HISTORY else f"{name.text[:16]}/"
        return f"{self._root}{directory}{name.text}{suffix}"

    def _locate(self, name: WalName) -> tuple[str, str]:
        """The exact name with any codec's suffix, asked one by one: a listing by prefix would match others too."""
        for suffix, codec in _SUFFIXES.items():
            if not suffix:
                continue
            key = self.key(name, suffix)
            try:
                self.repository.store.head(key)
            except NotFound:
                continue
            return key, codec
        raise NotFound(f"{name.text} is not in repository {self.name!r}.", hint=f"Looked below {self._root}.")

    def _other_key(self, name: WalName, suffix: str) -> Optional[str]:
        """The same name under another codec, from before the settings were changed."""
        try:
            key, _codec = self._locate(name)
        except NotFound:
            return None
        return key

    def _content_of(self, key: str) -> Optional[str]:
        return stamped(b"".join(self.repository.store.get(key, length=STAMP_READ)))


def _is_wal(text: str) -> bool:
    try:
        wal_name(text)
    except BadInput:
        return False
    return True
