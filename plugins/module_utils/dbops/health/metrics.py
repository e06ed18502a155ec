# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts and findings in Prometheus' text format, and the file that the node exporter reads. Names: registry.py."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Union

from ..errors import BadInput, Unreachable
from .checks import candidates, exposure_s, wanted, wants_archiving
from .facts import Backup, Facts, Repository
from .finding import Finding, Severity, worst
from .registry import REGISTRY

_OF_THIS_LOOK = ("dbops_repo_probe_", "dbops_check_", "dbops_collector_", "dbops_policy_")
_LINE = re.compile(r"(?P<name>\w+)\{(?P<labels>.*)\} \S+")


@dataclass(frozen=True)
class Sample:
    name: str
    labels: tuple[str, ...]  # values, in the order of the registry
    value: Union[int, float]

    def __str__(self) -> str:
        names = REGISTRY[self.name].labels
        pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, self.labels))
        return f"{self.name}{{{pairs}}} {_number(self.value)}"


def exposition(facts: Facts, findings: Sequence[Finding], before: str = "") -> str:
    """The whole file. `before` is the last one: what a repository that is away had said then is kept.

    A series that vanishes would look like a backup that does.
    """
    lines: dict[str, list[str]] = {}
    for sample in samples(facts, findings):
        lines.setdefault(sample.name, []).append(str(sample))
    for name, line in _kept(facts, before):
        lines.setdefault(name, []).append(line)
    text = []
    for family in REGISTRY.values():
        if family.name in lines:
            text += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
            text += dict.fromkeys(lines[family.name])
    return "\n".join(text) + "\n"


def write_textfile(path: str, text: str) -> None:
    """There whole or not at all, readable by the exporter, in the directory that it watches."""
    if not path.endswith(".prom"):
        raise BadInput(f"{path} would not be read.", hint="The node exporter reads files that end with .prom.")
    temporary = f"{path}.{os.getpid()}"  # in the same directory, or the rename would be a copy
    try:
        with open(temporary, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), 0o644)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise Unreachable(f"Cannot write {path}: {exc.strerror}.", hint="Make its directory, or name another.") from exc


