# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts held against the policy. Every check answers for every subject, OK too; what it could not see is UNKNOWN. Pure.

A limit itself is still good: 93 600 s passes a limit of 26 h, and 93 601 s does not.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Optional

from ..progress import duration
from .facts import Backup, Facts, Repository, Server, Wal
from .finding import Finding, Measure, Severity

OK, WARNING, UNKNOWN, CRITICAL = Severity.OK, Severity.WARNING, Severity.UNKNOWN, Severity.CRITICAL
_CLOCKS = timedelta(minutes=5)  # a stop time comes from the server's host, `seen` from ours
_HISTORY = 14
_BACKUP = "Take one now: dbops backup. Then look why none was taken: its log, its schedule."


def judge(facts: Facts) -> list[Finding]:
    """Every finding, in the order in which a person would ask."""
    found: list[Finding] = []
    for repository in facts.repositories:
        found += _reachable(repository)
        if repository.reached:
            for method, database in wanted(facts):
                found += _of_backups(facts, repository, method, database)
            found += _readable(repository)
            found += _wal(facts, repository)
            found += _room("repository_room", repository.name, repository.free_bytes, repository.total_bytes, facts)
    if not facts.repositories:
        found.append(Finding("repository", "-", CRITICAL, "No repository is configured.", "Run playbooks/setup.yml."))
    found += _attempts(facts)
    found += _server(facts)
    found += _agent(facts)
    return found


# -- repositories


def _reachable(repository: Repository) -> Iterator[Finding]:
    for probe in repository.probes:
        severity = {True: OK, False: CRITICAL, None: UNKNOWN}[probe.ok]
        if probe.ok is False and not repository.required:
            severity = WARNING
        hint = "" if probe.ok else "Look at its disk, network and credentials; dbops info says more."
        measure = Measure(f"{repository.name}_{probe.operation}", round(probe.seconds, 3), "s")
        yield Finding(f"repository_{probe.operation}", repository.name, severity, probe.message, hint, measure)


def _readable(repository: Repository) -> Iterator[Finding]:
    damaged = [backup for backup in repository.backups if backup.damaged]
    broken = [backup for backup in repository.backups if backup.broken_chain]
    name, hint = "intact", "Take a new backup now, then find out what changed the repository."
    for label, why in repository.unreadable:
        yield Finding(name, f"{repository.name} {label}", CRITICAL, f"{label} cannot be read: {why}", hint)
    for backup in damaged:
        message = f"{backup.label} is damaged: {'; '.join(backup.damaged[:3])}."
        yield Finding(name, f"{repository.name} {backup.label}", CRITICAL, message, hint)
    for backup in broken:
        message = f"{backup.label} cannot be restored: {backup.broken_chain}."
        yield Finding(name, f"{repository.name} {backup.label}", CRITICAL, message, hint)
    if not (repository.unreadable or damaged or broken):
        message = f"Every object of {len(repository.backups)} backups is there in its size."
        yield Finding(name, repository.name, OK, message)


# -- backups


def wanted(facts: Facts) -> Iterator[tuple[str, Optional[str]]]:
    """The methods by which there must be backups, dumps by database where databases are named."""
    for method in facts.methods:
        if method == "logical" and facts.databases:
            for database in facts.databases:
                yield method, database
        else:
            yield method, None


def candidates(repository: Repository, method: str, database: Optional[str]) -> list[Backup]:
    """Valid ones, newest end first; database names are exact."""
    found = [
        backup
        for backup in repository.backups
        if backup.valid and backup.method == method and (database is None or database in backup.databases)
    ]
    return sorted(found, key=lambda backup: (backup.stopped, backup.label), reverse=True)


def _of_backups(facts: Facts, repository: Repository, method: str, database: Optional[str]) -> Iterator[Finding]:
    subject = " ".join(filter(None, [repository.name, method, database]))
    backups = candidates(repository, method, database)
    policy = facts.policy
    yield _age(facts, subject, backups)
    yield from _size(facts, subject, backups)
    count = len(backups)
    yield Finding(
        "count",
        subject,
        OK if count >= policy.min_count else CRITICAL,
        f"{count} valid backup{'' if count == 1 else 's'}, {policy.min_count} wanted.",
        "" if count >= policy.min_count else _BACKUP,
        Measure(f"{subject} count", count, "", critical=f"{policy.min_count}:"),
    )
    yield _proof(facts, subject, backups)


