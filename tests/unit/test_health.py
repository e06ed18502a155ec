# SPDX-License-Identifier: GPL-3.0-or-later
"""What health decides: each limit on both sides of it, each thing that cannot be seen, and how findings add up."""

from __future__ import annotations

import json
import re
import sys
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.backup.attempt import Attempt
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health.check import check
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health.checks import judge
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health.facts import Probe, Reach
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health.finding import Finding, Severity, worst
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health.render import as_dict, nagios
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health.since import window_policy_since
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import from_mapping
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings_canary import CanarySettings
from tests.support.health import HOUR, NOW, SEGMENT, backup, dump, facts, repository, server, wal

SECOND = timedelta(seconds=1)
severities = st.sampled_from(Severity)


def found(seen, check, subject=None):
    """The one finding of that check that is not OK, else the first; its severity and message."""
    items = [item for item in judge(seen) if item.check == check and subject in (None, item.subject)]
    assert items, f"nothing was said about {check}"
    item = max(items, key=lambda one: one.severity.rank)
    return item.severity.value


def test_a_protected_cluster_is_ok_and_every_check_says_so():
    findings = judge(facts())
    assert {item.severity for item in findings} == {Severity.OK}
    assert {item.check for item in findings} >= {
        "repository_list", "repository_read", "age", "size", "count", "proof", "intact", "gap", "window", "exposure",
        "repository_room", "server", "archiving", "restart_pending", "pg_wal_room",
    }  # fmt: skip


@given(st.lists(severities))
def test_nothing_found_later_makes_it_better(items):
    """M1: a later warning must not hide an earlier error."""
    findings = [Finding("x", "x", item, "") for item in items]
    for more in Severity:
        total = worst([*findings, Finding("x", "x", more, "")])
        assert total.rank == max([more.rank, *(item.rank for item in items)])


def test_unknown_is_worse_than_a_warning_hides_no_critical_and_is_never_zero():
    order = [Severity.OK, Severity.WARNING, Severity.UNKNOWN, Severity.CRITICAL]
    assert sorted(Severity, key=lambda item: item.rank) == order
    assert [item.exit_code for item in order] == [0, 1, 3, 2]
    assert worst([]) is Severity.UNKNOWN


def test_no_backup_at_all_is_critical_whatever_else_is_only_a_warning():
    seen = facts(repository(backups=(), wal=None), server=server(restart_pending=("port",), archives=False))
    assert found(seen, "age") == "CRITICAL"
    assert found(seen, "restart_pending") == "WARNING"
    assert worst(judge(seen)) is Severity.CRITICAL


def test_age_counts_in_seconds_from_the_backups_own_stop_time():
    """M3: 93 600 s passes 26 h and 93 601 s does not."""
    assert found(facts(repository(backup(26), backup(50))), "age") == "OK"
    late = backup(26, stopped=NOW - 26 * HOUR - SECOND)
    assert found(facts(repository(late, backup(50))), "age") == "CRITICAL"
    future = backup(0, stopped=NOW + HOUR)
    assert found(facts(repository(future)), "age") == "UNKNOWN"


def test_names_of_databases_are_exact():
    """M4: `ride` is not healthy because of `ride_hailing`."""
    seen = facts(
        repository(dump(1, "ride_hailing"), dump(25, "ride_hailing")), methods=("logical",), databases=("ride",)
    )
    assert found(seen, "age", "disk logical ride") == "CRITICAL"
    seen = facts(repository(dump(1, "ride"), dump(25, "ride", "x")), methods=("logical",), databases=("ride",))
    assert found(seen, "age", "disk logical ride") == "OK"


@pytest.mark.parametrize(
    ("backups", "check", "severity"),
    [
        ((backup(1),), "count", "CRITICAL"),
        ((backup(1), backup(25, damaged=("base.tar has 5 bytes of 9",))), "count", "CRITICAL"),
        ((backup(1), backup(25, damaged=("base.tar has 5 bytes of 9",))), "intact", "CRITICAL"),
        ((backup(1, broken_chain="x is not in the repository"), backup(25)), "intact", "CRITICAL"),
        ((backup(1, damaged=("base.tar is missing",)), backup(30)), "age", "CRITICAL"),
        ((backup(1, stored_bytes=(1 << 20) - 1), backup(25)), "size", "WARNING"),
        ((backup(1, stored_bytes=1 << 20), backup(25, stored_bytes=1 << 20)), "size", "OK"),
        ((backup(1, stored_bytes=24 << 20), backup(25), backup(49)), "size", "WARNING"),
        ((backup(1, stored_bytes=25 << 20), backup(25), backup(49)), "size", "OK"),
        ((backup(1, type="incremental", stored_bytes=99), backup(25)), "size", "OK"),
        ((backup(1, proven_at=None, last_verified_at=None), backup(25, proven_at=None, last_verified_at=None)),
         "proof", "WARNING"),
        ((backup(1, proven_at=None, last_verdict="fail"), backup(25)), "proof", "CRITICAL"),
        ((backup(1, proven_at=None, last_verdict="could_not_verify"), backup(25)), "proof", "OK"),
        ((backup(1, proven_at=NOW - 35 * 24 * HOUR - SECOND),), "proof", "WARNING"),
        ((backup(1, proven_at=NOW - 35 * 24 * HOUR),), "proof", "OK"),
    ],
)  # fmt: skip
def test_each_limit_on_a_backup(backups, check, severity):
    assert found(facts(repository(*backups)), check) == severity


