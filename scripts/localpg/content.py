# SPDX-License-Identifier: GPL-3.0-or-later
"""What a database holds, as one short line per object: equal before and after means that everything came back."""

from __future__ import annotations

from typing import Any

from .server import LocalServer

# Text of the same value must be the same text, whoever asks.
SETTINGS = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "iso_8601",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "search_path": "pg_catalog",
    "xmloption": "content",
}
USERS_OWN = "n.nspname !~ '^pg_' and n.nspname <> 'information_schema'"

# Sums do not depend on the order of rows, and unlike xor they see a row that came twice.
_ROWS = """
select count(*)::text || ' rows ' || coalesce(md5(
         sum(('x' || substr(md5(row_text), 1, 16))::bit(64)::bigint::numeric)::text
         || sum(('x' || substr(md5(row_text), 17, 16))::bit(64)::bigint::numeric)::text), '-')
from (select whole_row::text as row_text from {table} as whole_row) as texts
"""
_LARGE_OBJECTS = """
select count(*)::text || ' objects '
       || coalesce(md5(string_agg(oid::text || md5(lo_get(oid)) || coalesce(lomacl::text, ''), ',' order by oid)), '-')
from pg_largeobject_metadata
"""
# Grants are spelt out one by one, since the order inside an ACL is an accident of history.
_GRANTS = "(select string_agg(a::text, ',' order by a::text) from aclexplode({acl}) as a)"
_DEFINITIONS = {
    "columns": f"""select format('%I.%I %s', n.nspname, c.relname, (
            select string_agg(format('%I %s %s %s', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                   pg_get_expr(d.adbin, d.adrelid)), ', ' order by a.attname)
            from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped))
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'f') and {USERS_OWN}""",
    "indexes": f"""select pg_get_indexdef(i.indexrelid) from pg_index i join pg_class c on c.oid = i.indexrelid
        join pg_namespace n on n.oid = c.relnamespace where {USERS_OWN}""",
    "constraints": f"""select conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(k.oid)
        from pg_constraint k join pg_namespace n on n.oid = k.connamespace where {USERS_OWN}""",
    "views": f"""select format('%I.%I %s', n.nspname, c.relname, pg_get_viewdef(c.oid)) from pg_class c
        join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('v', 'm') and {USERS_OWN}""",
    "functions": f"""select pg_get_functiondef(p.oid) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where p.prokind in ('f', 'p') and {USERS_OWN}""",
    "triggers": f"""select pg_get_triggerdef(t.oid) from pg_trigger t join pg_class c on c.oid = t.tgrelid
        join pg_namespace n on n.oid = c.relnamespace where not t.tgisinternal and {USERS_OWN}""",
    "partitions": f"""select format('%I.%I %s', n.nspname, c.relname, pg_get_expr(c.relpartbound, c.oid))
        from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relispartition and {USERS_OWN}""",
    "owners and grants": f"""select format('%I.%I %s %s', n.nspname, c.relname, pg_get_userbyid(c.relowner),
            {_GRANTS.format(acl="c.relacl")})
        from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind <> 'i' and {USERS_OWN}""",
    "comments": f"""select pg_describe_object(d.classoid, d.objoid, d.objsubid) || ' ' || d.description
        from pg_description d join pg_class c on d.classoid = 'pg_class'::regclass and c.oid = d.objoid
        join pg_namespace n on n.oid = c.relnamespace where {USERS_OWN}
        union all select shobj_description(oid, 'pg_database') from pg_database where datname = current_database()""",
    "extensions": "select extname || ' ' || extversion from pg_extension",
}
_ROLES = """
select count(*)::text || ' roles ' || md5(string_agg(concat_ws(' ', rolname, rolsuper, rolinherit, rolcreaterole,
         rolcreatedb, rolcanlogin, rolreplication, rolconnlimit, rolpassword, rolvaliduntil,
         (select string_agg(pg_get_userbyid(roleid), ',' order by pg_get_userbyid(roleid))
          from pg_auth_members m where m.member = a.oid)), ',' order by rolname))
from pg_authid a where rolname !~ '^pg_'
"""


def content_hashes(server: LocalServer, database: str) -> dict[str, str]:
    """One line per table, sequence and kind of definition of a database, all seen in one snapshot.

    `table public.rides` is '5000 rows <hash>'; a hash does not depend on the order of rows. Unlogged tables are
    named as such, since a physical restore empties them by design.
    """
    with server.connection(database, options=_options()) as connection:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True, autocommit=False)
        with connection.cursor() as cursor:
            found = _tables(cursor) | _sequences(cursor)
            found["large objects"] = _one(cursor, _LARGE_OBJECTS)
            for kind, query in _DEFINITIONS.items():
                found[kind] = _one(
                    cursor,
                    "select count(*)::text || ' definitions ' || coalesce(md5(string_agg(line, E'\\n' order by line "
                    f"collate \"C\")), '-') from ({query}) as definitions (line)",
                )
        return found


def cluster_hashes(server: LocalServer) -> dict[str, str]:
    """The same for the whole server: roles, and every database's lines under `<database>: `."""
    found = {"roles": server.value(_ROLES)}
    databases = server.sql("select datname from pg_database where datallowconn and not datistemplate order by 1")
    for (database,) in databases:
        found.update({f"{database}: {name}": line for name, line in content_hashes(server, database).items()})
    return found


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Every object that is not as it was, in words; empty when all came back."""
    return [
        f"{name}: was {before.get(name, 'not there')}, is {after.get(name, 'not there')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _options() -> str:
    return " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in SETTINGS.items())


def _tables(cursor: Any) -> dict[str, str]:
    cursor.execute(
        "select c.oid::regclass::text, c.relpersistence = 'u' from pg_class c "
        "join pg_namespace n on n.oid = c.relnamespace "
        f"where c.relkind in ('r', 'm') and c.relispopulated and c.relpersistence <> 't' and {USERS_OWN}"
    )
    return {
        f"{'unlogged table' if unlogged else 'table'} {table}": _one(cursor, _ROWS.format(table=table))
        for table, unlogged in cursor.fetchall()
    }


def _sequences(cursor: Any) -> dict[str, str]:
    cursor.execute(
        "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        f"where c.relkind = 'S' and {USERS_OWN}"
    )
    query = "select last_value::text || case when is_called then ' called' else ' fresh' end from "
    return {f"sequence {name}": _one(cursor, query + name) for (name,) in cursor.fetchall()}


def _one(cursor: Any, query: str) -> str:
    cursor.execute(query)
    return str(cursor.fetchone()[0])
