# SPDX-License-Identifier: GPL-3.0-or-later
"""Has an original value survived? A set of what must not be seen any more, and a look for it in any text.

Only hashes are kept, so that the originals are neither in memory nor in a message. A value counts from three letters or
six digits on: what is shorter is in every text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

LONGEST = 8  # words; of what is longer the first eight stand for it
_TOKEN = re.compile(r"[\w@+][\w@.+-]*")
_LETTER = re.compile(r"[^\W\d_]")


class Originals:
    def __init__(self) -> None:
        self._hashes: set[bytes] = set()
        self._longest = 0

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, value: str) -> None:
        words = _tokens(value)[:LONGEST]
        joined = " ".join(words)
        if len(_LETTER.findall(joined)) >= 3 or sum(map(str.isdigit, joined)) >= 6:
            self._hashes.add(_hash(joined))
            self._longest = max(self._longest, len(words))

    def found_in(self, text: str) -> bool:
        """Whether an original stands in it, alone or among other words, however they are written."""
        return any(_hash(piece) in self._hashes for piece in self._pieces(text))

    def _pieces(self, text: str) -> Iterator[str]:
        words = _tokens(text)
        for first in range(len(words)):
            for last in range(first + 1, min(first + self._longest, len(words)) + 1):
                yield " ".join(words[first:last])


def _tokens(text: str) -> list[str]:
    return [word.rstrip(".-+") for word in _TOKEN.findall(text.casefold())]


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=10).digest()
