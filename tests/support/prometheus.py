# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus, Alertmanager, node exporter and Pushgateway as Debian packs them, on ports of their own."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from localpg.processes import wait_until
from localpg.server import free_port


@dataclass(frozen=True)
class Daemon:
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=10) as response:
            return str(response.read().decode())

    def answers(self, path: str) -> bool:
        try:
            self.get(path)
        except (OSError, urllib.error.URLError):
            return False
        return True


@contextlib.contextmanager
def daemon(place: Path, program: str, ready: str, *words: str) -> Iterator[Daemon]:
    path = shutil.which(program)
    assert path, f"{program} is missing. Next: run .ci/run packages."
    place.mkdir(parents=True, exist_ok=True)
    found = Daemon(free_port(), place / f"{program}.log")
    with open(found.log, "wb") as log:
        command = [path, f"--web.listen-address=127.0.0.1:{found.port}", *words]
        process = subprocess.Popen(command, cwd=place, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: process.poll() is not None or found.answers(ready), f"{program} answers", limit_s=60)
        assert process.poll() is None, found.log.read_text()
        yield found
    finally:
        process.terminate()
        process.wait(timeout=30)


def node_exporter(place: Path, textfiles: Path) -> contextlib.AbstractContextManager[Daemon]:
    only = ["--collector.disable-defaults", "--collector.textfile", f"--collector.textfile.directory={textfiles}"]
    return daemon(place, "prometheus-node-exporter", "/metrics", *only)


def pushgateway(place: Path) -> contextlib.AbstractContextManager[Daemon]:
    return daemon(place, "prometheus-pushgateway", "/-/ready")


def alertmanager(place: Path, config: Path) -> contextlib.AbstractContextManager[Daemon]:
    words = [f"--config.file={config}", f"--storage.path={place}", "--cluster.listen-address="]
    return daemon(place, "prometheus-alertmanager", "/-/ready", *words)


def prometheus(
    place: Path, rules: list[Path], targets: list[Daemon], alerts_to: Daemon
) -> contextlib.AbstractContextManager[Daemon]:
    """Looks once a second."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in rules],
        "alerting": {"alertmanagers": [_scraped([alerts_to])]},
        "scrape_configs": [{"job_name": "node", "honor_labels": True, **_scraped(targets)}],
    }
    place.mkdir(parents=True, exist_ok=True)
    file = place / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    # what fires before Alertmanager is discovered is sent again after this delay, else a minute later
    words = [f"--config.file={file}", f"--storage.tsdb.path={place / 'data'}", "--rules.alert.resend-delay=1s"]
    return daemon(place, "prometheus", "/-/ready", *words)


def _scraped(daemons: list[Daemon]) -> dict[str, Any]:
    return {"static_configs": [{"targets": [f"127.0.0.1:{item.port}" for item in daemons]}]}


def series(found: Daemon, query: str) -> list[dict[str, Any]]:
    """What Prometheus answers: each with its labels in `metric` and its `value`."""
    answer = json.loads(found.get(f"/api/v1/query?query={urllib.parse.quote(query)}"))
    return list(answer["data"]["result"])
