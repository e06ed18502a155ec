# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections: where the server is, how libpq is told, and what went wrong in words that help."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Optional, Union

from ..errors import BadInput, DbopsError, MissingLibrary, NotFound, Unreachable
from ..settings import ConnectionSettings
from .osuser import Identity, acting_as

APPLICATION = "dbops"
Parameters = Union[Sequence[Any], Mapping[str, Any]]


def libpq_parameters(connection: ConnectionSettings, *, database: Optional[str] = None) -> dict[str, str]:
    """libpq's keywords for this server; never a password, which stands in the passfile."""
    parameters = {
        "host": _host(connection),
        "port": str(connection.login_port),
        "user": connection.login_user,
        "dbname": database if database is not None else connection.login_db,
        "passfile": connection.passfile or "",
        "sslmode": connection.ssl_mode,
        "sslrootcert": connection.ca_cert or "",
        "sslcert": connection.ssl_cert or "",
        "sslkey": connection.ssl_key or "",
        "connect_timeout": str(connection.connect_timeout_s),
        "application_name": APPLICATION,
    }
    for name in connection.connect_params:
        if name in ("password", "sslpassword"):
            raise BadInput(
                f"connect_params must not hold {name!r}: it would show in process lists.",
                hint="Put the password into a passfile and set connection.passfile.",
            )
    parameters.update(connection.connect_params)
    return {name: value for name, value in parameters.items() if value}


def conninfo(connection: ConnectionSettings, *, database: Optional[str] = None) -> str:
    """The same as one connection string for PostgreSQL's programs, any database name quoted safely."""

    def quoted(value: str) -> str:
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"

    return " ".join(
        f"{name}={quoted(value)}" for name, value in libpq_parameters(connection, database=database).items()
    )


def described(connection: ConnectionSettings) -> str:
    where = _host(connection) or "the default socket"
    return f"{where} port {connection.login_port} as {connection.login_user!r}"


def located(connection: ConnectionSettings, data_directory: Optional[str]) -> ConnectionSettings:
    """With no host and no socket named, read both socket and port from the data directory's postmaster.pid."""
    if connection.login_host or connection.login_unix_socket or not data_directory:
        return connection
    try:
        with open(os.path.join(data_directory, "postmaster.pid"), encoding="utf-8") as stream:
            lines = stream.read().splitlines()
    except OSError:
        return connection
    if len(lines) < 5 or not lines[4] or not lines[3].isdigit():
        return connection
    return replace(connection, login_unix_socket=lines[4].split(",")[0], login_port=int(lines[3]))


class ScriptFailed(DbopsError):
    """The server's own words about a script; `position` counts characters from 0 and is None where it names none."""

    error_code = "script_failed"

    def __init__(self, exc: Any, notices: Sequence[str]) -> None:
        said = exc.diag.message_primary or _first_line(exc)
        extra = [text for text in (exc.diag.message_detail, exc.diag.message_hint) if text]
        super().__init__(". ".join([said.rstrip("."), *(text.rstrip(".") for text in extra)]) + ".")
        self.sqlstate = str(exc.pgcode)
        self.position = int(exc.diag.statement_position) - 1 if exc.diag.statement_position else None
        self.notices = list(notices)


class _Notices:
    """psycopg2 keeps the last 50 of a list; of anything else that appends, all."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    def append(self, text: str) -> None:
        self.kept.append(text.strip())


class _Lines:
    """An iterator as the file that psycopg2 wants."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines, self._rest = lines, b""

    def read(self, size: int = 8192) -> bytes:
        pieces, held = [self._rest], len(self._rest)
        while held < size:
            line = next(self._lines, b"")
            if not line:
                break
            pieces.append(line)
            held += len(line)
        whole = b"".join(pieces)
        self._rest = whole[size:]
        return whole[:size]


