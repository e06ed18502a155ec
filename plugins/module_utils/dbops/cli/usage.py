# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops repo usage` and `dbops repo cool`: what storing costs, and what keeping for years need not."""

from __future__ import annotations

import argparse
from typing import Any

from ..repo import cooling, prices
from ..repo.usage import DAYS, usage
from .door import Answer, Door
from .words import clean, size, table


def add(inner: Any, common: argparse.ArgumentParser) -> None:
    parser = inner.add_parser(
        "usage",
        parents=[common],
        help="bytes, objects, requests and money, for each backup and each day",
        description="What each repository holds, what it would cost by a table of prices, and which storage class "
        "would cost less. The built-in prices are a cloud's list prices of some day: bring your own.",
    )
    parser.add_argument("--prices", metavar="FILE", help="your table of prices, in JSON; see docs/repositories.md")
    parser.add_argument(
        "--days", type=int, default=DAYS, metavar="N", help=f"days to take the mean of; default: {DAYS}"
    )
    parser.set_defaults(verb=run_usage)
    parser = inner.add_parser(
        "cool",
        parents=[common],
        help="move what only a rule such as monthly keeps to the class that `cool` names",
        description="Say which backups only `daily` to `yearly` keep and in which cheaper class they would lie; with "
        "--apply, move them. Interrupted, it is simply run again.",
    )
    parser.add_argument("--apply", action="store_true", help="do it; without it, only the plan is shown")
    parser.set_defaults(verb=run_cool)


def run_usage(door: Door) -> Answer:
    args = door.args
    data = usage(door.settings(), prices.load(args.prices), repository=args.repository, days=max(1, args.days))
    lines: list[str] = []
    for item in data["repositories"]:
        lines += [*_repository(item, data["prices"]["currency"]), ""]
    lines.append(f"Prices: {clean(data['prices']['source'])}.")
    return Answer(data, "\n".join(lines))


def run_cool(door: Door) -> Answer:
    plan = cooling.plan(door.settings(), door.args.repository)
    data = cooling.run(plan, door.progress) if door.args.apply else plan.preview()
    rows = [
        [item["label"], item["tier"], item["storage_class"], size(item["stored_bytes"]), item["locked_until"] or "-"]
        for item in [*data["moves"], *data["waiting"]]
    ]
    lines = [clean(data["msg"])]
    if rows:
        lines += ["", table(("BACKUP", "KEPT BY", "CLASS", "STORED", "LOCKED UNTIL"), rows, right=("STORED",))]
    if plan.needed and not door.args.apply:
        lines.append("To do it: dbops repo cool --apply")
    return Answer(data, "\n".join(lines))


def _repository(item: dict[str, Any], currency: str) -> list[str]:
    parts = ", ".join(f"{name} {size(count)}" for name, count in item["parts"].items())
    where = f"{clean(item['name'])} ({clean(item['location'])})"
    lines = [f"{where}: {size(item['stored_bytes'])} in {item['objects']} objects: {parts}"]
    rows = [
        [
            one["label"], str(one["objects"]), size(one["stored_bytes"]), str(one["write_requests"]),
            str(one["read_requests"]), one["storage_class"], one["tier"] or "-",
        ]
        for one in item["backups"]
    ]  # fmt: skip
    numbers = ("OBJECTS", "STORED", "WRITES", "READS")
    if rows:
        lines.append(table(("BACKUP", *numbers, "CLASS", "KEPT BY"), rows, right=numbers))
    day = item["per_day"]
    lines.append(
        f"a day (mean of {day['days']}): {size(day['stored_bytes'])} in {day['objects']:g} objects, "
        f"{day['write_requests']:g} writes"
    )
    cost = item["cost_month"]
    if cost:
        lines.append(
            f"a month: {cost['total']:.2f} {clean(currency)} (storage {cost['storage']:.2f}, requests "
            f"{cost['requests']:.2f})"
        )
    else:
        lines.append("a month: no price for what lies there")
    return lines + [f"advice: {clean(one['text'])}" for one in item["advice"]]