def _age(facts: Facts, subject: str, backups: list[Backup]) -> Finding:
    if not backups:
        return Finding("age", subject, CRITICAL, "There is no valid backup.", _BACKUP)
    newest = backups[0]
    age = facts.seen - newest.stopped
    if age < -_CLOCKS:
        message = f"{newest.label} ended {duration(-age.total_seconds())} in the future."
        return Finding("age", subject, UNKNOWN, message, "Set the clocks of this host and the database host right.")
    limit = timedelta(seconds=facts.policy.max_age_s)
    good = age <= limit
    message = f"{newest.label} ended {duration(max(0.0, age.total_seconds()))} ago"
    measure = Measure(f"{subject} age", int(age.total_seconds()), "s", critical=str(facts.policy.max_age_s))
    if good:
        return Finding("age", subject, OK, f"{message}.", measure=measure)
    return Finding("age", subject, CRITICAL, f"{message}, more than {facts.policy.max_age}.", _BACKUP, measure)


def _size(facts: Facts, subject: str, backups: list[Backup]) -> Iterator[Finding]:
    """Of the newest one that is no incremental: those may rightly be small."""
    whole = [backup for backup in backups if backup.type != "incremental"]
    if not whole:
        return
    newest, policy = whole[0], facts.policy
    size = newest.stored_bytes
    usual = statistics.median([backup.stored_bytes for backup in whole[1 : _HISTORY + 1]]) if len(whole) > 1 else None
    measure = Measure(f"{subject} size", size, "B", warning=f"{policy.min_size_bytes}:")
    hint = "Look what is missing in it: dbops info LABEL, then dbops verify LABEL."
    if size < policy.min_size_bytes:
        message = f"{newest.label} has {size} bytes, less than {policy.min_size_bytes}."
        yield Finding("size", subject, WARNING, message, hint, measure)
    elif usual and size < usual * policy.min_size_percent / 100:
        message = f"{newest.label} has {size} bytes, less than {policy.min_size_percent} % of the usual {usual:.0f}."
        yield Finding("size", subject, WARNING, message, hint, measure)
    else:
        yield Finding("size", subject, OK, f"{newest.label} has {size} bytes.", measure=measure)


def _attempts(facts: Facts) -> Iterator[Finding]:
    """A backup that failed is told before the newest good one is too old."""
    for attempt in facts.attempts:
        at = _time(attempt.started)
        if attempt.ok is False:
            message = f"The last try at a {attempt.method} backup, at {at}, failed: {attempt.words or 'see its log.'}"
            hint = "Run dbops backup, and look at what it says."
            yield Finding("attempt", attempt.method, WARNING, message, hint)
        else:
            words = "runs" if attempt.ok is None else "went well"
            yield Finding("attempt", attempt.method, OK, f"The {attempt.method} backup of {at} {words}.")


def _proof(facts: Facts, subject: str, backups: list[Backup]) -> Finding:
    hint = "Run playbooks/verify.yml, or dbops verify."
    looked = [backup for backup in backups if backup.last_verified_at]
    last = max(looked, key=lambda backup: backup.last_verified_at or backup.stopped, default=None)
    if last is not None and last.last_verdict == "fail":
        message = f"The verification of {last.label} failed: {last.last_words or 'see its proof'}"
        return Finding("proof", subject, CRITICAL, message, "Take a new backup, and verify it: dbops verify.")
    proven = [backup.proven_at for backup in backups if backup.proven_at]
    if not proven:
        return Finding("proof", subject, WARNING, "No backup was ever proven by a restore.", hint)
    age = (facts.seen - max(proven)).total_seconds()
    good = age <= facts.policy.max_unproven_s
    message = f"The last proof is {duration(max(0.0, age))} old"
    measure = Measure(f"{subject} proof_age", int(age), "s", warning=str(facts.policy.max_unproven_s))
    if not good:
        message += f", more than {facts.policy.max_unproven}"
    return Finding("proof", subject, OK if good else WARNING, f"{message}.", "" if good else hint, measure)


# -- WAL


