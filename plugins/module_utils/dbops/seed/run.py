# SPDX-License-Identifier: GPL-3.0-or-later
"""Seeding from first to last: look, refuse, load, prove; and taking it all out again."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator
from typing import Any, Optional

from ..errors import BadInput, Busy, Corrupt, DbopsError, NotFound, Refused
from ..pg.connection import Connection, connected
from ..pg.osuser import cluster_identity
from ..progress import Progress, Silent, Step, duration
from ..schema import between
from ..settings import Settings
from . import catalog, deferred, guard, load, proof, record
from .functions import SCHEMA
from .plan import Plan, at_scale
from .profile import Profile

_LOCK = 0x5EED  # one seeding at a time in a database
_NOTICED_S = 3.0
WORKERS = 2  # of a load in steps, unless said otherwise


def preview(
    settings: Settings,
    profile: Profile,
    *,
    database: str,
    scale: int = 1,
    anchor: str = "now",
    allow: Optional[str] = None,
) -> dict[str, Any]:
    """What `seed` would do, refusals included, without doing it."""
    with connections(settings, database, 1) as (server,):
        plan, there = _looked_at(server, profile, scale, anchor, allow)
        if there is not None and there.complete:
            return _unchanged(server, plan)
    rows = plan.expected()
    return {
        "changed": True,
        **_about(plan),
        "rows": rows,
        "estimated_bytes": sum(
            size
            for name, size in plan.estimated_bytes().items()
            if name in {it.name for it in profile.parts if it.table}
        ),
        "msg": f"Would seed at least {sum(rows.values())} rows into {len(profile.tables())} tables of {database!r}.",
    }


def seed(
    settings: Settings,
    profile: Profile,
    progress: Progress,
    *,
    database: str,
    scale: int = 1,
    anchor: str = "now",
    workers: Optional[int] = None,
    allow: Optional[str] = None,
) -> dict[str, Any]:
    """Load the profile and prove it; nothing to do when it is there. A load that was killed is gone on with.

    Small profiles are one transaction: any violation leaves the database as it was. Big ones, and those for which
    several workers are asked, are tried at scale 1 first, in a transaction that is rolled back, so that what would
    fail has failed before the first row stays.
    """
    between("workers", workers or 1, 1, 64)
    started = time.monotonic()
    with connections(settings, database, workers or WORKERS) as servers:
        first = servers[0]
        plan, there = _looked_at(first, profile, scale, anchor, allow)
        if there is not None and there.complete:
            return _unchanged(first, plan)
        if there is None and plan.in_one_transaction and workers in (None, 1):
            with transaction(first):
                rows, hashes = load_at_once(first, plan, progress)
        else:
            if there is None:
                _try_out(first, profile, plan.anchor, progress)
            rows, hashes = _load_in_steps(servers, plan, progress)
    seconds = time.monotonic() - started
    return {
        "changed": True,
        **_about(plan),
        "rows": rows,
        "hashes": hashes,
        "duration_s": round(seconds, 3),
        "rows_per_s": round(sum(rows.values()) / seconds),
        "msg": f"Seeded {sum(rows.values())} rows of profile {profile.name!r} into {database!r} "
        f"in {duration(seconds)}; {len(profile.invariants)} invariants hold.",
    }


def verify(settings: Settings, profile: Profile, *, database: str) -> dict[str, Any]:
    """Prove once more that what is loaded is what the profile promises. Corrupt names what is not."""
    with connections(settings, database, 1) as (server,):
        there = record.read(server)
        if there is None or not there.complete:
            raise NotFound(f"No complete seed is in {database!r}.", hint="Load one first.")
        plan = at_scale(profile, there.scale, there.anchor)
        if not there.is_of(plan):
            raise BadInput(
                f"{there} is loaded, and this is profile {profile.name!r} ({profile.digest()}).",
                hint="Name the profile that was loaded, as it was then.",
            )
        with transaction(server, keep=False):
            load.make_functions(server, plan)
            rows, hashes = _proven([server], plan)
    return {
        "changed": False,
        **_about(plan),
        "rows": rows,
        "hashes": hashes,
        "msg": f"{sum(rows.values())} seeded rows in {database!r}; {len(profile.invariants)} invariants hold.",
    }


def reset(
    settings: Settings, profile: Profile, *, database: str, allow: Optional[str] = None, dry_run: bool = False
) -> dict[str, Any]:
    """Delete the rows that seeding made, and none besides; what a killed load put aside comes back too."""
    with connections(settings, database, 1) as (server,):
        locked(server)
        guard.refuse_production(guard.impression(server), allow)
        there = record.read(server)
        if there is None:
            return {"changed": False, "rows": {}, "msg": f"No seed is in {database!r}."}
        if there.is_subset:
            raise Refused(f"{there} is in {database!r}.", hint="A subset has a database of its own: drop that.")
        plan = at_scale(profile, there.scale, there.anchor)
        rows = proof.counts(server, plan)
        if not dry_run:
            with transaction(server):
                _delete(server, plan)
                deferred.bring_all_back(server)  # after that: of a killed load, children may be there without parents
                server.run(f"drop schema {SCHEMA} cascade")
                load.run_after(server, profile)
    verb = "Would remove" if dry_run else "Removed"
    return {"changed": True, "rows": rows, "msg": f"{verb} {sum(rows.values())} seeded rows from {database!r}."}


def shift(
    settings: Settings,
    profile: Profile,
    progress: Progress,
    *,
    database: str,
    anchor: str,
    workers: Optional[int] = None,
    allow: Optional[str] = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """The loaded seed with its present moved to `anchor`: the same keys, every time derived anew.

    Adding an interval to each time would break what hangs on hours and weekdays; making the rows again does not.
    """
    with connections(settings, database, 1) as (server,):
        there = record.read(server)
    if there is None:
        raise NotFound(f"No seed is in {database!r}.", hint="Load one.")
    moment = resolved(anchor)
    rows = reset(settings, profile, database=database, allow=allow, dry_run=True)["rows"]
    if there.complete and there.anchor == moment:
        return {"changed": False, "rows": rows, "msg": f"The present of the seed in {database!r} is {moment} already."}
    if dry_run:
        return {
            "changed": True,
            "rows": rows,
            "msg": f"Would move the present of the seed in {database!r} to {moment}.",
        }
    reset(settings, profile, database=database, allow=allow)
    return seed(
        settings, profile, progress, database=database, scale=there.scale, anchor=moment, workers=workers, allow=allow
    )


def resolved(anchor: str, now: Optional[datetime.datetime] = None) -> str:
    """`now`, a date or a time as ISO 8601 in UTC, to the second; without a zone it is UTC."""
    if anchor == "now":
        moment = now or datetime.datetime.now(datetime.timezone.utc)
    else:
        try:
            moment = datetime.datetime.fromisoformat(anchor.replace("Z", "+00:00"))
        except ValueError as exc:
            raise BadInput(
                f"{anchor!r} is no anchor.", hint="Write now, a date such as 2026-11-01, or a time with its zone."
            ) from exc
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _looked_at(
    server: Connection, profile: Profile, scale: int, anchor: str, allow: Optional[str]
) -> tuple[Plan, Optional[record.Loaded]]:
    """The plan, and what is loaded of it already; refuses whatever speaks against going on."""
    locked(server)
    plan = at_scale(profile, scale, resolved(anchor))
    guard.refuse_production(guard.impression(server), allow)
    there = record.read(server)
    if there is None:
        catalog.check(server, profile)
        guard.refuse_foreign_rows(server, plan)
        return plan, None
    if not there.is_of(plan) or (anchor != "now" and there.anchor != plan.anchor):
        raise Refused(
            f"{there} is loaded; asked for was profile {profile.name!r} ({profile.digest()}), scale {scale}, "
            f"anchor {anchor}.",
            hint="Reset first: it removes the rows that seeding made.",
        )
    return at_scale(profile, scale, there.anchor), there


def load_at_once(server: Connection, plan: Plan, progress: Progress) -> tuple[dict[str, int], dict[str, str]]:
    record.begin(server, plan)
    load.make_functions(server, plan)
    load.at_once(server, plan, progress)
    progress.report(Step("prove it"))
    rows, hashes = _proven([server], plan)
    load.finish(server, plan)
    record.complete(server)
    return rows, hashes


def _load_in_steps(servers: list[Connection], plan: Plan, progress: Progress) -> tuple[dict[str, int], dict[str, str]]:
    first = servers[0]
    if record.read(first) is None:
        with transaction(first):
            record.begin(first, plan)
            load.make_functions(first, plan)
    load.in_steps(servers, plan, progress)
    progress.report(Step("prove it"))
    rows, hashes = _proven(servers, plan)
    with transaction(first):
        load.finish(first, plan)
        record.complete(first)
    return rows, hashes


def _try_out(server: Connection, profile: Profile, anchor: str, progress: Progress) -> None:
    plan = at_scale(profile, 1, anchor)
    if plan.in_one_transaction:
        progress.report(Step("try it out at scale 1"))
        with transaction(server, keep=False):
            load_at_once(server, plan, Silent())


def _proven(servers: list[Connection], plan: Plan) -> tuple[dict[str, int], dict[str, str]]:
    rows = proof.counts(servers[0], plan)
    found = proof.findings(servers, plan, rows)
    if found:
        raise Corrupt(
            f"The rows of profile {plan.profile.name!r} break {len(found)} of its promises. "
            + " | ".join(str(finding) for finding in found),
            hint="Mend the profile; `reset` removes rows that a load in steps has left.",
        )
    return rows, proof.content_hashes(servers, plan)


def _delete(server: Connection, plan: Plan) -> None:
    """Children first. Twice, for triggers write rows about the rows that are deleted."""
    for _round in range(2):
        for table in reversed(plan.profile.tables()):
            server.run(f"delete from {table} where {plan.seeded(table)}")


def _unchanged(server: Connection, plan: Plan) -> dict[str, Any]:
    rows = proof.counts(server, plan)
    msg = f"Profile {plan.profile.name!r} is there, {sum(rows.values())} rows."
    return {"changed": False, **_about(plan), "rows": rows, "msg": msg}


def _about(plan: Plan) -> dict[str, Any]:
    return {
        "profile": plan.profile.name,
        "digest": plan.profile.digest(),
        "seed": plan.profile.seed,
        "scale": plan.scale,
        "anchor": plan.anchor,
    }


def locked(server: Connection) -> None:
    """Busy while another one works. Of one that has just ended the server may need a moment to notice it."""
    deadline = time.monotonic() + _NOTICED_S
    while not server.value("select pg_try_advisory_lock(%s)", (_LOCK,)):
        if time.monotonic() > deadline:
            raise Busy("Another seeding works in this database.", hint="Wait until it is done.")
        time.sleep(0.05)


@contextlib.contextmanager
def connections(settings: Settings, database: str, count: int) -> Iterator[list[Connection]]:
    """That many sessions, all opened here: connecting as another OS user is for the main thread."""
    identity = cluster_identity(settings.host.os_user, settings.host.data_directory)
    with contextlib.ExitStack() as stack:
        servers: list[Connection] = []
        for number in range(count):
            if number == 1:
                _refuse_without_room(servers[0], count)
            server = stack.enter_context(connected(settings.connection, identity, database=database))
            load.prepare(server)
            servers.append(server)
        yield servers


def _refuse_without_room(server: Connection, count: int) -> None:
    room = server.value(
        "select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int "
        "- (select count(*) from pg_stat_activity where backend_type = 'client backend') + 1"
    )
    if room < count:
        raise Refused(
            f"{count} workers are asked for, and the server has room for {room} sessions.",
            hint="Ask for fewer workers, or raise max_connections.",
        )


@contextlib.contextmanager
def transaction(server: Connection, *, keep: bool = True) -> Iterator[None]:
    """All or nothing; with `keep` false nothing in any case."""
    server.run("begin")
    try:
        yield
    except BaseException:
        with contextlib.suppress(DbopsError):  # a connection that is gone has rolled back
            server.run("rollback")
        raise
    server.run("commit" if keep else "rollback")
