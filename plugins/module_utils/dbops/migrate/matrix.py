# SPDX-License-Identifier: GPL-3.0-or-later
"""The rehearsal itself: every file up, down and up again, in every order that production may meet.

straight   each up in a session of its own from empty; after each: the schema, what became of the rows
cell N     in a copy of N-1: up N, down N must give the schema and the rows of N-1, up N again the schema of N
one run    all ups in one session (what a file SETs leaks into the next), then all downs: as empty as before
stepwise   up, down, up of every file from empty: a fresh install and a rehearsed one must be the same
runner     our own runner from empty; a second `up` has nothing to do
trace      statement by statement with the rows in place, up and down: locks, rewrites, scans, time, WAL
far        from several versions with their rows: up to the end and all the way back, nothing lost

"A session of its own" is one that was renewed: a connection as if it had just been made, which still knows the catalog.
A copy, and a server process that has to learn the catalog, cost more than a cell: so cells go on from each other in
groups, each where the one before left the database as it was, and in a new one where it did not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from ..errors import DbopsError
from ..pg.connection import Connection, ScriptFailed
from ..pg.fingerprint import Likeness, differences, likeness
from ..progress import Silent
from ..settings import Settings
from ..settings_migrations import MigrationSettings
from . import ledger as ledgers
from . import run, trace
from .files import DOWN, UP, Migration
from .finding import ERROR, Finding, basename, of_traces
from .ledger import Ledger
from .plan import Request
from .scene import Scene, send
from .shape import Shape
from .snapshot import take
from .state import NOTHING

Work = Callable[[], None]
_TOGETHER = 5  # versions whose cells share a copy


@dataclass
class Matrix:
    scene: Scene
    only_cells: bool = False  # leave out the walks over all versions
    jobs: int = 2
    _waiting: list[Future[None]] = field(default_factory=list)

    def run(self) -> None:
        """Everything. The straight walk goes first; what needs no copy of its begins beside it."""
        with ThreadPoolExecutor(max_workers=max(1, self.jobs)) as pool:
            reached = pool.submit(self._straight, pool).result()
            if reached:
                self._submit(pool, lambda: self._trace(reached))  # the longest
                if not self.only_cells:
                    for walk in (self._one_run, self._stepwise, self._runner):
                        self._submit(pool, lambda walk=walk: walk(reached))  # type: ignore[misc]
                for start in self._far_starts(reached):
                    self._submit(pool, lambda start=start: self._far(reached, start))  # type: ignore[misc]
            for future in self._waiting:
                future.result()

    # -- the walks

    def _straight(self, pool: ThreadPoolExecutor) -> list[Migration]:
        """The versions whose up works."""
        scene, bench, versions = self.scene, self.scene.bench, self.scene.migrations.all
        home = bench.create()
        with bench.session(home) as session:
            scene.schemas[NOTHING] = take(session)
            scene.rows[NOTHING] = Ledger()
        reached: list[Migration] = []
        for group in (versions[first : first + _TOGETHER] for first in range(0, len(versions), _TOGETHER)):
            copy = bench.create(home) if any(self._has_cell(item) for item in group) else None
            with bench.session(home) as session:  # closed again, since it would keep the database from being copied
                worked, goes_on = self._climb(session, group)
            reached += worked
            if copy:
                self._submit(pool, lambda worked=worked, copy=copy: self._cells(worked, copy))  # type: ignore[misc]
            if not goes_on:
                return reached
        with bench.session(home) as session:
            scene.look_at_the_end(session)
        return reached

    def _climb(self, session: Connection, group: Sequence[Migration]) -> tuple[list[Migration], bool]:
        """Those of the group whose up worked, and whether there is a way beyond them."""
        scene = self.scene
        worked: list[Migration] = []
        for item in group:
            session.renew()
            if not scene.step(session, item, UP, "straight"):
                return worked, False
            worked.append(item)
            scene.schemas[item.version] = take(session)
            scene.look_after_up(session, item)
            session.renew()
            if item.version in scene.data:
                if not scene.add_rows(session, item.version):
                    return worked, False
                scene.rows[item.version] = ledgers.capture(session)
        return worked, True

    def _has_cell(self, item: Migration) -> bool:
        return self.scene.is_chosen(item.version) and self.scene.goes_back(item)

    def _cells(self, group: Sequence[Migration], name: str) -> None:
        """Those of a group, in a copy of what was there before its first version."""
        bench, left = self.scene.bench, list(group)
        while left:
            with bench.session(name) as session:
                left = self._cells_in_turn(session, left)
            bench.drop(name)
            if left:
                name = bench.create()
                with bench.session(name) as session:
                    self._build(session, [it for it in self.scene.migrations.all if it.version < left[0].version])

    def _cells_in_turn(self, session: Connection, group: list[Migration]) -> list[Migration]:
        """Those that are left after one that did not leave the database as it was."""
        scene = self.scene
        for number, item in enumerate(group):
            # Not the straight walk's own: what a file makes up (now, random) is another in each database.
            before = ledgers.capture(session) if scene.data else Ledger()
            session.renew()
            send(session, scene.scripts[item.version, UP])
            session.renew()
            if self._has_cell(item) and not self._cell(session, item, before):
                return group[number + 1 :]
            session.renew()
            if item.version in scene.data and not scene.add_rows(session, item.version, quiet=True):
                return []  # has been told by the straight walk, which ended there
        return []

    def _cell(self, session: Connection, item: Migration, before: Ledger) -> bool:
        """Whether all is as it was."""
        scene, cell, below = self.scene, self.scene.cells[item.version], self.scene.migrations.before(item.version)
        with trace.stopwatch() as took:
            if not scene.step(session, item, DOWN, "down"):
                cell.down = "failed"
                return False
        cell.down_s = round(took(), 3)
        cell.down = scene.same_schema(session, below, item, DOWN, "down", "before the up")
        cell.rows = scene.same_rows(session, before, item, DOWN)
        session.renew()
        if not scene.step(session, item, UP, "again"):
            cell.again = "failed"
            return False
        cell.again = scene.same_schema(session, item.version, item, UP, "again", "after the first up")
        return cell.down == cell.again == Likeness.EQUAL.value and cell.rows != "lost"

    def _build(self, session: Connection, items: Sequence[Migration]) -> None:
        """Up, with the rows of each version."""
        for item in items:
            session.renew()
            send(session, self.scene.scripts[item.version, UP])
            if item.version in self.scene.data:
                session.send(self.scene.data[item.version])

    def _one_run(self, reached: Sequence[Migration]) -> None:
        """The way down is compared at its end; only where that is wrong, it is walked again to name the file."""
        scene, name = self.scene, self.scene.bench.create()
        with scene.bench.session(name) as session:
            if not all(scene.step(session, item, UP, "one run") for item in reached):
                return
            session.restore_role()
            last = reached[-1]
            if scene.same_schema(session, last.version, last, UP, "one run", "file by file") == "different":
                return
            for item in reversed(reached):
                if not scene.goes_back(item) or not scene.step(session, item, DOWN, "full down"):
                    return
            found = differences(scene.schemas[NOTHING], take(session))
        scene.bench.drop(name)
        if likeness(found) is not Likeness.EQUAL:
            self._name_the_file(reached)

    def _name_the_file(self, reached: Sequence[Migration]) -> None:
        scene, name = self.scene, self.scene.bench.create()
        with scene.bench.session(name) as session:
            for item in reached:
                send(session, scene.scripts[item.version, UP])
            session.restore_role()
            for item in reversed(reached):
                send(session, scene.scripts[item.version, DOWN])
                below = scene.migrations.before(item.version)
                scene.same_schema(session, below, item, DOWN, "full down", "on the way up")
        scene.bench.drop(name)

    def _stepwise(self, reached: Sequence[Migration]) -> None:
        scene, name = self.scene, self.scene.bench.create()
        with scene.bench.session(name) as session:
            for item in reached:
                for way in (UP, DOWN, UP) if scene.goes_back(item) else (UP,):
                    if not scene.step(session, item, way, "stepwise"):
                        return
                    session.renew()
            scene.same_schema(session, reached[-1].version, reached[-1], UP, "stepwise", "straight up")
        scene.bench.drop(name)

    def _runner(self, reached: Sequence[Migration]) -> None:
        scene, bench = self.scene, self.scene.bench
        name = bench.create()
        section = MigrationSettings(path=scene.migrations.directory, database=name, history=False)
        host = replace(Settings(cluster="rehearsal").host, os_user=bench.identity.name)
        settings = Settings(cluster="rehearsal", connection=bench.connection, host=host, migrations=section)
        run.run(settings, Request("goto", version=reached[-1].version), Silent())
        if len(reached) == len(scene.migrations.all) and run.run(settings, Request("up"), Silent())["changed"]:
            scene.add(Finding("idempotence", ERROR, "A second `up` found something to do."))
        bench.drop(name)

    def _trace(self, reached: Sequence[Migration]) -> None:
        scene, name = self.scene, self.scene.bench.create()
        with scene.bench.session(name) as session:
            for item in reached:
                if not self._traced(session, name, item, UP):
                    return
                session.renew()
                if item.version in scene.data and not scene.add_rows(session, item.version, quiet=True):
                    return
            before = ledgers.capture(session) if scene.data else Ledger()
            for item in reversed(reached):
                if not scene.goes_back(item) or not self._traced(session, name, item, DOWN):
                    return
                session.renew()
                if scene.data:
                    now = ledgers.capture(session)
                    lost = [loss for loss in ledgers.losses(before, now) if not loss.went_along]
                    scene.tell_losses(lost, item, DOWN)
                    before = now
        scene.bench.drop(name)

    def _traced(self, session: Connection, name: str, item: Migration, way: str) -> bool:
        scene, script = self.scene, self.scene.scripts[item.version, way]
        try:
            found = trace.traced(session, lambda: scene.bench.session(name), script)
        except DbopsError as exc:
            if script.shape is not Shape.SPLIT:
                scene.add(Finding("trace", ERROR, exc.message, item.version, basename(item, way)))
            return False
        if scene.is_chosen(item.version):
            scene.cells[item.version].traces[way] = found
            for finding in of_traces(item, way, found, scene.budgets):
                scene.add(finding)
        return True

    def _far(self, reached: Sequence[Migration], start: int) -> None:
        with contextlib.suppress(ScriptFailed):  # a file that fails has been told by its cell
            self._far_and_back(reached, start)

    def _far_and_back(self, reached: Sequence[Migration], start: int) -> None:
        scene, name = self.scene, self.scene.bench.create()
        above = [item for item in reached if item.version > start]
        with scene.bench.session(name) as session:
            self._build(session, [item for item in reached if item.version <= start])
            before = ledgers.capture(session)
            for item in above:
                send(session, scene.scripts[item.version, UP])
            for item in reversed(above):
                send(session, scene.scripts[item.version, DOWN])
            lost = ledgers.losses(before, ledgers.capture(session), exactly=True)
        for loss in lost:
            if not any(ledgers.is_declared(loss, scene.declared(item)) for item in above):
                text = f"From version {start} to {reached[-1].version} and back: {loss.what}: {loss.how}."
                scene.add(Finding("rows", ERROR, text, start))
        scene.bench.drop(name)

    # -- odds and ends

    def _far_starts(self, reached: Sequence[Migration]) -> list[int]:
        """Up to three versions that have rows and only files with a way back above them: the first, middle and last."""
        if not all(self.scene.goes_back(item) for item in reached) or self.scene.chosen is not None:
            return []
        versions = [item.version for item in reached[:-1] if item.version in self.scene.data]
        return sorted({versions[0], versions[len(versions) // 2], versions[-1]}) if versions else []

    def _submit(self, pool: ThreadPoolExecutor, work: Work) -> None:
        self._waiting.append(pool.submit(self._guarded, work))

    def _guarded(self, work: Work) -> None:
        try:
            work()
        except DbopsError as exc:
            self.scene.add(Finding("rehearsal", ERROR, str(exc)))
