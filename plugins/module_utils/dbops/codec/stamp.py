# SPDX-License-Identifier: GPL-3.0-or-later
"""A checksum of the plain content at the head of an object, where every program that opens it passes over it.

zstd and lz4 know skippable frames (RFC 8878, section 3.1.2; the lz4 frame format has the same ones); for gzip it is the
extra field of an empty first member (RFC 1952, section 2.3.1.1). `zstd -d`, `lz4 -d` and `gzip -d` yield the content
alone. So one short read says what an object holds, even where its name must not.

Before an encrypted object stand the ids of its keys, too: for gpg in a comment packet, which it skips; age has no place
for one, so that there it is the first line, and what follows is the age file. Neither needs a private key to be read.
"""

from __future__ import annotations

import re
import struct
from typing import Optional

from ..errors import BadInput
from .ciphers import Cipher

_MARK = b"dbops:sha256:"
_KEYS = b":keys:"
_SKIPPABLE = 0x184D2A5D
_LENGTH = len(_MARK) + 64
STAMP_READ = 1024  # bytes from the object's start that hold the whole stamp, whatever the codec
CODECS = ("zstd", "lz4", "gzip")


def stamp(codec: str, sha256: str) -> bytes:
    """What to store in front of the compressed stream."""
    text = _MARK + sha256.encode("ascii")
    if codec in ("zstd", "lz4"):
        return struct.pack("<II", _SKIPPABLE, _LENGTH) + text
    if codec == "gzip":
        extra = b"db" + struct.pack("<H", _LENGTH) + text
        header = b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff" + struct.pack("<H", len(extra)) + extra
        return header + b"\x03\x00" + bytes(8)  # an empty deflate stream, its CRC and its length
    raise BadInput(
        f"Codec {codec!r} cannot carry a checksum of its content.",
        hint=f"For WAL choose one of: {', '.join(CODECS)} (level 1 costs little).",
    )


def stamp_encrypted(cipher: Cipher, sha256: str, keys: tuple[str, ...]) -> bytes:
    """What to store in front of the encrypted stream."""
    return cipher.mark(_MARK + sha256.encode("ascii") + _KEYS + ",".join(keys).encode("ascii"))


def stamped(first_bytes: bytes) -> Optional[str]:
    """The sha256 in an object's first `STAMP_READ` bytes, or None where there is none."""
    match = re.search(re.escape(_MARK) + rb"([0-9a-f]{64})", first_bytes[:STAMP_READ])
    return match.group(1).decode("ascii") if match else None


def stamped_keys(first_bytes: bytes) -> tuple[str, ...]:
    """The ids of the keys that an encrypted object was written for."""
    match = re.search(re.escape(_MARK) + rb"[0-9a-f]{64}" + _KEYS + rb"([\w:+/,-]*)", first_bytes[:STAMP_READ])
    return tuple(key for key in match.group(1).decode("ascii").split(",") if key) if match else ()
