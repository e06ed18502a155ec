# SPDX-License-Identifier: GPL-3.0-or-later
"""Several connections that take jobs from one list, each as soon as what it stands on is done."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Optional, TypeVar

from ..pg.connection import Connection

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, eq=False)
class Job:
    """One thing to do on any connection. It may start when every job of the groups in `after` is done.

    `table` is what it locks, if it does: shared with other jobs, or `alone`. The server would make them wait for each
    other too, but with a connection each that has nothing else to do meanwhile.
    """

    group: str
    run: Callable[[Connection], None]
    after: frozenset[str] = frozenset()
    table: Optional[str] = None
    alone: bool = False
    weight: int = 0  # of the whole, for who watches


@dataclass
class _Board:
    """What waits, what runs, what is done: the scheduler's state, which only the holder of its lock changes."""

    waiting: list[Job]
    unfinished: Counter[str]
    shared: Counter[str] = field(default_factory=Counter)
    alone: set[str] = field(default_factory=set)
    running: int = 0
    weight_done: int = 0

    def take(self) -> Optional[Job]:
        """The first job of the list that may start now, marked as running; None if there is none."""
        for place, job in enumerate(self.waiting):
            if not any(self.unfinished[group] for group in job.after) and self._free(job):
                self.running += 1
                if job.table:
                    self.alone.add(job.table) if job.alone else self.shared.update([job.table])
                return self.waiting.pop(place)
        return None

    def done(self, job: Job) -> None:
        self.running -= 1
        self.unfinished[job.group] -= 1
        self.weight_done += job.weight
        if job.table:
            self.alone.discard(job.table) if job.alone else self.shared.subtract([job.table])

    def _free(self, job: Job) -> bool:
        return job.table is None or not (job.table in self.alone or (job.alone and self.shared[job.table]))


def work_off(servers: Sequence[Connection], jobs: Iterable[Job], tell: Callable[[str, int, int], None]) -> None:
    """Do every job, the first of the list first where several may start.

    `tell` hears of each that starts: its group, the weight of what is done, and of all.

    The first error lets the others end their current job, and is raised. A group that `after` names and no job
    belongs to is done. Jobs that wait for each other in a circle are a programmer's error, and raised as one.
    """
    listed = list(jobs)
    board = _Board(listed.copy(), Counter(job.group for job in listed))
    changed = threading.Condition()
    errors: list[BaseException] = []
    weight = sum(job.weight for job in listed)

    def work(server: Connection) -> None:
        while True:
            with changed:
                job = board.take()
                while job is None and board.running and board.waiting and not errors:
                    changed.wait()
                    job = board.take()
                if job is None or errors:
                    return
                tell(job.group, board.weight_done, weight)
            try:
                job.run(server)
            except BaseException as exc:  # noqa: BLE001  # handed over to the caller's thread, which raises it
                errors.append(exc)
            with changed:
                board.done(job)
                changed.notify_all()

    if len(servers) == 1:
        work(servers[0])
    else:
        threads = [threading.Thread(target=work, args=(server,), daemon=True) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    if board.waiting:
        raise AssertionError(f"These jobs wait for each other: {[job.group for job in board.waiting]}")


def shared_out(servers: Sequence[Connection], questions: Sequence[Q], ask: Callable[[Connection, Q], A]) -> list[A]:
    """Each question's answer, in the order of the questions, whoever asked it."""
    answers: dict[int, A] = {}

    def answered(place: int) -> Callable[[Connection], None]:
        def run(server: Connection) -> None:
            answers[place] = ask(server, questions[place])

        return run

    jobs = [Job("ask", answered(place)) for place in range(len(questions))]
    work_off(servers, jobs, lambda _what, _done, _whole: None)
    return [answers[place] for place in range(len(questions))]
