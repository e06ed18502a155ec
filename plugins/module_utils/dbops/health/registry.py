# SPDX-License-Identifier: GPL-3.0-or-later
"""Every metric that exists: its name, type, labels and help text. Rules and dashboards may use these and no others.

Instants are timestamps and never ages, which would freeze when the collector stalls. `database` is empty for the whole
cluster, which Prometheus takes for no label at all.
"""

from __future__ import annotations

from dataclasses import dataclass

K = ("cluster", "database", "method", "repo")
R = ("cluster", "repo")


@dataclass(frozen=True)
class Family:
    name: str
    kind: str  # gauge | counter
    labels: tuple[str, ...]
    help: str


_FAMILIES = (
    Family("dbops_policy_info", "gauge", K, "1 for each thing that must exist."),
    Family("dbops_policy_max_age_seconds", "gauge", K, "The greatest healthy age of the newest backup."),
    Family("dbops_policy_min_size_bytes", "gauge", K, "The least healthy stored size of a backup."),
    Family("dbops_policy_min_backups", "gauge", K, "The least healthy number of valid backups."),
    Family("dbops_policy_min_window_seconds", "gauge", R, "How far back recovery must reach."),
    Family("dbops_policy_since_timestamp_seconds", "gauge", R, "Since when so long a window has been asked for."),
    Family("dbops_policy_max_unproven_seconds", "gauge", K, "The longest healthy time since a verification passed."),
    Family("dbops_policy_archiving_info", "gauge", R, "1 where WAL must be archived."),
    Family("dbops_slo_rpo_target_seconds", "gauge", ("cluster",), "The greatest healthy age of an unarchived commit."),
    Family("dbops_slo_rto_target_seconds", "gauge", ("cluster",), "How long copy and replay of a recovery may take."),
    Family("dbops_backup_last_success_timestamp_seconds", "gauge", K, "When the newest valid backup ended."),
    Family("dbops_backup_last_attempt_timestamp_seconds", "gauge", ("cluster", "method"), "When the last try began."),
    Family("dbops_backup_last_attempt_success", "gauge", ("cluster", "method"), "1 when the last try went well."),
    Family("dbops_backup_oldest_timestamp_seconds", "gauge", K, "When the oldest valid backup ended."),
    Family("dbops_backup_last_duration_seconds", "gauge", K, "How long the newest valid backup took."),
    Family("dbops_backup_last_size_bytes", "gauge", (*K, "backup_type", "kind"), "Size of the newest one of its type."),
    Family("dbops_backups", "gauge", (*K, "backup_type"), "Valid backups."),
    Family("dbops_backups_damaged", "gauge", R, "Backups that cannot be restored or read."),
    Family(
        "dbops_backup_last_info", "gauge", (*K, "label", "pg_version", "backup_type", "encrypted"), "The newest backup."
    ),
    Family("dbops_backup_last_verified_timestamp_seconds", "gauge", (*K, "level"), "When a verification passed last."),
    Family("dbops_backup_last_verify_success", "gauge", K, "1 unless the last verification failed."),
    Family("dbops_wal_unarchived_bytes", "gauge", R, "WAL with commits that the repository does not have."),
    Family(
        "dbops_wal_missing_segments", "gauge", (*R, "state"), "Segments that are absent although newer ones are there."
    ),
    Family("dbops_wal_archive_failures_total", "counter", ("cluster",), "Failed archive commands, by the server."),
    Family("dbops_recovery_window_start_timestamp_seconds", "gauge", R, "Begin of the newest interval without a gap."),
    Family("dbops_recovery_window_end_timestamp_seconds", "gauge", R, "Up to when every commit can be recovered."),
    Family("dbops_recovery_window_gaps", "gauge", R, "Places at which the recovery window is broken."),
    Family("dbops_repo_probe_success", "gauge", (*R, "operation"), "1 when the operation was tried and worked."),
    Family("dbops_repo_probe_timestamp_seconds", "gauge", (*R, "operation"), "When the operation was tried."),
    Family("dbops_repo_probe_duration_seconds", "gauge", (*R, "operation"), "How long the operation took."),
    Family("dbops_repo_size_bytes", "gauge", R, "What backups and WAL take."),
    Family("dbops_repo_free_bytes", "gauge", R, "What is free where the repository lies."),
    Family("dbops_pg_wal_free_bytes", "gauge", ("cluster",), "What is free where pg_wal lies."),
    Family("dbops_pg_wal_size_bytes", "gauge", ("cluster",), "The size of the file system where pg_wal lies."),
    Family("dbops_pg_checksum_failures_total", "counter", ("cluster", "database"), "Page checksum failures."),
    Family("dbops_canary_timestamp_seconds", "gauge", ("cluster",), "When the canary was written last."),
    Family("dbops_policy_canary_max_age_seconds", "gauge", ("cluster",), "The greatest healthy age of the canary."),
    Family("dbops_rto_estimate_seconds", "gauge", K, "Copy and replay, by the rates of the last proof; an estimate."),
    Family("dbops_verify_rpo_seconds", "gauge", K, "What would have been lost at the last verification."),
    Family("dbops_check_success", "gauge", ("cluster", "check", "subject"), "1 when passed, 0 when not or not run."),
    Family("dbops_check_severity", "gauge", ("cluster",), "The worst finding: 0 OK, 1 WARNING, 2 UNKNOWN, 3 CRITICAL."),
    Family("dbops_check_run_timestamp_seconds", "gauge", ("cluster",), "When the checks ran."),
    Family("dbops_collector_success", "gauge", ("cluster", "collector"), "1 when the collector could look."),
    Family("dbops_notifications_total", "counter", ("cluster", "channel", "result"), "Deliveries, sent and failed."),
    Family("dbops_build_info", "gauge", ("cluster", "version"), "What runs."),
)
REGISTRY = {family.name: family for family in _FAMILIES}
