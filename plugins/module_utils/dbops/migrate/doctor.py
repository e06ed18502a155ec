# SPDX-License-Identifier: GPL-3.0-or-later
"""What is true of a dirty database: rolled back, applied, or partial; and the version that the state should say.

(V, dirty) has two meanings: the up of V began, or the down of the version above V did. Evidence, the surest first:
the history's row, which joins the file's own transaction; the schema as it was when our run began; the schemas that the
files themselves make on a scratch server. Where evidence is missing or points two ways, it says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional

from ..errors import Refused
from ..pg.connection import Connection
from ..pg.fingerprint import Difference, Fingerprint, Likeness, differences, likeness, told
from ..progress import Progress
from ..settings import Settings
from . import lock, state
from .files import UP, Migrations
from .history import APPLIED, FAILED, RUNNING, Entry, History
from .run import Look, force, look, session_of
from .snapshot import take
from .state import NOTHING

ROLLED_BACK, APPLIED_ALL, PARTIAL, COULD_NOT_VERIFY, CLEAN = (
    "rolled back",
    "applied",
    "partial",
    "could_not_verify",
    "clean",
)
# What the files make of an empty database, up to each of these versions.
Rebuild = Callable[[Sequence[int]], Mapping[int, Fingerprint]]


@dataclass(frozen=True)
class Diagnosis:
    """`force` is the version that the state should say, None where nobody can know."""

    verdict: str
    force: Optional[int]
    why: str
    differences: tuple[str, ...] = ()


def diagnose(settings: Settings, *, rebuild: Optional[Rebuild] = None) -> dict[str, Any]:
    """Changes nothing; Busy while a run is at work.

    `rebuild` runs the files on a scratch server, for a database that keeps no history.
    """
    with session_of(settings) as session:
        found = look(session, settings)
        with lock.held(session, found.table, found.database, wait_s=0):  # a run that is at work is dirty, and well
            found = look(session, settings)
            return _result(found, _diagnose(session, found, rebuild))


def repair(settings: Settings, progress: Progress, *, rebuild: Optional[Rebuild] = None) -> dict[str, Any]:
    """Force the version that was diagnosed; Refused where the diagnosis names none."""
    result = diagnose(settings, rebuild=rebuild)
    doctor = result["doctor"]
    if doctor["verdict"] == CLEAN:
        return result
    if doctor["force"] is None:
        raise Refused(
            f"{result['msg']}",
            hint="Look at the differences, mend the schema by hand, then dbops migrate force VERSION.",
        )
    forced = force(settings, doctor["force"], progress)
    return {**result, "changed": forced["changed"], "msg": f"{result['msg']} {forced['msg']}"}


def from_history(entry: Entry, migrations: Migrations, now: Fingerprint, before: Optional[Fingerprint]) -> Diagnosis:
    """What the newest row proves. A row of an atomic file turned `applied` exactly when the file committed."""
    source, target = ends(entry, migrations)
    what = f"the {entry.direction} of {entry.version}"
    if entry.outcome == APPLIED:
        return Diagnosis(APPLIED_ALL, target, f"The history says that {what} committed; only the state is behind.")
    if entry.atomic:
        return Diagnosis(
            ROLLED_BACK,
            source,
            f"{what[:1].upper()}{what[1:]} is one transaction, and the history proves that it did not commit.",
        )
    if before is None:
        return Diagnosis(COULD_NOT_VERIFY, None, f"{what} was begun, and the schema before it is not on record.")
    found = differences(before, now)
    if not found:
        return Diagnosis(ROLLED_BACK, source, f"The schema is what it was before {what} began.")
    return Diagnosis(
        PARTIAL, None, f"The schema is not what it was before {what} began.", tuple(told(found, "before", "now"))
    )


def from_schemas(version: int, migrations: Migrations, now: Fingerprint, made: Mapping[int, Fingerprint]) -> Diagnosis:
    """Compare with what the files make at the version before, at, and after the one shown."""
    mine = now.portable()
    unlike: dict[int, list[Difference]] = {it: differences(made[it].portable(), mine) for it in made}
    alike = [it for it, found in unlike.items() if likeness(found) is not Likeness.DIFFERENT]
    if len(alike) > 1:
        names = " and ".join("nothing" if it == NOTHING else str(it) for it in sorted(alike))
        return Diagnosis(COULD_NOT_VERIFY, None, f"The schemas of {names} are twins, and the database has them.")
    if alike:
        verdict = APPLIED_ALL if alike[0] == version else ROLLED_BACK
        return Diagnosis(verdict, alike[0], f"The schema is exactly what the files make at version {alike[0]}.")
    nearest = min(unlike, key=lambda it: len(unlike[it]))
    shown = tuple(told(unlike[nearest], f"version {nearest}", "the database"))
    return Diagnosis(PARTIAL, None, f"The schema is none of the neighbours'; version {nearest} is the nearest.", shown)


def neighbours(migrations: Migrations, version: int) -> list[int]:
    """The versions that a dirty `version` may really be at."""
    after = min((it for it in migrations.versions if it > version), default=None)
    found = {migrations.before(version) if version != NOTHING else NOTHING, version}
    return sorted(found | ({after} if after is not None else set()))


def ends(entry: Entry, migrations: Migrations) -> tuple[int, int]:
    """The version before and after an entry's file, as the state would say it."""
    below = migrations.before(entry.version)
    return (below, entry.version) if entry.direction == UP else (entry.version, below)


def _diagnose(session: Connection, found: Look, rebuild: Optional[Rebuild]) -> Diagnosis:
    if not found.state.dirty:
        return Diagnosis(CLEAN, None, "The state is clean.")
    now = take(session, found.table)
    entry = _relevant(found)
    if entry is not None:
        before = History(session, found.table).fingerprint(entry.fingerprint_before)
        answer = from_history(entry, found.migrations, now, before)
        if answer.verdict in (ROLLED_BACK, APPLIED_ALL):
            return answer
    if rebuild is None:
        if entry is not None:
            return answer
        return Diagnosis(
            COULD_NOT_VERIFY, None, "There is no history of the run that left this: compare with --scratch."
        )
    made = rebuild(neighbours(found.migrations, found.state.version))
    return from_schemas(found.state.version, found.migrations, now, made)


def _relevant(found: Look) -> Optional[Entry]:
    """The newest row, if it is about the run that left the state as it is."""
    ran = [entry for entry in found.entries if entry.outcome in (RUNNING, FAILED, APPLIED)]
    if not ran or ran[-1] is not found.entries[-1] or ran[-1].version not in found.migrations.versions:
        return None
    return ran[-1] if ends(ran[-1], found.migrations)[1] == found.state.version else None


def _result(found: Look, diagnosis: Diagnosis) -> dict[str, Any]:
    said = "" if diagnosis.force is None else f" Right: dbops migrate force {diagnosis.force}."
    return {
        "changed": False,
        "msg": f"{found.database} is at {found.state}: {diagnosis.verdict}. {diagnosis.why}{said}",
        "doctor": {
            "database": found.database,
            "version": None if found.state.version == state.NOTHING else found.state.version,
            "dirty": found.state.dirty,
            "verdict": diagnosis.verdict,
            "force": diagnosis.force,
            "why": diagnosis.why,
            "differences": list(diagnosis.differences),
        },
    }
