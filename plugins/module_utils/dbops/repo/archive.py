# SPDX-License-Identifier: GPL-3.0-or-later
"""The WAL of one system in one repository. What is here is never overwritten, and what leaves here is verified.

<cluster>/wal/<system identifier>/<timeline and log: 16 hex>/<segment><codec's suffix>     .partial and .backup alike
<cluster>/wal/<system identifier>/<timeline>.history<codec's suffix>
<cluster>/wal/<system identifier>/dropped/<segment>       acknowledged, but never archived: the window ends before it

With encryption `.gpg` or `.age` follows the suffix. A history is never encrypted: it tells only where timelines part,
and without it a host that has no private key could not say what it keeps.

A key never depends on the content, so that of two writers of one name only the first can win; which content won stands
in the stamp at the object's head (codec/stamp.py).
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Optional

from ..codec.ciphers import HEAD_BYTES
from ..codec.ciphers import SUFFIXES as CIPHER_SUFFIXES
from ..codec.codecs import CODECS, codec_named
from ..codec.stamp import STAMP_READ, stamp, stamp_encrypted, stamped
from ..codec.stream import Shape, Tally
from ..errors import BadInput, Corrupt, NoKey, NotFound, Refused
from ..pg.walfile import Kind, WalName, wal_name
from ..store import AlreadyThere, ObjectInfo
from . import layout
from .repository import Repository


class _Form(NamedTuple):
    codec: str
    encryption: Optional[str]


_FORMS = {
    codec.suffix + (CIPHER_SUFFIXES[encryption] if encryption else ""): _Form(codec.name, encryption)
    for codec in CODECS.values()
    if codec.suffix
    for encryption in (None, *CIPHER_SUFFIXES)
}


_LIST_AGAIN_S = 60.0


def encryption_of(key: str) -> Optional[str]:
    """The method that a WAL file's key tells."""
    return next((name for name, suffix in CIPHER_SUFFIXES.items() if key.endswith(suffix)), None)


class Stored(enum.Enum):
    NEW = "new"
    IDENTICAL = "identical"  # it was there already: the same call again, which is normal after a crash


@dataclass(frozen=True)
class ArchivedFile:
    name: WalName
    key: str
    codec: str
    stored_bytes: int
    encryption: Optional[str] = None


@dataclass(frozen=True)
class PackedFile:
    """One file compressed, and encrypted if asked, for all the repositories that are to have it."""

    name: WalName
    sha256: str  # of the plain content
    suffix: str
    chunks: tuple[bytes, ...]  # the stamp among them

    @property
    def stored_bytes(self) -> int:
        return sum(len(chunk) for chunk in self.chunks)


def pack(name: WalName, chunks: Iterable[bytes], shape: Shape) -> PackedFile:
    codec = codec_named(shape.codec)
    level = codec.fast_level if shape.level is None else shape.level
    plain = Tally()
    packed = codec.compress(plain.watch(chunks), level=level, threads=1)
    if shape.cipher is None or name.kind is Kind.HISTORY:
        body = tuple(chunk for chunk in packed if chunk)
        sha256 = plain.side.sha256
        return PackedFile(name, sha256, codec.suffix, (stamp(codec.name, sha256), *body))
    body = tuple(shape.cipher.encrypt(packed))
    sha256 = plain.side.sha256
    head = stamp_encrypted(shape.cipher, sha256, shape.cipher.keys_of(body[0]))
    return PackedFile(name, sha256, shape.suffix, (head, *body))


