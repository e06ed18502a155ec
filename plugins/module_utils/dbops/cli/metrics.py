# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops metrics`: what `dbops check` sees, for Prometheus."""

from __future__ import annotations

import argparse
from typing import Any

from ..health.check import check
from ..health.metrics import exposition, read_textfile, write_textfile
from ..health.push import delete, push
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
    parser.add_argument("--push", metavar="URL", help="send them to this Pushgateway, as a CronJob does")
    parser.add_argument("--push-delete", metavar="URL", help="remove this cluster from the Pushgateway, and do no more")
    parser.set_defaults(verb=run)


def run(door: Door) -> Answer:
    path, gateway = door.args.textfile, door.args.push
    if door.args.push_delete:
        return _delete(door)
    with without_collector():
        _data, facts, findings = check(door.settings())
    text = exposition(facts, findings, read_textfile(path) if path else "")
    count = sum(not line.startswith("#") for line in text.splitlines())
    msg = f"{count} metrics of {facts.cluster}"
    done = []
    if gateway:
        push(gateway, facts.cluster, text)
        done.append("were pushed")
    if path:
        write_textfile(path, text)
        done.append(f"are in {path}")
    msg = f"{' '.join([msg, ' and '.join(done)]).rstrip()}."
    data = {"changed": bool(done), "msg": msg, "metrics": text, "warnings": []}
    return Answer(data, msg if done else text.rstrip("\n"))


def _delete(door: Door) -> Answer:
    """Of a cluster that is no more: without this its last numbers would be scraped for ever."""
    settings = door.settings()
    delete(door.args.push_delete, settings.cluster)
    msg = f"Nothing of {settings.cluster} is in the Pushgateway any more."
    return Answer({"changed": True, "msg": msg, "warnings": []}, msg)
