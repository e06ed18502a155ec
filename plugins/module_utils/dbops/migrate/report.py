# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings, of a rehearsal or of lint, in the formats that pipelines read: JUnit, SARIF, GitHub's and GitLab's own."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from .. import __version__
from ..errors import Unreachable

Finding = Mapping[str, Any]  # check, severity, message, version, file, line, details
_SARIF_LEVELS = {"error": "error", "warning": "warning", "note": "note"}
_GITHUB_LEVELS = {"error": "error", "warning": "warning", "note": "notice"}
_GITLAB_LEVELS = {"error": "major", "warning": "minor", "note": "info"}
FORMATS = ("junit", "sarif", "github", "gitlab", "json")


def written(findings: Sequence[Finding], form: str, *, directory: str, suite: str, cases: Sequence[str] = ()) -> str:
    """The findings in one of FORMATS. `cases` are the names of what was tried, found wrong or not (JUnit)."""
    if form == "junit":
        return junit(findings, suite=suite, cases=cases)
    if form == "sarif":
        return sarif(findings, directory=directory, suite=suite)
    if form == "github":
        return github(findings, directory=directory)
    if form == "gitlab":
        return gitlab(findings, directory=directory)
    return json.dumps(list(findings), indent=2) + "\n"


def save(
    findings: Sequence[Finding], paths: Mapping[str, str], *, directory: str, suite: str, cases: Sequence[str]
) -> str:
    """Write each of the FORMATS that `paths` names to its file; the text of those whose path is `-`."""
    out = ""
    for form, path in paths.items():
        text = written(findings, form, directory=directory, suite=suite, cases=cases)
        if path == "-":
            out += text
            continue
        try:
            with open(path, "w", encoding="utf-8") as stream:
                stream.write(text)
        except OSError as exc:
            raise Unreachable(f"Cannot write {path}: {exc.strerror}.", hint="Name another file.") from exc
    return out


def junit(findings: Sequence[Finding], *, suite: str, cases: Sequence[str]) -> str:
    """One test case per version or file; every error in it is a failure."""
    by_case: dict[str, list[Finding]] = {case: [] for case in cases}
    for item in findings:
        by_case.setdefault(_case(item), []).append(item)
    failed = sum(any(item["severity"] == "error" for item in found) for found in by_case.values())
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name={quoteattr(suite)} tests="{len(by_case)}" failures="{failed}">',
    ]
    for case, found in by_case.items():
        lines.append(f"  <testcase classname={quoteattr(suite)} name={quoteattr(case)}>")
        errors = [item for item in found if item["severity"] == "error"]
        if errors:
            text = "\n".join(line for item in errors for line in (item["message"], *item["details"]))
            lines.append(f"    <failure message={quoteattr(errors[0]['message'])}>{escape(text)}</failure>")
        others = [f"{item['severity']}: {item['message']}" for item in found if item["severity"] != "error"]
        if others:
            lines.append(f"    <system-out>{escape(chr(10).join(others))}</system-out>")
        lines.append("  </testcase>")
    return "\n".join([*lines, "</testsuite>", ""])


def sarif(findings: Sequence[Finding], *, directory: str, suite: str) -> str:
    """SARIF 2.1.0. Positions are lines of files below `directory`, as it was given."""
    results = []
    for item in findings:
        result: dict[str, Any] = {
            "ruleId": item["check"],
            "level": _SARIF_LEVELS.get(item["severity"], "note"),
            "message": {"text": "\n".join([item["message"], *item["details"]])},
        }
        if item["file"]:
            location: dict[str, Any] = {"artifactLocation": {"uri": f"{directory.rstrip('/')}/{item['file']}"}}
            location["region"] = {"startLine": item["line"] or 1}
            result["locations"] = [{"physicalLocation": location}]
        results.append(result)
    rules = [{"id": name} for name in sorted({item["check"] for item in findings})]
    driver = {"name": f"dbops {suite}", "version": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "results": results}
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return json.dumps({"$schema": schema, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def github(findings: Sequence[Finding], *, directory: str) -> str:
    """Workflow commands: annotations on the lines of a pull request."""
    lines = []
    for item in findings:
        where = f" file={directory.rstrip('/')}/{item['file']},line={item['line'] or 1}," if item["file"] else " "
        text = "\n".join([item["message"], *item["details"]])
        level = _GITHUB_LEVELS.get(item["severity"], "notice")
        lines.append(f"::{level}{where}title={_property(item['check'])}::{_data(text)}")
    return "".join(f"{line}\n" for line in lines)


def gitlab(findings: Sequence[Finding], *, directory: str) -> str:
    """GitLab's Code Quality: https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format.

    A fingerprint tells known findings from new ones, so it does not change when lines above it come or go.
    """
    seen: Counter[tuple[str, ...]] = Counter()
    entries = []
    for item in findings:
        same = (item["check"], _case(item), item["message"])
        seen[same] += 1
        where = f"{directory.rstrip('/')}/{item['file']}" if item["file"] else directory
        entries.append(
            {
                "description": "\n".join([item["message"], *item["details"]]),
                "check_name": item["check"],
                "fingerprint": hashlib.sha256("\0".join([*same, str(seen[same])]).encode()).hexdigest(),
                "severity": _GITLAB_LEVELS.get(item["severity"], "info"),
                "location": {"path": where, "lines": {"begin": item["line"] or 1}},
            }
        )
    return json.dumps(entries, indent=2) + "\n"


def _case(item: Finding) -> str:
    return str(item["version"]) if item["version"] is not None else item["file"] or item["check"]


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
