# SPDX-License-Identifier: GPL-3.0-or-later
"""Encryption as small interchangeable parts: each turns an iterator of chunks into another one, through its program.

Writing needs public keys only. A reader is chosen by what the object says of itself, so that an archive with objects
of several methods and several generations of keys is read as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Optional, Protocol

from ..errors import BadInput
from ..settings_encryption import EncryptionSettings
from .age import Age
from .gpg import Gpg

Chunks = Iterable[bytes]
HEAD_BYTES = 128 << 10  # of an object: enough to know whether it can be decrypted here


class Cipher(Protocol):
    name: str
    suffix: str

    def key_ids(self) -> tuple[str, ...]:
        """Whom new objects are for, proven by encrypting something: BadInput for a key that cannot be used."""

    def keys_of(self, head: bytes) -> tuple[str, ...]:
        """The same for an object that was encrypted just now and begins with these bytes."""

    def encrypt(self, chunks: Chunks) -> Iterator[bytes]: ...

    def decrypt(self, chunks: Chunks) -> Iterator[bytes]:
        """NoKey when no private key here opens it, Corrupt when the bytes are damaged or end too early."""

    def check_opens(self, head: bytes) -> None:
        """Return when a key here opens the object of which these are the first HEAD_BYTES; else NoKey."""

    def mark(self, note: bytes) -> bytes:
        """`note` as something that can stand before the encrypted bytes."""

    def warnings(self) -> list[str]:
        """What an operator should know of the keys, such as that one expires soon."""


SUFFIXES = {Gpg.name: Gpg.suffix, Age.name: Age.suffix}


def cipher(settings: EncryptionSettings) -> Optional[Cipher]:
    """What new objects are encrypted with; None: nothing."""
    return None if settings.method == "none" else cipher_named(settings.method, settings)


def cipher_named(name: str, settings: EncryptionSettings) -> Cipher:
    if name == Gpg.name:
        return Gpg(settings)
    if name == Age.name:
        return Age(settings)
    raise BadInput(f"There is no encryption {name!r}.", hint=f"Choose one of: {', '.join(SUFFIXES)}.")
