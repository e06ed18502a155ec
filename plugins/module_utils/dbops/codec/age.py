# SPDX-License-Identifier: GPL-3.0-or-later
"""age (age-encryption.org/v1), through the program `age`: recipients in, identities out."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from typing import NoReturn

from ..errors import BadInput, Corrupt, NoKey
from ..settings_encryption import EncryptionSettings
from .child import program, through
from .keyfile import is_openpgp, read_file

_MARK = b"dbops:"
_LONGEST_MARK = 1024
_LONGEST_ID = 80  # the ids of all recipients stand at the head of a WAL file


class Age:
    name = "age"
    suffix = ".age"

    def __init__(self, settings: EncryptionSettings) -> None:
        self._settings = settings

    def key_ids(self) -> tuple[str, ...]:
        for _chunk in self.encrypt([b""]):
            pass
        return self.keys_of(b"")

    def keys_of(self, head: bytes) -> tuple[str, ...]:
        del head  # it does not say: that is a property of age
        recipients = list(self._settings.recipients)
        for path in self._settings.recipient_files:
            lines = (line.strip() for line in read_file(path).decode("utf-8", "replace").splitlines())
            recipients += [line for line in lines if line and not line.startswith("#")]
        return tuple(sorted({_id(recipient) for recipient in recipients}))

    def encrypt(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        arguments = [program("age", "age"), "--encrypt"]
        for recipient in self._settings.recipients:
            arguments += ["--recipient", recipient]
        for path in self._settings.recipient_files:
            arguments += ["--recipients-file", path]
        return through(arguments, chunks, _cannot_encrypt)

    def decrypt(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        return through(self._reader(), _without_mark(chunks), _cannot_decrypt)

    def check_opens(self, head: bytes) -> None:
        for _chunk in self.decrypt([head]):
            return  # age hands nothing out before it has proven it

    def mark(self, note: bytes) -> bytes:
        return note + b"\n"

    def warnings(self) -> list[str]:
        return []

    def _reader(self) -> list[str]:
        arguments = [program("age", "age"), "--decrypt"]
        for path in self._settings.identity_files:
            if not is_openpgp(read_file(path)):
                arguments += ["--identity", path]
        if len(arguments) == 2:
            raise NoKey(
                "It is encrypted with age, and this host has no identity.",
                hint="Name the file of the private key in encryption.identity_files.",
            )
        return arguments


def _without_mark(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """What the engine noted in a line before the age file is none of age's."""
    head = b""
    rest = iter(chunks)
    for chunk in rest:
        head += chunk
        if len(head) >= _LONGEST_MARK:
            break
    yield head.partition(b"\n")[2] if head.startswith(_MARK) else head
    yield from rest


def _id(recipient: str) -> str:
    """The recipient itself, or what ssh-keygen calls its fingerprint; a very long one's own."""
    words = recipient.split()
    if words[0].startswith("ssh-") and len(words) > 1:
        digest = hashlib.sha256(base64.b64decode(words[1] + "==")).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
    if len(recipient) > _LONGEST_ID:
        return "sha256:" + hashlib.sha256(recipient.encode()).hexdigest()
    return recipient


def _cannot_encrypt(said: str) -> NoReturn:
    raise BadInput(f"age cannot encrypt: {_last_line(said)}.", hint="Mend encryption.recipients or recipient_files.")


def _cannot_decrypt(said: str) -> NoReturn:
    line = _last_line(said)
    if "no identity matched" in said:
        raise NoKey(
            "It is encrypted with age, and none of the identities here is one of its recipients'.",
            hint="Name the file of the private key in encryption.identity_files; an old one for old objects.",
        )
    if "identity" in line or "identities" in line or "passphrase" in line:
        raise NoKey(
            f"age cannot use the identities: {line}.",
            hint="encryption.identity_files are read without anybody to ask: they must have no passphrase.",
        )
    raise Corrupt(f"age cannot decrypt it: {line}.", hint="Take another copy or another backup.")


def _last_line(said: str) -> str:
    lines = [line for line in said.splitlines() if line.startswith("age: ") and "report unexpected" not in line]
    line = lines[-1] if lines else said.strip().rpartition("\n")[2]
    for prefix in ("age: ", "error: "):
        line = line[len(prefix) :] if line.startswith(prefix) else line
    return line.rstrip(".") or "it said nothing"
