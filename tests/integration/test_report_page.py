# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's page in a real browser: it asks for nothing, fits every screen, can be read by all, and is true."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import size
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.report import files
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.report.sections import target_value
from tests.support.browser import Browser, chromium
from tests.support.playbooks import Controller
from tests.support.reports import EVIL, cluster, report, repository

OUTPUT = Path(__file__).resolve().parents[1] / "output" / "report"
WIDTHS = (320, 768, 1280, 1920)
NAMED = {"link", "image", "region", "heading", "DisclosureTriangle", "table"}
# Every text against the nearest ground behind it, as WCAG counts it.
CONTRAST = """
const channel = c => { c /= 255; return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4 };
const light = c => .2126 * channel(c[0]) + .7152 * channel(c[1]) + .0722 * channel(c[2]);
const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
const bad = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node; node = walker.nextNode();) {
  const at = node.parentElement;
  if (!node.data.trim() || at.closest('title, .patterns')) continue;
  const style = getComputedStyle(at);
  const ink = parse(at instanceof SVGElement ? style.fill : style.color);
  let ground = at;
  while (ground && (parse(getComputedStyle(ground).backgroundColor)[3] === 0)) ground = ground.parentElement;
  const under = parse(getComputedStyle(ground || document.body).backgroundColor);
  const [high, low] = [light(ink), light(under)].sort((a, b) => b - a);
  const ratio = (high + .05) / (low + .05);
  const large = parseFloat(style.fontSize) >= 24;
  if (ratio < (large ? 3 : 4.5)) bad.push(`${ratio.toFixed(2)} ${at.className} ${node.data.trim().slice(0, 40)}`);
}
return bad;
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clusters with one of everything: a gap, a branch, a lock, a repository that is away, an evil name."""
    directory = tmp_path_factory.mktemp("report")
    well = cluster("shop", repository(), severity="OK", findings=(), sentence="shop is OK.")
    files.write(report(cluster(EVIL), well), str(directory))
    return directory


@pytest.fixture
def page(browser: Browser, made: Path) -> Browser:
    browser.open(made / "report.html")
    return browser


def test_it_asks_for_nothing_and_complains_of_nothing(browser, made):
    browser.open(made / "report.html")
    assert browser.requests(made / "report.html") == [(made / "report.html").as_uri()]
    assert browser.console() == []
    assert browser.run("return document.scripts.length + document.images.length") == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_and_can_be_read(page, width, dark):
    page.screen(width, dark=dark)
    page.run("document.querySelectorAll('details').forEach(item => item.open = true)")
    page.screenshot(OUTPUT / f"{width}-{'dark' if dark else 'light'}.png")
    assert page.run("return document.documentElement.scrollWidth") <= width
    assert page.run(CONTRAST) == []
    # what is wider than the screen moves within its own frame
    wide = "return [...document.querySelectorAll('table, svg.window')].filter(item => !item.closest('.scroll')).length"
    assert page.run(wide) == 0


def test_everything_has_a_name_for_who_cannot_see_it(page):
    page.screen(1280)
    page.run("document.querySelectorAll('details').forEach(item => item.open = true)")
    told = page.accessible()
    assert {role for role, _name in told} >= {"heading", "link", "region", "image", "table", "row", "columnheader"}
    assert [role for role, name in told if role in NAMED and not name] == []
    assert [name for role, name in told if role == "group" and name.startswith("Recovery window of")]
    names = [name for role, name in told if role == "heading"]
    assert names[:3] == ["Can these 2 clusters be recovered?", "The fleet", EVIL]


def test_a_name_that_is_a_script_is_shown_and_not_run(page):
    text = page.run("document.querySelectorAll('details').forEach(d => d.open = true); return document.body.innerText")
    assert text.count(EVIL) > 5
    assert page.run("return document.querySelectorAll('script, [onload], [onerror]').length") == 0


