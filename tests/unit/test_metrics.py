# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics and the rules over them: promtool accepts both, all names are registered, every alert fires and clears."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup.attempt import Attempt
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, Unreachable
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health import metrics
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health.checks import judge
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health.facts import Facts, Probe
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health.registry import REGISTRY
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings_canary import CanarySettings
from tests.support.health import HOUR, NOW, backup, dump, facts, repository, server, wal

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "roles" / "monitoring" / "files" / "dbops.rules.yml"
K = 'cluster="c",method="physical",repo="r"'
R = 'cluster="c",repo="r"'
# Alert: series that make it fire after so long, and the same ones as they are when all is well.
# Values are promtool's: 0x60 is 0 for an hour, 0+60x60 keeps up with the clock.
LAST = "dbops_backup_last_success_timestamp_seconds"
FULL = f'{K},backup_type="full"'
STORED = f'{FULL},kind="stored"'
ALERTS: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "DbopsBackupMissing": (
        "30m", {f"dbops_policy_info{{{K}}}": "1x60"}, {f"{LAST}{{{K}}}": "0x60"},
    ),
    "DbopsBackupTooOld": (
        "40m",
        {f"dbops_policy_max_age_seconds{{{K}}}": "1800x60", f"{LAST}{{{K}}}": "0x60"},
        {f"{LAST}{{{K}}}": "0+60x60"},
    ),
    "DbopsBackupLastFailed": (
        "5m", {'dbops_backup_last_attempt_success{cluster="c",method="physical"}': "0x60"},
        {'dbops_backup_last_attempt_success{cluster="c",method="physical"}': "1x60"},
    ),
    "DbopsBackupTooSmall": (
        "5m",
        {f"dbops_policy_min_size_bytes{{{K}}}": "9x60", f"dbops_backup_last_size_bytes{{{STORED}}}": "8x60"},
        {f"dbops_backup_last_size_bytes{{{STORED}}}": "9x60"},
    ),
    "DbopsBackupShrank": (
        "55m", {f"dbops_backup_last_size_bytes{{{STORED}}}": "99x50 9x10"},
        {f"dbops_backup_last_size_bytes{{{STORED}}}": "99x50 60x10"},
    ),
    "DbopsBackupTooFew": (
        "30m", {f"dbops_policy_min_backups{{{K}}}": "2x60", f"dbops_backups{{{FULL}}}": "1x60"},
        {f"dbops_backups{{{FULL}}}": "2x60"},
    ),
    "DbopsBackupDamaged": ("5m", {f"dbops_backups_damaged{{{R}}}": "1x60"}, {f"dbops_backups_damaged{{{R}}}": "0x60"}),
    "DbopsVerifyFailed": (
        "5m",
        {f"dbops_backup_last_verify_success{{{K}}}": "0x60"},
        {f"dbops_backup_last_verify_success{{{K}}}": "1x60"},
    ),
    "DbopsNeverProven": (
        "25h", {f"dbops_policy_info{{{K}}}": "1x1600"},
        {f'dbops_backup_last_verified_timestamp_seconds{{{K},level="content"}}': "0x1600"},
    ),
    "DbopsProofTooOld": (
        "2h",
        {
            f"dbops_policy_max_unproven_seconds{{{K}}}": "600x130",
            f'dbops_backup_last_verified_timestamp_seconds{{{K},level="restore"}}': "0x130",
        },
        {f'dbops_backup_last_verified_timestamp_seconds{{{K},level="restore"}}': "0+60x130"},
    ),
    "DbopsPageErrors": (
        "30m", {'dbops_pg_checksum_failures_total{cluster="c",database="d"}': "0x10 3x50"},
        {'dbops_pg_checksum_failures_total{cluster="c",database="d"}': "3x60"},
    ),
    "DbopsWindowTooShort": (
        "90m",
        {
            f"dbops_policy_min_window_seconds{{{R}}}": "86400x90",
            f"dbops_recovery_window_start_timestamp_seconds{{{R}}}": "0x90",
        },
        {f"dbops_recovery_window_start_timestamp_seconds{{{R}}}": "-90000x90"},
    ),
    "DbopsWindowTooShort once the policy is old enough": (
        "90m",
        {
            f"dbops_policy_min_window_seconds{{{R}}}": "86400x90",
            f"dbops_policy_since_timestamp_seconds{{{R}}}": "-86400x90",
            f"dbops_recovery_window_start_timestamp_seconds{{{R}}}": "0x90",
        },
        {f"dbops_policy_since_timestamp_seconds{{{R}}}": "0x90"},  # asked for an hour and a half ago
    ),
    "DbopsRecoveryWindowGap": (
        "5m", {f"dbops_recovery_window_gaps{{{R}}}": "1x60"}, {f"dbops_recovery_window_gaps{{{R}}}": "0x60"},
    ),
    "DbopsRpoAtRisk": (
        "50m",
        {
            'dbops_slo_rpo_target_seconds{cluster="c"}': "1800x60",
            f"dbops_recovery_window_end_timestamp_seconds{{{R}}}": "0x60",
            f"dbops_wal_unarchived_bytes{{{R}}}": "100x60",
        },
        {f"dbops_wal_unarchived_bytes{{{R}}}": "0x60"},  # idle: nothing is unarchived, however long ago the last was
    ),
    "DbopsPgWalFilling": (
        "50m",
        {
            'dbops_pg_wal_free_bytes{cluster="c"}': "6000-100x60",
            'dbops_wal_archive_failures_total{cluster="c"}': "0+1x60",
        },
        {'dbops_wal_archive_failures_total{cluster="c"}': "7x60"},
    ),
    "DbopsRepoUnreachable": (
        "30m", {f'dbops_repo_probe_success{{{R},operation="list"}}': "0x60"},
        {f'dbops_repo_probe_success{{{R},operation="list"}}': "1x60"},
    ),
    "DbopsRepoNotDecryptable": (
        "30m", {f'dbops_repo_probe_success{{{R},operation="decrypt"}}': "0x60"},
        {f'dbops_repo_probe_success{{{R},operation="decrypt"}}': "1x60"},
    ),
    "DbopsCheckStale": (
        "40m", {'dbops_check_run_timestamp_seconds{cluster="c"}': "0x60"},
        {'dbops_check_run_timestamp_seconds{cluster="c"}': "0+60x60"},
    ),
    "DbopsServerUnseen": (
        "30m", {'dbops_collector_success{cluster="c",collector="server"}': "0x60"},
        {'dbops_collector_success{cluster="c",collector="server"}': "1x60"},
    ),
    "DbopsWalStateUnknown": (
        "30m", {f"dbops_policy_archiving_info{{{R}}}": "1x60"}, {f"dbops_wal_unarchived_bytes{{{R}}}": "0x60"},
    ),
    "DbopsCanaryStale": (
        "30m",
        {
            'dbops_policy_canary_max_age_seconds{cluster="c"}': "300x60",
            'dbops_canary_timestamp_seconds{cluster="c"}': "0x60",
        },
        {'dbops_canary_timestamp_seconds{cluster="c"}': "0+60x60"},
    ),
    "DbopsNotificationsFail": (
        "30m", {'dbops_notifications_total{cluster="c",channel="mail",result="failed"}': "0x10 3x50"},
        {'dbops_notifications_total{cluster="c",channel="mail",result="failed"}': "3x60"},
    ),
    "DbopsTextfileBroken": ("10m", {"node_textfile_scrape_error{}": "1x60"}, {"node_textfile_scrape_error{}": "0x60"}),
}  # fmt: skip


