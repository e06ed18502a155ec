# SPDX-License-Identifier: GPL-3.0-or-later
"""How what is stored is encrypted, and where the keys are that open it. No key is a setting: files hold them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Optional

from .errors import BadInput
from .schema import one_of

ENCRYPTIONS = ("none", "gpg", "age")
MOST_RECIPIENTS = 10  # their ids have to fit at the head of a WAL file


@dataclass(frozen=True)
class EncryptionSettings:
    """Public keys are enough to write. What opens the objects is only needed where something is restored."""

    method: str = "none"
    recipients: tuple[str, ...] = ()  # gpg: fingerprints or names in `homedir`; age: age1..., ssh-ed25519 ...
    recipient_files: tuple[str, ...] = ()  # gpg: one exported public key each; age: one recipient a line
    identity_files: tuple[str, ...] = ()  # private keys: exported gpg ones, age identities, SSH keys for age
    homedir: Optional[str] = None  # a GnuPG home with public keys, private keys or an agent
    passphrase_file: Optional[str] = None  # first line: the passphrase of the gpg private keys

    def check(self) -> None:
        one_of("encryption.method", self.method, ENCRYPTIONS)
        for name in ("homedir", "passphrase_file"):
            _check_path(f"encryption.{name}", getattr(self, name))
        for name in ("recipient_files", "identity_files"):
            for path in getattr(self, name):
                _check_path(f"encryption.{name}", path)
        how_many = len(self.recipients) + len(self.recipient_files)
        if self.method != "none" and not how_many:
            raise BadInput(
                f"encryption.method is {self.method}, and nobody is named who could read the backups.",
                hint="Set encryption.recipients or encryption.recipient_files.",
            )
        if how_many > MOST_RECIPIENTS:
            raise BadInput(
                f"encryption names {how_many} recipients; there can be {MOST_RECIPIENTS}.",
                hint="Let several people share one key that lies in escrow.",
            )
        for recipient in self.recipients:
            self._check_recipient(recipient)

    def _check_recipient(self, recipient: str) -> None:
        if "SECRET" in recipient.upper() or "PRIVATE KEY" in recipient:
            raise BadInput(
                "One of encryption.recipients is a private key.",
                hint="Put the public one there (age-keygen -y), and make a new pair: this one was in a settings file.",
            )
        if self.method == "gpg" and self.homedir is None:
            raise BadInput(
                f"encryption.recipients names {recipient!r}, and there is no keyring to find it in.",
                hint="Set encryption.homedir, or name an exported public key in encryption.recipient_files.",
            )
        if recipient.startswith("-") or "\n" in recipient:
            raise BadInput(f"{recipient!r} cannot be a recipient.", hint="Give a fingerprint, or an age recipient.")
        if self.method == "age" and not re.match(r"age1|ssh-(ed25519|rsa) ", recipient):
            raise BadInput(
                f"{recipient!r} is no age recipient.",
                hint="They begin with age1, ssh-ed25519 or ssh-rsa; a file of them goes into recipient_files.",
            )


def _check_path(name: str, path: Optional[str]) -> None:
    if path is not None and not os.path.isabs(path):
        raise BadInput(f"{name} must be an absolute path, got {path!r}.", hint="Begin it with a slash.")
