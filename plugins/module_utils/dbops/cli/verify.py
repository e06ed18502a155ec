# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops verify`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from ..errors import BadInput, Corrupt, Unreachable
from ..progress import duration
from ..settings import METHODS
from ..verify.plan import CHOICES, TARGETS, Request
from ..verify.run import verify
from ..verify.verdict import LEVELS
from .door import Answer, Door
from .words import clean, size, table

CODES = {"pass": 0, "fail": Corrupt.exit_code, "could_not_verify": Unreachable.exit_code}


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "verify",
        parents=[common],
        help="prove a backup by restoring it beside everything",
        description="Restore a backup into a scratch instance, roll it forward, look at it, remove it, and write the "
        f"proof into the repository. Exit codes: 0 passed, {CODES['fail']} failed, {CODES['could_not_verify']} could "
        "not be verified.",
    )
    parser.add_argument(
        "backup", nargs="?", default="latest", metavar="BACKUP", help=f"a label, or one of: {', '.join(CHOICES)}"
    )
    parser.add_argument(
        "--target",
        default="end",
        metavar="TARGET",
        help=f"an instant, or one of: {', '.join(TARGETS)}. end: that of the archived WAL; backup: without any WAL",
    )
    parser.add_argument("--method", choices=METHODS)
    parser.add_argument("--until", choices=LEVELS, default=LEVELS[-1], help="the level to stop after")
    parser.add_argument("--scratch-path", metavar="DIR", help="where to restore; default: <state_path>/verify")
    parser.add_argument("--assertions", metavar="FILE", help="JSON: a list of name, query, database, expected")
    parser.add_argument("--keep", action="store_true", help="leave the instance running until the next verification")
    parser.add_argument("--plan", action="store_true", help="say what would be done, and do nothing")
    parser.set_defaults(verb=run)


def run(door: Door) -> Answer:
    args = door.args
    section = {"assertions": _read(args.assertions)} if args.assertions else {}
    request = Request(
        backup=args.backup,
        target=args.target,
        method=args.method,
        repository=args.repository,
        until=args.until,
        scratch_path=args.scratch_path,
        keep=args.keep,
    )
    data = verify(door.settings(verify=section), request, door.progress, dry_run=args.plan)
    found = data["verification"]
    if found is None:
        return Answer(data, clean(data["msg"]))
    return Answer(data, "\n".join(_lines(data, found)), CODES[found["verdict"]])


def _lines(data: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    rows = [
        (item["verdict"].upper().replace("_", " "), item["level"], item["name"], duration(item["seconds"]),
         item["message"])
        for item in found["checks"]
    ]  # fmt: skip
    yield table(("VERDICT", "LEVEL", "CHECK", "TOOK", "FOUND"), rows, right=("TOOK",))
    yield ""
    for item in found["checks"]:
        if item["verdict"] != "pass" and item["hint"]:
            yield f"next: {clean(item['hint'])}"
    if found["phases"].get("total_s") is not None:
        rate = found["throughput_bytes_per_s"]
        yield f"took {duration(found['phases']['total_s'])}" + (f", restored at {size(rate)}/s" if rate else "")
    estimate = found["rto_estimate"]
    if estimate:
        yield (
            f"estimate: {duration(estimate['seconds'])} for {size(estimate['database_bytes'])} and this run's WAL, at "
            "this run's rates (not a measured RTO)"
        )
    if "instance" in found:
        where = found["instance"]
        yield f"look into it: psql -h {clean(where['socket_directory'])} -p {where['port']}"
    if found["cleanup"]["verdict"] != "pass":
        yield clean(found["cleanup"]["message"])
    yield clean(data["msg"])


def _read(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream)
    except (OSError, ValueError) as exc:
        raise BadInput(f"{path} cannot be read as JSON: {exc}.", hint="It must hold a list of assertions.") from exc
    if not isinstance(content, list):
        raise BadInput(f"{path} must hold a list of assertions.", hint="See docs/verification.md.")
    return content
