# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops metrics`: what `dbops check` sees, for Prometheus."""

from __future__ import annotations

import argparse
from typing import Any

from ..health.check import check
from ..health.metrics import exposition, read_textfile, write_textfile
from .door import Answer, Door, without_collector


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "metrics",
        parents=[common],
        help="tell Prometheus how the cluster is protected",
        description="Print the metrics, or write them into a file for the node exporter's textfile collector. What a "
        "repository had said stays in the file while it is away. A finding is no failure of this command.",
    )
    parser.add_argument("--textfile", metavar="FILE", help="such as /var/lib/prometheus/node-exporter/dbops-main.prom")
    parser.set_defaults(verb=run)


def run(door: Door) -> Answer:
    path = door.args.textfile
    with without_collector():
        _data, facts, findings = check(door.settings())
    text = exposition(facts, findings, read_textfile(path) if path else "")
    count = sum(not line.startswith("#") for line in text.splitlines())
    data = {"changed": False, "msg": f"{count} metrics of {facts.cluster}.", "metrics": text, "warnings": []}
    if not path:
        return Answer(data, text.rstrip("\n"))
    write_textfile(path, text)
    return Answer({**data, "changed": True}, f"{count} metrics of {facts.cluster} are in {path}.")
