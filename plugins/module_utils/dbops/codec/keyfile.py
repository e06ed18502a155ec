# SPDX-License-Identifier: GPL-3.0-or-later
"""Files with keys in them: what kind each is, and why one cannot be read."""

from __future__ import annotations

from ..errors import Unreachable


def read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as exc:
        raise cannot_read(path, exc) from exc


def is_openpgp(content: bytes) -> bool:
    """An exported OpenPGP key, armoured or binary. What age reads is text of other kinds."""
    return content[:1] >= b"\x80" or b"BEGIN PGP " in content[:4096]


def cannot_read(path: str, exc: OSError) -> Unreachable:
    return Unreachable(f"Cannot read {path}: {exc.strerror}.", hint="Look at its path, owner and mode.")
