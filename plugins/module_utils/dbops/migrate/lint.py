# SPDX-License-Identifier: GPL-3.0-or-later
"""Lint a directory of migrations without any server: names, files, pairs, statements; with a baseline and suppressions.

A comment `-- migration-lint: ignore RULE -- reason` is about the statement that follows it, `ignore-file` about the
file; `until 2026-12-31` before the reason ends it. A suppression without a reason is itself a finding.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from typing import Any, Optional

from ..errors import BadInput, DbopsError
from . import lint_rules, linters, sizes
from .files import DOWN, HIGHEST, UP, File, Listing, Migration, scan
from .lexer import place
from .lint_rules import SEVERITIES, Problem
from .objects import Object, changes
from .shape import Script, read_script
from .since import at_reference, changed_since

_SUPPRESSION = re.compile(
    r"--\s*migration-lint:\s*(ignore|ignore-file)\s+([\w:, -]*?\w)"
    r"(?:\s+until\s+(\d{4}-\d{2}-\d{2}))?(?:\s+--\s*(\S.*))?$"
)
LEVELS = ("error", "warning", "note", "off")
_HINTED = re.compile(r"--\s*migration-lint:")


@dataclass(frozen=True)
class Request:
    """`engines` are ours, syntax (pglast) and squawk; `naming` alone is the quick hook.

    `row_counts` is a file (see sizes.py): what is said of how long a lock lasts spares tables of `small_rows` or less.
    """

    engines: tuple[str, ...] = ("ours", "syntax", "squawk")
    naming_only: bool = False
    since: Optional[str] = None
    baseline: Optional[str] = None
    severities: Mapping[str, str] = field(default_factory=dict)
    postgres: str = "15"
    row_counts: Optional[str] = None
    small_rows: int = sizes.SMALL_ROWS
    today: Optional[date] = None


@dataclass(frozen=True)
class _Suppression:
    rules: tuple[str, ...]
    first: int
    last: int

    def covers(self, problem: Problem) -> bool:
        return problem.rule in self.rules and self.first <= (problem.line or 1) <= self.last


def lint(directory: str, request: Request) -> dict[str, Any]:
    """The findings; `passed` is False with any error among them."""
    listing = scan(directory)
    found = list(_directory_problems(listing, request))
    if not request.naming_only:
        found += _content_problems(listing, request)
    findings = [_finding(problem, request) for problem in found]
    findings = [item for item in findings if item["severity"] != "off"]
    if request.since is not None:
        fresh = changed_since(directory, request.since)
        findings = [item for item in findings if item["file"] in fresh or item["check"] in ("edited", "not-above-base")]
    findings, known = _without_baseline(findings, request.baseline)
    counts = Counter(item["severity"] for item in findings)
    return {
        "changed": False,
        "msg": f"{len(listing.files)} files: {counts['error']} errors, {counts['warning']} warnings"
        + (f", {known} known from the baseline." if known else "."),
        "lint": {
            "passed": not counts["error"],
            "directory": directory,
            "files": [file.basename for file in listing.files],
            "findings": sorted(findings, key=lambda it: (it["file"] or "", it["line"] or 0, it["check"])),
        },
    }


def severity(rule: str, how: str) -> tuple[str, str]:
    """The pair, where there are such a rule and such a severity."""
    if how not in LEVELS or not (rule in SEVERITIES or rule.startswith("squawk:")):
        raise BadInput(
            f"{rule}={how} is no severity of a rule.",
            hint=f"A severity is one of {', '.join(LEVELS)}; rules: {', '.join(SEVERITIES)}, squawk:NAME.",
        )
    return rule, how


def write_baseline(path: str, findings: Sequence[Mapping[str, Any]]) -> None:
    """Remember these findings: from now on only new ones count."""
    kept = sorted([item["file"], item["check"], item["message"]] for item in findings)
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(kept, indent=1) + "\n")


def _directory_problems(listing: Listing, request: Request) -> Iterator[Problem]:
    for name in listing.unparsed:
        yield Problem("unparsed-name", name, "Is no migration by its name: golang-migrate skips it without a word.")
    seen: dict[tuple[int, str], str] = {}
    for file in listing.files:
        if file.suffix != "sql":
            yield Problem("stray-suffix", file.basename, "Counts as a migration, whatever comes after .up. or .down.")
            continue
        if file.version > HIGHEST:
            yield Problem("naming", file.basename, f"The version is above {HIGHEST}.")
        other = seen.setdefault((file.version, file.direction), file.basename)
        if other != file.basename:
            yield Problem("duplicate-version", file.basename, f"{other} has the same version and direction.")
        if request.naming_only:
            yield from (
                it for it in lint_rules.file_problems(file, read_script("select 1 -- x"), {}) if it.rule == "naming"
            )
    versions = sorted({version for version, _way in seen})
    for below, above in zip(versions, versions[1:]):
        if above != below + 1 and above < 10**9:  # numbers, not times
            yield Problem("gap", seen.get((above, UP)) or seen[above, DOWN], f"Follows {below}: a number is missing.")
    for version in versions:
        for way in (UP, DOWN):
            if (version, way) not in seen:
                other = seen[version, UP if way == DOWN else DOWN]
                yield Problem(
                    "missing-half", other, f"Version {version} has no {way} file: the state would move alone."
                )
    if request.since is not None:
        yield from _git_problems(listing, request.since)


def _git_problems(listing: Listing, reference: str) -> Iterator[Problem]:
    base, changed = at_reference(listing.directory, reference), changed_since(listing.directory, reference)
    highest = max((file.version for file in listing.files if file.basename in base), default=-1)
    for file in listing.files:
        if file.basename in base and file.basename in changed:
            yield Problem("edited", file.basename, f"Was there at {reference} and has changed: write a new migration.")
        elif file.basename not in base and file.version <= highest:
            yield Problem(
                "not-above-base", file.basename, f"Is numbered below {highest}, which {reference} has already."
            )
    gone = sorted(base - {file.basename for file in listing.files})
    for name in (it for it in gone if it.endswith(".sql")):
        yield Problem("edited", name, f"Was there at {reference} and is gone, or has another name.")


def _content_problems(listing: Listing, request: Request) -> list[Problem]:
    found: list[Problem] = []
    counts = sizes.row_counts(request.row_counts) if request.row_counts else {}
    scripts: dict[str, Script] = {}
    files = [file for file in listing.files if file.suffix == "sql"]
    for file in files:
        try:
            scripts[file.path] = file.script()
        except DbopsError as exc:
            found.append(Problem("unreadable", file.basename, exc.message))
    earlier: dict[Object, int] = {}
    for item in _pairs(files):
        found.extend(_pair(item, scripts, earlier))
    readable = [file for file in files if file.path in scripts]
    if "syntax" in request.engines:
        problems = (linters.syntax_problem(file, scripts[file.path]) for file in readable)
        found.extend(problem for problem in problems if problem is not None)
    by_name = {os.path.basename(path): script for path, script in scripts.items()}
    if "squawk" in request.engines:
        ups = [file for file in readable if file.direction == UP]
        made = {file.basename: _made_here(scripts[file.path]) for file in ups}
        found.extend(
            it
            for it in linters.squawk_problems(ups, postgres=request.postgres)
            if not _on_new_table(it, made) and not sizes.is_spared(it, by_name[it.file], counts, request.small_rows)
        )
    return _unsuppressed(found, by_name, request)


def _pairs(files: Sequence[File]) -> list[Migration]:
    halves = {(file.version, file.direction): file for file in reversed(files)}
    versions = sorted({file.version for file in files})
    return [Migration(version, halves.get((version, UP)), halves.get((version, DOWN))) for version in versions]


def _pair(item: Migration, scripts: Mapping[str, Script], earlier: dict[Object, int]) -> Iterator[Problem]:
    nothing = read_script("")
    up = scripts.get(item.up.path, nothing) if item.up else nothing
    down = scripts.get(item.down.path, nothing) if item.down else nothing
    after = dict(earlier)
    lint_rules.applied_to(after, item.version, up)
    if item.up and item.up.path in scripts:
        yield from lint_rules.file_problems(item.up, up, earlier)
    if item.down and item.down.path in scripts:
        yield from lint_rules.file_problems(item.down, down, after)
        yield from lint_rules.pair_problems(item, up, down, earlier)
    earlier.clear()
    earlier.update(after)


def _made_here(script: Script) -> dict[int, bool]:
    """For each line on which an index is made: whether its table was made above, in the same file."""
    made: set[str] = set()
    found: dict[int, bool] = {}
    for item in script.statements:
        for change in changes(item):
            if change.verb == "create" and change.what[0] in ("table", "view"):
                made.add(change.what[1])
        if item.words[0] == "create" and "index" in item.words[:3]:
            found[place(script.text, item.start)[0]] = any(name in item.words for name in made)
    return found


def _on_new_table(problem: Problem, made: Mapping[str, Mapping[int, bool]]) -> bool:
    if problem.rule != "squawk:require-concurrent-index-creation":
        return False
    return made.get(problem.file, {}).get(problem.line or 0, False)


def _unsuppressed(found: Sequence[Problem], scripts: Mapping[str, Script], request: Request) -> list[Problem]:
    suppressions: dict[str, list[_Suppression]] = {}
    extra: list[Problem] = []
    for name, script in scripts.items():
        suppressions[name], problems = _suppressions(name, script, request.today or datetime.now(timezone.utc).date())
        extra.extend(problems)
    kept = [it for it in found if not any(one.covers(it) for one in suppressions.get(it.file, ()))]
    return kept + extra


def _suppressions(name: str, script: Script, today: date) -> tuple[list[_Suppression], list[Problem]]:
    found: list[_Suppression] = []
    wrong: list[Problem] = []
    for item in script.statements:
        last = place(script.text, item.start + len(item.text))[0]
        for note in item.comments:
            if not _HINTED.match(note.text):
                continue
            line = place(script.text, note.start)[0]
            match = _SUPPRESSION.match(note.text.strip())
            if match is None or not match.group(4):
                text = "A suppression names its rules and a reason: -- migration-lint: ignore RULE -- why"
                wrong.append(Problem("suppression", name, text, line))
                continue
            if match.group(3) and date.fromisoformat(match.group(3)) < today:
                wrong.append(Problem("suppression", name, f"This suppression ended on {match.group(3)}.", line))
                continue
            rules = tuple(re.split(r"[,\s]+", match.group(2)))
            whole = match.group(1) == "ignore-file"
            found.append(_Suppression(rules, 1 if whole else line, 1 << 30 if whole else last))
    return found, wrong


def _finding(problem: Problem, request: Request) -> dict[str, Any]:
    severity = request.severities.get(problem.rule, SEVERITIES.get(problem.rule, "warning"))
    number = problem.file.split("_")[0]
    return {
        "check": problem.rule,
        "severity": severity,
        "message": problem.message,
        "version": int(number) if number.isdigit() and number.isascii() else None,
        "file": problem.file,
        "line": problem.line,
        "details": [],
    }


def _without_baseline(findings: list[dict[str, Any]], path: Optional[str]) -> tuple[list[dict[str, Any]], int]:
    if path is None:
        return findings, 0
    try:
        with open(path, encoding="utf-8") as stream:
            known = Counter(tuple(item) for item in json.load(stream))
    except FileNotFoundError:
        return findings, 0
    except (OSError, ValueError, TypeError) as exc:
        raise BadInput(
            f"Cannot read the baseline {path}: {exc}.", hint="Write it again with --write-baseline."
        ) from exc
    fresh = []
    for item in findings:
        key = (item["file"], item["check"], item["message"])
        if known[key] > 0:
            known[key] -= 1
        else:
            fresh.append(item)
    return fresh, len(findings) - len(fresh)
