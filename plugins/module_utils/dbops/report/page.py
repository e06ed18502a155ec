# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one HTML file that needs nothing else: no script, no request, no font. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ..progress import duration, size
from .markup import Content, Markup, tag
from .model import Cluster, Report
from .picture import patterns
from .sections import anchor, cluster_section, scrolled, target_value
from .style import STYLE
from .words import plural, second, state, when

# Nothing but the style that stands in the file itself: not even a script that got in by a name would run.
CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def page(report: Report) -> str:
    """The whole document; the same report gives the same bytes."""
    many = len(report.clusters) > 1
    title = f"Recovery report: {plural(len(report.clusters), 'cluster')}" if many else "Recovery report"
    if len(report.clusters) == 1:
        title = f"Recovery report: {report.clusters[0].name}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=CSP),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Markup(STYLE)),
    )
    body = tag(
        "body",
        patterns(),
        tag(
            "div",
            _top(report),
            tag(
                "main",
                _fleet(report.clusters) if many else None,
                [cluster_section(item, f"c{number}") for number, item in enumerate(report.clusters)],
            ),
            _footer(report),
            class_="page",
        ),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _top(report: Report) -> Markup:
    if len(report.clusters) == 1:
        heading = f"Can {report.clusters[0].name} be recovered?"
    else:
        heading = f"Can these {plural(len(report.clusters), 'cluster')} be recovered?"
    return tag(
        "header",
        tag("p", "Recovery report", class_="eyebrow"),
        tag("h1", heading),
        tag("p", "Looked at ", when(report.made), " UTC. Every figure was measured or read; an estimate is called one.",
            class_="lead"),
        class_="top",
    )  # fmt: skip


def _fleet(clusters: Sequence[Cluster]) -> Markup:
    worst_first = sorted(
        enumerate(clusters), key=lambda item: ("CRITICAL", "UNKNOWN", "WARNING", "OK").index(item[1].severity)
    )
    counts = {
        name: sum(item.severity == name for item in clusters) for name in ("CRITICAL", "UNKNOWN", "WARNING", "OK")
    }
    said = [tag("span", state(name, words=f"{count} {name.lower() if name != 'OK' else 'OK'}"), " ")
            for name, count in counts.items() if count]  # fmt: skip
    head = tag("tr", [tag("th", word, scope="col", class_=kind) for word, kind in (
        ("Cluster", None), ("State", None), ("At risk now", "n"), ("Recovery, estimate", "n"), ("Window", "n"),
        ("Newest backup", "n"), ("Proven", "n"), ("Backups", "n"), ("Stored", "n"),
    )])  # fmt: skip
    return tag(
        "section",
        tag("h2", "The fleet"),
        tag("p", said, class_="lead", style="margin:10px 0 0"),
        tag("div", scrolled(
            tag(
                "table",
                tag("caption", "All clusters, the worst first"),
                tag("thead", head),
                tag("tbody", [_fleet_row(item, f"c{number}") for number, item in worst_first]),
            ),
            "All clusters",
        ), class_="card"),
        class_="cluster",
    )  # fmt: skip


def _fleet_row(item: Cluster, key: str) -> Markup:
    by_name = {target.name: target for target in item.targets}
    backups = sum(len(one.backups) + one.left_out for one in item.repositories)
    stored = sum(one.backup_bytes + one.wal_bytes for one in item.repositories)
    cells: list[Content] = [
        tag("th", tag("a", item.name, href=f"#{anchor(key)}"), scope="row"),
        tag("td", state(item.severity)),
    ]
    for name in ("rpo", "rto", "window", "age", "proof"):
        target = by_name.get(name)
        missed = target is not None and target.met is False
        text = target_value(target) if target else "-"
        cells.append(
            tag("td", text, tag("span", " ✕", aria_label="target missed", role="img") if missed else None, class_="n")
        )
    cells += [tag("td", backups, class_="n"), tag("td", size(stored), class_="n")]
    return tag("tr", cells)


def _footer(report: Report) -> Markup:
    spread = (
        (max(one.seen for one in report.clusters) - min(one.seen for one in report.clusters))
        if report.clusters
        else None
    )
    apart = f" The clusters were looked at within {duration(spread.total_seconds())}." if spread else ""
    return tag(
        "footer",
        f"Made by dbops {report.tool_version} at {second(report.made)}, schema {report.schema}.{apart} "
        "report.json beside this page holds the same figures.",
    )
