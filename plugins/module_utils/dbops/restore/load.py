# SPDX-License-Identifier: GPL-3.0-or-later
"""Pouring one dump into one database, by pg_restore or psql; or reading it to its end without any database."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

from ..backup.flat_tar import names_in, unpack_flat
from ..backup.logical import require_space
from ..errors import Refused, ToolFailed, Unreachable
from ..pg.connection import conninfo
from ..pg.databases import identifier
from ..pg.osuser import Identity, acting_as
from ..pg.tools import Tools, pipe
from ..settings import ConnectionSettings
from .dump_source import OnBytes, Source
from .plain_script import checked_script


@dataclass(frozen=True)
class How:
    """What pg_restore is told besides the dump. `allow_errors`: go on after one, as pg_restore does by default."""

    jobs: int = 1
    no_owner: bool = False
    no_privileges: bool = False
    no_tablespaces: bool = False
    allow_errors: bool = False

    @property
    def options(self) -> list[str]:
        chosen = {
            "--no-owner": self.no_owner,
            "--no-privileges": self.no_privileges,
            "--no-tablespaces": self.no_tablespaces,
            "--exit-on-error": not self.allow_errors,
        }
        return [option for option, on in chosen.items() if on]


@dataclass(frozen=True)
class Loader:
    """`state_path` is where files are staged that pg_restore can only read as files."""

    tools: Tools
    connection: ConnectionSettings
    state_path: str

    @property
    def identity(self) -> Identity:
        return self.tools.identity

    def load(self, source: Source, database: str, how: How, on_bytes: OnBytes = None) -> list[str]:
        """Fill the database; raises at the first error, or with `allow_errors` returns what the program said."""
        if source.format == "plain":
            return self._by_psql(source, database, how, on_bytes)
        arguments = [*how.options, "--no-password", f"--dbname={conninfo(self.connection, database=database)}"]
        if self.connection.session_role:
            arguments.append(f"--role={self.connection.session_role}")
        try:
            self._by_pg_restore(source, arguments, how.jobs, on_bytes)
        except ToolFailed as exc:
            if how.allow_errors and "errors ignored on restore" in exc.stderr_tail:
                return exc.stderr_tail.splitlines()
            raise _advised(exc) from exc
        return []

    def read_through(self, source: Source, on_bytes: OnBytes = None) -> None:
        """Read all of it as a restore would, and change nothing; raises as a restore would."""
        if source.format == "plain":
            for _chunk in checked_script(source.read(on_bytes), source.name, ours=source.ours):
                pass
            return
        self._by_pg_restore(source, ["--file=/dev/null"], 1, on_bytes)

    # -- below: how

    def _by_pg_restore(self, source: Source, arguments: Sequence[str], jobs: int, on_bytes: OnBytes) -> None:
        dump_format = "tar" if self._made_by_pg_dump_as_tar(source) else source.format
        arguments = [*arguments, f"--format={dump_format}"]
        if dump_format == "directory":
            with self._as_directory(source, on_bytes) as directory:
                self.tools.run("pg_restore", [*arguments, f"--jobs={jobs}", directory])
        elif dump_format == "custom" and jobs > 1:
            with self._as_file(source, on_bytes) as path:
                self.tools.run("pg_restore", [*arguments, f"--jobs={jobs}", path])
        else:
            self._fed("pg_restore", arguments, source.read(on_bytes))

    @staticmethod
    def _made_by_pg_dump_as_tar(source: Source) -> bool:
        """Whether pg_dump -Ft made it. The tar of a dump directory begins alike, but has no restore.sql at its end."""
        if source.format != "directory" or source.directory or source.ours:
            return False
        return "restore.sql" in names_in(source.read(None), what=source.name)

    def _by_psql(self, source: Source, database: str, how: How, on_bytes: OnBytes) -> list[str]:
        """In restricted mode, so that the script stays in its database. Not in one transaction:

        the database is new and goes away as a whole if this fails, and a lock on every table would be held to the end.
        """
        script = checked_script(
            source.read(on_bytes), source.name, ours=source.ours, may_be_incomplete=how.allow_errors
        )
        preamble = []
        if self._psql_can_restrict():
            preamble.append(f"\\restrict {secrets.token_hex(16)}\n")
        elif not source.ours:
            raise Refused(
                f"This psql cannot keep {source.name} from running programs or changing to another database.",
                hint=f"Update PostgreSQL {self.tools.major}'s client programs to a minor of August 2025 or later.",
            )
        if self.connection.session_role:
            preamble.append(f"SET ROLE {identifier(self.connection.session_role)};\n")
        stop = "0" if how.allow_errors else "1"
        address = f"--dbname={conninfo(self.connection, database=database)}"
        arguments = ["-X", "-q", "--no-password", f"--set=ON_ERROR_STOP={stop}", address, "--file=-"]
        try:
            self._fed("psql", arguments, _preceded("".join(preamble).encode(), script))
        except ToolFailed as exc:
            raise _advised(exc) from exc
        return []

    def _psql_can_restrict(self) -> bool:
        return "\\restrict " in self.tools.run("psql", ["-X", "--help=commands"])

    def _fed(self, program: str, arguments: Sequence[str], chunks: Iterator[bytes]) -> None:
        """Run it with the chunks on its standard input. What it leaves unread is still read, and so still checked."""
        with self.tools.started(program, arguments, stdin=subprocess.PIPE) as process:
            into = pipe(process.stdin)
            for chunk in chunks:
                into.write(chunk)
            into.close()
        for _chunk in chunks:
            pass

    @contextlib.contextmanager
    def _as_file(self, source: Source, on_bytes: OnBytes) -> Iterator[str]:
        if source.path and self._may_read(source.path):
            yield source.path
            return
        with staged(self.identity, self.state_path, source) as directory:
            path = os.path.join(directory, "dump")
            _write(source.read(on_bytes), path)
            self.identity.give(path)
            yield path

    @contextlib.contextmanager
    def _as_directory(self, source: Source, on_bytes: OnBytes) -> Iterator[str]:
        if source.directory and all(
            self._may_read(path) for path in [source.directory, *(entry.path for entry in os.scandir(source.directory))]
        ):
            yield source.directory
            return
        with staged(self.identity, self.state_path, source) as directory:
            if source.directory:
                paths = [shutil.copy(entry.path, directory) for entry in os.scandir(source.directory)]
            else:
                paths = unpack_flat(source.read(on_bytes), directory, what=source.name)
            for path in paths:
                self.identity.give(path)
            yield directory

    def _may_read(self, path: str) -> bool:
        with acting_as(self.identity):
            return os.access(path, os.R_OK, effective_ids=True)


@contextlib.contextmanager
def staged(identity: Identity, state_path: str, source: Source) -> Iterator[str]:
    """A private directory with room for the dump's files; what killed restores left there is removed."""
    base = identity.make_private_directory(state_path)
    for name in os.listdir(base):
        prefix, _dash, pid = name.rpartition("-")
        if prefix == "staging-restore" and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            shutil.rmtree(os.path.join(base, name), ignore_errors=True)
    path = os.path.join(base, f"staging-restore-{os.getpid()}")
    shutil.rmtree(path, ignore_errors=True)
    identity.make_private_directory(path)
    try:
        require_space(path, source.plain_bytes or source.stored_bytes, source.name)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _write(chunks: Iterable[bytes], path: str) -> None:
    try:
        with open(path, "xb", buffering=0) as stream:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[stream.write(view) :]
    except OSError as exc:
        raise Unreachable(
            f"Cannot stage the dump at {path}: {exc.strerror}.", hint="Free space there, or restore with jobs=1."
        ) from exc


def _preceded(first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from chunks


def _advised(exc: ToolFailed) -> ToolFailed:
    hint: Optional[str] = None
    if 'role "' in exc.stderr_tail and "does not exist" in exc.stderr_tail:
        hint = "Restore the roles too (globals), or leave owners and rights out (no_owner, no_privileges)."
    elif 'tablespace "' in exc.stderr_tail and "does not exist" in exc.stderr_tail:
        hint = "Create the tablespace, or leave tablespaces out (no_tablespaces)."
    elif "backslash commands are restricted" in exc.stderr_tail:
        hint = (
            "The script uses psql's own commands, which may run programs: read it, and run it by psql if you trust it."
        )
    elif "is not available" in exc.stderr_tail and "extension" in exc.stderr_tail:
        hint = "Install the extension's package on the server, then run again."
    return ToolFailed(exc.message, hint or exc.hint, stderr_tail=exc.stderr_tail)
