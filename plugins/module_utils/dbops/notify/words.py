# SPDX-License-Identifier: GPL-3.0-or-later
"""One notice as a subject, as text, as HTML, as Slack writes and as JSON. Pure.

What servers and stores say may hold anything: here it stays on its line, and is text in whatever it is put into.
"""

from __future__ import annotations

import html
from datetime import datetime, timezone
from typing import Any

from .due import Notice, Problem

SCHEMA = "v1"
_COLOURS = {"OK": "#1a7f37", "WARNING": "#9a6700", "UNKNOWN": "#6639ba", "CRITICAL": "#cf222e"}
_LONGEST = 30  # problems in one message; the rest are counted


def subject(notice: Notice) -> str:
    return f"[{_state(notice)}] {plain(notice.report.sentence)}"[:200]


def text(notice: Notice) -> str:
    report = notice.report
    lines = [plain(report.sentence), ""]
    for item in report.problems[:_LONGEST]:
        lines.append(f"{item.severity.value:<8} {_about(item)}: {plain(item.message)}")
        lines += [f"         next: {plain(item.hint)}"] * bool(item.hint)
    lines += [f"and {len(report.problems) - _LONGEST} more"] * (len(report.problems) > _LONGEST)
    lines += ["", *_closing(notice)]
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def as_html(notice: Notice) -> str:
    """Tables and inline styles: mail programs know no more."""
    report = notice.report
    colour = _COLOURS[report.severity.value]
    rows = "".join(
        f'<tr><td style="padding:4px 12px 4px 0;color:{_COLOURS[item.severity.value]};font-weight:bold">'
        f"{item.severity.value}</td>"
        f'<td style="padding:4px 12px 4px 0;white-space:nowrap">{_escaped(_about(item))}</td>'
        f'<td style="padding:4px 0">{_escaped(item.message)}'
        + (f'<br><span style="color:#57606a">next: {_escaped(item.hint)}</span>' if item.hint else "")
        + "</td></tr>"
        for item in report.problems[:_LONGEST]
    )
    closing = "<br>".join(_escaped(line) for line in _closing(notice))
    return (
        '<!doctype html><html lang="en"><body style="font-family:sans-serif;color:#1f2328">'
        f'<p style="border-left:6px solid {colour};padding-left:12px;font-size:16px">'
        f"<b>{_escaped(_state(notice))}</b> {_escaped(report.sentence)}</p>"
        f'<table style="border-collapse:collapse;vertical-align:top">{rows}</table>'
        f'<p style="color:#57606a;font-size:12px">{closing}</p></body></html>\n'
    )


def as_slack(notice: Notice) -> str:
    """Slack's three special characters escaped, so that no word of a server's can call a whole channel."""
    escaped = text(notice).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"*[{_state(notice)}]* {escaped}"[:39_000]


def as_json(notice: Notice) -> dict[str, Any]:
    report = notice.report
    return {
        "schema": SCHEMA,
        "event": notice.event,
        "cluster": report.cluster,
        "severity": report.severity.value,
        "message": report.sentence,
        "incident": notice.incident,
        "number": notice.number,
        "opened": _iso(notice.opened),
        "seen": _iso(report.seen),
        "host": report.host,
        "problems": [
            {
                "check": item.check,
                "subject": item.subject,
                "severity": item.severity.value,
                "message": item.message,
                "hint": item.hint,
            }
            for item in report.problems
        ],
    }


def plain(content: str) -> str:
    """One line that prints: no control characters, no lone surrogates."""
    shown = "".join(character if character.isprintable() else " " for character in content)
    return " ".join(shown.split())


def _state(notice: Notice) -> str:
    word = notice.report.severity.value
    return {
        "resolved": f"RESOLVED, {word}",
        "repeat": f"{word}, still",
        "worse": f"{word}, worse",
        "test": "TEST",
    }.get(notice.event, word)


def _closing(notice: Notice) -> list[str]:
    report = notice.report
    lines = [f"Seen {_iso(report.seen)}" + (f" on {plain(report.host)}" if report.host else "") + "."]
    if notice.event != "test":
        lines.append(f"Incident {notice.incident}, since {_iso(notice.opened)}.")
    return lines


def _about(problem: Problem) -> str:
    return plain(problem.check if problem.subject in ("", "-") else f"{problem.check} {problem.subject}")


def _escaped(content: str) -> str:
    return html.escape(plain(content))


def _iso(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
