# SPDX-License-Identifier: GPL-3.0-or-later
"""The runner on real servers: with golang-migrate in turns, and in every way in which a run can break."""

from __future__ import annotations

import getpass
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import Busy, DbopsError, Refused, Unreachable
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate import doctor, run, snapshot
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate.apply import MigrationFailed
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate.plan import Request
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.migrate.state import StateTable
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.connection import Connection
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.fingerprint import Fingerprint
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.progress import Silent
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings
from tests.support.golang_migrate import Dirty, GolangMigrate
from tests.support.module_runs import run_module
from tests.support.servers import Installation, PgServer, Templates, kill_below, wait_until

TABLE = StateTable("public", "schema_migrations")
UP, DOWN = Request("up"), Request("down")
_numbers = itertools.count(1)

GROWTH = {
    "1_books": ("create table books (id int primary key);", "drop table books;"),
    "2_title": (
        "alter table books add column title text, alter column title set (n_distinct = -0.5);",
        "alter table books drop column title;",
    ),
    "3_by_title": ("create index concurrently by_title on books (title);", "drop index concurrently by_title;"),
    "4_rows": ("insert into books select n from generate_series(1, 5) n;", "delete from books;"),
    "5_view": ("create view titles as select title from books;", "drop view titles;"),
}


RELATIONS = """
select coalesce(string_agg(c.relname || '.' || a.attname, ' ' order by c.relname, a.attname), '')
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = 'public'::regnamespace and c.relname !~ '^schema_migrations'
"""


class Database:
    """One database of the shared server, and a directory of migrations."""

    def __init__(self, server: PgServer, directory: Path) -> None:
        self.server, self.directory = server, directory
        self.name = f"m{next(_numbers)}"
        server.sql(f"create database {self.name}")
        directory.mkdir()

    def write(self, files: dict[str, tuple[str, str]]) -> Database:
        for name, halves in files.items():
            for way, text in zip(("up", "down"), halves):
                (self.directory / f"{name}.{way}.sql").write_text(text)
        return self

    def settings(self, **changes: object) -> Settings:
        section = {"path": str(self.directory), "database": self.name, "wait_s": 5, **changes}
        ourselves = {"os_user": getpass.getuser()}  # several threads connect: none may switch the user of all
        return self.server.engine_settings(migrations=section, host=ourselves)

    def run(self, request: Request, **changes: object) -> dict:
        return run.run(self.settings(**changes), request, Silent())

    def state(self) -> tuple[int, bool]:
        rows = self.server.sql("select version, dirty from schema_migrations", database=self.name)
        return rows[0] if rows else (-1, False)

    def fingerprint(self) -> Fingerprint:
        with run.session_of(self.settings()) as session:
            return snapshot.take(session, TABLE)

    def holds(self) -> tuple[str, int]:
        """Its relations with their columns, and how many books: tells the versions apart in a millisecond."""
        names = self.server.value(RELATIONS, database=self.name)
        return names, self.server.value("select count(*) from books", database=self.name) if "books" in names else 0

    def golang(self) -> GolangMigrate:
        return GolangMigrate(self.server, self.name, self.directory)


@pytest.fixture(scope="module")
def shared(installation: Installation, templates: Templates, base_directory: Path) -> Iterator[PgServer]:
    """One server per version for all tests here; each has a database of its own."""
    base = base_directory / f"migrations{installation.major}"
    server = templates.server(installation, base)
    server.start()
    yield server
    kill_below(base)


@pytest.fixture
def database(shared: PgServer, tmp_path: Path) -> Database:
    return Database(shared, tmp_path / "migrations").write(GROWTH)


