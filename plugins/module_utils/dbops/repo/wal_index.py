# SPDX-License-Identifier: GPL-3.0-or-later
"""Which segments an archive has, a million as easily as ten: a bit for each, by the directory that it lies in.

It is a mapping from (timeline, number) to stored bytes, like a dict of them, and answers without looking at each what a
recovery window asks: where the next hole is, and what comes last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Optional

Place = tuple[int, int]  # timeline, number


@dataclass(frozen=True)
class Log:
    """One directory: the segments of a timeline with one log number. `mask` has bit n for the n-th of them.

    `files` are their stored sizes in that order, joined by commas, each with its suffix where that is not `suffix`.
    """

    mask: int
    total_bytes: int
    suffix: str
    files: str

    @property
    def count(self) -> int:
        return bin(self.mask).count("1")

    def entries(self) -> Iterator[tuple[int, int, str]]:
        """Place within the directory, stored bytes, suffix; in order."""
        mask = self.mask
        for file in self.files.split(","):
            bit = (mask & -mask).bit_length() - 1
            mask &= mask - 1
            size, dot, suffix = file.partition(".")
            yield bit, int(size), dot + suffix if dot else self.suffix

    def find(self, bit: int) -> tuple[int, str]:
        below = bin(self.mask & ((1 << bit) - 1)).count("1")
        size, dot, suffix = self.files.split(",", below + 1)[below].partition(".")
        return int(size), dot + suffix if dot else self.suffix

    def first_missing(self, begin: int, end: int) -> Optional[int]:
        """The first of begin to end (inclusive) that is not here."""
        wanted = ((1 << (end - begin + 1)) - 1) << begin
        holes = wanted & ~self.mask
        return (holes & -holes).bit_length() - 1 if holes else None

    def last(self, begin: int, end: int) -> Optional[int]:
        there = self.mask & (((1 << (end - begin + 1)) - 1) << begin)
        return there.bit_length() - 1 if there else None


def log_of(found: Iterable[tuple[int, int, str]]) -> Optional[Log]:
    """From place, stored bytes and suffix of each file; None without any. Of two forms of a name the later counts."""
    by_bit = {bit: (size, suffix) for bit, size, suffix in found}
    if not by_bit:
        return None
    ordered = sorted(by_bit.items())
    usual = ordered[0][1][1]
    mask = 0
    for bit in by_bit:
        mask |= 1 << bit
    files = ",".join(f"{size}{'' if suffix == usual else suffix}" for _bit, (size, suffix) in ordered)
    return Log(mask, sum(size for size, _suffix in by_bit.values()), usual, files)


class WalIndex(Mapping[Place, int]):
    """`logs` by timeline and log number; `segment_size` in bytes; `root` is the key that all of them begin with."""

    def __init__(self, logs: Mapping[tuple[int, int], Log], segment_size: int, root: str = "") -> None:
        self._logs = logs
        self._root = root
        self.per_log = 0x100000000 // segment_size
        self._count = sum(log.count for log in logs.values())
        self.total_bytes = sum(log.total_bytes for log in logs.values())
        self._numbers: dict[int, list[int]] = {}
        for timeline, number in sorted(logs):
            self._numbers.setdefault(timeline, []).append(number)

    @property
    def timelines(self) -> tuple[int, ...]:
        return tuple(self._numbers)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Place]:
        for timeline, numbers in self._numbers.items():
            for number in numbers:
                for bit, _size, _suffix in self._logs[timeline, number].entries():
                    yield timeline, number * self.per_log + bit

    def __contains__(self, place: object) -> bool:
        if not isinstance(place, tuple):
            return False
        timeline, number = place
        log = self._logs.get((timeline, number // self.per_log))
        return log is not None and bool(log.mask >> (number % self.per_log) & 1)

    def __getitem__(self, place: Place) -> int:
        return self._found(place)[0]

    def key(self, place: Place) -> str:
        """Where it lies in the store; KeyError when it is not there."""
        _size, suffix = self._found(place)
        timeline, number = place
        folder = f"{timeline:08X}{number // self.per_log:08X}"
        return f"{self._root}{folder}/{folder}{number % self.per_log:08X}{suffix}"

    def _found(self, place: Place) -> tuple[int, str]:
        if place not in self:
            raise KeyError(place)
        timeline, number = place
        return self._logs[timeline, number // self.per_log].find(number % self.per_log)

    def first_missing(self, timeline: int, begin: int, end: int) -> Optional[int]:
        """The first number of begin to end (inclusive) that is not there, if there is one."""
        for log, low, high in self._parts(begin, end):
            known = self._logs.get((timeline, log))
            hole = low if known is None else known.first_missing(low, high)
            if hole is not None:
                return log * self.per_log + hole
        return None

    def last(self, timeline: int, begin: int, end: Optional[int] = None) -> Optional[int]:
        """The last number from begin on (to end, inclusive) that is there."""
        for log in reversed(self._numbers.get(timeline, [])):
            low = max(0, begin - log * self.per_log)
            high = self.per_log - 1 if end is None else min(self.per_log - 1, end - log * self.per_log)
            found = self._logs[timeline, log].last(low, high) if 0 <= low <= high else None
            if found is not None:
                return log * self.per_log + found
        return None

    def holes(self) -> int:
        """How many are not there although older and newer ones of their timeline are."""
        missing = 0
        for timeline, numbers in self._numbers.items():
            last = self.last(timeline, 0)
            first_log = self._logs[timeline, numbers[0]]
            first = numbers[0] * self.per_log + ((first_log.mask & -first_log.mask).bit_length() - 1)
            count = sum(self._logs[timeline, number].count for number in numbers)
            missing += (last if last is not None else first) - first + 1 - count
        return missing

    def _parts(self, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The directories from begin to end, each with the first and last place in it that is meant."""
        for log in range(begin // self.per_log, end // self.per_log + 1):
            low = max(0, begin - log * self.per_log)
            yield log, low, min(self.per_log - 1, end - log * self.per_log)


class WalKeys(Mapping[Place, str]):
    """Where each segment of an index lies."""

    def __init__(self, index: WalIndex) -> None:
        self._index = index

    def __getitem__(self, place: Place) -> str:
        return self._index.key(place)

    def __iter__(self) -> Iterator[Place]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, place: object) -> bool:
        return place in self._index
