# SPDX-License-Identifier: GPL-3.0-or-later
"""One cluster's part of the page, from the answer to the evidence. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from ..progress import size
from .charts import durations, sizes, strip
from .markup import Content, Markup, tag
from .model import Cluster, Finding, Repository, Target
from .picture import shape, shows_allowed, verdict_shape, window_picture
from .tables import reach_table, retention_table, span_table, verification_table
from .words import plural, span, state, when


def anchor(key: str) -> str:
    return f"cluster-{key}"


def cluster_section(cluster: Cluster, key: str) -> Markup:
    facts = [f"PostgreSQL {cluster.postgres_version}" if cluster.postgres_version else "the server did not answer"]
    if cluster.database_bytes is not None:
        facts.append(f"{size(cluster.database_bytes)} of data")
    facts.append("a standby" if cluster.in_recovery else "")
    readable = [item for item in cluster.repositories if not item.error]
    return tag(
        "section",
        tag("div", tag("h2", cluster.name), state(cluster.severity), class_="cluster-head"),
        tag("p", cluster.sentence, " ", tag("span", f"({', '.join(filter(None, facts))})"), class_="lead"),
        tag("ul", [_tile(target) for target in cluster.targets], class_="tiles"),
        _findings(cluster.findings),
        _window(cluster, key) if cluster.repositories else None,
        _history(readable, cluster) if any(item.backups for item in readable) else None,
        _retention(readable) if readable else None,
        _verifications(readable) if readable else None,
        id=anchor(key), class_="cluster", aria_label=f"Cluster {cluster.name}",
    )  # fmt: skip


def target_value(target: Target) -> str:
    if target.actual_s is None:
        return "-"
    if target.name == "rpo" and target.actual_s == 0:
        return "0 s"
    return span(target.actual_s)


def _tile(target: Target) -> Markup:
    least = target.name == "window"
    if target.wanted_s is None:
        against: Content = "no target set"
    else:
        met = {True: "pass", False: "fail", None: "could_not_verify"}[target.met]
        word = {"pass": "met", "fail": "missed", "could_not_verify": "unknown"}[met]
        against = [state(met, words=word), f"target: {'at least' if least else 'at most'} {span(target.wanted_s)}"]
    value = target_value(target)
    return tag(
        "li",
        tag("div", target.title, class_="name"),
        tag("div", value if value != "-" else "unknown" if target.met is None else "none",
            class_="value" if value != "-" else "value none"),
        tag("div", against, class_="against"),
        tag("div", target.words, class_="words"),
        class_="tile bad" if target.met is False else "tile",
    )  # fmt: skip


def _findings(findings: Sequence[Finding]) -> list[Content]:
    """What is not in order stands open; the rest is there for whoever asks."""
    bad = [item for item in findings if item.severity != "OK"]
    good = [item for item in findings if item.severity == "OK"]
    shown: list[Content] = []
    if bad:
        shown.append(tag("ul", [_finding(item) for item in bad], class_="findings"))
    if good:
        summary = tag("summary", f"{plural(len(good), 'check')} passed")
        shown.append(tag("details", summary, tag("ul", [_finding(item) for item in good], class_="findings")))
    return shown


def _finding(item: Finding) -> Markup:
    return tag(
        "li",
        tag("div", state(item.severity)),
        tag(
            "div",
            tag("div", item.message),
            tag("div", f"{item.check.replace('_', ' ')}, {item.subject}", class_="of"),
            tag("div", f"Next: {item.hint}", class_="hint") if item.hint and item.severity != "OK" else None,
        ),
    )


def _window(cluster: Cluster, key: str) -> list[Content]:
    tables: list[Content] = []
    for number, item in enumerate(cluster.repositories):
        tables.append(reach_table(item, f"reach-{key}-{number}"))
        tables.append(span_table(item))
    return [
        tag("h3", "The recovery window"),
        _note(
            "Every instant on a solid bar can be recovered to. Point at it to see from which backup, with how much "
            "WAL, in what time and by which command; the same stands in the tables below it."
        ),
        tag(
            "div",
            scrolled(window_picture(cluster, prefix=f"reach-{key}"), f"Recovery window of {cluster.name}, drawn"),
            _legend(cluster),
            tables,
            class_="card",
        ),
    ]


def _legend(cluster: Cluster) -> Markup:
    """What is in this picture, and nothing that is not."""
    backups = [backup for item in cluster.repositories for backup in item.backups]
    spans = [span for item in cluster.repositories for span in item.spans]
    types = {backup.type for backup in backups}
    entries = [
        (shape("full", fill="restored"), "full, proven by a restore", "full" in types),
        (shape("incremental", fill="restored"), "incremental, the same", "incremental" in types),
        (shape("dump", fill="restored"), "dump, the same", "dump" in types),
        (shape("full", fill="read"), "half: only read to the last byte", any(
            backup.proven_level in ("bytes", "wal", "manifest") for backup in backups)),
        (shape("full", fill="unproven"), "hollow: unproven", any(not backup.proven_level for backup in backups)),
        (shape("full", fill="unproven", problem=True), "crossed: damaged, or failed", any(
            backup.problem or backup.last_verdict == "fail" for backup in backups)),
        (shape("full", fill="restored", held=True), "underlined: held", any(b.held is not None for b in backups)),
        (tag("rect", x=-9, y=-5, width=18, height=10, class_="span"), "recoverable", bool(spans)),
        (tag("rect", x=-9, y=-1, width=18, height=3, class_="branch"), "another timeline",
         any(not span.newest_timeline for span in spans)),
        (tag("rect", x=-9, y=-5, width=18, height=10, class_="gap"), "gap", any(span.broken_by for span in spans)),
        (tag("rect", x=-9, y=-5, width=18, height=10, class_="tail"), "on the server alone",
         any(item.tail and item.tail.since for item in cluster.repositories)),
        (tag("g", tag("path", d="M-3 7V-6", class_="pole"), tag("path", d="M-3-6h8l-2.4 3 2.4 3h-8z", class_="flag")),
         "restore point", any(item.points for item in cluster.repositories)),
        (verdict_shape("pass"), "verification passed", _has(cluster, "pass")),
        (verdict_shape("fail"), "failed", _has(cluster, "fail")),
        (verdict_shape("could_not_verify"), "could not be verified", _has(cluster, "could_not_verify")),
        (tag("rect", x=-9, y=-1, width=18, height=2, class_="lock"), "kept by the store itself",
         any(backup.locked_until for backup in backups)),
        (tag("rect", x=-9, y=-7, width=18, height=14, class_="wanted"), "shaded: the target wants every instant of it",
         any(target.name == "window" and target.wanted_s is not None for target in cluster.targets)),
        (tag("rect", x=-9, y=-7, width=18, height=14, class_="allowed"), "darker: may be on the server alone (RPO)",
         shows_allowed(cluster)),
        (tag("line", x1=0, x2=0, y1=-8, y2=8, class_="now"), "now", True),
    ]  # fmt: skip
    items = [
        tag(
            "li",
            tag("svg", tag("g", drawn, transform="translate(10 10)"), width=20, height=20, aria_hidden="true"),
            word,
        )
        for drawn, word, there in entries
        if there
    ]
    return tag("ul", items, class_="legend", aria_label="Signs of the picture")


def _has(cluster: Cluster, verdict: str) -> bool:
    return any(one.verdict == verdict for item in cluster.repositories for one in item.verifications)


def _history(repositories: Sequence[Repository], cluster: Cluster) -> list[Content]:
    cards = []
    for item in repositories:
        cards.append(
            tag(
                "div",
                tag("h4", f"{item.name} · {item.location}"),
                _usage(item),
                tag("h4", "The last 30 days"),
                strip(item, cluster.seen),
                tag("h4", "Sizes and durations"),
                tag("div", sizes(item, cluster.seen), durations(item, cluster.seen), class_="charts"),
                class_="card",
            )
        )
    return [
        tag("h3", "What is kept"),
        _note(
            "Squares are days: full when a backup of that day was proven since, half when it is unproven, struck "
            "through when there is none."
        ),
        cards,
    ]


def _usage(item: Repository) -> Markup:
    count = len(item.backups) + item.left_out
    unproven = sum(backup.proven_level is None for backup in item.backups)
    free = size(item.free_bytes)
    share = f"{100 * item.free_bytes / item.total_bytes:.0f} % of it" if item.free_bytes and item.total_bytes else None
    oldest = item.backups[-1].stopped if item.backups else None
    entries: list[tuple[str, Content, Optional[Content]]] = [
        ("Backups", plural(count, "backup").split("backup")[0].strip(), f"{unproven} unproven"),
        ("Backups take", size(item.backup_bytes), None),
        ("WAL takes", size(item.wal_bytes), plural(item.wal_segments, "segment")),
        ("Free there", free if item.free_bytes is not None else "not said", share),
        ("Oldest listed", when(oldest), None),
    ]
    if item.cost is not None:
        entries.append(("A month costs about", f"{item.cost.month:.2f} {item.cost.currency}", item.cost.prices))
    cells = [
        (tag("div", tag("dt", name), tag("dd", value, tag("small", more) if more else None)))
        for name, value, more in entries
    ]
    return tag("dl", cells, class_="usage")


def _retention(repositories: Sequence[Repository]) -> list[Content]:
    return [
        tag("h3", "What stays, and why"),
        _note("What the next expiry would do. Nothing was deleted for this report."),
        [tag("div", retention_table(item), class_="card") for item in repositories],
    ]


def _verifications(repositories: Sequence[Repository]) -> list[Content]:
    return [
        tag("h3", "Proof"),
        _note(
            "Each row is a real restore into a scratch instance, rolled forward and looked at. An estimate for another "
            "instant is worked out from the rates of the newest one that passed."
        ),
        [tag("div", verification_table(item), class_="card") for item in repositories],
    ]


def _note(text: str) -> Markup:
    return tag("p", text, class_="note")


def scrolled(content: Content, name: str) -> Markup:
    """Wider than a narrow screen: it moves in its own frame, by keyboard too, and never the page."""
    return tag("div", content, class_="scroll", tabindex=0, role="region", aria_label=name)
