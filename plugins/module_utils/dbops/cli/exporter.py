# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops exporter`: metrics over HTTP, until it is stopped."""

from __future__ import annotations

import argparse
import threading
from typing import Any

from ..errors import BadInput
from ..health.exporter import serve
from .door import Answer, Door


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "exporter",
        parents=[common],
        help="tell Prometheus over HTTP",
        description="Answer scrapes with what dbops metrics would say, until it is stopped. Beside a node exporter "
        "dbops metrics --textfile does the same without a process more. Needs the library prometheus_client.",
    )
    parser.add_argument("--listen", metavar="[HOST]:PORT", default="127.0.0.1:9878", help="default: %(default)s")
    parser.add_argument("--max-age", type=int, metavar="S", default=60, help="look anew only after so many seconds")
    parser.set_defaults(verb=run)


def run(door: Door) -> Answer:
    settings = door.settings()
    host, _colon, port = door.args.listen.rpartition(":")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise BadInput(f"--listen cannot be {door.args.listen!r}.", hint="Write 127.0.0.1:9878, or :9878 for all.")
    stop = serve(settings, address=host.strip("[]") or "0.0.0.0", port=int(port), max_age_s=door.args.max_age)
    door.progress.warn(f"Metrics of {settings.cluster} are on {door.args.listen}.")
    try:
        threading.Event().wait()  # a signal ends it, as every verb
    finally:
        stop()
    return Answer({"changed": False, "msg": "Stopped.", "warnings": []}, "")
