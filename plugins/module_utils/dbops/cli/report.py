# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops report`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .. import settings as engine_settings
from ..errors import BadInput
from ..report.files import load
from ..report.model import Report
from ..report.report import report
from ..settings import Settings
from .door import Answer, Door, without_collector
from .words import clean


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "report",
        parents=[common],
        help="write down whether it can be recovered, with the evidence",
        description="Look at the cluster, and write one page with everything that is known about its recovery, the "
        "same as JSON, and as JUnit. A page about many clusters is made from several FILEs.",
    )
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="settings files of this host, or report.json files of others"
    )
    parser.add_argument("--directory", metavar="DIR", help="where report.html, report.json and junit.xml go")
    parser.set_defaults(verb=run)


def run(door: Door) -> Answer:
    args = door.args
    settings: list[Settings] = []
    others: list[Report] = []
    for path in args.files:
        if _is_settings(path):
            settings.append(engine_settings.from_mapping(engine_settings.read_file(path), where=path))
        else:
            others.append(load(path))
    if not args.files:
        settings.append(door.settings())
    with without_collector():
        data = report(settings, others=others, directory=args.directory)
    if args.output == "json":
        return Answer(data, "")
    lines = [clean(data["msg"]), *(clean(path) for path in data["files"])]
    if not data["files"]:
        lines += [_target(item, target) for item in data["report"]["clusters"] for target in item["targets"]]
        lines.append("next: add --directory DIR for the page")
    return Answer(data, "\n".join(lines))


def _target(cluster: dict[str, Any], target: dict[str, Any]) -> str:
    met = {True: "met", False: "MISSED", None: "unknown" if target["wanted_s"] else "no target"}[target["met"]]
    return f"{clean(cluster['name'])}: {clean(target['title'])}: {met}. {clean(target['words'])}"


def _is_settings(path: str) -> bool:
    """A report says its schema, a settings file its cluster."""
    try:
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
    except (OSError, ValueError, RecursionError) as exc:
        raise BadInput(f"Cannot read {path}: {exc}.", hint="Name settings files or report.json files.") from exc
    return not (isinstance(data, dict) and "clusters" in data)
