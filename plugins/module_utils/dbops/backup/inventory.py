# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster needs besides its data: configuration files elsewhere, extensions, collation versions, settings."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import re
import tarfile
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import DbopsError
from ..pg.connection import Connection, connected
from ..pg.datadir import holds, restored_as
from ..pg.server import Server

_SECRET_SETTINGS = re.compile(r"conninfo|passphrase|password|secret|token", re.I)
_INCLUDE = re.compile(r"^\s*(include|include_if_exists|include_dir)\s*=?\s*'([^']+)'", re.M)
_LARGEST_CONFIG = 8 << 20


def facts(server: Server) -> dict[str, str]:
    """The few facts that decide whether a restore elsewhere is safe; they stand in backup.json itself."""
    known = {"data_checksums": server.settings.get("data_checksums", "")}
    config_file = server.settings.get("config_file", "")
    if not holds(server.data_directory, config_file):
        known["config_file"] = config_file  # what is restored does not bring it along
    if server.local:
        known["restored"] = restored_as(server.data_directory)
        known["os"] = _os_name()
        known["libc"] = " ".join(part for part in platform.libc_ver() if part)
    return {name: value for name, value in known.items() if value}


def inventory(server: Server) -> bytes:
    """JSON: roles' names, databases with collation versions and extensions, settings that are not defaults."""
    with connected(server.connection, server.identity) as session:
        databases = _databases(session, server)
        content: dict[str, Any] = {
            "server": {"version": server.version, "system_identifier": server.system_identifier},
            "host": facts(server),
            "roles": [row["rolname"] for row in session.rows("select rolname from pg_roles order by 1")],
            "settings": _settings(session),
        }
    content["databases"] = [{**row, "extensions": _extensions(server, row)} for row in databases]
    return (json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n").encode()


def config_archive(server: Server, more: Iterable[str]) -> bytes:
    """A tar of the configuration files that lie outside the data directory, or nothing when there are none.

    Only from the server's own host: files of ours under the same names would mislead.
    """
    if not server.local:
        return b""
    buffer = io.BytesIO()
    count = 0
    # Plain files in plain ustar, as PostgreSQL's own archives: our reader trusts nothing else.
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in _config_files(server, more):
            with contextlib.suppress(OSError, ValueError):  # not for us to read, or a name too long for the format
                with open(path, "rb") as stream:
                    content, status = stream.read(), os.fstat(stream.fileno())
                member = tarfile.TarInfo(path.lstrip("/"))
                member.size, member.mtime, member.mode = len(content), int(status.st_mtime), status.st_mode & 0o777
                archive.addfile(member, io.BytesIO(content))
                count += 1
    return buffer.getvalue() if count else b""


def _config_files(server: Server, more: Iterable[str]) -> list[str]:
    found: dict[str, None] = {}

    def note(path: str) -> None:
        outside = not holds(server.data_directory, path)
        if outside and path not in found and os.path.isfile(path) and os.path.getsize(path) <= _LARGEST_CONFIG:
            found[path] = None
            for included in _includes(path):
                note(included)

    for name in ("config_file", "hba_file", "ident_file"):
        path = server.settings.get(name, "")
        note(path)
        if os.path.basename(os.path.dirname(os.path.dirname(os.path.dirname(path)))) == "postgresql":
            for beside in _files_below(os.path.dirname(path)):  # Debian's /etc/postgresql/<major>/<cluster>/
                note(beside)
    for path in more:
        for file in _files_below(path) if os.path.isdir(path) else [path]:
            note(file)
    return sorted(found)


def _includes(path: str) -> Iterator[str]:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as stream:
        for kind, target in _INCLUDE.findall(stream.read()):
            full = os.path.join(os.path.dirname(path), target)
            yield from _files_below(full) if kind == "include_dir" else [full]


def _files_below(directory: str) -> list[str]:
    return sorted(os.path.join(base, name) for base, _dirs, names in os.walk(directory) for name in names)


def _databases(session: Connection, server: Server) -> list[dict[str, Any]]:
    version = "datcollversion" if server.major >= 15 else "null::text as datcollversion"
    locale = {True: "datlocale", False: "daticulocale" if server.major >= 15 else "null::text"}[server.major >= 17]
    return session.rows(
        f"select datname as name, pg_encoding_to_char(encoding) as encoding, datcollate as collate, datctype as ctype, "
        f"{locale} as locale, {version}, datallowconn as allows_connections, pg_get_userbyid(datdba) as owner "
        "from pg_database order by 1"
    )


def _extensions(server: Server, database: dict[str, Any]) -> Any:
    if not database["allows_connections"]:
        return []
    try:
        with connected(server.connection, server.identity, database=database["name"]) as session:
            return session.rows("select extname as name, extversion as version from pg_extension order by 1")
    except DbopsError as error:
        return {"could_not_look": error.message}


def _settings(session: Connection) -> dict[str, Any]:
    rows = session.rows(
        "select name, setting, unit, source from pg_settings where source not in ('default', 'client') order by 1"
    )
    return {
        row["name"]: {**row, "setting": "(not recorded)"} if _SECRET_SETTINGS.search(row["name"]) else row
        for row in rows
    }


def _os_name() -> str:
    with contextlib.suppress(OSError), open("/etc/os-release", encoding="utf-8") as stream:
        match = re.search(r'^PRETTY_NAME="?([^"\n]+)', stream.read(), re.M)
        if match:
            return match.group(1)
    return platform.platform()
