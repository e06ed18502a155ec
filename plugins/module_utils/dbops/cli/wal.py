# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops wal`: how archiving stands, adopting a new system, and the scripts that the server calls.

`dbops wal push` and `dbops wal get` are the server's own calls; they go through wal_command.py, past this parser.
"""

from __future__ import annotations

import argparse
import getpass
from datetime import datetime, timezone
from typing import Any

from ..progress import duration
from ..repo.ownership import adopt as adopt_system
from ..repo.repository import open_repository
from ..settings import Settings, default_file
from ..wal import scripts
from ..wal.status import cluster_of_settings, status
from .door import Answer, Door
from .words import clean, plural, size


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser("wal", parents=[common], help="continuous archiving")
    inner = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    told = inner.add_parser("status", parents=[common], help="what waits to be archived, and what went wrong last")
    told.set_defaults(verb=show_status)
    adopt = inner.add_parser(
        "adopt",
        parents=[common],
        help="let this server archive as this cluster from now on",
        description="After pg_upgrade or a restore that became a cluster of its own: accept its new system identifier.",
    )
    adopt.add_argument("--reason", default="", help="why; it is recorded")
    adopt.add_argument("--confirm", metavar="CLUSTER", help="needed, as two systems' WAL must never be mixed")
    adopt.set_defaults(verb=run_adopt)
    script = inner.add_parser("script", parents=[common], help="print the script for archive_command, restore_command")
    script.add_argument("kind", choices=("push", "get"))
    script.set_defaults(verb=print_script)
    inner.add_parser("push", help="PATH: archive one file (archive_command calls this)")
    inner.add_parser("get", help="FILE PATH: fetch one file (restore_command calls this)")


def show_status(door: Door) -> Answer:
    data = {"changed": False, **status(door.settings()), "warnings": []}
    backlog, worker = data["backlog"], data["worker"]
    waiting = f"{plural(backlog['files'], 'file')} waiting"
    if backlog["files"]:
        waiting += f", {clean(backlog['first'])} for {duration(backlog['seconds'])}"
    data["msg"] = f"{data['cluster']}: {waiting}."
    running = "running" if worker["alive"] else "not running"
    lines = [
        clean(data["msg"]),
        f"  worker: {running}, last pushed: {clean(worker['last_pushed'] or '-')}",
        f"  spool: {clean(data['spool']['path'])}, {size(data['spool']['bytes'])}",
    ]
    for name, owed in data["optional"].items():
        lines.append(f"  optional {clean(name)}: {plural(owed['files'], 'file')} behind, {duration(owed['seconds'])}")
    if data["last_error"]:
        lines.append(f"  last error: {clean(data['last_error'])}")
    if data["dropped_and_not_yet_marked"]:
        lines.append(f"  GIVEN UP: {clean(', '.join(data['dropped_and_not_yet_marked']))}")
    return Answer(data, "\n".join(lines))


def run_adopt(door: Door) -> Answer:
    settings = door.settings()
    cluster = cluster_of_settings(settings)
    system = cluster.system_identifier
    door.require_confirmation(settings, f"System {system} in {cluster.data_directory} would archive as this cluster")
    done = {item.name: _adopt(settings, item.name, system, door.args.reason) for item in settings.repositories}
    msg = f"System {system} archives as {settings.cluster} from now on."
    data = {"changed": any(done.values()), "msg": msg, "system_identifier": system, "adopted": done, "warnings": []}
    return Answer(data, f"{clean(msg)}\n  Take a full backup now: WAL of the old system does not lead to the new one.")


def print_script(door: Door) -> Answer:
    settings = door.settings()
    config = door.args.config or default_file(settings.cluster)
    place = scripts.running_place(settings.cluster, config, settings.spool_path)
    text = scripts.push_script(place) if door.args.kind == "push" else scripts.get_script(place)
    return Answer({"changed": False, "msg": f"The {door.args.kind} script.", "script": text, "warnings": []}, text)


def _adopt(settings: Settings, name: str, system: str, reason: str) -> bool:
    repository = open_repository(settings, name)
    return adopt_system(repository, system, by=getpass.getuser(), reason=reason, now=datetime.now(timezone.utc))
