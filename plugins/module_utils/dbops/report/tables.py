# SPDX-License-Identifier: GPL-3.0-or-later
"""The same data as the pictures, in rows: for screen readers, for paper, and for the exact figure. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from ..progress import duration, size
from .markup import Content, Markup, join, tag
from .model import Repository
from .words import TYPES, level, rate, second, segments_rate, some, state, when

_ROWS = 200  # more than that nobody reads in a page; report.json has them all


def reach_table(item: Repository, prefix: str) -> Optional[Markup]:
    """What it takes to recover to an instant; the rows are where the picture's links lead."""
    if not item.reaches:
        return None
    rows = [
        tag(
            "tr",
            tag("th", when(one.start), scope="row", class_="w"),
            tag("td", when(one.end), class_="w"),
            tag("td", one.base, class_="w"),
            tag("td", len(one.chain), class_="n"),
            tag("td", size(one.base_bytes), class_="n"),
            tag("td", one.wal_files, class_="n"),
            tag("td", size(one.wal_bytes), class_="n"),
            tag("td", duration(one.rto_s) if one.rto_s is not None else "not measured", class_="n"),
            tag("td", tag("code", one.command), class_="long"),
            id=f"{prefix}-{number}",
        )
        for number, one in enumerate(item.reaches[:400])
    ]
    head = [
        ("From (UTC)", ""), ("To (UTC)", ""), ("Base backup", ""), ("Chain", "n"), ("Base, stored", "n"),
        ("WAL files", "n"), ("WAL", "n"), ("Copy and replay", "n"), ("Command for the last instant", ""),
    ]  # fmt: skip
    caption = (
        "To recover to an instant of a row: its base backup, and at most so much WAL. Lost is what was committed after "
        "the instant. Leave --plan out, and confirm with the cluster's name, to do it."
    )
    return tag(
        "details",
        tag("summary", f"{item.name}: what it takes to recover to an instant"),
        _table(caption, head, rows, f"{item.name}: what it takes"),
    )


def span_table(item: Repository) -> Optional[Markup]:
    if not item.spans:
        return None
    rows: list[Markup] = []
    for span in item.spans:
        after = f"Gap: segment {span.broken_by} is missing" if span.broken_by else "the archive ends here"
        to = [when(span.end), None if span.end_is_known else " or later"]
        rows.append(
            tag(
                "tr",
                tag("th", when(span.start), scope="row", class_="w"),
                tag("td", to, class_="w"),
                tag("td", span.timeline, class_="n"),
                tag("td", span.start_lsn, class_="n"),
                tag("td", span.end_lsn, class_="n"),
                tag("td", state("fail", words="gap") if span.broken_by else None, " ", after, class_="long"),
            )
        )
    points = [tag("li", f"{one.name}: ", when(one.time), f" UTC, {one.lsn}") for one in item.points[:_ROWS]]
    head = [
        ("From (UTC)", ""),
        ("To (UTC)", ""),
        ("Timeline", "n"),
        ("From LSN", "n"),
        ("To LSN", "n"),
        ("Behind it", ""),
    ]
    tail: Content = None
    if item.tail is not None:
        tail = "Everything that was committed is archived."
        if item.tail.since is not None:
            tail = f"On the server alone since {second(item.tail.since)}: {size(item.tail.unarchived_bytes)} of WAL."
    return tag(
        "details",
        tag("summary", f"{item.name}: spans, gaps and restore points"),
        _table("Every instant within a row can be recovered to", head, rows, f"{item.name}: spans"),
        tag("p", tail) if tail else None,
        [tag("p", "Restore points"), tag("ul", points)] if points else None,
    )


def retention_table(item: Repository) -> list[Content]:
    heading = tag("h4", f"{item.name}: {item.policy or 'no rule, so everything stays'}")
    if item.retention_error:
        return [heading, tag("p", state("could_not_verify"), " ", item.retention_error)]
    stay = sum(backup.keep is True for backup in item.backups)
    go = [backup for backup in item.backups if backup.keep is False]
    freed = sum(backup.stored_bytes for backup in go)
    said = f"{stay} stay"
    said += f", {len(go)} would go and free {size(freed)}." if go else ", none would go."
    rows = [
        tag(
            "tr",
            tag("th", backup.label, scope="row", class_="w"),
            tag("td", TYPES.get(backup.type, backup.type)),
            tag("td", some(backup.databases) if backup.databases else "whole cluster", class_="long"),
            tag("td", when(backup.stopped), class_="w"),
            tag("td", size(backup.stored_bytes), class_="n"),
            tag("td", level(backup.proven_level)),
            tag("td", {True: "stays", False: "goes", None: "undecided"}[backup.keep]),
            tag("td", "; ".join(backup.reasons) or backup.problem, class_="long"),
            class_="gone" if backup.keep is False else None,
        )
        for backup in item.backups[:_ROWS]
    ]
    head = [
        ("Backup", ""), ("Type", ""), ("Of", ""), ("Ended (UTC)", ""), ("Stored", "n"), ("Proven", ""), ("Fate", ""),
        ("Why", ""),
    ]  # fmt: skip
    more = len(item.backups) + item.left_out - len(rows)
    caption = f"Backups, newest first{f'; {more} older ones are in report.json or in dbops info' if more > 0 else ''}"
    return [
        heading,
        tag("p", said, class_="note"),
        [tag("p", state("CRITICAL"), " ", text, class_="note") for text in item.unreadable],
        tag(
            "details",
            tag("summary", "Each backup with its reasons"),
            _table(caption, head, rows, f"{item.name}: backups"),
        )
        if rows
        else None,
    ]


def verification_table(item: Repository) -> list[Content]:
    heading = tag("h4", item.name)
    if not item.verifications:
        return [heading, tag("p", "Nothing here was ever proven by a restore. Run dbops verify.")]
    rows = [
        tag(
            "tr",
            tag("th", when(one.finished), scope="row", class_="w"),
            tag("td", one.label, class_="w"),
            tag("td", state(one.verdict)),
            tag("td", one.level or "-"),
            tag("td", duration(one.total_s), class_="n"),
            tag("td", size(one.restored_bytes), class_="n"),
            tag("td", rate(one.copy_bytes_per_s), class_="n"),
            tag("td", segments_rate(one.replay_segments_per_s), class_="n"),
            tag("td", duration(one.rpo_s), class_="n"),
            tag("td", one.words or f"{one.checks} checks passed", class_="long"),
        )
        for one in item.verifications[:_ROWS]
    ]
    head = [("Ended (UTC)", ""), ("Backup", ""), ("Verdict", ""), ("Level", ""), ("Took", "n"), ("Restored", "n"),
            ("Copied at", "n"), ("Replayed at", "n"), ("Lost, by the canary", "n"), ("Found", "")]  # fmt: skip
    shown = rows[:5]
    rest = rows[5:]
    caption = f"Verifications of {item.name}, newest first"
    more = None
    if rest:
        older = _table(f"Older verifications of {item.name}", head, rest, f"{item.name}: older verifications")
        more = tag("details", tag("summary", f"{len(rest)} older"), older)
    return [heading, _table(caption, head, shown, f"{item.name}: verifications"), more]


def _table(caption: str, head: Sequence[tuple[str, str]], rows: Sequence[Markup], name: str) -> Markup:
    cells = [tag("th", word, scope="col", class_=kind or None) for word, kind in head]
    table = tag("table", tag("caption", caption), tag("thead", tag("tr", cells)), tag("tbody", join(rows)))
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=name)