def test_a_backup_of_another_method_is_no_backup_of_this_one():
    assert found(facts(repository(dump(1, "a"), dump(25, "a"))), "age") == "CRITICAL"


@pytest.mark.parametrize(
    ("ok", "required", "severity"),
    [(False, True, "CRITICAL"), (None, True, "UNKNOWN"), (False, False, "WARNING"), (True, True, "OK")],
)
def test_a_repository_that_cannot_be_reached(ok, required, severity):
    away = repository(name="away", required=required, probes=(Probe("list", ok, "x", 0),))
    seen = facts(away, repository())
    assert found(seen, "repository_list") == severity
    assert found(seen, "age", "disk physical") == "OK"  # the other one is still looked at


def test_a_library_that_is_missing_here_says_nothing_about_the_store(tmp_path, monkeypatch):
    """M8: it is a doubt, exit 3, and no warning that somebody reads over."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    mapping = {
        "cluster": "main", "repositories": [{"name": "s3", "type": "s3", "s3": {"bucket": "backups"}}],
        "connection": {"login_unix_socket": str(tmp_path)}, "host": {"state_path": str(tmp_path)},
    }  # fmt: skip
    result, seen, findings = check(from_mapping(mapping))
    (item,) = [item for item in findings if item.check == "repository_list"]
    assert (item.severity, result["health"]["exit_code"]) == (Severity.UNKNOWN, 3)
    assert "boto3" in item.message
    assert not seen.repositories[0].reached


def test_what_a_writer_cannot_decrypt_is_unknown_and_never_ok():
    probes = (Probe("list", True, "", 0), Probe("read", True, "", 0), Probe("decrypt", None, "no key", 0))
    assert found(facts(repository(probes=probes)), "repository_decrypt") == "UNKNOWN"


@pytest.mark.parametrize(
    ("changes", "check", "severity"),
    [
        ({"unarchived_bytes": 0, "newest_archived_at": NOW - HOUR}, "exposure", "OK"),  # M12: idle for an hour
        ({"unarchived_bytes": 99, "unarchived_since": NOW - HOUR}, "exposure", "OK"),
        ({"unarchived_bytes": 99, "unarchived_since": NOW - HOUR - SECOND}, "exposure", "CRITICAL"),
        ({"unarchived_bytes": None}, "exposure", "UNKNOWN"),
        ({"intervals": ()}, "window", "CRITICAL"),
        ({"intervals": (Reach(NOW - 9 * HOUR, None, SEGMENT, "0000X", ("b",)),)}, "gap", "CRITICAL"),
        ({"intervals": (Reach(NOW - 9 * HOUR, None, SEGMENT, "0000X", ("a",)), wal().intervals[0])}, "gap", "WARNING"),
    ],
)  # fmt: skip
def test_each_state_of_the_wal(changes, check, severity):
    assert found(facts(repository(wal=wal(**changes))), check) == severity


def test_the_window_may_be_shorter_than_wanted():
    for hours, severity in ((48, "OK"), (49, "WARNING")):
        assert found(facts(policy={"min_window": f"{hours}h"}), "window") == severity
    for asked_for, severity in ((49, "WARNING"), (48, "OK")):  # hours ago: nobody had wanted more before
        seen = facts(policy={"min_window": "49h"}, window_since=NOW - asked_for * HOUR)
        assert found(seen, "window") == severity


def test_how_long_a_window_has_been_asked_for_outlives_a_run_and_begins_anew_with_the_length(tmp_path):
    def settings(window):
        section = {"health": {"min_window": window}} if window else {}
        return from_mapping({"cluster": "main", "host": {"state_path": str(tmp_path / "state")}, **section})

    assert window_policy_since(settings(None), NOW) is None
    assert window_policy_since(settings("7d"), NOW) == NOW
    assert window_policy_since(settings("7d"), NOW + 9 * HOUR) == NOW
    assert window_policy_since(settings("14d"), NOW + 9 * HOUR) == NOW + 9 * HOUR
    assert window_policy_since(settings("14d"), NOW - 9 * HOUR) == NOW - 9 * HOUR  # the clock had gone wrong
    (tmp_path / "state" / "window-policy.json").write_text("{")
    assert window_policy_since(settings("14d"), NOW) == NOW
    (tmp_path / "blocked").write_text("")
    blocked = from_mapping(
        {"cluster": "main", "host": {"state_path": str(tmp_path / "blocked")}, "health": {"min_window": "7d"}}
    )
    assert window_policy_since(blocked, NOW) is None  # and then no alarm is held back


@pytest.mark.parametrize(
    ("changes", "check", "severity"),
    [
        ({"archive_failing": True, "last_failed_wal": "0001", "last_failed_at": NOW}, "archiving", "CRITICAL"),
        ({"waiting_files": 9, "waiting_s": 3601.0}, "archiving", "CRITICAL"),
        ({"waiting_files": 9, "waiting_s": 3600.0}, "archiving", "OK"),
        ({"restart_pending": ("archive_mode",)}, "restart_pending", "WARNING"),
        ({"checksum_failures": {"shop": 3}}, "page_checksums", "CRITICAL"),
        ({"wal_free_bytes": 1 << 30}, "pg_wal_room", "OK"),
        ({"wal_free_bytes": (1 << 30) - 1}, "pg_wal_room", "WARNING"),
        ({"wal_free_bytes": (1 << 29) - 1}, "pg_wal_room", "CRITICAL"),
    ],
)
def test_each_state_of_the_server(changes, check, severity):
    assert found(facts(server=server(**changes)), check) == severity


def test_a_server_that_does_not_answer_is_unknown_and_so_is_what_only_it_could_tell():
    seen = facts(repository(wal=wal(unarchived_bytes=None)), server=None, server_error="Connection refused.")
    assert found(seen, "server") == "UNKNOWN"
    assert found(seen, "exposure") == "UNKNOWN"
    assert found(seen, "age") == "OK"


def test_a_try_that_failed_is_a_warning_and_one_that_runs_is_not():
    for ok, severity in ((False, "WARNING"), (True, "OK"), (None, "OK")):
        assert found(facts(attempts=(Attempt("physical", NOW, ok, "No space left."),)), "attempt") == severity


def test_the_canary_is_asked_for_only_where_there_is_one_and_must_be_young():
    enabled = CanarySettings(enabled=True)
    assert "canary" not in {item.check for item in judge(facts())}
    for at, severity in ((None, "WARNING"), (NOW - 300 * SECOND, "OK"), (NOW - 301 * SECOND, "WARNING")):
        assert found(facts(canary=enabled, server=server(canary_at=at)), "canary") == severity


def test_archiving_is_asked_for_only_where_it_is_wanted():
    off = server(archives=False)
    without = facts(repository(wal=None), server=off)
    assert not {"archiving", "window", "exposure"} & {item.check for item in judge(without)}
    required = facts(repository(wal=None), server=off, policy={"archiving": "required"})
    assert (found(required, "archiving"), found(required, "window")) == ("CRITICAL", "CRITICAL")


def test_another_version_on_the_host_is_a_warning():
    assert found(facts(agent_version="0.9.0"), "agent") == "WARNING"


def test_all_outputs_agree_and_perfdata_is_in_base_units():
    seen = facts(repository(backup(30)), policy={"max_age": "1d"})
    findings = judge(seen)
    data = as_dict(seen, findings)["health"]
    json.dumps(data)
    assert (data["schema"], data["severity"], data["exit_code"]) == ("v1", "CRITICAL", 2)
    assert len(data["findings"]) == len(findings)
    line, *rest = nagios(seen, findings).splitlines()
    assert line.startswith("DBOPS CRITICAL - ")
    for item in line.split(" | ")[1].split(" "):
        assert re.fullmatch(r"'[^'= ]+'=-?\d+(\.\d+)?(s|B)?(;[\d:]*)*", item), item
    assert "'disk_physical_age'=108000s;;86400" in line
    assert len(rest) == sum(item.severity is not Severity.OK for item in findings)


def test_text_from_elsewhere_cannot_look_like_perfdata_or_like_another_line():
    seen = facts(server=None, server_error="down | 'age'=0s\nDBOPS OK")
    lines = nagios(seen, judge(seen)).splitlines()
    assert not any(line.startswith("DBOPS OK") for line in lines)
    assert all(line.count("|") <= (number == 0) for number, line in enumerate(lines))


@pytest.mark.parametrize(
    "section",
    [{"max_age": "soon"}, {"max_age": "0h"}, {"methods": ["magical"]}, {"min_count": 0}, {"archiving": "maybe"}],
)
def test_a_policy_that_cannot_be_meant_is_refused(section):
    with pytest.raises(BadInput):
        from_mapping({"cluster": "main", "health": section})
