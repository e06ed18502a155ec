# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs that several workers share: each once, after what it stands on, and never beside what it must not meet."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.seed.work import Job, shared_out, work_off

SERVERS: list[Any] = [object(), object(), object()]


def silent(_what: str, _done: int, _whole: int) -> None:
    """Nobody watches."""


@st.composite
def graphs(draw: Any) -> list[tuple[str, frozenset[str], str | None, bool]]:
    """Jobs of groups a to f; each waits only for groups that stand before its own, so that there is no circle."""
    jobs = []
    for place in range(draw(st.integers(1, 12))):
        group = draw(st.integers(0, 5))
        after = draw(st.frozensets(st.sampled_from("abcdef"[:group]))) if group else frozenset()
        table = draw(st.sampled_from([None, "rides", "users"]))
        jobs.append(("abcdef"[group], after, table, draw(st.booleans())))
        assert len(jobs) == place + 1
    return jobs


@settings(deadline=None)
@given(graphs(), st.integers(1, 3))
def test_each_job_runs_once_after_its_groups_and_beside_nothing_that_it_must_not_meet(graph, workers):
    lock = threading.Lock()
    events: list[tuple[str, int]] = []

    def noted(place: int) -> Any:
        def run(_server: Any) -> None:
            with lock:
                events.append(("begin", place))
            with lock:
                events.append(("end", place))

        return run

    work_off(
        SERVERS[:workers],
        [Job(group, noted(place), after, table, alone) for place, (group, after, table, alone) in enumerate(graph)],
        silent,
    )
    assert sorted(events) == sorted((what, place) for what in ("begin", "end") for place in range(len(graph)))
    running: set[int] = set()
    ended: set[int] = set()
    for what, place in events:
        if what == "end":
            running.discard(place)
            ended.add(place)
            continue
        _group, after, table, alone = graph[place]
        assert {it for it, job in enumerate(graph) if job[0] in after} <= ended
        beside = [graph[it] for it in running if table is not None and graph[it][2] == table]
        assert not any(alone or other[3] for other in beside)
        running.add(place)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_first_error_ends_the_work_and_is_raised(workers):
    done: list[int] = []

    def fail(_server: Any) -> None:
        raise ValueError("no room")

    jobs = [Job("a", fail), *(Job("b", lambda _server: done.append(1), frozenset({"a"})) for _number in range(5))]
    with pytest.raises(ValueError, match="no room"):
        work_off(SERVERS[:workers], jobs, silent)
    assert done == []


def test_a_circle_is_told_and_not_waited_for():
    jobs = [Job("a", lambda _server: None, frozenset({"b"})), Job("b", lambda _server: None, frozenset({"a"}))]
    with pytest.raises(AssertionError, match="wait for each other"):
        work_off(SERVERS, jobs, silent)


def test_who_watches_hears_of_every_job_and_of_the_weight_that_is_done():
    heard: list[tuple[str, int, int]] = []
    jobs = [Job("a", lambda _server: None, weight=3), Job("b", lambda _server: None, frozenset({"a"}), weight=1)]
    work_off(SERVERS[:1], jobs, lambda *it: heard.append(it))
    assert heard == [("a", 0, 4), ("b", 3, 4)]


@given(st.lists(st.integers()), st.integers(1, 3))
def test_answers_come_in_the_order_of_the_questions(questions, workers):
    assert shared_out(SERVERS[:workers], questions, lambda _server, it: it * 2) == [it * 2 for it in questions]
