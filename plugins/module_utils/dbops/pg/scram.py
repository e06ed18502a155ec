# SPDX-License-Identifier: GPL-3.0-or-later
"""SCRAM-SHA-256 verifiers: what the server keeps of a password, made and compared on this side.

A verifier can stand in a statement, and so in the server's log, where the password itself must not. Made here and
not by libpq, whose function only makes new ones: comparing is what tells that nothing has to change.
Source: PostgreSQL 18, src/common/scram-common.c and saslprep.c; RFC 5802, RFC 4013.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import stringprep
import unicodedata
from typing import Optional

ITERATIONS = 4096
SALT_BYTES = 16
_VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")


def make_verifier(password: str, *, salt: Optional[bytes] = None, iterations: int = ITERATIONS) -> str:
    """A verifier as pg_authid.rolpassword holds it, with a random salt unless one is given."""
    salt = os.urandom(SALT_BYTES) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", _prepared(password), salt, iterations)
    stored_key = hashlib.sha256(_mac(salted, b"Client Key")).digest()
    return f"SCRAM-SHA-256${iterations}:{_text(salt)}${_text(stored_key)}:{_text(_mac(salted, b'Server Key'))}"


def belongs_to(verifier: str, password: str) -> bool:
    """Whether this is a verifier of that password; anything else than SCRAM is not."""
    match = _VERIFIER.fullmatch(verifier)
    if match is None:
        return False
    same = make_verifier(password, salt=base64.b64decode(match.group(2)), iterations=int(match.group(1)))
    return hmac.compare_digest(same, verifier)


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _prepared(password: str) -> bytes:
    """SASLprep, and the password as it is where that forbids it: both as the server does."""
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in password if not stringprep.in_table_b1(char)
    )
    normal = unicodedata.normalize("NFKC", mapped)
    if not normal or _is_prohibited(normal):
        return password.encode("utf-8")
    return normal.encode("utf-8")


def _is_prohibited(text: str) -> bool:
    tables = (
        stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4,
        stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8,
        stringprep.in_table_c9, stringprep.in_table_a1,
    )  # fmt: skip
    if any(table(char) for char in text for table in tables):
        return True
    if not any(stringprep.in_table_d1(char) for char in text):
        return False
    mixed = any(stringprep.in_table_d2(char) for char in text)  # left-to-right and right-to-left in one text
    return mixed or not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1]))