def wants_archiving(facts: Facts, wal: Optional[Wal]) -> bool:
    if facts.policy.archiving != "auto":
        return facts.policy.archiving == "required"
    return bool(wal and wal.segments) or bool(facts.server and facts.server.archives)


def _wal(facts: Facts, repository: Repository) -> Iterator[Finding]:
    wal = repository.wal
    if repository.wal_error:
        yield Finding("window", repository.name, UNKNOWN, repository.wal_error, "See dbops wal info.")
        return
    if not wants_archiving(facts, wal):
        return
    if wal is None or not wal.intervals:
        message = "No instant can be recovered to: no base backup has the WAL that it needs."
        yield Finding("window", repository.name, CRITICAL, message, "Take a full backup; look at dbops wal info.")
    else:
        yield from _window(facts, repository.name, wal)
    if wal is not None:
        yield from _exposure(facts, repository.name, wal)


def _window(facts: Facts, name: str, wal: Wal) -> Iterator[Finding]:
    newest, older = wal.intervals[-1], wal.intervals[:-1]
    lost = [item.broken_by for item in wal.intervals if item.broken_by]
    if newest.broken_by:
        message = f"WAL segment {newest.broken_by} is lost: nothing behind it can be recovered to."
        yield Finding(
            "gap", name, CRITICAL, message, "Take a new backup now: dbops backup.", Measure("gaps", len(lost))
        )
    elif lost:
        message = f"The window has {len(lost)} gap{'' if len(lost) == 1 else 's'}, first at segment {lost[0]}."
        hint = "Nothing in it can be recovered to; a newer backup stands behind it. Find out who removed it."
        yield Finding("gap", name, WARNING, message, hint, Measure(f"{name} gaps", len(lost)))
    else:
        yield Finding("gap", name, OK, "The window has no gap.", measure=Measure(f"{name} gaps", 0))
    length = (facts.seen - newest.start).total_seconds()
    limit = facts.policy.min_window_s
    message = f"Every instant since {newest.start:%Y-%m-%dT%H:%M:%SZ} can be recovered to"
    if older:
        message += ", and some before"
    measure = Measure(f"{name} window", int(length), "s", warning=None if limit is None else f"{limit}:")
    young = (
        facts.window_since is not None
        and limit is not None
        and (facts.seen - facts.window_since).total_seconds() < limit
    )
    if limit is not None and length < limit and young:
        message += f"; {facts.policy.min_window} have been wanted since {facts.window_since:%Y-%m-%dT%H:%M:%SZ} only."
        yield Finding("window", name, OK, message, measure=measure)
    elif limit is not None and length < limit:
        hint = "Keep backups longer (retention.keep_within), or wait if archiving is young."
        yield Finding("window", name, WARNING, f"{message}; {facts.policy.min_window} are wanted.", hint, measure)
    else:
        yield Finding("window", name, OK, f"{message}.", measure=measure)


def exposure_s(facts: Facts, wal: Wal) -> Optional[float]:
    """For how long a commit has been on the server alone; 0 when none is, however long ago the last segment came.

    None where nobody can tell: the server was not asked, or is a standby.
    """
    if wal.unarchived_bytes is None:
        return None
    since = wal.unarchived_since
    return max(0.0, (facts.seen - since).total_seconds()) if since else 0.0


def _exposure(facts: Facts, name: str, wal: Wal) -> Iterator[Finding]:
    if facts.server is not None and facts.server.in_recovery:
        return  # its primary tells
    seconds = exposure_s(facts, wal)
    if seconds is None:
        yield Finding("exposure", name, UNKNOWN, "Nobody could tell what is not archived yet.", "Is the server up?")
        return
    good = seconds <= facts.policy.rpo_s
    message = (
        f"The oldest commit that is not archived is {duration(seconds)} old"
        if seconds
        else "Everything that was committed is archived"
    )
    measure = Measure(f"{name} exposure", int(seconds), "s", critical=str(facts.policy.rpo_s))
    hint = "" if good else "See dbops wal status, and mend what it names."
    message += "." if good else f", more than {facts.policy.rpo}."
    yield Finding("exposure", name, OK if good else CRITICAL, message, hint, measure)


# -- the server and this host