def test_every_figure_is_that_of_the_json(page, made):
    data = json.loads((made / "report.json").read_text())
    whole = files.load(str(made / "report.json"))
    page.run("document.querySelectorAll('details').forEach(item => item.open = true)")
    for number, one in enumerate(data["clusters"]):
        shown = page.run(
            "const at = document.getElementById(arguments[0]);"
            "return {tiles: [...at.querySelectorAll('.tile .value')].map(item => item.textContent),"
            " rows: [...at.querySelectorAll('tbody tr')].map(row => [...row.cells].map(cell => cell.textContent)),"
            " findings: at.querySelectorAll('.findings li').length,"
            " state: at.querySelector('.cluster-head .state').textContent}",
            f"cluster-c{number}",
        )
        assert one["severity"].lower() in shown["state"].lower()
        values = [target_value(target) for target in whole.clusters[number].targets]
        assert [tile for tile, value in zip(shown["tiles"], values) if value not in ("-", tile)] == []
        assert shown["findings"] == len(one["findings"])
        cells = {row[0]: row for row in shown["rows"]}
        for item in one["repositories"]:
            for backup in item["backups"]:
                assert cells[backup["label"]][4] == size(backup["stored_bytes"])
            assert len([row for row in shown["rows"] if row[-1].startswith("dbops restore")]) == _sum(one, "reaches")
            assert len([row for row in shown["rows"] if len(row) == 6]) == _sum(one, "spans")
            assert len(
                [row for row in shown["rows"] if len(row) == 10 and row not in _reach_rows(shown["rows"])]
            ) == _sum(one, "verifications")


def test_a_slice_of_the_window_says_what_it_takes_and_leads_to_its_row(page):
    told = page.run(
        "const link = document.querySelector('#cluster-c0 a[href^=\"#reach-\"]');"
        "link.dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true}));"
        "return link.querySelector('title').textContent"
    )
    for words in ("Base 20261124T010000Z-full", "up to 17 files", "about 4 s", "--latest", "Lost:"):
        assert words in told
    assert page.run("return location.hash") == "#reach-c0-0-0"
    assert page.run("return document.querySelector(':target').closest('details').open") is True


def test_it_prints(page):
    printed = page.pdf()
    assert printed.startswith(b"%PDF-")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type/Page") >= 2  # each cluster on a page of its own
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "report.pdf").write_bytes(printed)


def _sum(one: dict[str, Any], what: str) -> int:
    return sum(len(item[what]) for item in one["repositories"])


def _reach_rows(rows: list[list[str]]) -> list[list[str]]:
    return [row for row in rows if row[-1].startswith("dbops restore")]


def test_the_playbook_makes_one_page_of_all_hosts_and_leaves_out_one_that_failed(tmp_path):
    """Nobody answers on these hosts: that is in the report, and no reason to have none."""
    hosts = {}
    for name in ("shop", "billing"):
        repository_path = tmp_path / name
        repository_path.mkdir()
        config = tmp_path / f"{name}.json"
        where = {"login_unix_socket": str(tmp_path), "login_port": 1}
        config.write_text(
            json.dumps(
                {
                    "cluster": name,
                    "connection": where,
                    "host": {"state_path": str(tmp_path / f"state-{name}")},
                    "repositories": [{"path": str(repository_path)}],
                }
            )
        )
        hosts[name] = {"dbops_cluster": name, "dbops_config_path": str(config)}
    hosts["gone"] = {"dbops_cluster": "gone", "dbops_config_path": str(tmp_path / "nowhere.json")}
    controller = Controller(tmp_path, {"dbops_report_path": str(tmp_path / "out")}, hosts, writes_results=False)
    screen = controller.play("report", fails=True)
    assert "0 of 2 clusters OK" in screen
    assert "nowhere.json" in screen
    assert [item.name for item in files.load(str(tmp_path / "out" / "report.json")).clusters] == ["billing", "shop"]
    assert "Can these 2 clusters be recovered?" in (tmp_path / "out" / "report.html").read_text()
