# SPDX-License-Identifier: GPL-3.0-or-later
"""From a broken archive_command to a message in a mailbox, and from its repair to another: every part of it real."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from tests.support.prometheus import alertmanager, node_exporter, prometheus, series
from tests.support.receivers import PASSWORD, USER, certificate, mail_server, web_server
from tests.support.recovering import Protected, wait_until
from tests.support.servers import Templates, installations

ROOT = Path(__file__).resolve().parents[2]


def set_up_monitoring(place: Path, **variables) -> str:
    """The role, as an operator's play has it, and at once a second time, under another name of this host."""
    play = [{
        "hosts": host, "connection": "local", "gather_facts": False,
        "tasks": [{"ansible.builtin.include_role": {"name": "dbops.postgres.monitoring"}}],
        "vars": {"ansible_python_interpreter": sys.executable, **variables},
    } for host in ("first", "second")]  # fmt: skip
    (place / "monitoring.json").write_text(json.dumps(play))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", "first,second,", place / "monitoring.json"],
        cwd=ROOT, text=True, check=False, timeout=240, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_broken_archiving_reaches_a_mailbox_and_a_webhook_and_so_does_its_repair(templates: Templates, place: Path):
    made = Protected(templates.server(installations()[-1], place / "pg", summarize_wal=False), place)
    server = made.server
    health = {"rpo": "1s", "min_count": 1, "min_size_bytes": 1, "min_free_percent": 0}
    config = place / "settings.json"
    config.write_text(json.dumps({**made.mapping, "health": health}))
    made.backup()
    textfiles = place / "textfiles"
    textfiles.mkdir()

    def looked() -> bool:
        words = ["--config", str(config), "--quiet", "metrics", "--textfile", str(textfiles / "dbops-main.prom")]
        assert main(words) == 0
        return True

    credentials = certificate(place)
    with mail_server("starttls", credentials) as mailbox, web_server() as web:
        mail = {
            "to": "ops@example.org", "from": "alertmanager@example.org", "smarthost": f"localhost:{mailbox.port}",
            "auth_username": USER, "auth_password": PASSWORD, "tls_config": {"ca_file": str(credentials.certificate)},
            "send_resolved": True,
        }  # fmt: skip
        hook = {"url": f"{web.url}/critical", "send_resolved": True}
        receivers = {
            "critical": {"email_configs": [mail], "webhook_configs": [hook]},
            "warning": {"webhook_configs": [{"url": f"{web.url}/warning"}]},
            "watchdog": {"webhook_configs": [{"url": f"{web.url}/watchdog", "send_resolved": False}]},
        }
        rules = place / "rules" / "dbops.rules.yml"
        variables = {
            "dbops_rules_path": str(rules),
            "dbops_clusters": ["main"],
            "dbops_prometheus_service": "",
            "dbops_alertmanager_path": str(place / "alertmanager.yml"),
            "dbops_alertmanager_receivers": receivers,
            "dbops_alertmanager_service": "",
            "monitoring_alertmanager_group_wait": "0s",
            "monitoring_alertmanager_group_interval": "1s",
        }
        screen = set_up_monitoring(place, **variables)
        assert re.search(r"^first .* changed=[1-9]", screen, re.MULTILINE), screen
        assert re.search(r"^second .* changed=0 ", screen, re.MULTILINE), screen
        installed = sorted(rules.parent.iterdir())
        assert [path.name for path in installed] == ["dbops.rules-clusters.yml", "dbops.rules.yml"]
        # Minutes as seconds, for this alert alone: others would foretell a full disk from the first two scrapes.
        text = re.sub(r"interval: \d+m", "interval: 1s", rules.read_text())
        text, found = re.subn(r"(alert: DbopsRpoAtRisk\n(?:(?!- alert)[\s\S])*?for): \d+m", r"\1: 1s", text)
        assert found == 1
        rules.write_text(text)

        looked()
        with (
            node_exporter(place / "node", textfiles) as node,
            alertmanager(place / "alertmanager", place / "alertmanager.yml") as manager,
            prometheus(place / "prometheus", installed, [node], manager) as prom,
        ):
            wait_until(lambda: web.to("/watchdog"), "the watchdog is alive", limit_s=60)
            (found,) = series(prom, "dbops_policy_info")
            assert found["metric"]["cluster"] == "main"
            assert series(prom, 'node_textfile_mtime_seconds{file=~".*dbops-main.prom"}')

            server.sql("alter system set archive_command = 'false'")
            server.sql("select pg_reload_conf()")
            made.row(1)
            server.sql("select pg_switch_wal()")
            wait_until(lambda: looked() and web.to("/critical"), "the webhook was called", limit_s=60)
            wait_until(lambda: mailbox.messages, "the mail has come", limit_s=60)
            told = {
                alert["labels"]["alertname"]: alert for item in web.to("/critical") for alert in item.json()["alerts"]
            }
            assert set(told) == {"DbopsRpoAtRisk"}
            assert told["DbopsRpoAtRisk"]["status"] == "firing"
            assert told["DbopsRpoAtRisk"]["annotations"]["runbook"] == (
                "ansible-playbook dbops.postgres.archiving -e dbops_cluster=main --check"
            )
            assert "DbopsRpoAtRisk" in str(mailbox.messages[0]["subject"])

            server.sql("alter system reset archive_command")
            server.sql("select pg_reload_conf()")
            wait_until(
                lambda: looked() and web.to("/critical")[-1].json()["status"] == "resolved",
                "it is resolved",
                limit_s=90,
            )
            wait_until(lambda: "RESOLVED" in str(mailbox.messages[-1]["subject"]), "the second mail has come")
            assert all(mailbox.logins)
    server.stop("immediate")
