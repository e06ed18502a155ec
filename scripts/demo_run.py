# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: a real PostgreSQL is protected by playbooks, loses a table and then everything, and gets both back.

Reads top to bottom: `story` is the whole of it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta, timezone
from pathlib import Path

from demo_place import CHECKOUT, CLUSTER, DATABASE, EXAMPLE, DemoError, Place
from demo_summary import backups, reset_done, summary
from localpg.content import cluster_hashes, differences
from localpg.installations import NotInstalled
from localpg.osuser import ProgramFailed
from localpg.processes import wait_until
from localpg.server import SUPERUSER, LocalServer

STEPS = 14
SCALE = 100  # of the medium profile: 20 000 rides, enough bytes for a backup to be one
# What medium promises at scale 1, every number exactly: the demo counts for itself, and trusts no message.
MEDIUM = {
    "users": ("users", 52),
    "rides": ("rides", 200),
    "completed": ("rides where status = 'completed'", 140),
    "cancelled": ("rides where status = 'cancelled'", 40),
    "active": ("rides where status in ('requested', 'accepted', 'in_progress')", 20),
    "payments": ("payments", 140),
}
PROFILES = ("light", "medium", "heavy")
LOGGED_AHEAD = 32  # numbers of a sequence that the server logs before it gives them out: replay starts behind them


@dataclass
class Story:
    """What happened so far: how long each step took, and what the database held."""

    place: Place
    took_s: dict[str, float] = field(default_factory=dict)
    dropped_at: str = ""
    second_before: str = ""

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        say(f"\n[{len(self.took_s) + 1}/{STEPS}] {title}", bold=True)
        started = time.monotonic()
        yield
        self.took_s[title] = time.monotonic() - started

    def playbook(self, name: str, *variables: str) -> None:
        playbook(self.place, name, *variables)


def playbook(place: Place, name: str, *variables: str) -> None:
    """Run one of the collection's playbooks as a person would; its output goes straight to the screen."""
    shown = ["ansible-playbook", f"playbooks/{name}.yml", "-i", "inventories/demo"]
    for variable in variables:
        shown += ["-e", variable]
    say(f"$ {' '.join(shown)}")
    program = Path(sys.executable).with_name("ansible-playbook")
    code = subprocess.run([program, *shown[1:]], cwd=CHECKOUT, env=environment(place), check=False).returncode
    if code != 0:
        raise DemoError(f"playbooks/{name}.yml ended with exit code {code}: its last lines above say why.")


def environment(place: Place) -> dict[str, str]:
    """Ansible's scratch files go where `clean` removes them, not into the home directory."""
    scratch = place.base / "ansible"
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
        "ANSIBLE_HOME": str(scratch),
        "ANSIBLE_REMOTE_TMP": str(scratch / "tmp"),
        "ANSIBLE_ASYNC_DIR": str(scratch / "async"),
        "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false",
        "ANSIBLE_INJECT_FACT_VARS": "false",
        "DBOPS_DEMO": str(place.base),
    }


def story(place: Place) -> None:
    """The whole demo. DemoError or ProgramFailed says what went wrong; the directory is left to look at."""
    place.remove()
    place.make()
    run = Story(place)
    with run.step("Start an embedded PostgreSQL 18, migrate a ride-hailing database to its schema, and seed it"):
        server = start_server(place)
        load(place, server)
        require_exact_counts(server)
        tell_content(server)
    with run.step("Set the host up: the dbops command, its settings, a role that may do nothing but back up"):
        run.playbook("setup")
    with run.step("Archive its write-ahead log all the time, and prove that a segment comes back"):
        run.playbook("archiving")
    with run.step("Take a full backup"):
        run.playbook("backup", "dbops_backup_method=physical", "dbops_backup_type=full")
    with run.step("Let business go on, then take an incremental backup of what changed"):
        activity(server, hours=3)
        run.playbook("backup", "dbops_backup_method=physical", "dbops_backup_type=incremental")
    with run.step("Dump the database too: that restores one table, or into another version"):
        run.playbook("backup", "dbops_backup_method=logical")
    with run.step("Let business go on after the last backup, and then somebody drops a table"):
        activity(server, hours=1)
        before = cluster_hashes(server)
        run.dropped_at, run.second_before = drop_table(server)
    with run.step("Recover to the second before"):
        # The right backup is chosen, with what it rests on; the log since then is replayed up to that second.
        recover(run, "pitr", f"dbops_pitr_time={run.second_before}")
    with run.step(f"Prove it: compare {len(before)} hashes, over every row, sequence, definition and grant"):
        prove(server, before)
    with run.step("Name this moment: what a wise person does before each risky change"):
        before = cluster_hashes(server)
        run.playbook("restore_point", "dbops_restore_point=all-is-well")
    with run.step("Destroy it: SIGKILL, then every file of the server is removed"):
        destroy(server)
    with run.step("Restore"):
        recover(run, "restore", "dbops_pitr_name=all-is-well")
    with run.step(f"Prove it once more: compare {len(before)} hashes"):
        prove(server, before)
    with run.step("Look at the catalog"):
        run.playbook("info")
    say(summary(place, server, run, before, backups(place)))