class Connection:
    """A psycopg2 connection in autocommit, cut down to what the engine uses; rows are dicts."""

    def __init__(self, raw: Any, where: str, role: Optional[str] = None) -> None:
        self._raw = raw
        self.where = where
        self._role = role

    def restore_role(self) -> None:
        """Be again who we were when the connection was made."""
        self.run("reset session authorization")
        if self._role:
            self.run("select set_config('role', %s, false)", (self._role,))
        else:
            self.run("reset role")

    def renew(self) -> None:
        """As if just connected: settings, role, temporary tables and locks of the session are gone."""
        self.abandon()
        self.run("discard all")
        if self._role:
            self.restore_role()

    def rows(self, query: str, parameters: Parameters = ()) -> list[dict[str, Any]]:
        with explained(f"ask {self.where}"), self._raw.cursor() as cursor:
            cursor.execute(query, parameters or None)
            if cursor.description is None:
                return []
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row)) for row in cursor.fetchall()]

    def row(self, query: str, parameters: Parameters = ()) -> dict[str, Any]:
        return self.rows(query, parameters)[0]

    def value(self, query: str, parameters: Parameters = ()) -> Any:
        return next(iter(self.row(query, parameters).values()))

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        with explained(f"ask {self.where}"), self._raw.cursor() as cursor:
            cursor.execute(statement, parameters or None)

    def copy_in(self, statement: str, lines: Iterator[bytes]) -> None:
        """COPY ... FROM STDIN: the lines in the text format, ends of line included, taken as the server wants them."""
        with explained(f"ask {self.where}"), self._raw.cursor() as cursor:
            cursor.copy_expert(statement, _Lines(lines))

    def send(self, script: str) -> list[str]:
        """Send a whole script as one message, which is one implicit transaction; the server's notices.

        Raises ScriptFailed where the server refused it, Unreachable when the connection broke: then nobody knows.
        """
        psycopg2 = library()
        told = _Notices()
        self._raw.notices = told
        try:
            with self._raw.cursor() as cursor:
                cursor.execute(script)
        except psycopg2.Error as exc:
            if self._raw.closed or exc.pgcode is None:
                raise Unreachable(
                    f"The connection to {self.where} broke in the middle: {_first_line(exc)}.",
                    hint="What the server did with the script is not known here: look at its state.",
                ) from exc
            raise ScriptFailed(exc, told.kept) from exc
        finally:
            self._raw.notices = []
        return told.kept

    @property
    def backend_pid(self) -> int:
        return int(self._raw.info.backend_pid)

    def abandon(self) -> bool:
        """Roll back a transaction that a script left open; whether there was one."""
        with explained(f"ask {self.where}"):
            if self._raw.info.transaction_status == 0:  # idle
                return False
            self.run("rollback")
        return True

    def cancel(self) -> None:
        """Ask the server to end the statement that another thread is running here; nothing when there is none."""
        with explained(f"ask {self.where}"):
            self._raw.cancel()

    def close(self) -> None:
        self._raw.close()


@contextlib.contextmanager
def connected(
    connection: ConnectionSettings, identity: Identity, *, database: Optional[str] = None
) -> Iterator[Connection]:
    """A connection as the cluster's OS user, closed at the end. Unreachable or NotFound say why not."""
    psycopg2 = library()
    # Any database's text as UTF-8: else psycopg2 loads the codec of the database's encoding while we are somebody
    # else, who may not be able to read Python's own files.
    parameters = {**libpq_parameters(connection, database=database), "client_encoding": "UTF8"}
    where = described(connection)
    try:
        with acting_as(identity):
            raw = psycopg2.connect(**parameters)
    except psycopg2.Error as exc:
        raise _why(exc, connection, parameters.get("dbname", ""), identity) from exc
    raw.autocommit = True
    opened = Connection(raw, where, connection.session_role)
    try:
        if connection.session_role:
            opened.restore_role()
        yield opened
    finally:
        opened.close()


