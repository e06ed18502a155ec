# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops migrate test`: the rehearsal, as a table for people and as files for pipelines."""

from __future__ import annotations

import argparse
from typing import Any, Optional

from ..migrate import rehearse, report
from ..migrate.finding import Budgets
from ..migrate.trace import LEVELS
from ..progress import duration
from ..settings import Settings
from .door import Answer, Door
from .words import clean, size, table


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="at a time; default: one more than CPUs")
    parser.add_argument("--data", metavar="DIR", help="rows to carry through: NNNNNN_*.sql, added after that version")
    parser.add_argument("--only", type=int, metavar="V", help="go down and up again at this version alone")
    parser.add_argument("--since", metavar="GIT_REF", help="... at the versions whose files differ from this commit")
    parser.add_argument("--max-seconds", type=float, metavar="S", help="a budget for one file")
    parser.add_argument(
        "--max-exclusive", type=float, metavar="S", help="a budget for one file's ACCESS EXCLUSIVE lock"
    )
    parser.add_argument("--on-server", action="store_true", help="in databases of its own on the settings' server; "
                        "by default on a throwaway server on this host")  # fmt: skip
    parser.add_argument("--clean", action="store_true", help="with --on-server: drop what killed rehearsals left first")
    parser.add_argument("--verbose", action="store_true", help="every statement, with its locks")
    add_reports(parser)


def add_reports(parser: argparse.ArgumentParser) -> None:
    for form in report.FORMATS:
        parser.add_argument(f"--{form}", metavar="FILE", help=f"write the findings as {form} too; - is stdout")


def run(door: Door, settings: Settings) -> Answer:
    args = door.args
    request = rehearse.Request(
        jobs=args.jobs,
        data=args.data,
        only=args.only,
        since=args.since,
        budgets=Budgets(args.max_seconds, args.max_exclusive),
        on_server=args.on_server,
        clean=args.clean,
    )
    data = rehearse.rehearse(settings, request, door.progress)
    found = data["rehearsal"]
    text = _text(found, verbose=args.verbose)
    cases = [str(item["version"]) for item in found["versions"]]
    extra = write_reports(args, found["findings"], found["directory"], "rehearsal", cases)
    return Answer(data, f"{extra}{text}\n{clean(data['msg'])}", code=0 if found["passed"] else 1)


def write_reports(args: argparse.Namespace, findings: list[Any], directory: str, suite: str, cases: list[str]) -> str:
    """The files that were asked for; what goes to stdout."""
    paths = {form: getattr(args, form) for form in report.FORMATS if getattr(args, form) is not None}
    return report.save(findings, paths, directory=directory, suite=suite, cases=cases)


def findings_text(findings: list[dict[str, Any]]) -> list[str]:
    lines = []
    for item in findings:
        where = f"{item['file']}:{item['line']}" if item["line"] else item["file"] or str(item["version"] or "")
        place = f"{clean(where)}: " if where else ""
        lines.append(f"{item['severity']}: {place}{clean(item['message'])} [{item['check']}]")
        lines += [f"    {clean(detail)}" for detail in item["details"]]
    return lines


def _text(found: dict[str, Any], *, verbose: bool) -> str:
    rows = []
    for item in found["versions"]:
        statements = [one for way in ("up", "down") for one in item["statements"].get(way, [])]
        locks = [lock for one in item["statements"].get("up", []) for lock in one["locks"].values()]
        strongest = max(locks, key=LEVELS.index, default="")
        rewritten = sorted({name for one in statements for name in one["rewritten"]})
        rows.append(
            [
                str(item["version"]),
                item["name"],
                _time(item["up_s"]),
                item["down"] or "-",
                item["again"] or "-",
                item["rows"] or "-",
                strongest,
                ", ".join(rewritten),
            ]
        )
        if verbose:
            rows += [_statement_row(way, one) for way in ("up", "down") for one in item["statements"].get(way, [])]
    heading = ("VERSION", "NAME", "UP", "DOWN", "UP AGAIN", "ROWS", "STRONGEST LOCK OF UP", "REWRITES")
    return "\n".join([table(heading, rows, right=("VERSION", "UP")), "", *findings_text(found["findings"])])


def _statement_row(way: str, one: dict[str, Any]) -> list[str]:
    locks = ", ".join(f"{mode} on {name}" for name, mode in one["locks"].items())
    text = f"  {way}:{one['line']} {one['statement'][:60]}"
    return ["", text, _time(one["duration_s"]), size(one["wal_bytes"]), "", "", locks, ", ".join(one["rewritten"])]


def _time(seconds: Optional[float]) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else duration(seconds)