def test_either_tool_goes_on_where_the_other_stopped(database):
    expected = {version: schema.sha256 for version, schema in schemas(database).items()}
    for version in (1, 2, 3, 4, 5, 4, 3, 2, 1, -1):
        count = 1
        before, _dirty = database.state() if version != 1 or database_has_state(database) else (-1, False)
        rising = version > before
        if version % 2:
            database.run(Request("up" if rising else "down", count=count))
        else:
            tool = database.golang()
            tool.up(1) if rising else tool.down(1)
            tool.close()
        assert database.state() == (version, False)
        assert database.fingerprint().sha256 == expected[version]
    assert database.run(UP)["migrations"]["after"] == {"version": 5, "dirty": False}


def database_has_state(database: Database) -> bool:
    return bool(database.server.value("select to_regclass('schema_migrations') is not null", database=database.name))


def test_a_second_up_changes_nothing_and_a_plan_neither(database):
    plan = run.preview(database.settings(), UP)
    assert [step["version"] for step in plan["migrations"]["steps"]] == [1, 2, 3, 4, 5]
    assert not database_has_state(database)
    first = database.run(UP)
    assert first["changed"]
    told = first["migrations"]["schema_after"]
    assert any(line.startswith("table public.books") for line in told)
    assert any(line.endswith("options n_distinct=-0.5") for line in told)  # and not what the server notes beside it
    again = database.run(UP)
    assert not again["changed"]
    assert again["msg"].endswith("nothing to run.")


def test_full_way_down_leaves_an_empty_state_table_and_the_empty_schema(database):
    empty = database.fingerprint().sha256
    database.run(UP)
    database.run(DOWN)
    assert database.state() == (-1, False)
    assert database.fingerprint().sha256 == empty


@pytest.mark.parametrize("who", ["ours", "golang-migrate"])
@pytest.mark.parametrize(("way", "at", "right"), [("up", 5, 4), ("down", 4, 5)])
def test_a_file_that_fails_leaves_the_same_state_whoever_ran_it_and_the_doctor_knows(database, who, way, at, right):
    database.run(Request("up", count=4) if way == "up" else UP)
    before = database.fingerprint().sha256
    (database.directory / f"5_view.{way}.sql").write_text("create table extra (); select 1/0;")
    if who == "ours":
        with pytest.raises(MigrationFailed, match=rf"5_view\.{way}\.sql") as failed:
            database.run(Request(way, count=1))
        assert failed.value.rolled_back
    else:
        tool = database.golang()
        with pytest.raises(psycopg2.errors.DivisionByZero):
            getattr(tool, way)(1)
        with pytest.raises(Dirty):
            tool.up()
        tool.close()
    assert database.state() == (at, True)
    with pytest.raises(Refused, match="dirty"):
        database.run(UP)
    rebuild = None if who == "ours" else rebuilt(database)
    found = doctor.repair(database.settings(), Silent(), rebuild=rebuild)
    if who == "ours":
        assert found["doctor"]["verdict"] == doctor.ROLLED_BACK
    assert found["doctor"]["force"] == right, found
    assert database.state() == (right, False)
    assert database.fingerprint().sha256 == before


FAILURES = [
    (who, how, way, version)
    for who, how in (("ours", "fails"), ("golang-migrate", "fails"), ("golang-migrate", "dies after its file"))
    for way in ("up", "down")
    for version in range(1, len(GROWTH) + 1)
]


def test_after_a_failure_at_any_version_the_doctor_knows_and_the_other_tool_goes_on(database):
    """Version 4 changes rows alone, so 3 and 4 are twins: there, without a history, nothing is claimed."""
    made = schemas(database)
    database.run(UP)
    whole = database.holds()
    for who, how, way, version in FAILURES:
        case = (who, how, way, version)
        start = version - 1 if way == "up" else version
        if who != "ours":  # which keeps no history, and finds none
            database.server.sql("drop schema if exists dbops_migrations cascade", database=database.name)
        broken = next(database.directory.glob(f"{version}_*.{way}.sql"))
        good = broken.read_text()
        break_down(database, who, how, way, start, broken)
        broken.write_text(good)
        below = version - 1 or -1
        shown = version if way == "up" else below
        assert database.state() == (shown, True), case
        true = {"up": {"fails": below, "dies after its file": version}, "down": {"fails": version}}[way].get(how, below)
        rebuild = None if who == "ours" else lambda versions: {it: made[it] for it in versions}
        found = doctor.diagnose(database.settings(), rebuild=rebuild)["doctor"]
        if who != "ours" and {shown, true} <= {3, 4}:
            assert (found["verdict"], found["force"]) == (doctor.COULD_NOT_VERIFY, None), case
        else:
            assert found["force"] == true, (case, found)
            assert database.fingerprint().sha256 == made[true].sha256, case
        go_on(database, who, true)
        assert database.state() == (len(GROWTH), False), case
        assert database.holds() == whole, case
    assert database.fingerprint().sha256 == made[len(GROWTH)].sha256


