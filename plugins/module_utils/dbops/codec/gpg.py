# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenPGP, through the program `gpg`: public keys in files or a keyring in, a keyring with private keys out.

Encrypting to key files needs no keyring and leaves nothing behind. Exported private keys are imported into a keyring of
this process's own (see keyring.py). A passphrase goes in on a file descriptor that gpg reads for itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from typing import NoReturn, Optional

from ..errors import BadInput, Corrupt, NoKey
from ..settings_encryption import EncryptionSettings
from . import openpgp
from .child import asked, program, through
from .keyfile import cannot_read, is_openpgp, read_file
from .keyring import private_keyring

_ALWAYS = ("--batch", "--no-tty", "--no-options", "--no-greeting", "--trust-model", "always", "--no-auto-key-locate",
           "--disable-dirmngr", "--lock-never", "--no-random-seed-file", "--status-fd", "2")  # fmt: skip
_NOWHERE = "/nonexistent"
_SOON_DAYS = 30


class Gpg:
    name = "gpg"
    suffix = ".gpg"

    def __init__(self, settings: EncryptionSettings) -> None:
        self._settings = settings

    def key_ids(self) -> tuple[str, ...]:
        return self.keys_of(b"".join(self.encrypt([b""])))

    def keys_of(self, head: bytes) -> tuple[str, ...]:
        return tuple(sorted(openpgp.key_ids(head)))

    def encrypt(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        arguments = [program("gpg", "gnupg"), *_ALWAYS, "--no-autostart", "--compress-algo", "none"]
        arguments += ["--homedir", self._settings.homedir] if self._settings.homedir else ["--homedir", _NOWHERE]
        arguments += [] if self._settings.homedir else ["--no-keyring"]
        for recipient in self._settings.recipients:
            arguments += ["--recipient", recipient]
        for path in self._settings.recipient_files:
            arguments += ["--recipient-file", path]
        return through([*arguments, "--encrypt"], chunks, _cannot_encrypt)

    def decrypt(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        arguments = [program("gpg", "gnupg"), *_ALWAYS]
        user = None
        files = tuple(path for path in self._settings.identity_files if is_openpgp(read_file(path)))
        if files:
            arguments += ["--homedir", private_keyring(files)]
        elif self._settings.homedir:
            arguments += ["--homedir", self._settings.homedir]
            user = _owner(self._settings.homedir)
        with _passphrase(self._settings.passphrase_file) as (options, descriptors):
            arguments += [*options, "--decrypt"]
            yield from through(arguments, chunks, _cannot_decrypt, pass_fds=descriptors, user=user)

    def check_opens(self, head: bytes) -> None:
        try:
            for _chunk in self.decrypt([head]):
                return  # the session key was found; damage is found when all of it is read
        except Corrupt:
            return  # cut off, as it had to be

    def mark(self, note: bytes) -> bytes:
        return openpgp.comment(note)

    def warnings(self) -> list[str]:
        now = time.time()
        found: list[str] = []
        for path in self._settings.recipient_files:
            found += _expiring(["--homedir", _NOWHERE, "--no-keyring", "--show-keys", path], path, now)
        for recipient in self._settings.recipients:
            home = self._settings.homedir or _NOWHERE
            found += _expiring(["--homedir", home, "--list-keys", "--", recipient], recipient, now)
        return found


def _cannot_encrypt(said: str) -> NoReturn:
    bad = re.search(r"^\[GNUPG:\] INV_RECP (\d+) (.*)$", said, re.MULTILINE)
    why = _last_line(said)
    if bad:
        reason = {"1": "it is not there", "2": "it is not clear which one", "4": "it is revoked", "5": "it has expired"}
        why = f"the key {bad.group(2)} cannot be used: {reason.get(bad.group(1), why)}"
    raise BadInput(
        f"gpg cannot encrypt: {why}.",
        hint="Give a public key that is valid and can encrypt, in encryption.recipients or recipient_files.",
    )


def _cannot_decrypt(said: str) -> NoReturn:
    if "] DECRYPTION_INFO" not in said:  # which is told once the session key is known
        wanted = ", ".join(re.findall(r"^\[GNUPG:\] ENC_TO (\w+)", said, re.MULTILINE))
        if wanted and re.search(r"passphrase|Bad PIN|No pinentry", said, re.IGNORECASE):
            raise NoKey(
                f"It is encrypted to {wanted}, and the passphrase of that key is missing or wrong.",
                hint="Set encryption.passphrase_file to a file with the right one, or unlock the key in its agent.",
            )
        if wanted:
            raise NoKey(
                f"It is encrypted to {wanted}, and there is no such private key here ({_last_line(said)}).",
                hint="Name the exported key in encryption.identity_files, or its keyring in encryption.homedir.",
            )
    raise Corrupt(f"gpg cannot decrypt it: {_last_line(said)}.", hint="Take another copy or another backup.")


def _last_line(said: str) -> str:
    lines = [line[len("gpg: ") :] for line in said.splitlines() if line.startswith("gpg: ")]
    agent = [line for line in lines if "start agent" in line or "start gpg-agent" in line]  # the cause of what follows
    return ((agent or lines)[-1] if lines else "it said nothing").rstrip(".")


def _expiring(arguments: list[str], name: str, now: float) -> Iterator[str]:
    told = asked([program("gpg", "gnupg"), *_ALWAYS[:-2], "--no-autostart", "--with-colons", *arguments])
    for line in told.stdout.splitlines():
        kind, validity, *rest = [*line.split(":"), *[""] * 12][:12]
        capabilities, expires = rest[9], rest[4]
        if kind in ("pub", "sub") and "e" in capabilities and expires.isdigit() and validity != "r":
            days = (int(expires) - now) / 86400
            if 0 <= days < _SOON_DAYS:
                yield (
                    f"The gpg key {rest[2]} ({name}) expires in {days:.0f} days, and backups and archiving will fail "
                    "then: prolong it and export it again, or name its successor."
                )


def _owner(homedir: str) -> Optional[tuple[int, int]]:
    """Root uses another user's keyring as that user: an agent of root's own in there would lock its owner out."""
    try:
        found = os.stat(homedir)
    except OSError as exc:
        raise cannot_read(homedir, exc) from exc
    return (found.st_uid, found.st_gid) if os.geteuid() == 0 and found.st_uid != 0 else None


@contextlib.contextmanager
def _passphrase(path: Optional[str]) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """gpg's options, and the descriptor from which it reads the passphrase itself, so that it never passes through us.

    Without a file, what an agent remembers is used, and nobody is asked.
    """
    if path is None:
        yield ["--pinentry-mode", "error"], ()
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise cannot_read(path, exc) from exc
    try:
        yield ["--pinentry-mode", "loopback", "--passphrase-fd", str(descriptor)], (descriptor,)
    finally:
        os.close(descriptor)
