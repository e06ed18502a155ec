# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as JUnit XML, for whatever collects test results: each check and each proof is a test case. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

from ..repo.record import iso
from .model import Cluster, Report

# What is not OK fails; what nobody could look at is an error and not a failure.
_OF_SEVERITY = {"WARNING": "failure", "CRITICAL": "failure", "UNKNOWN": "error"}
_OF_VERDICT = {"fail": "failure", "could_not_verify": "error"}
_OF_TARGET = {True: None, False: "failure", None: "error"}


def junit(report: Report) -> str:
    root = ElementTree.Element("testsuites", name="dbops report")
    for cluster in report.clusters:
        for suite in _suites(cluster):
            root.append(suite)
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _suites(cluster: Cluster) -> Iterator[ElementTree.Element]:
    checks = [
        _case(f"{cluster.name}.{item.check}", item.subject, _OF_SEVERITY.get(item.severity), item.severity,
              f"{item.message} {item.hint}".strip(), None)
        for item in cluster.findings
    ]  # fmt: skip
    proofs = [
        _case(f"{cluster.name}.verification", f"{one.label} in {item.name} at {iso(one.finished)}",
              None if one.verdict == "pass" else _OF_VERDICT.get(one.verdict, "error"), one.verdict, one.words,
              one.total_s)
        for item in cluster.repositories
        for one in item.verifications
    ]  # fmt: skip
    targets = [
        _case(f"{cluster.name}.target", target.name, _OF_TARGET[target.met],
              "missed" if target.met is False else "unknown", target.words, None)
        for target in cluster.targets
        if target.wanted_s is not None
    ]  # fmt: skip
    for name, cases in (("checks", checks), ("targets", targets), ("verifications", proofs)):
        suite = ElementTree.Element("testsuite", name=f"{_xml(cluster.name)} {name}", timestamp=iso(cluster.seen)[:19])
        suite.extend(cases)
        suite.set("tests", str(len(cases)))
        for kind in ("failure", "error"):
            suite.set(f"{kind}s", str(sum(case.find(kind) is not None for case in cases)))
        yield suite


def _case(
    classname: str, name: str, bad: str | None, kind: str, words: str, seconds: float | None
) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname=_xml(classname), name=_xml(name), time=f"{seconds or 0:.3f}")
    if bad is not None:
        ElementTree.SubElement(case, bad, type=kind, message=_xml(words)).text = _xml(words)
    return case


def _xml(text: str) -> str:
    """XML 1.0 has no way to write most control characters, nor half of a surrogate pair."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else f"\\u{ord(character):04x}"
        for character in text
    )
