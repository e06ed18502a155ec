# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops check`: for people, for a Nagios-like monitor, for machines."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from ..errors import DbopsError, Unreachable
from ..health.check import check, tested
from ..health.finding import Finding, Severity, ordered, worst
from ..health.render import nagios, sentence
from .door import Answer, Door, given, without_collector
from .words import clean, table

_COLOURS = {"OK": 32, "WARNING": 33, "CRITICAL": 31, "UNKNOWN": 35}


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "check",
        parents=[common],
        help="say whether the cluster is protected",
        description="Look at repositories, server and this host, and hold them against the settings' health section. "
        "Exit codes: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN; a check that could not run is UNKNOWN, never OK.",
    )
    parser.add_argument("--verbose", "-v", action="store_true", help="show what is in order too")
    parser.add_argument("--nagios", action="store_true", help="one line with perfdata, details below")
    parser.add_argument("--deep", action="store_true", help="read the newest backup to its last byte")
    parser.add_argument("--notify", action="store_true", help="send what is due to the settings' notification channels")
    parser.add_argument("--test-notify", action="store_true", help="send a test message to each channel, check nothing")
    parser.add_argument("--max-age", metavar="AGE", help="instead of health.max_age")
    parser.add_argument("--no-color", action="store_true", help="no colours on a terminal either")
    parser.set_defaults(verb=run)


def run(door: Door) -> Answer:
    args = door.args
    if args.test_notify:
        return _test(door)
    try:
        settings = door.settings(health=given(max_age=args.max_age))
        with without_collector():
            data, facts, findings = check(settings, deep=args.deep, notify=args.notify)
    except DbopsError as error:  # a monitor must not take our own exit codes for its own
        data = {"failed": True, "msg": error.message, "hint": error.hint, "error_code": error.error_code}
        return Answer(data, f"DBOPS UNKNOWN - {clean(error)}", Severity.UNKNOWN.exit_code)
    if args.nagios:
        text = nagios(facts, findings)
    else:
        coloured = sys.stdout.isatty() and not args.no_color and "NO_COLOR" not in os.environ
        text = _text(facts.cluster, findings, verbose=args.verbose, coloured=coloured)
    return Answer(data, text, worst(findings).exit_code)


def _test(door: Door) -> Answer:
    """Not a check: its code says whether every channel took the message."""
    data = tested(door.settings())
    rows = [(item["result"].upper(), item["channel"], item["message"]) for item in data["notifications"]]
    lines = table(("", "CHANNEL", "BECAUSE"), rows).splitlines() if rows else []
    failed = any(item["result"] != "sent" for item in data["notifications"]) or not rows
    return Answer(data, "\n".join([*lines, clean(data["msg"])]), Unreachable.exit_code if failed else 0)


def _text(cluster: str, findings: Sequence[Finding], *, verbose: bool, coloured: bool) -> str:
    shown = [item for item in ordered(findings) if verbose or item.severity is not Severity.OK]
    lines = []
    if shown:
        rows = [(item.severity.value, item.check, item.subject, item.message) for item in shown]
        lines = table(("", "CHECK", "OF", "FOUND"), rows).splitlines()
        if coloured:
            lines[1:] = [_painted(line) for line in lines[1:]]
        lines += [f"next: {clean(hint)}" for hint in dict.fromkeys(item.hint for item in shown) if hint]
    return "\n".join([*lines, clean(sentence(cluster, findings))])


def _painted(line: str) -> str:
    word = line.split(" ", 1)[0]
    return f"\x1b[{_COLOURS[word]}m{word}\x1b[0m{line[len(word) :]}" if word in _COLOURS else line
