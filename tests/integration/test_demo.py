# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo removes only what it made, and does not call a difference a success. Its story itself is run by CI."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import demo_run
from demo_place import DemoError, Place
from tests.support.servers import PgServer, Templates, cluster_hashes, embedded

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "demo"


def demo(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VENV": sys.prefix, "DBOPS_DEMO": str(place)}
    return subprocess.run([SCRIPT, *words], env=environment, cwd="/", capture_output=True, text=True, check=False)


@pytest.mark.parametrize("verb", ["run", "clean"])
def test_a_directory_that_the_demo_did_not_make_is_left_alone(verb: str, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    done = demo(tmp_path, verb)
    assert done.returncode == 1
    assert f"{tmp_path} is there, and the demo did not make it" in done.stderr
    assert (tmp_path / "thesis.tex").exists()


def test_a_marker_in_a_directory_that_others_can_write_to_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "made-by-the-demo").touch()
    tmp_path.chmod(0o777)
    assert demo(tmp_path, "clean").returncode == 1
    assert tmp_path.exists()


def test_clean_stops_the_server_and_leaves_nothing_and_may_be_repeated(server: PgServer, place: Path) -> None:
    (place / "made-by-the-demo").touch()
    done = demo(place, "clean")
    assert (done.returncode, done.stderr) == (0, "")
    assert not place.exists()
    assert not server.is_running
    assert "nothing to remove" in demo(place, "clean").stdout


def test_reset_without_a_demo_says_what_to_do(place: Path) -> None:
    done = demo(place, "reset")
    assert done.returncode == 1
    assert "make demo" in done.stderr


def test_a_profile_that_is_none_is_refused_before_a_server_is_asked(place: Path) -> None:
    done = demo(place, "seed", "gigantic")
    assert done.returncode == 1
    assert "There is: light, medium, heavy" in done.stderr


def test_make_migrates_the_demos_server_up_and_down_and_makes_new_files(
    templates: Templates, place: Path, tmp_path: Path
) -> None:
    server = templates.server(embedded(), place / "pg")
    server.start()
    (place / "vars.json").write_text(json.dumps({"dbops_port": server.port}))
    for file in (ROOT / "examples/ridehailing/migrations").glob("00000[123]_*"):
        shutil.copy(file, tmp_path)
    environment = {**os.environ, "VENV": sys.prefix, "DBOPS_DEMO": str(place), "MIGRATIONS": str(tmp_path)}
    targets = ["migrate-up", "N=2", "migrate-down", "migrate-create", "NAME=add tips"]
    done = subprocess.run(["make", *targets], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Ran 2 of ridehailing_dev's migrations, from nothing to 2." in done.stdout
    assert "Ran 2 of ridehailing_dev's migrations, from 2 to nothing." in done.stdout
    assert (tmp_path / "000004_add_tips.down.sql").stat().st_size
    assert server.sql("select * from schema_migrations", database="ridehailing_dev") == []


def test_an_unknown_verb_changes_nothing(place: Path) -> None:
    done = demo(place, "explode")
    assert done.returncode == 2
    assert "run|reset|clean|seed PROFILE" in done.stderr


def test_one_changed_row_fails_the_demo_and_is_named(server: PgServer) -> None:
    before = cluster_hashes(server)
    demo_run.require_same(before, cluster_hashes(server), "never said")
    server.sql("update orders set amount = amount + 0.01 where id = 5", database="shop")
    with pytest.raises(DemoError, match=r"1 differences:\n  shop: table public\.orders: was 10000 rows"):
        demo_run.require_same(before, cluster_hashes(server), "the restored server is not what was backed up")


def test_a_database_that_is_not_medium_to_the_last_row_fails_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    exact = tuple(count * demo_run.SCALE for _rows, count in demo_run.MEDIUM.values())

    def answering(counts: tuple[int, ...]) -> SimpleNamespace:
        return SimpleNamespace(sql=lambda _query, **_where: [counts])

    demo_run.require_exact_counts(answering(exact))
    assert "exactly as promised: 5,200 users, 20,000 rides, 14,000 completed" in capsys.readouterr().out
    with pytest.raises(DemoError, match="promises 14000 payments, and ridehailing has 13999"):
        demo_run.require_exact_counts(answering((*exact[:-1], exact[-1] - 1)))


def test_a_sequence_may_skip_what_the_server_logs_ahead_and_no_number_more() -> None:
    before = {"shop: sequence s": "100 called", "shop: sequence t": "7 fresh", "shop: table a": "3 rows x"}
    after = {**before, "shop: sequence s": "132 called"}
    assert demo_run.as_if_not_replayed(before, after) == (before, 1)
    for line in ("133 called", "99 called"):
        after = {**before, "shop: sequence s": line}
        assert demo_run.as_if_not_replayed(before, after) == (after, 0)
    after = {**before, "shop: sequence t": "8 fresh", "shop: table a": "4 rows x"}
    assert demo_run.as_if_not_replayed(before, after) == (after, 0)


def test_a_server_that_was_not_restored_fails_the_demo(
    server: PgServer, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every playbook 'succeeds' and does nothing: the story must not end well."""
    del server
    monkeypatch.setenv("DBOPS_DEMO", str(place / "demo"))
    monkeypatch.setattr(demo_run.Story, "playbook", lambda *_: None)
    monkeypatch.setattr(demo_run, "load", lambda *_: None)
    monkeypatch.setattr(demo_run, "activity", lambda *_words, **_options: None)
    monkeypatch.setattr(demo_run, "tell_content", lambda _: None)
    monkeypatch.setattr(demo_run, "require_exact_counts", lambda _: None)
    monkeypatch.setattr(demo_run, "drop_table", lambda _: ("then", "before"))
    with pytest.raises(DemoError, match="No server runs"):
        demo_run.story(Place())
