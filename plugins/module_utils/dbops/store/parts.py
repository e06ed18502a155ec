# SPDX-License-Identifier: GPL-3.0-or-later
"""Streams cut into parts, and parts on their way several at a time, with no more of them in memory than that."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Callable, TypeVar

T = TypeVar("T")
STEADY = 500  # parts of the first size; then parts grow, since clouds count them (S3: 10,000)


def part_size(number: int, first_bytes: int) -> int:
    """The size of the part of that number, from 0. 10,000 parts that begin at 16 MiB hold 1.6 TiB."""
    return first_bytes * (1 + number // STEADY)


def parts_of(chunks: Iterable[bytes], first_bytes: int) -> Iterator[tuple[bytes, bool]]:
    """Parts of exactly `part_size`, only the last one smaller, each with whether it is the last. At least one."""
    held: list[memoryview] = []
    number, held_bytes = 0, 0
    size = part_size(0, first_bytes)
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            if held_bytes == size:  # and there is more, so it is not the last
                yield b"".join(held), False
                number, held, held_bytes = number + 1, [], 0
                size = part_size(number, first_bytes)
            taken = view[: size - held_bytes]
            held.append(taken)
            held_bytes += len(taken)
            view = view[len(taken) :]
    yield b"".join(held), True


def run_all(work: Iterator[Callable[[], None]], parallel: int) -> None:
    """Run every piece of work, at most `parallel` at a time; the first error stops the rest and is raised.

    Returns or raises only when nothing runs any more. `work` is consumed in the caller's thread.
    """
    running: set[Future[None]] = set()
    with ThreadPoolExecutor(parallel, thread_name_prefix="dbops-part") as pool:
        for piece in work:
            running.add(pool.submit(piece))
            while len(running) >= parallel:
                running = _without_done(running)
        while running:
            running = _without_done(running)


def _without_done(running: set[Future[None]]) -> set[Future[None]]:
    done, left = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
    return left


def in_order(work: Iterable[Callable[[], T]], parallel: int) -> Iterator[T]:
    """The results in the order of the work, `parallel` of it running ahead of the reader. A reader may stop."""
    pool = ThreadPoolExecutor(parallel, thread_name_prefix="dbops-read")
    waiting: deque[Future[T]] = deque()
    try:
        for piece in work:
            waiting.append(pool.submit(piece))
            if len(waiting) >= parallel:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        pool.shutdown(wait=True)
