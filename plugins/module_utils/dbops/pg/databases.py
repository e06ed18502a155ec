# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases as CREATE, ALTER and GRANT know them: read from one server, written as statements for another.

pg_dump leaves all of this to `--create`, which cannot give a database another name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Optional

from ..errors import Corrupt, Refused
from .connection import Connection

TEMPLATES = ("template0", "template1")
MAX_NAME_BYTES = 63
_INVALID = -2  # datconnlimit of a database whose DROP was interrupted (pg_database.h)
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}
_LOCALE_WORD = {"icu": "ICU_LOCALE", "builtin": "BUILTIN_LOCALE"}
_PROVIDER_SINCE = {"libc": 0, "icu": 15, "builtin": 17}
# Settings whose stored value is a list of quoted names: one literal per name (dumputils.c, variable_is_guc_list_quote).
_LISTS = ("local_preload_libraries", "search_path", "session_preload_libraries", "temp_tablespaces")


@dataclass(frozen=True)
class Setting:
    """One ALTER DATABASE (or, with a role, ALTER ROLE IN DATABASE) SET."""

    name: str
    value: str
    role: Optional[str] = None


@dataclass(frozen=True)
class Grant:
    """`grantee` None is PUBLIC."""

    privilege: str
    grantee: Optional[str]
    grantable: bool = False


@dataclass(frozen=True)
class Database:
    """`grants` None: never granted or revoked, so the built-in default holds."""

    name: str
    owner: str
    encoding: str
    collate: str
    ctype: str
    provider: str = "libc"
    locale: Optional[str] = None
    icu_rules: Optional[str] = None
    collation_version: Optional[str] = None
    tablespace: str = "pg_default"
    connection_limit: int = -1
    allows_connections: bool = True
    is_template: bool = False
    size_bytes: Optional[int] = None
    comment: Optional[str] = None
    settings: tuple[Setting, ...] = ()
    grants: Optional[tuple[Grant, ...]] = None

    @property
    def usable(self) -> bool:
        return self.allows_connections and self.connection_limit != _INVALID


_DATABASES = """
select to_jsonb(d) as d, pg_get_userbyid(d.datdba) as owner, pg_encoding_to_char(d.encoding) as encoding,
    s.spcname as tablespace, shobj_description(d.oid, 'pg_database') as comment,
    case when has_database_privilege(d.oid, 'CONNECT') or pg_has_role('pg_read_all_stats', 'USAGE')
         then pg_database_size(d.oid) end as size_bytes,
    (select jsonb_agg(jsonb_build_array(g.privilege_type, r.rolname, g.is_grantable)
        order by r.rolname nulls first, g.privilege_type)
     from aclexplode(d.datacl) g left join pg_roles r on r.oid = g.grantee) as grants,
    (select jsonb_agg(jsonb_build_array(r.rolname, x.item) order by r.rolname nulls first, x.nr)
     from pg_db_role_setting c left join pg_roles r on r.oid = c.setrole,
         unnest(c.setconfig) with ordinality x(item, nr)
     where c.setdatabase = d.oid) as settings
from pg_database d join pg_tablespace s on s.oid = d.dattablespace
order by d.datname
"""


def read_databases(session: Connection) -> dict[str, Database]:
    """Every database of the server by name; any supported major version."""
    return {row["d"]["datname"]: _database(row) for row in session.rows(_DATABASES)}


def _database(row: dict[str, Any]) -> Database:
    raw = row["d"]
    settings = []
    for role, item in row["settings"] or ():
        name, _equals, value = item.partition("=")
        settings.append(Setting(name, value, role))
    return Database(
        name=raw["datname"],
        owner=row["owner"],
        encoding=row["encoding"],
        collate=raw["datcollate"],
        ctype=raw["datctype"],
        provider=_PROVIDERS[raw.get("datlocprovider", "c")],  # 14 has libc alone
        locale=raw.get("datlocale", raw.get("daticulocale")),  # renamed in 17
        icu_rules=raw.get("daticurules"),
        collation_version=raw.get("datcollversion"),
        tablespace=row["tablespace"],
        connection_limit=raw["datconnlimit"],
        allows_connections=raw["datallowconn"],
        is_template=raw["datistemplate"],
        size_bytes=row["size_bytes"],
        comment=row["comment"],
        settings=tuple(settings),
        grants=None if raw["datacl"] is None else tuple(Grant(*item) for item in row["grants"] or ()),
    )


def to_mapping(database: Database) -> dict[str, Any]:
    return asdict(database)


