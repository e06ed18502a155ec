# SPDX-License-Identifier: GPL-3.0-or-later
"""Replacements for personal values, each a keyed HMAC of the original: equal originals stay equal, and nobody without
the key can tell which they were. Lengths, formats and frequencies stay; values do not. Pure: no server, no clock.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
import uuid
from collections.abc import Callable
from typing import Any

from ..errors import Corrupt
from .survivors import Originals

ATTEMPTS = 50
_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwxz", "aeiou"
_WORD = re.compile(r"[^\W\d_]+|\d+")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_METRES_OF_DEGREE = 111_200


class Noise:
    """As many numbers as wanted, from one HMAC: the only thing that a mask draws from."""

    def __init__(self, key: bytes, what: str) -> None:
        self._key, self._what, self._block, self._bytes = key, what.encode(), 0, b""

    def below(self, limit: int) -> int:
        """0 to limit - 1; limit is far below 2**32."""
        if len(self._bytes) < 4:
            self._bytes += hmac.new(self._key, b"%d:" % self._block + self._what, hashlib.sha256).digest()
            self._block += 1
        drawn, self._bytes = self._bytes[:4], self._bytes[4:]
        return int.from_bytes(drawn, "big") * limit >> 32

    def share(self) -> float:
        return self.below(1 << 30) / (1 << 30)


def _pronounceable(noise: Noise, length: int) -> str:
    first = noise.below(2)
    letters = (_CONSONANTS if (place + first) % 2 else _VOWELS for place in range(length))
    return "".join(them[noise.below(len(them))] for them in letters)


def _digits(noise: Noise, length: int) -> str:
    return "".join(str(noise.below(10)) for _place in range(length))


def _email(noise: Noise, _value: str, _keep: int) -> str:
    return f"{_pronounceable(noise, 10)}{_digits(noise, 4)}@example.com"


def _name(noise: Noise, value: str, _keep: int) -> str:
    return _pronounceable(noise, max(5, min(len(value), 12))).capitalize()


def _address(noise: Noise, _value: str, _keep: int) -> str:
    return f"{1 + noise.below(9999)} {_pronounceable(noise, 7).capitalize()} Street"


def _words(noise: Noise, value: str, _keep: int) -> str:
    """Words of the same length, in the same places."""

    def other(match: re.Match[str]) -> str:
        word = match.group()
        if word.isdigit():
            return _digits(noise, len(word))
        made = _pronounceable(noise, len(word))
        return made.upper() if word.isupper() and len(word) > 1 else made.capitalize() if word[0].isupper() else made

    return _WORD.sub(other, value)


def _code(noise: Noise, value: str, keep: int) -> str:
    """A letter for a letter and a digit for a digit; what is neither stays, and so do the first `keep` characters."""

    def other(char: str) -> str:
        if char.isdigit():
            return _digits(noise, 1)
        letter = "abcdefghijklmnopqrstuvwxyz"[noise.below(26)]
        return letter.upper() if char.isupper() else letter if char.isalpha() else char

    return value[:keep] + "".join(map(other, value[keep:]))


def _token(noise: Noise, value: str, _keep: int) -> str:
    return "".join("0123456789abcdef"[noise.below(16)] for _place in range(max(16, min(len(value), 64))))


def _key(noise: Noise, _value: str, _keep: int) -> str:
    """A version 8 UUID, whose layout is the maker's own (RFC 9562)."""
    number = sum(noise.below(1 << 16) << 16 * place for place in range(8))
    return str(uuid.UUID(int=number & ~(0xF << 76) & ~(3 << 62) | 8 << 76 | 2 << 62))


def _bytes(noise: Noise, value: str, _keep: int) -> str:
    return "\\x" + "".join("0123456789abcdef"[noise.below(16)] for _place in range(max(0, len(value) - 2)))


MASKS: dict[str, Callable[[Noise, str, int], str]] = {
    "email": _email,
    "name": _name,
    "address": _address,
    "words": _words,
    "code": _code,
    "token": _token,
    "uuid": _key,
    "bytes": _bytes,
    "json": lambda _noise, value, _keep: value,  # made of its leaves, see Masker.json
}


class Masker:
    """Masks under one key. Never gives a value in which an original would be found, nor one for two originals."""

    def __init__(self, key: bytes, originals: Originals) -> None:
        self._key, self._originals = key, originals
        self._known: dict[tuple[str, int, str], str] = {}
        self._given: dict[tuple[str, str], str] = {}

    def mask(self, kind: str, value: str, keep: int = 0) -> str:
        if kind == "json":
            return self.json(value)
        known = self._known.get((kind, keep, value))
        if known is None:
            known = self._known[kind, keep, value] = self._new(kind, value, keep)
        return known

    def json(self, text: str) -> str:
        """Every string in it masked, as a key where it is one; keys of objects, numbers and truth values stay."""
        return json.dumps(self._leaves(json.loads(text)), ensure_ascii=False)

    def place(self, latitude: str, longitude: str, radius_m: int) -> tuple[str, str]:
        """Moved by a third of the radius to the whole of it, in a direction of its own; one place moves as one."""
        noise = Noise(self._key, f"place:{float(latitude):.6f} {float(longitude):.6f}")
        metres = radius_m * math.sqrt(1 / 9 + noise.share() * 8 / 9)
        angle = 2 * math.pi * noise.share()
        lat = float(latitude) + metres * math.cos(angle) / _METRES_OF_DEGREE
        narrow = max(0.01, math.cos(math.radians(float(latitude))))
        lon = float(longitude) + metres * math.sin(angle) / _METRES_OF_DEGREE / narrow
        return f"{max(-90.0, min(90.0, lat)):.6f}", f"{(lon + 180) % 360 - 180:.6f}"

    def _new(self, kind: str, value: str, keep: int) -> str:
        if not value.strip():
            return value  # nothing is in it
        for attempt in range(ATTEMPTS):
            made = MASKS[kind](Noise(self._key, f"{kind}:{keep}:{attempt}:{value}"), value, keep)
            mine = self._given.setdefault((kind, made), value) == value
            if mine and not self._originals.found_in(made):
                return made
        raise Corrupt(
            f"A value could not be masked as {kind!r}: {ATTEMPTS} replacements were originals or taken.",
            hint="Its column holds too few different values to hide one among them: set it to one value, or to null.",
        )

    def _leaves(self, node: Any) -> Any:
        if isinstance(node, dict):
            return {name: self._leaves(value) for name, value in node.items()}
        if isinstance(node, list):
            return [self._leaves(value) for value in node]
        if isinstance(node, str):
            return self.mask("uuid" if _UUID.fullmatch(node) else "words", node)
        return node


def leaves(text: str) -> list[str]:
    """The strings in a JSON text, its objects' keys left out."""
    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, str):
            found.append(node)
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            walk(child)

    walk(json.loads(text))
    return found


def check_value(key: bytes) -> str:
    """Tells one key from another, and nothing else of it."""
    return hmac.new(key, b"dbops: which key", hashlib.sha256).hexdigest()[:16]


def order_under(key: bytes) -> Callable[[str], bytes]:
    """What to sort by so that the choice of the first few is as good as by lot, and the same under the same key."""
    return lambda value: hmac.new(key, b"root:" + value.encode(), hashlib.sha256).digest()