def promtool(*words: Any, content: str | None = None) -> str:
    program = shutil.which("promtool")
    assert program, "promtool is missing. Next: install prometheus, or run .ci/run packages."
    done = subprocess.run(
        [program, *map(str, words)],
        input=content,
        text=True,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def rendered(seen: Facts, before: str = "") -> str:
    return metrics.exposition(seen, judge(seen), before)


def test_promtool_accepts_the_rules():
    promtool("check", "rules", RULES)


def test_every_alert_fires_when_it_should_and_clears_when_it_should(tmp_path):
    """Each one with two hosts that export the same cluster."""
    assert {rule["alert"] for rule in rules() if "alert" in rule} == {
        *(name.split()[0] for name in ALERTS),
        "DbopsWatchdog",
    }
    tests = []
    for alert, (after, bad, good) in ALERTS.items():
        for series, expected in ((bad, True), ({**bad, **good}, False)):
            firing = f'count(count by (alertname) (ALERTS{{alertname="{alert.split()[0]}", alertstate="firing"}}))'
            tests.append(
                {
                    "name": f"{alert} {'fires' if expected else 'is quiet'}",
                    "interval": "1m",
                    "input_series": [
                        {"series": name.replace("{", f'{{instance="{host}",').replace(",}", "}"), "values": values}
                        for name, values in series.items()
                        for host in ("db1", "db2")
                    ],
                    "promql_expr_test": [
                        {
                            "expr": firing,
                            "eval_time": after,
                            "exp_samples": [{"labels": "{}", "value": 1}] if expected else [],
                        }
                    ],
                }
            )
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", file)


def test_a_cluster_of_which_nothing_is_heard_fires_and_one_that_speaks_does_not(tmp_path):
    """Its own series are gone with its host, so this rule is made of the inventory."""
    template = ROOT / "roles" / "monitoring" / "templates" / "clusters.rules.yml.j2"
    rules_file = tmp_path / "clusters.yml"
    made = jinja2.Environment(trim_blocks=True, autoescape=False).from_string(template.read_text())  # as Ansible does
    rules_file.write_text(made.render(monitoring_clusters=["c", "other"]))
    promtool("check", "rules", rules_file)
    firing = 'ALERTS{alertname="DbopsClusterAbsent", alertstate="firing"}'
    labels = 'ALERTS{alertname="DbopsClusterAbsent", alertstate="firing", cluster="other", severity="critical"}'
    case = {
        "interval": "1m",
        "input_series": [{"series": f'dbops_policy_info{{{K},instance="db1"}}', "values": "1x60"}],
        "promql_expr_test": [
            {"expr": firing, "eval_time": "30m", "exp_samples": [{"labels": labels, "value": 1}]},
            {"expr": firing, "eval_time": "10m", "exp_samples": []},
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(rules_file)], "evaluation_interval": "1m", "tests": [case]}))
    promtool("test", "rules", file)