@contextlib.contextmanager
def connected_in(data_directory: str, connection: ConnectionSettings, identity: Identity) -> Iterator[Connection]:
    """A connection to the server that runs in this very directory, over its socket and whatever host is configured.

    Where the configured role is not let in, the role of the OS user's name is tried: peer authentication wants that,
    and at an earlier point in time the configured one may not have been there yet.
    """
    here = located(replace(connection, login_host="", login_unix_socket=""), data_directory)
    if not here.login_unix_socket:  # the default socket would be another server's
        raise Unreachable(f"The server in {data_directory} has no socket yet.", hint="Is it running? See its log.")
    own = replace(here, login_user=identity.name, session_role=None)
    with contextlib.ExitStack() as stack:
        try:
            session = stack.enter_context(connected(here, identity))
        except Unreachable as exc:
            if own == here:
                raise
            try:
                session = stack.enter_context(connected(own, identity))
            except DbopsError:
                raise exc from None
        yield session


@contextlib.contextmanager
def explained(verb: str) -> Iterator[None]:
    psycopg2 = library()
    try:
        yield
    except psycopg2.errors.InsufficientPrivilege as exc:
        raise Unreachable(
            f"Cannot {verb}: {_first_line(exc)}.",
            hint="Grant it to the role, or come as another (login_user). playbooks/setup.yml makes one for backups.",
        ) from exc
    except psycopg2.Error as exc:
        raise Unreachable(f"Cannot {verb}: {_first_line(exc)}.", hint="See the server's log.") from exc


def library() -> Any:
    try:
        import psycopg2
        import psycopg2.errors
    except ImportError as exc:
        raise MissingLibrary("psycopg2", needed_for="connecting to PostgreSQL", package="python3-psycopg2") from exc
    return psycopg2


@contextlib.contextmanager
def password_in_passfile(
    connection: ConnectionSettings, password: Optional[str], identity: Identity
) -> Iterator[ConnectionSettings]:
    """The connection with `password` in a private temporary passfile: argv and environment can be read by others."""
    if not password:
        yield connection
        return
    descriptor, path = tempfile.mkstemp(prefix="dbops-pgpass-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write("*:*:*:*:" + password.replace("\\", "\\\\").replace(":", "\\:") + "\n")
        identity.give(path)
        yield replace(connection, passfile=path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _host(connection: ConnectionSettings) -> str:
    if connection.login_host in ("", "localhost") and connection.login_unix_socket:
        return connection.login_unix_socket
    return connection.login_host


def _first_line(exc: BaseException) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0].rstrip(".")


def _why(exc: BaseException, connection: ConnectionSettings, database: str, identity: Identity) -> DbopsError:
    text = str(exc)
    user = connection.login_user
    prefix = f"Cannot connect to {described(connection)}: "
    if "does not exist" in text and f'database "{database}"' in text:
        return NotFound(f"{prefix}there is no database {database!r}.", hint="Check its spelling: names are exact.")
    if "peer authentication" in text.lower():
        hint = (
            f"The socket wants OS user and role to be the same, and we came as {identity.name!r}: use that role, "
            "add a line to pg_ident.conf, or connect over TCP with a password."
        )
        return Unreachable(prefix + _first_line(exc) + ".", hint=hint)
    if "no pg_hba.conf entry" in text:
        return Unreachable(prefix + _first_line(exc) + ".", hint=f"Add a line for {user!r} to pg_hba.conf and reload.")
    if "password authentication failed" in text or "no password supplied" in text:
        hint = f"Check the passfile ({connection.passfile or '~/.pgpass'}, mode 0600) of {identity.name!r}."
        return Unreachable(prefix + f"the password of role {user!r} was not accepted.", hint=hint)
    if f'role "{user}"' in text and "does not exist" in text:
        return Unreachable(f"{prefix}there is no role {user!r}.", hint="Create it with playbooks/setup.yml.")
    return Unreachable(
        prefix + " ".join(text.split()).rstrip(".") + ".",
        hint="Is the server running? See `pg_lsclusters` or its log; check host, socket directory and port.",
    )