def break_down(database: Database, who: str, how: str, way: str, start: int, file: Path) -> None:
    """Bring it to `start`, and let the next step of that tool fail or die."""
    if who == "ours":
        database.run(Request("goto", version=start) if start else DOWN)
        file.write_text("select 1/0;")
        with pytest.raises(MigrationFailed):
            database.run(Request(way, count=1))
        return
    tool = database.golang()
    tool.goto(start) if start else tool.down(len(GROWTH))
    if how == "fails":
        file.write_text("select 1/0;")
        with pytest.raises(psycopg2.errors.DivisionByZero):
            tool.up(1) if way == "up" else tool.down(1)
        tool.close()
    else:
        tool.killed_after_the_file(way)


def go_on(database: Database, who: str, version: int) -> None:
    """The tool that did not fail writes the version that is right, and runs what is left."""
    if who == "ours":
        tool = database.golang()
        with pytest.raises(Dirty):
            tool.up()
        tool.force(version)
        tool.up()
        tool.close()
    else:
        run.force(database.settings(), version, Silent())
        database.run(UP)


def schemas(database: Database) -> dict[int, Fingerprint]:
    """The schema at every version, made by golang-migrate in a database of its own."""
    other = Database(database.server, database.directory.parent / f"s{next(_numbers)}").write(GROWTH)
    found = {-1: other.fingerprint()}
    tool = other.golang()
    for version in range(1, len(GROWTH) + 1):
        tool.up(1)
        found[version] = other.fingerprint()
    tool.close()
    return found


def rebuilt(database: Database):
    """The files up to each version on a scratch database; version 5 without its planted fault."""

    def rebuild(versions):
        made = {}
        for version in versions:
            scratch = Database(database.server, database.directory.parent / f"s{next(_numbers)}").write(GROWTH)
            if version > 0:
                scratch.run(Request("goto", version=version), history=False)
            made[version] = scratch.fingerprint()
        return made

    return rebuild


def test_an_error_names_file_line_and_column(database):
    (database.directory / "2_title.up.sql").write_text("-- ümlaut\nselect 1;\nselect nonsense from books;\n")
    with pytest.raises(MigrationFailed, match=r'2_title\.up\.sql:3:8: column "nonsense" does not exist'):
        database.run(UP)


def test_a_fault_that_shows_before_the_run_stops_it_before_its_first_file(database):
    (database.directory / "5_view.up.sql").write_text("create table a (); create index concurrently i on books (id);")
    with pytest.raises(DbopsError, match="5_view"):
        database.run(UP)
    assert not database_has_state(database)


class Killed(BaseException):
    """From here on nothing more reaches the server."""


@pytest.fixture
def deadly(monkeypatch):
    """`deadly(n)`: the n-th thing that the runner sends is its last one, and does not arrive.

    Questions are not counted: whoever dies before one leaves what he leaves before the statement that follows it.
    """
    counter = {"left": -1, "dead": False}

    def wrap(name):
        original = getattr(Connection, name)

        def send(self, text, *args, **kwargs):
            counts = not text.lstrip().lower().startswith(("select", "show"))
            if counter["dead"] or (counts and counter["left"] == 0):
                counter["dead"] = True
                raise Killed
            counter["left"] -= counts
            return original(self, text, *args, **kwargs)

        monkeypatch.setattr(Connection, name, send)

    for name in ("rows", "run", "send"):
        wrap(name)

    def arm(count):
        counter.update(left=count, dead=False)

    return arm