def read_textfile(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except (OSError, UnicodeDecodeError):
        return ""


def samples(facts: Facts, findings: Sequence[Finding]) -> Iterator[Sample]:
    cluster = facts.cluster
    yield Sample("dbops_build_info", (cluster, facts.tool_version), 1)
    yield Sample("dbops_slo_rpo_target_seconds", (cluster,), facts.policy.rpo_s)
    if facts.policy.rto_s is not None:
        yield Sample("dbops_slo_rto_target_seconds", (cluster,), facts.policy.rto_s)
    if facts.canary.enabled:
        yield Sample("dbops_policy_canary_max_age_seconds", (cluster,), facts.canary.max_age_s)
    for repository in facts.repositories:
        yield from _policy(facts, repository)
        yield from _probes(facts, repository)
        if repository.reached:
            yield from _repository(facts, repository)
    for attempt in facts.attempts:
        yield Sample("dbops_backup_last_attempt_timestamp_seconds", (cluster, attempt.method), _stamp(attempt.started))
        if attempt.ok is not None:
            yield Sample("dbops_backup_last_attempt_success", (cluster, attempt.method), int(attempt.ok))
    yield from _server(facts)
    yield from _checks(facts, findings)
    for (channel, result), number in sorted(facts.notifications.items()):
        yield Sample("dbops_notifications_total", (cluster, channel, result), number)


def _policy(facts: Facts, repository: Repository) -> Iterator[Sample]:
    policy = facts.policy
    for method, database in wanted(facts):
        key = (facts.cluster, database or "", method, repository.name)
        yield Sample("dbops_policy_info", key, 1)
        yield Sample("dbops_policy_max_age_seconds", key, policy.max_age_s)
        yield Sample("dbops_policy_min_size_bytes", key, policy.min_size_bytes)
        yield Sample("dbops_policy_min_backups", key, policy.min_count)
        yield Sample("dbops_policy_max_unproven_seconds", key, policy.max_unproven_s)
    if not wants_archiving(facts, repository.wal):
        return
    yield Sample("dbops_policy_archiving_info", (facts.cluster, repository.name), 1)
    if policy.min_window_s is not None:
        place = (facts.cluster, repository.name)
        yield Sample("dbops_policy_min_window_seconds", place, policy.min_window_s)
        if facts.window_since is not None:
            yield Sample("dbops_policy_since_timestamp_seconds", place, _stamp(facts.window_since))


def _probes(facts: Facts, repository: Repository) -> Iterator[Sample]:
    for probe in repository.probes:
        key = (facts.cluster, repository.name, probe.operation)
        if probe.ok is not None:  # what could not even be tried has no result; the check's own series says so
            yield Sample("dbops_repo_probe_success", key, int(probe.ok))
        yield Sample("dbops_repo_probe_timestamp_seconds", key, facts.seen.timestamp())
        yield Sample("dbops_repo_probe_duration_seconds", key, round(probe.seconds, 3))
    yield Sample("dbops_collector_success", (facts.cluster, f"repository {repository.name}"), int(repository.reached))


def _repository(facts: Facts, repository: Repository) -> Iterator[Sample]:
    key = (facts.cluster, repository.name)
    for method, database in wanted(facts):
        yield from _backups(
            (facts.cluster, database or "", method, repository.name), candidates(repository, method, database)
        )
    damaged = len(repository.unreadable) + sum(not backup.valid for backup in repository.backups)
    yield Sample("dbops_backups_damaged", key, damaged)
    wal_bytes = repository.wal.stored_bytes if repository.wal else 0
    size = sum(backup.stored_bytes for backup in repository.backups) + wal_bytes
    yield Sample("dbops_repo_size_bytes", key, size)
    if repository.free_bytes is not None:
        yield Sample("dbops_repo_free_bytes", key, repository.free_bytes)
    yield from _wal(facts, repository)


def _backups(key: tuple[str, ...], backups: list[Backup]) -> Iterator[Sample]:
    """Without a backup there is no series but the count, which is 0: `time() - 0` would be fifty years."""
    types = {"physical": ("full", "incremental"), "logical": ("dump",)}[key[2]]
    for backup_type in types:
        of_type = [backup for backup in backups if backup.type == backup_type]
        yield Sample("dbops_backups", (*key, backup_type), len(of_type))
        for backup in of_type[:1]:
            sizes = {"stored": backup.stored_bytes, "database": backup.database_bytes}
            for kind, size in sizes.items():
                if size is not None:
                    yield Sample("dbops_backup_last_size_bytes", (*key, backup_type, kind), size)
    if not backups:
        return
    newest = backups[0]
    yield Sample("dbops_backup_last_success_timestamp_seconds", key, _stamp(newest.stopped))
    yield Sample("dbops_backup_oldest_timestamp_seconds", key, _stamp(backups[-1].stopped))
    duration = (newest.stopped - newest.started).total_seconds()
    yield Sample("dbops_backup_last_duration_seconds", key, round(duration, 3))
    encrypted = "true" if newest.encrypted else "false"
    info = (*key, newest.label, newest.postgres_version, newest.type, encrypted)
    yield Sample("dbops_backup_last_info", info, 1)
    proven: dict[str, datetime] = {}
    for backup in backups:
        if backup.proven_at and backup.proven_level:
            proven[backup.proven_level] = max(backup.proven_at, proven.get(backup.proven_level, backup.proven_at))
    for level, moment in sorted(proven.items()):
        yield Sample("dbops_backup_last_verified_timestamp_seconds", (*key, level), _stamp(moment))
    looked = [backup for backup in backups if backup.last_verified_at]
    if looked:
        last = max(looked, key=lambda backup: backup.last_verified_at or backup.stopped)
        measured = [backup for backup in looked if backup.rto_s is not None and backup.proven_at]
        if measured:
            newest_proof = max(measured, key=lambda backup: backup.proven_at or backup.stopped)
            yield Sample("dbops_rto_estimate_seconds", key, newest_proof.rto_s or 0.0)
        if last.rpo_s is not None:
            yield Sample("dbops_verify_rpo_seconds", key, last.rpo_s)
        yield Sample("dbops_backup_last_verify_success", key, int(last.last_verdict != "fail"))


def _wal(facts: Facts, repository: Repository) -> Iterator[Sample]:
    wal, key = repository.wal, (facts.cluster, repository.name)
    if wal is None or not wants_archiving(facts, wal):
        return
    yield Sample("dbops_wal_missing_segments", (*key, "lost"), wal.missing)
    yield Sample("dbops_recovery_window_gaps", key, sum(item.broken_by is not None for item in wal.intervals))
    if wal.intervals:
        yield Sample("dbops_recovery_window_start_timestamp_seconds", key, _stamp(wal.intervals[-1].start))
    exposure = exposure_s(facts, wal)
    if exposure is not None:
        yield Sample("dbops_wal_unarchived_bytes", key, wal.unarchived_bytes or 0)
        end = wal.unarchived_since or facts.seen
        yield Sample("dbops_recovery_window_end_timestamp_seconds", key, _stamp(end))


def _server(facts: Facts) -> Iterator[Sample]:
    server = facts.server
    yield Sample("dbops_collector_success", (facts.cluster, "server"), int(server is not None))
    if server is None:
        return
    yield Sample("dbops_wal_archive_failures_total", (facts.cluster,), server.failed_count)
    if server.canary_at is not None:
        yield Sample("dbops_canary_timestamp_seconds", (facts.cluster,), _stamp(server.canary_at))
    if server.wal_free_bytes is not None and server.wal_total_bytes is not None:
        yield Sample("dbops_pg_wal_free_bytes", (facts.cluster,), server.wal_free_bytes)
        yield Sample("dbops_pg_wal_size_bytes", (facts.cluster,), server.wal_total_bytes)
    for database, count in sorted(server.checksum_failures.items()):
        yield Sample("dbops_pg_checksum_failures_total", (facts.cluster, database), count)


def _checks(facts: Facts, findings: Sequence[Finding]) -> Iterator[Sample]:
    by_key: dict[tuple[str, str], list[Finding]] = {}
    for found in findings:
        # a subject may name a backup, and labels that come and go are no labels of a series
        subject = found.subject.split(" ", 1)[0] if found.check == "intact" else found.subject
        by_key.setdefault((found.check, subject), []).append(found)
    for (check, subject), items in by_key.items():
        yield Sample("dbops_check_success", (facts.cluster, check, subject), int(worst(items) is Severity.OK))
    yield Sample("dbops_check_severity", (facts.cluster,), worst(findings).rank)
    yield Sample("dbops_check_run_timestamp_seconds", (facts.cluster,), facts.seen.timestamp())


def _kept(facts: Facts, before: str) -> Iterator[tuple[str, str]]:
    away = [repository.name for repository in facts.repositories if not repository.reached]
    marks = [f'repo="{_escaped(name)}"' for name in away]
    for line in before.splitlines() if marks else ():
        match = _LINE.fullmatch(line)
        if match is None or match["name"] not in REGISTRY or match["name"].startswith(_OF_THIS_LOOK):
            continue
        if any(mark in match["labels"] for mark in marks):
            yield match["name"], line


def _stamp(moment: datetime) -> float:
    return round(moment.timestamp(), 3)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: Union[int, float]) -> str:
    return repr(value)