def _server(facts: Facts) -> Iterator[Finding]:
    server = facts.server
    if server is None:
        yield Finding("server", "server", UNKNOWN, facts.server_error, "Start it, or look at its log.")
        return
    yield Finding("server", "server", OK, f"PostgreSQL {server.version} answers.")
    yield from _archiver(facts, server)
    pending = ", ".join(server.restart_pending)
    if pending:
        message = f"A restart is pending for {pending}."
        yield Finding("restart_pending", "server", WARNING, message, "Restart it when it suits you.")
    else:
        yield Finding("restart_pending", "server", OK, "No setting waits for a restart.")
    yield from _canary(facts, server)
    bad = {name: count for name, count in server.checksum_failures.items() if count}
    if bad:
        message = f"Page checksums failed in {', '.join(f'{name} ({count})' for name, count in sorted(bad.items()))}."
        hint = "Run pg_amcheck there; look at the disk; be ready to restore."
        yield Finding("page_checksums", "server", CRITICAL, message, hint)
    yield from _room("pg_wal_room", "server", server.wal_free_bytes, server.wal_total_bytes, facts)


def _canary(facts: Facts, server: Server) -> Iterator[Finding]:
    """Whether somebody still writes it; a standby shows what its primary wrote."""
    if not facts.canary.enabled:
        return
    hint = "Run dbops canary every minute on the primary: see docs/monitoring.md."
    if server.canary_at is None:
        yield Finding("canary", "server", WARNING, "The canary was never written.", hint)
        return
    age = max(0.0, (facts.seen - server.canary_at).total_seconds())
    good = age <= facts.canary.max_age_s
    measure = Measure("canary_age", int(age), "s", warning=str(facts.canary.max_age_s))
    message = f"The canary was written {duration(age)} ago" + ("." if good else f", more than {facts.canary.max_age}.")
    yield Finding("canary", "server", OK if good else WARNING, message, "" if good else hint, measure)


def _archiver(facts: Facts, server: Server) -> Iterator[Finding]:
    if facts.policy.archiving == "off" or (facts.policy.archiving == "auto" and not server.archives):
        return
    hint = "See dbops wal status; run playbooks/archiving.yml to set it up and prove it."
    waiting = "" if server.waiting_files is None else f"; {server.waiting_files} files wait"
    measure = None if server.waiting_files is None else Measure("wal_waiting", server.waiting_files)
    if server.in_recovery:
        yield Finding("archiving", "server", OK, "A standby: its primary archives.")
    elif not server.archives:
        yield Finding("archiving", "server", CRITICAL, "The server does not archive.", hint)
    elif server.archive_failing:
        at = f" since {_time(server.last_failed_at)}" if server.last_failed_at else ""
        message = f"Archiving fails at {server.last_failed_wal}{at}{waiting}."
        yield Finding("archiving", "server", CRITICAL, message, hint, measure)
    elif server.waiting_s is not None and server.waiting_s > facts.policy.rpo_s:
        message = f"A segment has waited for {duration(server.waiting_s)}{waiting}."
        yield Finding("archiving", "server", CRITICAL, message, hint, measure)
    else:
        message = f"Archiving works{waiting}."
        yield Finding("archiving", "server", OK, message, measure=measure)


def _room(check: str, subject: str, free: Optional[int], total: Optional[int], facts: Facts) -> Iterator[Finding]:
    if free is None or not total:
        return  # a store without such a limit, or a server elsewhere
    percent = 100 * free / total
    limit = facts.policy.min_free_percent
    severity = OK if percent >= limit else WARNING if percent >= limit / 2 else CRITICAL
    hint = "" if severity is OK else "Free space, or give it more; expire old backups (dbops expire)."
    measure = Measure(f"{subject} {check}", free, "B", f"{total * limit // 100}:", f"{total * limit // 200}:")
    yield Finding(check, subject, severity, f"{percent:.0f} % free, {free} bytes.", hint, measure)


def _agent(facts: Facts) -> Iterator[Finding]:
    if facts.agent_version in (None, facts.tool_version):
        return
    message = f"This host has dbops {facts.agent_version} installed, and {facts.tool_version} asks."
    yield Finding("agent", "host", WARNING, message, "Run playbooks/setup.yml.")


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
