# SPDX-License-Identifier: GPL-3.0-or-later
"""Real PostgreSQL servers for tests, made in a fraction of a second from a template and gone afterwards.

    with session_directory() as base:
        templates = Templates(base)
        server = templates.server(installations()[-1], base / "a")
        server.start()

Under pytest the fixtures of tests/integration/conftest.py do all this.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.schema import overlay
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import Settings, from_mapping
from localpg.content import cluster_hashes, content_hashes, differences
from localpg.installations import Installation, NotInstalled, embedded, installations
from localpg.osuser import OsUser, ProgramFailed, server_user
from localpg.processes import kill_below, wait_until
from localpg.server import SUPERUSER, LocalServer, free_port

__all__ = [
    "SAMPLE_DATABASE", "SESSION_DIRECTORY", "SUPERUSER", "Installation", "NotInstalled", "OsUser", "PgServer",
    "ProgramFailed", "Standby", "Templates", "cluster_hashes", "content_hashes", "copy_tree", "differences", "embedded",
    "free_port", "installations", "kill_below", "server_user", "session_directory", "wait_until",
]  # fmt: skip

PLACES = (Path("/dev/shm"), Path("/var/tmp"))  # a hundred clusters come and go: in memory where there is room
SESSION_DIRECTORY = "dbops-tests-"  # what the name of a run's own directory begins with
SAMPLE_DATABASE = "shop"
SAMPLE = """
create database shop;
\\connect shop
create table customers (id bigint generated always as identity primary key, name text not null, since timestamptz);
create table orders (
    id bigint generated always as identity primary key, customer_id bigint not null references customers,
    amount numeric(10, 2) not null check (amount >= 0), note text
);
create index on orders (customer_id);
create table attachments (id int primary key, content bytea not null);
create table "odd ""name"" ü/." ("a b" int, note text);
create view spent as select customer_id, sum(amount) as amount from orders group by customer_id;
create sequence tickets start 1000;
insert into customers (name, since)
    select 'customer ' || n, timestamptz '2026-01-01 00:00Z' + n * interval '1 hour' from generate_series(1, 500) n;
insert into orders (customer_id, amount, note)
    select 1 + n % 500, n % 9700 / 100.0, repeat(md5(n::text), 2) from generate_series(1, 10000) n;
alter table attachments alter content set storage external;
insert into attachments
    select n, (select string_agg(sha256((n || '-' || m)::bytea), '') from generate_series(1, 2000) m)
    from generate_series(1, 10) n;
