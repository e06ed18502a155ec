# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops info`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any, Optional

from ..progress import duration
from ..repo.info import info
from ..repo.record import from_iso
from ..restore.window_ends import ends_of
from ..settings import METHODS
from .door import Answer, Door, without_collector
from .words import clean, plural, size, table

_HEADINGS = ("BACKUP", "METHOD", "TYPE", "AGE", "TOOK", "DATABASE", "STORED", "RATIO", "CODEC", "VERIFIED", "HELD")
_DEEPEST = 30  # a longer chain is not drawn any further to the right


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "info", parents=[common], help="list the backups", description="List the backups, or show one of them."
    )
    parser.add_argument("label", nargs="?", metavar="LABEL", help="one backup, with its chain and its files")
    parser.add_argument("--method", choices=METHODS)
    parser.set_defaults(verb=run)


def run(door: Door) -> Answer:
    with without_collector():
        args = door.args
        settings = door.settings()
        ends = ends_of(settings)
        data = info(settings, repository=args.repository, label=args.label, method=args.method, ends=ends)
        if args.output == "json":
            return Answer(data, "")
        now = datetime.now(timezone.utc)
        return Answer(data, one_text(data["backups"][0], now) if args.label else list_text(data, now))


def list_text(data: dict[str, Any], now: datetime) -> str:
    """The backups, each under the one it rests on, the chain with the newest backup on top."""
    backups, where = data["backups"], data["repository"]
    lines = [
        (
            f"{clean(data['cluster'])}: {plural(len(backups), 'backup')}, {size(data['totals']['stored_bytes'])} in "
            f"repository {clean(where['name'])} ({clean(where['path'])}), {size(where['free_bytes'])} free"
        )
    ]
    if backups:
        rows = [_row(item, depth, now) for item, depth in drawn(backups)]
        lines += ["", table(_HEADINGS, rows, right=("AGE", "TOOK", "DATABASE", "STORED", "RATIO"))]
    lines += _window_lines(data["recovery_window"])
    lines += [_standing(item) for item in data["repositories"]]
    if data["unfinished"]:
        names = clean(", ".join(data["unfinished"]))
        lines += ["", f"unfinished (running, or killed and removed by the next backup): {names}"]
    for item in data["unreadable"]:
        lines.append(f"unreadable: {clean(item['label'])}")  # why is in the warnings
    for item in backups:
        if item["chain_broken"]:
            lines.append(f"not restorable: {clean(item['label'])}: {clean(item['chain_broken'])}")
    return "\n".join(lines)


def _standing(item: dict[str, Any]) -> str:
    told = f"repository {clean(item['name'])}{'' if item['required'] else ' (optional)'}: "
    if item["error"]:
        return told + "cannot be read"  # why is in the warnings
    told += f"{plural(item['backups'], 'backup')}, newest {clean(item['newest'] or '-')}"
    if not item["lacks"]:
        return told
    more = f" and {len(item['lacks']) - 1} more" if len(item["lacks"]) > 1 else ""
    return f"{told}, lacks {clean(item['lacks'][0])}{more}"


def _window_lines(windows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The newest timeline of each system; what is broken is said, since nobody looks for it."""
    for window in windows:
        if not window["lines"]:
            continue
        newest = window["lines"][-1]
        where = f"recovery window of timeline {newest['timeline']}"
        spans = [
            f"{clean(item['start_time'])} ({item['start_lsn']}) to {_end(item)}"
            + (f", broken by the missing {item['broken_by']}" if item["broken_by"] else "")
            for item in newest["intervals"]
        ]
        wal = f"{plural(window['segments'], 'segment')}, {size(window['stored_bytes'])}"
        yield ""
        yield f"{where}: {'; '.join(spans) or 'nothing can be reached'} ({wal})"


def _end(interval: dict[str, Any]) -> str:
    """The last commit that comes back, which is what an operator asks for; else the position alone."""
    moment = interval.get("end_time")
    return f"{clean(moment)} ({interval['end_lsn']})" if moment else str(interval["end_lsn"])


def drawn(backups: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], int]]:
    """Every backup once, with the number of those it visibly rests on; a parent above its children."""
    shown = {item["label"]: item for item in backups}
    below: dict[Optional[str], list[dict[str, Any]]] = {}
    for item in reversed(backups):  # oldest first within a chain
        parent = item["parent"] if item["parent"] in shown and not item["chain_broken"] else None
        below.setdefault(parent, []).append(item)
    newest: dict[str, int] = {}  # root → place of its newest descendant
    for place, item in enumerate(backups):
        root = item["chain"][0] if item["chain"] and item["chain"][0] in shown else item["label"]
        newest.setdefault(root, place)
    roots = below.get(None, [])
    roots.sort(key=lambda item: newest.get(item["label"], len(backups)))
    waiting = [(item, 0) for item in reversed(roots)]
    while waiting:
        item, depth = waiting.pop()
        yield item, depth
        waiting.extend((child, depth + 1) for child in reversed(below.get(item["label"], [])))


def one_text(item: dict[str, Any], now: datetime) -> str:
    facts = {
        "backup": item["label"],
        "cluster": f"{item['cluster']}, PostgreSQL {item['postgres_version']}, system {item['system_identifier']}",
        "kind": f"{item['method']} {item['type']}" + (", from a standby" if item["from_standby"] else ""),
        "taken": f"{item['started']} to {item['stopped']} ({_age(item, now)} ago)",
        "sizes": f"{size(item['stored_bytes'])} stored of {size(item['database_bytes'])}, {item['codec']}",
        "WAL": f"timeline {item['timeline']}, {item['start_lsn']} to {item['stop_lsn']}" if item["start_lsn"] else "",
        "databases": ", ".join(item["databases"]) if item["method"] == "logical" else "",
        "rests on": " < ".join(item["chain"][:-1]),
        "needed by": ", ".join(item["children"]),
        "broken": item["chain_broken"] or "",
        "verified": item["verified"] + (f" at {item['verified_at']}" if item["verified_at"] else ""),
        "held": _held(item),
        "reason": item["reason"],
    }
    lines = [f"{name + ':':<11} {clean(fact)}" for name, fact in facts.items() if fact]
    lines += [f"{'note:':<11} {clean(note)}" for note in item["notes"]]
    rows = [
        [entry["name"], size(entry["stored_bytes"]), size(entry["plain_bytes"]), entry["sha256"][:16]]
        for entry in item["objects"]
    ]
    return "\n".join([*lines, "", table(("FILE", "STORED", "PLAIN", "SHA256"), rows, right=("STORED", "PLAIN"))])


def _row(item: dict[str, Any], depth: int, now: datetime) -> list[str]:
    branch = " " * min(depth - 1, _DEEPEST) + "└" if depth else ""
    whole = item["database_bytes"] if item["type"] != "incremental" else None  # an incremental is no part of it
    return [
        branch + item["label"],
        item["method"],
        item["type"],
        _age(item, now),
        duration(item["duration_s"]),
        size(item["database_bytes"]),
        size(item["stored_bytes"]),
        f"{whole / item['stored_bytes']:.1f}" if whole and item["stored_bytes"] else "-",
        item["codec"],
        item["verified"],
        _held(item),
    ]


def _held(item: dict[str, Any]) -> str:
    return "" if item["held"] is None else item["held"] or "(no reason given)"


def _age(item: dict[str, Any], now: datetime) -> str:
    return duration((now - from_iso(item["stopped"])).total_seconds())
