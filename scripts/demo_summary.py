# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demo says at its end: what was done, what it cost, where it lies, and what to try next."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo_place import CHECKOUT, CLUSTER, DATABASE, Place
from localpg.server import SUPERUSER, LocalServer

if TYPE_CHECKING:
    from demo_run import Story

PLAYBOOK = "ansible-playbook playbooks/{}.yml -i inventories/demo"


def backups(place: Place) -> list[dict[str, Any]]:
    """The records of all finished backups, oldest first, as docs/repository-format.md describes them."""
    records = (place.repository / CLUSTER / "backups").glob("*/backup.json")
    return sorted((json.loads(path.read_text(encoding="utf-8")) for path in records), key=lambda item: item["started"])


def summary(
    place: Place,
    server: LocalServer,
    story: Story,
    hashes: dict[str, str],
    records: Sequence[dict[str, Any]],
) -> str:
    tables = [line for name, line in hashes.items() if "table " in name]
    rows = sum(int(line.split()[0]) for line in tables)
    settings = f"--cluster {CLUSTER} --config {place.config}"
    others = len(hashes) - len(tables)
    return "\n".join(
        [
            "",
            rule("It is all back"),
            f"  {len(tables)} tables with {rows:,} rows, {others} other checks: equal before and after, twice.",
            "",
            f"  A table was dropped at {story.dropped_at}; recovered to {story.second_before}, the second before:",
            *restore_lines(place.results / "pitr", story.took_s["Recover to the second before"]),
            "  The server was destroyed; recovered to the restore point 'all-is-well':",
            *restore_lines(place.results / "restore", story.took_s["Restore"]),
            f"  Everything together took {sum(story.took_s.values()):.0f} s.",
            "",
            f"  {'backup':<25} {'method':<9} {'database':>9} {'stored':>9} {'ratio':>6} {'time':>7} {'rate':>11}",
            *(f"  {line}" for line in map(backup_line, records)),
            "",
            f"  repository      {place.repository / CLUSTER}",
            f"  how to restore  {place.repository / CLUSTER / 'RECOVER.md'} (by hand, without this software)",
            f"  settings        {place.config}",
            f"  data directory  {server.data} (log: {server.log})",
            "",
            rule("Try next"),
            f"  cd {CHECKOUT} && . {sys.prefix}/bin/activate",
            "",
            "  # look around",
            f"  {server.installation.bin_dir}/psql -h {server.sockets} -p {server.port} -U {SUPERUSER} {DATABASE}",
            f"  {place.command} info {settings}",
            "",
            "  # read the newest backup to its last byte, changing nothing",
            f"  {place.command} validate {settings}",
            "",
            "  # another backup, unless there is one of the last hour; then what a run would do, changing nothing",
            f"  {PLAYBOOK.format('backup')} -e dbops_backup_max_age=1h",
            f"  {PLAYBOOK.format('backup')} --check --diff",
            "",
            "  # ask whether a moment can be reached, and how; then look at it beside the running server",
            f"  {PLAYBOOK.format('pitr')} -e dbops_pitr_time={story.second_before} --check",
            f"  {PLAYBOOK.format('pitr')} -e dbops_pitr_time={story.second_before} -e dbops_pitr_mode=side \\",
            f"    -e dbops_restore_target={place.base}/side -e dbops_pitr_port=5999",
            "",
            "  # break it yourself, and get it back; what was there is moved aside, and the rollback brings it again",
            f"  {PLAYBOOK.format('pitr')} -e dbops_pitr_latest=true -e dbops_confirm={CLUSTER}",
            f"  {PLAYBOOK.format('restore_rollback')} -e dbops_confirm={CLUSTER}",
            "",
            "  # the first state again; remove everything, the running server included",
            "  make db-reset",
            "  make demo-clean",
            "",
        ]
    )


def restore_lines(results: Path, wall_s: float) -> list[str]:
    """What the playbook measured, as it wrote it to `dbops_result_path`."""
    (path,) = results.glob("pitr-*.json")
    restore = json.loads(path.read_text(encoding="utf-8"))["result"]["restore"]
    phases = ", ".join(
        f"{name.removesuffix('_s').replace('_', ' ')} {taken:.1f} s" for name, taken in restore["phases"].items()
    )
    work_s = sum(restore["phases"].values())
    recovery = restore["recovery"]
    return [
        f"    from {' + '.join(restore['chain'])}, and {recovery['wal_segments']} segments of WAL",
        f"    {mib(restore['restored_bytes'])} in {work_s:.1f} s ({phases}); {wall_s:.1f} s with Ansible around it",
    ]


def reset_done(place: Place) -> str:
    return (
        f"demo: {DATABASE} is as it was at first; the backups in {place.repository} are still there.\n"
        f"      Back to the last restore point: {PLAYBOOK.format('pitr')} -e dbops_pitr_name=all-is-well "
        f"-e dbops_confirm={CLUSTER}"
    )


def backup_line(record: dict[str, Any]) -> str:
    stored = sum(item["stored"]["size_bytes"] for item in record["objects"])
    duration_s = (moment(record["stopped"]) - moment(record["started"])).total_seconds()
    database = record.get("database_bytes") or 0
    whole = database and stored and record["type"] != "incremental"  # of an incremental both would flatter
    rate = f"{mib(database / max(duration_s, 0.001))}/s" if whole else ""
    ratio = f"{database / stored:.1f}" if whole else ""
    return (
        f"{record['label']:<25} {record['method']:<9} {mib(database) if database else '':>9} {mib(stored):>9} "
        f"{ratio:>6} {duration_s:>5.1f} s {rate:>11}"
    ).rstrip()


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def mib(size_bytes: float) -> str:
    return f"{size_bytes / (1 << 20):.1f} MiB"


def rule(title: str) -> str:
    return f"-- {title} {'-' * (76 - len(title))}"