insert into "odd ""name"" ü/." values (1, E'tab\\t, quote '', backslash \\\\, newline\\n'), (null, null);
select nextval('tickets'), nextval('tickets');
select lo_from_bytea(4242, sha256('large'));
checkpoint;
"""


@dataclass
class PgServer(LocalServer):
    """A throwaway server that also knows how the engine is told about it."""

    @property
    def state(self) -> Path:
        return self.base / "state"

    def engine_mapping(self, repository_path: Path | None, **overrides: Any) -> dict[str, Any]:
        """The content of a settings file for this server; `overrides` are sections laid over it."""
        mapping = {
            "cluster": "main",
            "connection": {"login_unix_socket": str(self.sockets), "login_port": self.port, "login_user": SUPERUSER},
            "host": {
                "os_user": self.os_user.name,
                "bin_dir": str(self.installation.bin_dir),
                "data_directory": str(self.data),
                "state_path": str(self.state),
            },
            "repositories": [{"name": "default", "path": str(repository_path)}] if repository_path else [],
            "compression": {"threads": 1},
        }
        return overlay(mapping, overrides)

    def engine_settings(self, repository_path: Path | None = None, **overrides: Any) -> Settings:
        """Settings as the engine takes them: `server.engine_settings(path, compression={"codec": "gzip"})`."""
        return from_mapping(self.engine_mapping(repository_path, **overrides), where="test settings")

    def over(self, data_directory: Path, base: Path) -> PgServer:
        """Another server, not started, for a data directory that somebody restored; on its own port and sockets."""
        other = PgServer(self.installation, base, settings=dict(self.settings), os_user=self.os_user)
        other.make_directories()
        (base / "data").symlink_to(data_directory)
        return other

    def standby(self, base: Path) -> Standby:
        """A streaming standby of this running server, itself running and caught up."""
        other = Standby(self.installation, base, settings=dict(self.settings), os_user=self.os_user, primary=self)
        other.make_directories()
        source = ["-h", self.sockets, "-p", str(self.port), "-U", SUPERUSER]
        self.run("pg_basebackup", *source, "-D", other.data, "-c", "fast", "-X", "stream", "-R", "--no-sync")
        other.start()
        other.wait_until_caught_up()
        return other


@dataclass
class Standby(PgServer):
    primary: PgServer | None = field(default=None, repr=False)

    def wait_until_caught_up(self) -> None:
        """Return when everything that the primary has written by now is replayed here."""
        assert self.primary is not None
        position = self.primary.value("select pg_current_wal_lsn()")
        wait_until(
            lambda: self.value("select coalesce(pg_last_wal_replay_lsn() >= %s::pg_lsn, false)", (position,)),
            f"the standby has replayed {position}",
        )


class Templates:
    """One lightly filled data directory per major version, made once and copied for each test."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._made: dict[int, PgServer] = {}

    def server(
        self, installation: Installation, base: Path, *, fresh: bool = False, summarize_wal: bool = True
    ) -> PgServer:
        """A server, not started. A copy has its template's system identifier; `fresh` has its own, and no data."""
        server = PgServer(installation, base)
        if summarize_wal and installation.major >= 17:
            server.settings["summarize_wal"] = "on"
        if fresh:
            server.create()
            return server
        template = self._template(installation)
        server.make_directories()
        copy_tree(template.data, server.data)
        return server

    def _template(self, installation: Installation) -> PgServer:
        if installation.major not in self._made:
            template = PgServer(installation, self._base / f"template{installation.major}")
            template.create()
            template.start()
            template.psql(SAMPLE)
            template.stop()
            self._made[installation.major] = template
        return self._made[installation.major]


def copy_tree(source: Path, target: Path) -> None:
    """With owners, modes and links; quick where the file system shares blocks."""
    OsUser.run(_ourselves(), ["cp", "-a", "--reflink=auto", source, target])


@contextlib.contextmanager
def session_directory() -> Iterator[Path]:
    """A directory that the servers' OS user can reach, on a short path. At the end, by Ctrl-C too, nothing is left.

    What a killed run left behind is removed by the next one: whoever lives holds a lock in his directory.
    """
    prefix = f"{SESSION_DIRECTORY}{os.geteuid()}-"
    for place in PLACES:
        for left_behind in place.glob(f"{prefix}*"):
            _remove_if_abandoned(left_behind)
    roomy = [place for place in PLACES if place.is_dir() and shutil.disk_usage(place).free > 4 << 30]
    place = (roomy or PLACES[-1:])[0]
    made = Path(tempfile.mkdtemp(prefix="dbops-making-", dir=place))
    with open(made / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made.chmod(0o755)
        # Locked before it has the name that others look for, or a run that starts now would take it for abandoned.
        base = made.rename(place / made.name.replace("dbops-making-", prefix))
        atexit.register(_remove, base)
        try:
            yield base
        finally:
            _remove(base)
            atexit.unregister(_remove)


def _remove_if_abandoned(base: Path) -> None:
    try:
        if base.lstat().st_uid != os.geteuid():
            return
        with open(base / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(base)
    except (BlockingIOError, FileNotFoundError):
        return  # somebody lives there, or it is gone already


def _remove(base: Path) -> None:
    kill_below(base)
    shutil.rmtree(base, ignore_errors=True)


def _ourselves() -> OsUser:
    return OsUser("", os.geteuid(), os.getegid())