@pytest.mark.parametrize(("start", "request_"), [(3, Request("up", count=1)), (2, Request("down", count=1))])
def test_killed_between_any_two_statements_the_doctor_names_the_true_version(database, deadly, start, request_):
    """Version 4 changes rows alone: there only the history can tell."""
    final, expected = schemas(database)[5], {}
    for version in (start - 1, start, start + 1):
        database.run(Request("goto", version=version))
        expected[version] = database.holds()
    database.run(Request("goto", version=start))
    seen = set()
    for count in itertools.count():
        deadly(count)
        try:
            database.run(request_)
            finished = True
        except Killed:
            finished = False
        deadly(-1)
        if finished:
            break
        wait_until(lambda: runners(database) == 0, "the server has noticed")
        found = doctor.diagnose(database.settings())
        seen.add(found["doctor"]["verdict"])
        true = found["doctor"]["force"] if database.state()[1] else database.state()[0]
        assert database.holds() == expected[true], (count, found)
        if found["doctor"]["verdict"] != doctor.CLEAN:
            assert doctor.repair(database.settings(), Silent())["changed"]
            assert database.state() == (true, False)
        database.run(Request("goto", version=start))  # what was repaired is as good as new
    database.run(Request("goto", version=5))
    assert database.fingerprint().sha256 == final.sha256
    assert len(set(expected.values())) == 3
    assert seen == {doctor.CLEAN, doctor.ROLLED_BACK, doctor.APPLIED_ALL}


def test_a_connection_that_breaks_in_the_middle_is_told_and_diagnosed(database):
    (database.directory / "2_title.up.sql").write_text("create table half (); select pg_sleep(60);")
    database.run(Request("up", count=1))
    cut = threading.Thread(target=terminate_when, args=(database, "%pg_sleep%"))
    cut.start()
    with pytest.raises((Unreachable, MigrationFailed)):
        database.run(Request("up", count=1))
    cut.join()
    assert database.state() == (2, True)
    assert doctor.diagnose(database.settings())["doctor"]["force"] == 1


def terminate_when(database: Database, query: str) -> None:
    find = "select pg_terminate_backend(pid) from pg_stat_activity where query like %s and pid <> pg_backend_pid()"
    running = f"{find} and state = 'active' and datname = '{database.name}'"
    wait_until(lambda: bool(database.server.sql(running, (query,))), "the runner is in its file")


def test_a_file_that_committed_half_of_itself_is_partial_and_shown(database):
    (database.directory / "2_title.up.sql").write_text("begin; create table kept (); commit; select 1/0;")
    with pytest.raises(MigrationFailed) as failed:
        database.run(Request("up", count=2))
    assert failed.value.rolled_back is None
    found = doctor.diagnose(database.settings())["doctor"]
    assert found["verdict"] == doctor.PARTIAL
    assert found["force"] is None
    assert any("public.kept" in line for line in found["differences"])
    with pytest.raises(Refused):
        doctor.repair(database.settings(), Silent())


def test_of_two_runners_one_waits_and_then_finds_nothing_to_do(database):
    (database.directory / "1_books.up.sql").write_text("select pg_sleep(0.5); create table books (id int primary key);")
    results = []
    threads = [threading.Thread(target=lambda: results.append(database.run(UP, wait_s=60))) for _runner in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(result["migrations"]["applied"]) for result in results) == [0, 5]


def test_a_run_that_cannot_wait_says_who_holds_the_lock(database):
    tool = database.golang()
    tool._lock()
    with pytest.raises(Busy, match=r"pid [0-9]+"):
        database.run(UP, wait_s=0)
    tool.close()
    database.run(UP)