def test_every_metric_and_label_in_a_rule_is_in_the_registry():
    outside = {"node_textfile_scrape_error"}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for rule in rules():
        text = rule["expr"] + str(rule.get("annotations", ""))
        for name in re.findall(r"(?<![\w:])(?:dbops|node)_\w+", rule["expr"]):
            assert name in REGISTRY or name in outside, name
        for name in re.findall(r"dbops:\w+", rule["expr"]):
            assert name in recorded
        known = {label for family in REGISTRY.values() for label in family.labels} | {"instance"}
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= known
        for labels, name in re.findall(r"by \(([^)]*)\) \((?:\w+ ?\()*(dbops_\w+)", rule["expr"]):
            assert set(labels.split(", ")) <= set(REGISTRY[name].labels), (name, labels)
        for selector_of, inside in re.findall(r"(dbops_\w+)\{([^}]*)\}", rule["expr"]):
            assert set(re.findall(r"(\w+)\s*[=!]", inside)) <= set(REGISTRY[selector_of].labels)
    for rule in rules():
        if "alert" in rule:
            assert {"summary", "runbook"} <= set(rule["annotations"])


def test_promtool_accepts_the_metrics_and_nothing_is_outside_of_the_registry():
    seen = facts(
        repository(backup(2, rpo_s=12.5, rto_s=33.0), backup(26, type="incremental"), dump(3, "shop")),
        repository(name='we"ird\\name'),
        methods=("physical", "logical"),
        databases=("shop",),
        policy={"min_window": "7d", "rto": "15m"},
        server=server(canary_at=NOW),
        canary=CanarySettings(enabled=True),
        window_since=NOW - HOUR,
        attempts=(Attempt("physical", NOW, True), Attempt("logical", NOW, None)),
        notifications={("mail", "sent"): 3, ("mail", "failed"): 0},
    )
    text = rendered(seen)
    promtool("check", "metrics", content=text)
    assert text.endswith("\n")
    found = set(re.findall(r"^(\w+)\{", text, re.M))
    assert found == set(REGISTRY)
    series = [line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(series) == len(set(series))
    assert len(re.findall(r"^# HELP", text, re.M)) == len(found)


def test_without_a_backup_there_is_a_count_of_zero_and_no_time_at_all():
    text = rendered(facts(repository(backups=())))
    assert 'dbops_backups{cluster="main",database="",method="physical",repo="disk",backup_type="full"} 0' in text
    assert "dbops_backup_last_success_timestamp_seconds" not in text
    assert "dbops_policy_info{" in text


def test_times_are_those_of_the_records():
    labels = 'cluster="main",database="",method="physical",repo="disk"'
    stopped = (NOW - 2 * HOUR).timestamp()
    assert f"dbops_backup_last_success_timestamp_seconds{{{labels}}} {stopped}" in rendered(facts())


def test_what_is_unarchived_ends_the_window_and_an_idle_server_does_not():
    idle = rendered(facts())
    assert f'dbops_recovery_window_end_timestamp_seconds{{cluster="main",repo="disk"}} {NOW.timestamp()}' in idle
    since = NOW - HOUR
    busy = rendered(facts(repository(wal=wal(unarchived_bytes=9, unarchived_since=since))))
    assert f'dbops_recovery_window_end_timestamp_seconds{{cluster="main",repo="disk"}} {since.timestamp()}' in busy


def test_a_repository_that_is_away_keeps_what_it_had_said_and_says_that_it_is_away():
    before = rendered(facts(repository(), repository(name="other")))
    away = repository(backups=(), probes=(Probe("list", False, "gone", 0.0),), wal=None)
    after = rendered(facts(away, repository(name="other")), before)
    promtool("check", "metrics", content=after)

    def last(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.startswith("dbops_backup_last_success_timestamp_seconds{")]

    assert sorted(last(after)) == sorted(last(before))
    assert 'dbops_repo_probe_success{cluster="main",repo="disk",operation="list"} 0' in after
    assert 'dbops_repo_probe_success{cluster="main",repo="disk",operation="list"} 1' not in after
    assert 'dbops_collector_success{cluster="main",collector="repository disk"} 0' in after
    assert rendered(facts(away, repository(name="other")), after) == after


def test_a_probe_that_could_not_be_tried_has_no_result():
    text = rendered(facts(repository(probes=(Probe("list", True, "", 0), Probe("decrypt", None, "no key", 0)))))
    assert 'dbops_repo_probe_success{cluster="main",repo="disk",operation="decrypt"}' not in text
    assert 'dbops_check_success{cluster="main",check="repository_decrypt",subject="disk"} 0' in text


def test_a_server_that_is_away_leaves_no_number_of_it():
    text = rendered(facts(repository(wal=wal(unarchived_bytes=None)), server=None, server_error="x"))
    assert 'dbops_collector_success{cluster="main",collector="server"} 0' in text
    assert "dbops_wal_unarchived_bytes{" not in text
    assert "dbops_wal_archive_failures_total{" in rendered(facts(server=server(failed_count=3)))


def test_the_file_is_replaced_whole_and_readable_by_the_exporter(tmp_path):
    path = tmp_path / "dbops.prom"
    metrics.write_textfile(str(path), "a 1\n")
    metrics.write_textfile(str(path), "b 2\n")
    assert metrics.read_textfile(str(path)) == "b 2\n"
    assert oct(path.stat().st_mode & 0o777) == "0o644"
    assert os.listdir(tmp_path) == ["dbops.prom"]
    with pytest.raises(BadInput, match=r"\.prom"):
        metrics.write_textfile(str(tmp_path / "dbops.txt"), "")
    with pytest.raises(Unreachable):
        metrics.write_textfile(str(tmp_path / "missing" / "dbops.prom"), "")