def from_mapping(data: Mapping[str, Any], *, where: str) -> Database:
    try:
        settings = tuple(Setting(**item) for item in data["settings"])
        grants = None if data["grants"] is None else tuple(Grant(**item) for item in data["grants"])
        return Database(**{**data, "settings": settings, "grants": grants})
    except (KeyError, TypeError) as exc:
        raise Corrupt(f"{where} cannot be read: {exc!r}.", hint="Restore another backup.") from exc


def creation(database: Database, *, major: int, with_owner: bool = True) -> str:
    """CREATE DATABASE from template0 as that server version spells it; Refused for a provider that it lacks."""
    if major < _PROVIDER_SINCE[database.provider]:
        raise Refused(
            f"Database {database.name!r} uses the {database.provider} collation provider, "
            f"which PostgreSQL {major} does not have.",
            hint=f"Restore it into PostgreSQL {_PROVIDER_SINCE[database.provider]} or later.",
        )
    words = [f"CREATE DATABASE {identifier(database.name)} TEMPLATE template0"]
    if with_owner:
        words.append(f"OWNER {identifier(database.owner)}")
    words.append(f"ENCODING {literal(database.encoding)}")
    if major >= 15:
        words.append(f"LOCALE_PROVIDER {database.provider}")
    words.append(f"LC_COLLATE {literal(database.collate)} LC_CTYPE {literal(database.ctype)}")
    if database.locale and database.provider in _LOCALE_WORD:
        words.append(f"{_LOCALE_WORD[database.provider]} {literal(database.locale)}")
    if database.icu_rules and major >= 16:
        words.append(f"ICU_RULES {literal(database.icu_rules)}")
    if database.tablespace != "pg_default":
        words.append(f"TABLESPACE {identifier(database.tablespace)}")
    return " ".join(words)


def finishing(database: Database, *, with_owner: bool = True, roles: frozenset[str]) -> Iterator[str]:
    """What makes a created and filled database the recorded one: settings, limit, comment, rights.

    They come last, since some of them (default_transaction_read_only) would stand in the way of filling it. Those
    that name a role which is not among `roles` are left out; `strangers` says which.
    """
    name = identifier(database.name)
    if database.connection_limit >= 0:
        yield f"ALTER DATABASE {name} CONNECTION LIMIT {database.connection_limit}"
    if database.is_template:
        yield f"ALTER DATABASE {name} IS_TEMPLATE true"
    if database.comment is not None:
        yield f"COMMENT ON DATABASE {name} IS {literal(database.comment)}"
    for setting in database.settings:
        whom = f"ALTER DATABASE {name}"
        if setting.role is not None:
            whom = f"ALTER ROLE {identifier(setting.role)} IN DATABASE {name}"
        if setting.role is None or setting.role in roles:
            yield f"{whom} SET {identifier(setting.name)} TO {setting_value(setting)}"
    if with_owner:
        yield from _grants(database, roles)


def strangers(database: Database, roles: frozenset[str]) -> list[str]:
    """The roles that settings and grants of the database name and that are not among `roles`."""
    named = {setting.role for setting in database.settings} | {grant.grantee for grant in database.grants or ()}
    return sorted(role for role in named if role is not None and role not in roles)


def _grants(database: Database, roles: frozenset[str]) -> Iterator[str]:
    if database.grants is None:
        return
    name = identifier(database.name)
    yield f"REVOKE ALL ON DATABASE {name} FROM PUBLIC"
    if database.owner in roles:
        yield f"REVOKE ALL ON DATABASE {name} FROM {identifier(database.owner)}"
    for grant in database.grants:
        if grant.grantee is None or grant.grantee in roles:
            whom = "PUBLIC" if grant.grantee is None else identifier(grant.grantee)
            option = " WITH GRANT OPTION" if grant.grantable else ""
            yield f"GRANT {grant.privilege} ON DATABASE {name} TO {whom}{option}"


def setting_value(setting: Setting) -> str:
    if setting.name.lower() not in _LISTS:
        return literal(setting.value)
    found = re.findall(r'"((?:[^"]|"")*)"|([^,"\s][^,"]*)', setting.value)
    names = [quoted.replace('""', '"') if not bare else bare.strip() for quoted, bare in found]
    return ", ".join(literal(name) for name in names) or "''"


def renamed(database: Database, name: str) -> Database:
    return replace(database, name=name)


def derived_name(name: str, ending: str) -> str:
    """`name` + `ending` within PostgreSQL's 63 bytes, the name cut at a character's border where it must be."""
    room = MAX_NAME_BYTES - len(ending.encode())
    return name.encode()[:room].decode("utf-8", "ignore") + ending


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Right under either value of standard_conforming_strings."""
    quoted = "'" + text.replace("'", "''").replace("\\", "\\\\") + "'"
    return f"E{quoted}" if "\\" in text else quoted
