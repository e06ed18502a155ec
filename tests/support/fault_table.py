# SPDX-License-Identifier: GPL-3.0-or-later
"""What many rounds of faults came to, as docs/reliability.md shows it: python -m tests.support.fault_table FILE..."""

from __future__ import annotations

import collections
import json
import sys
from collections.abc import Iterable
from pathlib import Path


def table(lines: Iterable[str]) -> str:
    rounds = [json.loads(line) for line in lines if line.strip()]
    by_fault = collections.defaultdict(list)
    for item in rounds:
        by_fault[item["fault"]].append(item)
    majors = sorted({item["major"] for item in rounds})
    head = ["fault", *(f"rounds on {major}" for major in majors), "rows proven", "failed"]
    text = [_row(head), _row(["---"] * len(head))]
    for fault, found in by_fault.items():
        text.append(_row([fault, *_counts(found, majors), sum(item["rows"] for item in found), _failed(found)]))
    everything = [*_counts(rounds, majors), sum(item["rows"] for item in rounds), _failed(rounds)]
    text.append(_row(["**all**", *everything]))
    seeds = ", ".join(str(seed) for seed in sorted({item["seed"] for item in rounds}))
    return "\n".join([*text, "", f"Seeds: {seeds}."])


def _counts(found: list[dict[str, int]], majors: list[int]) -> list[int]:
    return [sum(item["major"] == major for item in found) for major in majors]


def _failed(found: list[dict[str, str]]) -> int:
    return sum(bool(item["error"]) for item in found)


def _row(cells: Iterable[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


if __name__ == "__main__":
    print(table(line for path in sys.argv[1:] for line in Path(path).read_text(encoding="utf-8").splitlines()))