def test_an_index_built_concurrently_is_not_held_up_by_a_runner_that_waits(database):
    """A waiter that holds a snapshot would deadlock with it (golang-migrate issue 960)."""
    database.run(Request("up", count=2))
    with database.server.connection(database.name) as blocker, blocker.cursor() as cursor:
        blocker.autocommit = False
        cursor.execute("insert into books values (99)")
        results = []
        builder = threading.Thread(target=lambda: results.append(database.run(Request("up", count=1), wait_s=60)))
        builder.start()
        wait_until(lambda: bool(database.server.sql(WAITING, (database.name,))), "the index waits for the writer")
        waiter = threading.Thread(target=lambda: results.append(database.run(Request("goto", version=3), wait_s=60)))
        waiter.start()
        wait_until(lambda: runners(database) == 2, "the second runner asks for the lock")
        blocker.rollback()
        builder.join()
        waiter.join()
    assert sorted(len(result["migrations"]["applied"]) for result in results) == [0, 1]  # whichever returns first


WAITING = (
    "select 1 from pg_stat_activity where datname = %s and wait_event_type = 'Lock' and query like '%%concurrently%%'"
)


def runners(database: Database) -> int:
    query = "select count(*) from pg_stat_activity where datname = %s and application_name = 'dbops'"
    return int(database.server.value(query, (database.name,)))


def test_a_lock_that_somebody_holds_is_tried_again_and_nobody_queues_behind_us_for_long(database):
    database.run(Request("up", count=1))
    with database.server.connection(database.name) as blocker, blocker.cursor() as cursor:
        blocker.autocommit = False
        cursor.execute("select count(*) from books")
        progress = Silent()
        results = []
        settings = database.settings(lock_timeout_ms=50, retries=100)
        runner = threading.Thread(target=lambda: results.append(run.run(settings, Request("up", count=1), progress)))
        runner.start()
        wait_until(lambda: len(progress.warnings) >= 2, "it has given up and tried again")
        blocker.rollback()
        runner.join()
    assert results[0]["migrations"]["applied"][0]["attempts"] >= 3
    assert database.state() == (2, False)


def test_a_role_that_may_not_write_is_refused_and_nothing_has_changed(database):
    database.run(Request("up", count=1))
    role = f"reader_{database.name}"
    database.server.sql(
        f"create role {role} login; grant select on schema_migrations to {role}", database=database.name
    )
    settings = database.settings()
    settings.connection.__dict__["login_user"] = role
    assert run.status(settings)["migrations"]["version"] == 1
    with pytest.raises(Refused, match="may not write"):
        run.run(settings, UP, Silent())
    assert database.state() == (1, False)


def test_notices_are_kept_all_of_them(database):
    (database.directory / "2_title.up.sql").write_text(
        "do $$ begin for n in 1..80 loop raise notice 'no %', n; end loop; end $$;"
    )
    done = database.run(Request("up", count=2))["migrations"]["applied"][1]
    assert len(done["notices"]) == 80


def test_what_a_file_sets_ends_with_it(database):
    (database.directory / "1_books.up.sql").write_text(
        "create schema s; set search_path = s; create table public.books (id int);"
    )
    database.run(Request("up", count=2))
    assert database.server.value("select to_regclass('public.books') is not null", database=database.name)


def test_an_edited_or_late_file_is_found_by_the_history(database):
    database.run(Request("up", count=3))
    (database.directory / "2_title.up.sql").write_text("alter table books add column title varchar;")
    with pytest.raises(Refused, match=r"2_title\.up\.sql"):
        database.run(UP)
    database.write({"2_title": GROWTH["2_title"], "02.5": ("", "")})
    (database.directory / "0_late.up.sql").write_text("create table late ();")
    with pytest.raises(Refused, match="never applied"):
        database.run(UP)
    done = database.run(Request("up", out_of_order=True))
    assert [item["version"] for item in done["migrations"]["applied"]] == [0, 4, 5]
    assert database.state() == (5, False)


