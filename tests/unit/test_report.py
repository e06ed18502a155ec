# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: what is reachable is told as it is, the page holds nothing that could act, all forms say the same."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput, Unreachable
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.health.facts import Facts
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.wal import int_to_lsn
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.coverage import Line, Window
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.record import WalRange
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.repo.window import Base, Segments, intervals, line
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.report import axis, charts, files, fleet, targets
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.report.junit import junit
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.report.markup import Markup, join, tag
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.report.model import Rates
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.report.page import page
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.report.plain import read_report, to_plain
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.report.reach import Place, reaches, spans
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.report.report import sentence
from tests.support import health, records
from tests.support.reports import EVIL, NOW, backup, cluster, report, repository

SIZE = 16 << 20
BEGIN = datetime(2026, 11, 1, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
PLACE = Place("main", "disk")


class Page(HTMLParser):
    """Elements with their attributes, and all text, as a browser's parser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


# -- the window, told


def window_of(present: set[int], bases: dict[str, tuple[int, int]], *, fork: int | None = None) -> Window:
    """Segments by number on timeline 1, one an hour; bases by label from the one segment to the other.

    `fork`: timeline 2 left timeline 1 at the begin of that segment, and has all later ones.
    """
    histories = {2: [(1, int_to_lsn(fork * SIZE))]} if fork else {}
    places = {(1, number) for number in present} | (
        {(2, number) for number in range(fork, fork + 5)} if fork else set()
    )
    made = {
        label: Base(label, 1, first * SIZE + 40, last * SIZE + 300, BEGIN + last * HOUR)
        for label, (first, last) in bases.items()
    }
    segments = Segments(places, SIZE)
    lines = tuple(
        Line(timeline, line(timeline, histories), intervals(timeline, made.values(), segments, histories))
        for timeline in ((1, 2) if fork else (1,))
    )
    return Window("7001", "disk", lines, segments, dict.fromkeys(places, 1000), made, histories)


def records_of(window: Window) -> dict[str, Any]:
    return {
        label: replace(
            records.backup(), label=label, stopped=base.stopped, database_bytes=1 << 30,
            wal=WalRange(1, int_to_lsn(base.start), int_to_lsn(base.stop), SIZE),
        )
        for label, base in window.bases.items()
    }  # fmt: skip


def test_a_gap_ends_a_span_and_the_next_base_begins_another():
    window = window_of({1, 2, 3, 5, 6, 7}, {"a": (1, 2), "b": (5, 6)})
    first, second = spans(window, {(1, 4 * SIZE): BEGIN + 4 * HOUR})
    assert (first.start, first.end, first.end_is_known) == (BEGIN + 2 * HOUR, BEGIN + 4 * HOUR, True)
    assert first.broken_by == "000000010000000000000004"
    assert (second.start, second.broken_by) == (BEGIN + 6 * HOUR, None)
    assert not second.end_is_known  # nobody asked the WAL: at least until the base's stop
    assert spans(window, {}, BEGIN + 9 * HOUR)[-1].end == BEGIN + 9 * HOUR  # everything until then is archived
    assert spans(window, {}, BEGIN + 9 * HOUR)[0].end == BEGIN + 2 * HOUR  # and that says nothing of a broken one


def test_a_timeline_that_was_left_is_a_branch_and_its_shared_past_is_not_told_twice():
    whole = spans(window_of(set(range(1, 8)), {"a": (1, 2)}, fork=5), {})
    assert [(span.timeline, span.newest_timeline) for span in whole] == [(1, False), (2, True)]
    only_past = spans(window_of(set(range(1, 5)), {"a": (1, 2)}, fork=5), {})
    assert [span.timeline for span in only_past] == [2]


def test_what_it_takes_grows_with_the_wal_until_the_next_base():
    window = window_of(set(range(1, 12)), {"a": (1, 2), "b": (6, 7)})
    rates = Rates(1 << 20, 2.0, "a", BEGIN)
    late, early = reaches(PLACE, window, records_of(window), {}, rates, BEGIN + 20 * HOUR)
    assert (early.base, early.wal_files, early.wal_bytes) == ("a", 8, 8000)
    assert early.rto_s == 1024 + 4
    assert (late.base, late.wal_files, late.end) == ("b", 6, BEGIN + 20 * HOUR)
    assert "--latest" in late.command
    assert "--time 2026-11-01T06:59:59.999000Z --timeline 1" in early.command
    assert all(one.command.endswith("--plan") for one in (early, late))  # who copies it in a hurry breaks nothing


def test_without_a_measured_restore_nobody_says_how_long_it_takes():
    window = window_of({1, 2, 3}, {"a": (1, 2)})
    (only,) = reaches(PLACE, window, records_of(window), {}, None)
    assert only.rto_s is None
    (assumed,) = reaches(PLACE, window, records_of(window), {}, Rates(1 << 30, None, "a", BEGIN))
    assert assumed.rto_s == pytest.approx(1 + 3 / 8, abs=0.1)


def test_a_base_whose_chain_is_not_known_is_no_way_back():
    window = window_of({1, 2, 3}, {"a": (1, 2)})
    known = records_of(window)
    orphan = {"a": replace(known["a"], parent="gone")}
    assert reaches(PLACE, window, orphan, {}, None) == ()


@given(
    st.sets(st.integers(1, 30), max_size=30),
    st.lists(st.tuples(st.integers(1, 28), st.integers(0, 2)), max_size=5),
)
def test_every_way_back_lies_in_a_span_and_no_two_overlap(present, chosen):
    window = window_of(present, {f"b{number}": (first, first + more) for number, (first, more) in enumerate(chosen)})
    seen = spans(window, {})
    found = reaches(PLACE, window, records_of(window), {}, None)
    assert all(any(span.start <= one.start and one.end <= span.end for span in seen) for one in found)
    assert all(later.start >= earlier.end for later, earlier in zip(found, found[1:]))
    covered = {label for item in window.lines for interval in item.intervals for label in interval.bases}
    assert {one.base for one in found} <= covered


# -- promised and measured


def told(facts: Facts, *repositories: Any) -> dict[str, Any]:
    return {item.name: item for item in targets.targets(facts, repositories)}


def test_exposure_is_held_against_the_promise():
    at_risk = health.wal(unarchived_bytes=9, unarchived_since=health.NOW - 2 * HOUR)
    assert told(health.facts())["rpo"].met is True
    assert told(health.facts())["rpo"].actual_s == 0
    missed = told(health.facts(health.repository(wal=at_risk)))["rpo"]
    assert (missed.actual_s, missed.met) == (7200, False)
    nobody = told(health.facts(health.repository(wal=health.wal(unarchived_bytes=None))))["rpo"]
    assert (nobody.actual_s, nobody.met) == (None, None)


def test_without_archiving_everything_since_the_last_backup_is_at_risk():
    alone = health.repository(health.backup(5), wal=None)
    only_backups = told(health.facts(alone, server=health.server(archives=False)))["rpo"]
    assert (only_backups.actual_s, only_backups.met) == (5 * 3600, False)
    assert "No WAL is archived" in only_backups.words


def test_what_was_not_promised_is_neither_met_nor_missed_and_what_is_not_there_is_missed():
    empty = repository(backups=(), spans=(), reaches=(), verifications=())
    found = told(health.facts(health.repository(health.backup(30))), empty)
    assert (found["rto"].met, found["rto"].actual_s) == (None, None)
    assert found["window"].met is None
    assert found["age"].met is False
    assert found["proof"].met is False
    strict = told(health.facts(policy={"min_window": "2d", "rto": "3s"}, seen=NOW), repository())
    assert strict["window"].met is True
    assert (strict["rto"].actual_s, strict["rto"].met) == (4.0, False)


# -- the page


@given(st.text(max_size=40))
def test_whatever_a_name_is_it_stays_text(name):
    shown = tag("p", name, title=name)
    (found,) = Page(shown).elements
    assert found[0] == "p"
    assert "<" not in shown.removeprefix("<p").removesuffix("</p>").replace(f">{join(name)}", "", 1)
    assert html.unescape(join(name)) == Page(f"<p>{join(name)}</p>").text
    if name.isprintable():
        assert Page(shown).text == name
        assert found[1]["title"] == name
    shown.encode("utf-8")


def test_markup_is_not_escaped_twice_and_nothing_else_becomes_markup():
    assert tag("b", tag("i", "a < b"), class_="x", hidden=False, n=None) == '<b class="x"><i>a &lt; b</i></b>'
    assert join([Markup("<hr>"), None, 3, ["<hr>"]]) == "<hr>3&lt;hr&gt;"
    assert tag("a", aria_label='"') == '<a aria-label="&quot;"></a>'


def test_the_page_has_nothing_that_could_act_or_ask():
    text = page(report(cluster(EVIL), cluster("b", severity="OK")))
    found = Page(text)
    names = {name for name, _attributes in found.elements}
    assert not names & {"script", "link", "iframe", "img", "object", "embed", "form", "base", "image", "use"}
    for name, attributes in found.elements:
        assert not [key for key in attributes if key.startswith("on") or key in ("src", "srcset", "action", "data")], (
            name
        )
        assert (attributes.get("href") or "#").startswith("#")
    assert "http" not in text.lower().replace("http-equiv", "")
    assert not re.search(r"@import|url\((?!#)", text)
    policy = next(given["content"] for name, given in found.elements if given.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert found.text.count(EVIL) > 5  # and it is all there, as text


def test_every_link_leads_somewhere_and_no_name_is_given_twice():
    found = Page(page(report(cluster("a"), cluster("b"))))
    ids = [given["id"] for _name, given in found.elements if "id" in given]
    assert len(ids) == len(set(ids))
    links = {str(given["href"])[1:] for name, given in found.elements if name == "a"}
    assert links <= set(ids)
    assert {"cluster-c0", "reach-c0-0-1", "reach-c1-0-0"} <= links


def test_the_same_report_is_the_same_bytes():
    assert page(report()) == page(read_report(json.loads(files.rendered(report())["report.json"]), where="x"))


def test_a_repository_that_is_away_is_told_and_breaks_nothing():
    text = Page(
        page(report(cluster("main", repository(error="The store is away.", backups=(), spans=(), reaches=()))))
    ).text
    assert "could not be read" in text


def test_what_storing_costs_and_how_much_may_be_lost_are_on_the_page():
    made = cluster("main", repository())
    shown = page(report(made))
    assert "A month costs about3.46 USDlist prices of 2025, built in" in Page(shown).text
    assert shown.count('class="allowed"') == 1  # ten minutes of a week: drawn, and not explained to who cannot see it
    assert "may be on the server alone (RPO)" not in Page(shown).text
    wide = tuple(replace(item, wanted_s=3600.0) if item.name == "rpo" else item for item in made.targets)
    told = Page(page(report(cluster("main", repository(cost=None), targets=wide)))).text
    assert "may be on the server alone (RPO)" in told
    assert "A month costs" not in told


# -- the other forms


def test_json_is_the_model_and_the_model_is_json():
    plain = to_plain(report())
    assert read_report(json.loads(json.dumps(plain)), where="x") == report()
    assert plain["schema"] == "v1"
    assert plain["clusters"][0]["repositories"][0]["backups"][1]["proven_at"] == "2026-11-25T03:00:00.000Z"
    later = {**plain, "more": 1}
    assert read_report(later, where="x") == report()


@pytest.mark.parametrize(
    "break_it",
    [
        lambda plain: [],
        lambda plain: {**plain, "schema": "v2"},
        lambda plain: {**plain, "made": "yesterday"},
        lambda plain: {**plain, "clusters": [{"name": "x"}]},
        lambda plain: {**plain, "clusters": [{**plain["clusters"][0], "database_bytes": "9"}]},
        lambda plain: {**plain, "clusters": [{**plain["clusters"][0], "in_recovery": 3}]},
    ],
)
def test_what_is_no_report_is_refused(break_it):
    with pytest.raises(BadInput, match="here"):
        read_report(break_it(to_plain(report())), where="here")


def test_junit_counts_what_it_shows():
    root = ElementTree.fromstring(junit(report(cluster("m\x00n"))))
    cases = list(root.iter("testcase"))
    assert root.get("tests") == str(len(cases)) == "10"  # 3 findings, 4 targets with a promise, 3 verifications
    assert int(root.get("failures") or 0) == len(list(root.iter("failure"))) == 3
    assert int(root.get("errors") or 0) == len(list(root.iter("error"))) == 3
    assert {case.find("failure").get("type") for case in cases if case.find("failure") is not None} == {
        "CRITICAL", "missed", "fail",
    }  # fmt: skip


def test_of_a_cluster_that_two_hosts_saw_the_primary_counts():
    standby = cluster("a", in_recovery=True, seen=NOW + HOUR, sentence="standby")
    primary = cluster("a", in_recovery=False, sentence="primary")
    whole = fleet.merged([report(standby, cluster("b", severity="OK")), report(primary)], NOW)
    assert [(item.name, item.sentence) for item in whole.clusters] == [
        ("a", "primary"),
        ("b", whole.clusters[1].sentence),
    ]
    newer = cluster("a", seen=NOW + HOUR, sentence="newer")
    assert fleet.merged([report(newer), report(primary)], NOW).clusters[0].sentence == "newer"
    assert sentence(whole) == "1 of 2 clusters OK. a is CRITICAL."


def test_files_are_written_whole_and_read_back(tmp_path):
    paths = files.write(report(), str(tmp_path / "new"))
    assert [path.rsplit("/", 1)[1] for path in paths] == ["report.html", "report.json", "junit.xml"]
    assert files.load(paths[1]) == report()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(files.FILES)
    (tmp_path / "file").write_text("{")
    with pytest.raises(BadInput, match="not JSON"):
        files.load(str(tmp_path / "file"))
    with pytest.raises(Unreachable, match="Cannot write"):
        files.write(report(), str(tmp_path / "file"))


def test_reports_of_other_hosts_become_one_page(tmp_path, capsys):
    one = files.write(report(cluster("a")), str(tmp_path / "a"))[1]
    two = files.write(report(cluster("b", severity="OK")), str(tmp_path / "b"))[1]
    assert main(["report", one, two, "--directory", str(tmp_path / "all")]) == 0
    assert "a is CRITICAL" in capsys.readouterr().out
    assert [item.name for item in files.load(str(tmp_path / "all" / "report.json")).clusters] == ["a", "b"]
    (tmp_path / "c.json").write_text("[]")
    assert main(["report", str(tmp_path / "c.json")]) == BadInput.exit_code


# -- pictures


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.timedeltas(timedelta(0), timedelta(days=4000)))
def test_an_axis_has_few_ticks_in_order_and_keeps_everything_on_it(start, length):
    first = start.replace(tzinfo=timezone.utc)
    found = axis.axis_of([first], first + length)
    percents = [found.percent(moment) for moment, _word in found.ticks()]
    assert percents == sorted(percents)
    assert len(percents) <= 9
    assert 0 < found.percent(first) <= found.percent(first + length) < 100
    assert found.percent(first - timedelta(days=900)) == 0
    assert found.percent(first + length + timedelta(days=9000)) == 100


def test_a_day_is_proven_unproven_empty_or_before_the_first():
    found = charts.day_states(
        [backup(1), backup(2, proven_level="content"), backup(49), backup(73, problem="gone"), backup(97)], NOW
    )
    assert [state for _day, state in found[-5:]] == ["backup", "none", "backup", "none", "proven"]
    assert {state for _day, state in found[:-5]} == {"before"}
    assert len(found) == charts.DAYS