def start_server(place: Place) -> LocalServer:
    place.install_postgresql()
    server = place.server()
    server.create()
    server.start()
    place.write_variables(server)
    say(f"  PostgreSQL {server.value('show server_version')} as OS user {server.os_user.name}, files in {server.data}")
    return server


def load(
    place: Place, server: LocalServer, *, database: str = DATABASE, profile: str = "medium", scale: int = SCALE
) -> None:
    """The reference application, grown by its migrations and filled by one of its seed profiles, as its owner would."""
    server.sql(f"create database {database}")
    place.write_owners_settings(server)
    words = ["migrate", "up", "--config", str(place.owners_config), "--database", database]
    words += ["--path", str(EXAMPLE / "migrations")]
    say(f"$ dbops {' '.join(words)}")
    program = [sys.executable, "-B", "-m", "dbops", *words]
    done = subprocess.run(
        program, cwd=CHECKOUT / "plugins" / "module_utils", capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise DemoError(f"The migrations failed: {done.stderr}")
    say(f"  {done.stdout.strip().splitlines()[-1]}")
    playbook(
        place,
        "seed",
        f"dbops_config_path={place.owners_config}",
        f"dbops_seed_database={database}",
        f"dbops_seed_profile={EXAMPLE / 'seed' / profile}.yml",
        f"dbops_seed_scale={scale}",
        *(["dbops_seed_workers=2"] if scale > 1 else []),
    )


def activity(server: LocalServer, *, hours: int) -> None:
    for _hour in range(hours):
        server.psql((EXAMPLE / "activity.sql").read_text(encoding="utf-8"), DATABASE)
    tell_content(server)


def require_exact_counts(server: LocalServer) -> None:
    """The database holds exactly what the medium profile promises at the demo's scale, and says so."""
    counts = ", ".join(f"(select count(*) from {rows})" for rows, _count in MEDIUM.values())
    seen = dict(zip(MEDIUM, server.sql(f"select {counts}", database=DATABASE)[0]))
    for name, (_rows, count) in MEDIUM.items():
        if seen[name] != count * SCALE:
            raise DemoError(f"The medium profile promises {count * SCALE} {name}, and {DATABASE} has {seen[name]}.")
    said = ", ".join(f"{count:,} {name}" for name, count in seen.items())
    say(f"  medium x {SCALE}, exactly as promised: {said}")


def tell_content(server: LocalServer) -> None:
    size = server.value("select pg_size_pretty(pg_database_size(%s))", (DATABASE,))
    rides, payments = server.sql(
        "select (select count(*) from rides), (select count(*) from payments)", database=DATABASE
    )[0]
    say(f"  {DATABASE}: {size}, {rides} rides, {payments} payments")


def drop_table(server: LocalServer) -> tuple[str, str]:
    """When it was dropped, and the second before; returns when the log of it is archived.

    Nothing happens in between, so that the second before holds all that there was.
    """
    time.sleep(1.2)
    moment = server.value("select clock_timestamp()")
    server.sql("drop table payments cascade", database=DATABASE)
    segment = server.value("select pg_walfile_name(pg_switch_wal())")  # archive_timeout would do it within minutes
    archived = "select coalesce(last_archived_wal >= %s, false) from pg_stat_archiver"
    wait_until(lambda: server.value(archived, (segment,)), f"{segment} is archived")
    dropped, before = (
        it.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        for it in (moment, moment - timedelta(seconds=1))
    )
    say(f"  drop table payments cascade, at {dropped}")
    return dropped, before


def recover(run: Story, what: str, point: str) -> None:
    results = run.place.results / what
    run.playbook("pitr", point, f"dbops_confirm={CLUSTER}", f"dbops_result_path={results}")


def prove(server: LocalServer, before: dict[str, str]) -> None:
    require_running(server)
    after, ahead = as_if_not_replayed(before, cluster_hashes(server))
    require_same(before, after, "the server is not what it was")
    note = f" ({ahead} sequences skip up to {LOGGED_AHEAD} numbers, as after any crash)" if ahead else ""
    say(f"  all {len(before)} are equal{note}")


def as_if_not_replayed(before: dict[str, str], after: dict[str, str]) -> tuple[dict[str, str], int]:
    """`after` with the sequences put back that replay has moved ahead, as far as it may; and how many those are."""
    put_back = dict(after)
    for name, line in before.items():
        if ": sequence " in name and name in after and line != after[name]:
            (then, how), (now, _how) = line.split(), after[name].split()
            if how == "called" and 0 < int(now) - int(then) <= LOGGED_AHEAD:
                put_back[name] = line
    return put_back, sum(put_back[name] != line for name, line in after.items())


def destroy(server: LocalServer) -> None:
    files = sum(len(names) for _path, _directories, names in os.walk(server.data))
    server.kill()
    shutil.rmtree(server.data)
    if server.data.exists() or server.is_running:
        raise DemoError(f"{server.data} could not be destroyed.")
    say(f"  {files} files of {server.data} are gone")


def require_running(server: LocalServer) -> None:
    if not server.is_running:
        raise DemoError(
            f"No server runs in {server.data} after the restore. Its log: {server.log}\n{server.log_tail()}"
        )


def require_same(before: dict[str, str], after: dict[str, str], otherwise: str) -> None:
    found = differences(before, after)
    if found:
        raise DemoError("\n  ".join([f"{otherwise}; {len(found)} differences:", *found]))


def reset(place: Place) -> None:
    """The database as migrations and seed make it; backups stay."""
    server = running(place)
    server.sql(f"drop database if exists {DATABASE} with (force)")
    load(place, server)
    require_exact_counts(server)
    tell_content(server)
    say(reset_done(place))


def seed(place: Place, profile: str) -> None:
    """A database of its own for a profile, on the demo's server: `ridehailing_light` and so on."""
    if not (EXAMPLE / "seed" / f"{profile}.yml").is_file() or profile not in PROFILES:
        raise DemoError(f"There is no profile {profile!r}. There is: {', '.join(PROFILES)}.")
    server, database = running(place), f"{DATABASE}_{profile}"
    server.sql(f"drop database if exists {database} with (force)")
    load(place, server, database=database, profile=profile, scale=1)
    say(f"  {server.installation.bin_dir}/psql -h {server.sockets} -p {server.port} -U {SUPERUSER} {database}")


def running(place: Place) -> LocalServer:
    """The demo's server, started if it was stopped."""
    if not place.variables.exists():
        raise DemoError("There is no demo. Next: make demo")
    place.require_ours()
    server = place.server()
    if not server.is_running:
        server.start()
    return server


def clean(place: Place) -> None:
    say(f"demo: removed {place.base}" if place.remove() else "demo: nothing to remove")


def say(text: str, *, bold: bool = False) -> None:
    sys.stdout.write(f"\033[1m{text}\033[0m\n" if bold and sys.stdout.isatty() else f"{text}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    verbs = {"run": story, "reset": reset, "clean": clean, "seed": seed}
    verb, *words = arguments or ["run"]
    if verb not in verbs or len(words) != (verb == "seed"):
        sys.stderr.write(f"usage: scripts/demo [{'|'.join(verbs)} PROFILE]\n")
        return 2
    place = Place()
    try:
        verbs[verb](place, *words)
    except (DemoError, NotInstalled, ProgramFailed, TimeoutError) as exc:
        sys.stderr.write(f"\ndemo: FAILED. {exc}\n")
    except KeyboardInterrupt:
        sys.stderr.write("\ndemo: stopped.\n")
    else:
        return 0
    if verb == "run" and place.base.exists():
        sys.stderr.write(f"demo: everything is left in {place.base} to look at; make demo-clean removes it.\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