class WalArchive:
    def __init__(self, repository: Repository, system_identifier: str) -> None:
        self.repository = repository
        self.name = repository.name
        self.system_identifier = system_identifier
        self.root = layout.wal_of(repository.cluster, system_identifier)
        self._likely = ".zst"  # how the last file that was found here is stored
        self._listed: dict[str, tuple[float, set[str]]] = {}  # by directory: when, and which keys were there

    def put(self, name: WalName, content: bytes, sha256: str, shape: Shape) -> Stored:
        """Durable when this returns. Refused when the name is taken by other content, which stays as it is."""
        packed = pack(name, [content], shape)
        if packed.sha256 != sha256:
            raise Corrupt(f"{name.text} is not what was announced.", hint="Read it again.")
        return self.put_packed(packed)

    def put_packed(self, packed: PackedFile) -> Stored:
        """The same for what is packed already."""
        name, sha256 = packed.name, packed.sha256
        taken = self._other_key(name)
        if taken is None:
            key = self.key(name, packed.suffix)
            try:
                self.repository.store.put(key, packed.chunks, if_absent=True, relied_on=True)
                self._note(key)
                return Stored.NEW
            except AlreadyThere:
                taken = key
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
        key, form, chunks = self._opened(name)
        where = f"{key} in repository {self.name!r}"
        head = b""
        while len(head) < STAMP_READ:  # of the same request as the rest
            chunk = next(chunks, b"")
            if not chunk:
                break
            head += chunk
        expected = stamped(head)
        if expected is None:
            raise Corrupt(f"{where} has no checksum at its head.", hint="Use another copy.")
        plain = Tally()
        try:
            stored: Iterable[bytes] = itertools.chain([head], chunks)
            cipher = self.repository.cipher_of(form.encryption)
            packed = stored if cipher is None else cipher.decrypt(stored)
            yield from plain.watch(codec_named(form.codec).decompress(packed))
        except (Corrupt, NoKey) as exc:
            raise type(exc)(f"{where}: {exc.message}", hint=exc.hint) from exc
        if plain.side.sha256 != expected:
            raise Corrupt(f"{where} is damaged: its checksum differs.", hint="Use another copy.")

    def as_it_lies(self, name: WalName) -> PackedFile:
        """The file as it is stored, to be put into another repository.

        Its content is checked where this host can read it; an encrypted one is passed on unread where it cannot.
        """
        key, form = self._locate(name)
        where = f"{key} in repository {self.name!r}"
        raw = b"".join(self.repository.store.get(key))
        sha256 = stamped(raw[:STAMP_READ])
        if sha256 is None:
            raise Corrupt(f"{where} has no checksum at its head.", hint="Use another copy.")
        cipher = self.repository.cipher_of(form.encryption)
        plain = Tally()
        try:
            packed: Iterable[bytes] = [raw] if cipher is None else cipher.decrypt([raw])
            for _chunk in plain.watch(codec_named(form.codec).decompress(packed)):
                pass
            found = plain.side.sha256
        except NoKey:
            found = sha256
        except Corrupt as exc:
            raise Corrupt(f"{where}: {exc.message}", hint=exc.hint) from exc
        if found != sha256:
            raise Corrupt(f"{where} is damaged: its checksum differs.", hint="Use another copy.")
        return PackedFile(name, sha256, key.rsplit("/", 1)[1][len(name.text) :], (raw,))

    def content_of(self, name: WalName) -> Optional[str]:
        """The sha256 that the archived file claims for its content, None where it has none; NotFound as of `get`."""
        _key, _form, chunks = self._opened(name, length=STAMP_READ)
        return stamped(b"".join(chunks))

    def why_locked(self, name: WalName) -> str:
        """Why no key of this host opens the archived file; empty when one does, or none is needed."""
        key, form = self._locate(name)
        cipher = self.repository.cipher_of(form.encryption)
        try:
            if cipher is not None:
                cipher.check_opens(b"".join(self.repository.store.get(key, length=HEAD_BYTES)))
        except NoKey as error:
            return error.message
        return ""

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
        prefix = self.root if timeline is None else f"{self.root}{timeline:08X}"
        for item in self.repository.store.list(prefix):
            yield from archived_file(item)

    def histories(self) -> dict[int, str]:
        """The content of every archived `.history` file, by its timeline."""
        found = {}
        for item in self.files():
            if item.name.kind is Kind.HISTORY:
                found[item.name.timeline] = self.get(item.name).decode("utf-8", "replace")
        return found

    def key(self, name: WalName, suffix: str) -> str:
        directory = "" if name.kind is Kind.HISTORY else f"{name.text[:16]}/"
        return f"{self.root}{directory}{name.text}{suffix}"

    def _locate(self, name: WalName) -> tuple[str, _Form]:
        """The exact name in any form, by one listing; what else begins with it (`.partial`, `.backup`) is not meant."""
        keys = {self.key(name, suffix): form for suffix, form in _FORMS.items()}
        for item in self.repository.store.list(self.key(name, ".")):
            if item.key in keys:
                return item.key, keys[item.key]
        raise NotFound(f"{name.text} is not in repository {self.name!r}.", hint=f"Looked below {self.root}.")

    def _opened(self, name: WalName, length: Optional[int] = None) -> tuple[str, _Form, Iterator[bytes]]:
        """The file's stored bytes; one request for what is stored as its neighbours are. NotFound as of `get`."""
        key = self.key(name, self._likely)
        try:
            return key, _FORMS[self._likely], self.repository.store.get(key, length=length)
        except NotFound:
            key, form = self._locate(name)
        if name.kind is not Kind.HISTORY:  # which is never encrypted, whatever its neighbours are
            self._likely = key[len(self.key(name, "")) :]
        return key, form, self.repository.store.get(key, length=length)

    def _other_key(self, name: WalName) -> Optional[str]:
        """The same name in any form: the settings may have been others.

        A directory is listed once for its 256 segments, and again every minute: that a name is free is decided by the
        conditional put that follows. The list is only about other forms of the name.
        """
        if name.kind is not Kind.HISTORY and not self._names_near(name) & {self.key(name, form) for form in _FORMS}:
            return None
        try:
            key, _form = self._locate(name)
        except NotFound:
            return None
        return key

    def _names_near(self, name: WalName) -> set[str]:
        directory = self.key(name, "").rpartition("/")[0] + "/"
        when, keys = self._listed.get(directory, (0.0, set()))
        if time.monotonic() - when > _LIST_AGAIN_S or not when:
            keys = {item.key for item in self.repository.store.list(directory)}
            self._listed = {directory: (time.monotonic(), keys)}
        return keys

    def _note(self, key: str) -> None:
        """What we put ourselves is in no list that was read before."""
        for _when, keys in self._listed.values():
            keys.add(key)

    def _content_of(self, key: str) -> Optional[str]:
        return stamped(b"".join(self.repository.store.get(key, length=STAMP_READ)))


def archived_file(item: ObjectInfo) -> Iterator[ArchivedFile]:
    """The object as a WAL file; nothing where its name is none of ours."""
    leaf = item.key.rsplit("/", 1)[1]
    for suffix, form in _FORMS.items():
        if leaf.endswith(suffix):
            with contextlib.suppress(BadInput):
                name = wal_name(leaf[: -len(suffix)])
                yield ArchivedFile(name, item.key, form.codec, item.size_bytes, form.encryption)
