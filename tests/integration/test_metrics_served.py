# SPDX-License-Identifier: GPL-3.0-or-later
"""The other ways to Prometheus: an exporter that is scraped, and a Pushgateway that a CronJob pushes to."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, MissingLibrary, Unreachable
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health import exporter, push
from tests.support.backups import START, backed_up, repository_settings
from tests.support.prometheus import Daemon, pushgateway
from tests.support.servers import free_port, wait_until


@pytest.fixture
def config(tmp_path):
    """A cluster with a backup, and no server that answers: what can be seen is served all the same."""
    backed_up(repository_settings(tmp_path / "repository"), START)
    host = {"state_path": str(tmp_path / "state"), "os_user": "", "data_directory": str(tmp_path)}
    mapping = {
        "cluster": "main", "repositories": [{"name": "disk", "path": str(tmp_path / "repository")}],
        "host": {name: value for name, value in host.items() if value},
        "connection": {"login_unix_socket": str(tmp_path)},
    }  # fmt: skip
    path = tmp_path / "main.json"
    path.write_text(json.dumps(mapping))
    return path


def series(text: str) -> set[str]:
    return {line.rsplit(" ", 1)[0] for line in text.splitlines() if line and not line.startswith("#")}


def labelled(text: str) -> set[str]:
    """Names and labels, whatever the order of the labels."""
    found = set()
    for line in series(text):
        name, _brace, labels = line.partition("{")
        found.add(name + str(sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels))))
    return found


def test_the_exporter_serves_what_the_textfile_holds_and_stops_when_it_is_told(config, tmp_path, capsys):
    assert main(["--config", str(config), "--quiet", "metrics", "--textfile", str(tmp_path / "main.prom")]) == 0
    port = free_port()
    words = [sys.executable, "-m", "ansible_collections.dbops.postgres.plugins.module_utils.dbops"]
    command = [*words, "--config", str(config), "exporter", "--listen", f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        served = Daemon(port, tmp_path / "log")
        wait_until(lambda: process.poll() is not None or served.answers("/metrics"), "the exporter answers", limit_s=60)
        text = served.get("/metrics")
        assert labelled(text) == labelled((tmp_path / "main.prom").read_text())
        seen = [line for line in text.splitlines() if line.startswith("dbops_check_run_timestamp_seconds{")]
        assert seen[0] in served.get("/metrics")  # young enough: nobody looks anew for a second scrape
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert main(["--config", str(config), "exporter", "--listen", "somewhere"]) == BadInput.exit_code


def test_a_port_that_is_taken_and_a_library_that_is_missing_are_told(config, tmp_path, monkeypatch):
    settings = repository_settings(tmp_path / "repository")
    port = free_port()
    stop = exporter.serve(settings, address="127.0.0.1", port=port, max_age_s=60)
    with pytest.raises(Unreachable, match=f"port {port}"):
        exporter.serve(settings, address="127.0.0.1", port=port, max_age_s=60)
    stop()
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingLibrary, match="prometheus_client"):
        exporter.serve(settings, address="127.0.0.1", port=port, max_age_s=60)


def test_a_push_replaces_its_own_and_leaves_what_others_pushed_until_the_cluster_goes(config, tmp_path, capsys):
    with pushgateway(tmp_path) as gateway:
        other = '# TYPE dbops_policy_info gauge\ndbops_policy_info{cluster="other/cluster"} 1\n'
        push.push(gateway.url, "other/cluster", other)
        push.push(gateway.url, "main", "some_job_of_ours 7\n")
        for _again in range(2):
            assert main(["--config", str(config), "--quiet", "metrics", "--push", gateway.url]) == 0
        text = gateway.get("/metrics")
        assert 'cluster="main",database="",instance="",job="dbops",method="physical"' in text
        assert len(re.findall(r'^dbops_policy_info\{cluster="main"', text, re.M)) == 1
        assert re.search(r'^some_job_of_ours\{cluster="main",instance="",job="dbops"\} 7', text, re.M)
        assert main(["--config", str(config), "metrics", "--push-delete", gateway.url]) == 0
        # it accepts a deletion, and does it a moment later
        wait_until(lambda: 'cluster="main"' not in gateway.get("/metrics"), "nothing of main is there")
        assert 'cluster="other/cluster"' in gateway.get("/metrics")
        with pytest.raises(Unreachable, match="HTTP 400"):
            push.push(gateway.url, "main", "not metrics at all\n")
    with pytest.raises(Unreachable, match="cannot be reached"):
        push.push(gateway.url, "main", "")
    with pytest.raises(BadInput):
        push.push("file:///etc/passwd", "main", "")