def test_the_module_brings_a_database_to_a_version_and_tells_the_change(database):
    section = database.server.engine_mapping(None)
    options = {
        "cluster": "main",
        "database": database.name,
        "path": str(database.directory),
        **section["connection"],
        "os_user": section["host"]["os_user"],
    }
    planned = run_module("pg_migrate", check=True, **options)
    assert planned["changed"]
    assert [step["version"] for step in planned["migrations"]["steps"]] == [1, 2, 3, 4, 5]
    assert not database_has_state(database)
    done = run_module("pg_migrate", **options)
    assert done["changed"]
    assert any("public.books" in line for line in done["diff"]["after"]["schema"])
    assert not run_module("pg_migrate", **options)["changed"]
    back = run_module("pg_migrate", version="2", **options)
    assert back["migrations"]["after"] == {"version": 2, "dirty": False}
    assert run_module("pg_migrate", version="two", **options)["error_code"] == "bad_input"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\\i other.sql\n", r"2_title\.up\.sql holds a command of psql's: .i other\.sql"),
        ("copy books from stdin;\n1\n\\.\n", r"2_title\.up\.sql wants to COPY from stdin"),
        ("select 'never closed;", r"2_title\.up\.sql:1:8: .*never closed"),
    ],
)
def test_what_only_psql_could_run_is_refused_before_the_first_file(database, text, words):
    (database.directory / "2_title.up.sql").write_text(text)
    with pytest.raises(DbopsError, match=words):
        database.run(UP)
    assert not database_has_state(database)


def test_an_empty_file_and_a_file_of_comments_count_as_applied(database):
    (database.directory / "2_title.up.sql").write_text("")
    (database.directory / "3_by_title.up.sql").write_text("-- Nothing to do any more.\n")
    done = database.run(Request("up", count=3))["migrations"]["applied"]
    assert [item["version"] for item in done] == [1, 2, 3]
    assert database.state() == (3, False)


def started(database: Database, config: Path) -> subprocess.Popen[bytes]:
    """`dbops migrate up` in a process of its own, which is in its first file by now."""
    section = {"migrations": {"path": str(database.directory), "database": database.name}}
    mapping = database.server.engine_mapping(None, host={"os_user": getpass.getuser()})
    config.write_text(json.dumps({**mapping, **section}))
    process = subprocess.Popen(
        [sys.executable, "-m", "dbops", "migrate", "up", "--config", config],
        env={**os.environ, "PYTHONPATH": str(Path(run.__file__).parents[2])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    active = "select pid from pg_stat_activity where datname = %s and query like '%%pg_sleep(%%' and state = 'active'"
    wait_until(lambda: bool(database.server.sql(active, (database.name,))), "it is in its file")
    return process


def test_a_runner_that_is_killed_in_its_file_leaves_what_the_doctor_repairs(database, tmp_path):
    (database.directory / "1_books.up.sql").write_text("create table half (); select pg_sleep(60);")
    process = started(database, tmp_path / "main.json")
    process.kill()
    process.wait()
    with pytest.raises(Busy):  # the server has not noticed yet: the file may still commit
        doctor.diagnose(database.settings())
    database.server.sql("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (database.name,))
    wait_until(lambda: runners(database) == 0, "its session has ended")
    assert doctor.repair(database.settings(), Silent())["doctor"]["verdict"] == doctor.ROLLED_BACK
    assert database.state() == (-1, False)


def test_a_runner_that_is_interrupted_ends_its_file_and_fails_with_work_left(database, tmp_path):
    """golang-migrate ends with 0 here."""
    file = database.directory / "1_books.up.sql"
    file.write_text(f"{file.read_text()} select pg_sleep(0.7);")
    process = started(database, tmp_path / "main.json")
    process.send_signal(signal.SIGINT)
    assert process.wait() != 0
    assert database.state() == (1, False)
    assert [item["version"] for item in database.run(UP)["migrations"]["applied"]] == [2, 3, 4, 5]
