# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what was restored means what it meant: roles, extensions, collations, constraints, sequences, assertions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Optional

from ..errors import Corrupt, DbopsError
from ..pg import canary
from ..pg.databases import identifier
from ..pg.tables import count_rows, dumped_tables
from ..progress import duration
from ..repo.record import BackupRecord, iso
from ..repo.repository import Repository
from ..settings_verify import Assertion
from .scratch import Scratch
from .verdict import Finding, failed, of_error, passed, unknown

_SHOWN = 10
_CLOCKS_S = 300  # by as much the clocks of two hosts may differ

# Whoever is named by the catalogs as owner, member or grantee must exist.
_STRANGERS = """
select kind, name, owner::bigint as oid from (
    select 'table' as kind, c.oid::regclass::text as name, c.relowner as owner from pg_class c
    union all select 'schema', nspname, nspowner from pg_namespace
    union all select 'function', p.oid::regproc::text, p.proowner from pg_proc p
    union all select 'database', datname, datdba from pg_database
    union all select 'membership', 'role ' || roleid, member from pg_auth_members
    union all select 'right or ownership', classid::regclass::text || ' ' || objid, refobjid from pg_shdepend
        where refclassid = 'pg_authid'::regclass and dbid in (0, (select oid from pg_database
                                                                  where datname = current_database()))
) as named
where not exists (select from pg_authid r where r.oid = named.owner)
order by kind = 'right or ownership', 1, 2
"""
_EXTENSIONS = """
select e.extname as name, e.extversion as version,
    exists (select from pg_available_extension_versions v
            where v.name = e.extname and v.version = e.extversion) as available
from pg_extension e order by 1
"""
_COLLATIONS = """
select format('collation %s.%s', n.nspname, c.collname) as name, c.collversion as recorded,
    pg_collation_actual_version(c.oid) as actual
from pg_collation c join pg_namespace n on n.oid = c.collnamespace
where c.collversion is not null and c.collversion is distinct from pg_collation_actual_version(c.oid)
    and exists (select from pg_depend d where d.refclassid = 'pg_collation'::regclass and d.refobjid = c.oid)
"""
_DATABASE_COLLATION = """
select 'database ' || datname as name, datcollversion as recorded, pg_database_collation_actual_version(oid) as actual
from pg_database where datname = current_database() and datcollversion is not null
    and datcollversion is distinct from pg_database_collation_actual_version(oid)
"""
# Those that were valid. Of a foreign key to a partitioned table only the row that its own table has is a constraint.
_CONSTRAINTS = """
select c.conrelid::regclass::text as table, c.conname as name, c.oid::bigint as oid
from pg_constraint c join pg_class t on t.oid = c.conrelid
    left join pg_constraint parent on parent.oid = c.conparentid
where c.contype in ('c', 'f') and c.convalidated and t.relkind = 'r'
    and (parent.oid is null or parent.conrelid <> c.conrelid)
    and coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true)
order by 1, 2
"""
_SEQUENCES = """
select s.oid::regclass::text as sequence, t.oid::regclass::text as table, a.attname as column
from pg_class s join pg_sequence q on q.seqrelid = s.oid
    join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = s.oid and d.deptype in ('a', 'i')
        and d.refclassid = 'pg_class'::regclass and d.refobjsubid > 0
    join pg_class t on t.oid = d.refobjid and t.relkind in ('r', 'p')
    join pg_attribute a on a.attrelid = t.oid and a.attnum = d.refobjsubid
    join pg_type y on y.oid = a.atttypid and y.typcategory = 'N' -- 'R-' || nextval(...) cannot be compared
where q.seqincrement > 0 and not q.seqcycle
    and exists (select from pg_index i where i.indrelid = t.oid and i.indisunique and i.indnkeyatts = 1
                and i.indkey[0] = d.refobjsubid)
order by 1
"""


class Content:
    """Everything below asks a running scratch instance as its superuser; `noted` is the backup's inventory."""

    def __init__(self, scratch: Scratch, superuser: str, noted: Mapping[str, Any], *, as_noted: bool) -> None:
        self._scratch = scratch
        self._superuser = superuser
        self._noted = noted
        self._as_noted = as_noted  # the instance is at the point at which the inventory was taken
        with scratch.session(superuser) as session:
            rows = session.rows("select datname from pg_database where datallowconn order by 1")
        self.databases = [str(row["datname"]) for row in rows]

    def roles(self) -> Finding:
        """Nobody is named who does not exist; at the backup's own end, everybody is there who was noted."""
        strangers = []
        for database in self.databases:
            with self._in(database) as session:
                strangers += [{"database": database, **row} for row in session.rows(_STRANGERS)]
                there = {row["rolname"] for row in session.rows("select rolname from pg_roles")}
        if strangers:
            first = strangers[0]
            return failed(
                f"A role is lost: {first['kind']} {first['name']} in {first['database']!r} belongs to role "
                f"{first['oid']}, which does not exist.",
                "Look whether production has the role; restore a backup from before it was lost.",
                strangers=strangers[:_SHOWN],
            )
        missing = sorted(set(self._noted.get("roles", ())) - there)
        if missing and self._as_noted:
            return failed(f"Roles that were there are lost: {', '.join(missing)}.", "See the backup's inventory.")
        more = f"; {', '.join(missing)} was dropped after the backup" if missing else ""
        return passed(f"Every role that owns something is there, {len(there)} in all{more}.", missing=missing)

    def extensions(self) -> Finding:
        """They are installed on this host in the version that the databases use, and none is lost."""
        absent, lost, count = [], [], 0
        for database in self.databases:
            with self._in(database) as session:
                rows = session.rows(_EXTENSIONS)
            count += len(rows)
            absent += [f"{row['name']} {row['version']} ({database})" for row in rows if not row["available"]]
            there = {row["name"] for row in rows}
            lost += [f"{name} ({database})" for name in self._noted_extensions(database) if name not in there]
        if lost and self._as_noted:
            return failed(f"Extensions that were there are lost: {', '.join(lost)}.", "See the backup's inventory.")
        if absent:
            return unknown(
                f"This host lacks extensions that the databases use: {', '.join(absent)}.",
                "Install their packages here, or verify on a host that has them.",
                absent=absent,
            )
        return passed(f"All {count} extensions are available here.")

    def collations(self) -> Finding:
        """Text sorts here as it did there, or else what the indexes' checks say is worth nothing."""
        differing = []
        for database in self.databases:
            with self._in(database) as session:
                rows = session.rows(_COLLATIONS)
                if int(session.value("show server_version_num")) >= 150000:
                    rows += session.rows(_DATABASE_COLLATION)
                differing += [f"{row['name']}: {row['recorded']} there, {row['actual']} here" for row in rows]
        if differing:
            return unknown(
                f"Text sorts differently on this host: {'; '.join(differing[:_SHOWN])}.",
                "Verify on a host with the same C and ICU libraries, or reindex text indexes after such a restore.",
                differing=differing,
            )
        return passed("Collation versions are the recorded ones.")

    def constraints(self) -> Finding:
        """PostgreSQL validates every CHECK and foreign key again: the instance is ours to mark them unproven first."""
        checked = 0
        for database in self.databases:
            with self._in(database) as session:
                session.run("set allow_system_table_mods = on")
                for row in session.rows(_CONSTRAINTS):
                    session.run("begin")
                    session.run("update pg_constraint set convalidated = false where oid = %s", (row["oid"],))
                    try:
                        session.run(f"alter table {row['table']} validate constraint {identifier(row['name'])}")
                    except DbopsError as error:
                        finding = of_error(error)
                        what = f"{row['table']}.{row['name']} in {database!r} does not hold: {error.message}"
                        return Finding(finding.verdict, what, "Look at these rows in production too.")
                    session.run("rollback")
                    checked += 1
        return passed(f"{checked} CHECK and foreign key constraints hold for every row.", constraints=checked)

    def sequences(self) -> Finding:
        """None hands out a number that a unique column has already."""
        behind, count = [], 0
        for database in self.databases:
            with self._in(database) as session:
                for row in session.rows(_SEQUENCES):
                    count += 1
                    query = f"""
                        select (select max({identifier(row["column"])}) from {row["table"]})::numeric as highest,
                            last_value::numeric as value, is_called from {row["sequence"]}"""
                    now = session.row(query)
                    if now["highest"] is not None and (
                        now["value"] < now["highest"] or (now["value"] == now["highest"] and not now["is_called"])
                    ):
                        behind.append(
                            f"{row['sequence']} in {database!r} is at {now['value']}, {row['table']}.{row['column']} "
                            f"at {now['highest']}"
                        )
        if behind:
            return failed(
                f"Sequences are behind their columns: {'; '.join(behind[:_SHOWN])}.",
                "The next insert would collide. Look whether production is the same: select setval(...).",
                behind=behind,
            )
        return passed(f"{count} sequences are ahead of their columns.", sequences=count)

    def rows(self) -> Finding:
        """Every table counted: what a later verification, or a person, can compare."""
        counts: dict[str, int] = {}
        for database in self.databases:
            with self._in(database) as session:
                session.run("begin isolation level repeatable read read only")
                found = count_rows(session, dumped_tables(session))
                if found.uncounted:
                    return unknown(f"Tables could not be counted: {json.dumps(found.uncounted)[:500]}")
                counts.update({f"{database}: {name}": rows for name, rows in found.rows.items()})
        total = sum(counts.values())
        return passed(f"{len(counts)} tables with {total} rows can be read.", tables=len(counts), rows=total)

    def canary(self, database: str, now: datetime, *, not_after: Optional[datetime]) -> Finding:
        """The row that is written every minute, and how old it is; it cannot be of after the recovery's target."""
        found = None
        if database in self.databases:
            with self._in(database) as session:
                found = canary.read(session)
        if found is None:
            return unknown(
                f"There is no canary in {database!r} at this point.",
                "Was it set up later? Run dbops canary every minute, and take a new backup.",
            )
        age_s = round((now - found.at).total_seconds(), 3)
        details = {"number": found.number, "at": iso(found.at), "age_s": age_s}
        if not_after is not None and found.at > not_after:
            return failed(f"Canary {found.number} is of {iso(found.at)}, after the target.", "", **details)
        if age_s < -_CLOCKS_S:
            return unknown(
                f"Canary {found.number} is of {iso(found.at)}, which is still to come.", "Set the clocks right."
            )
        words = f"Canary {found.number} is of {iso(found.at)}, {duration(max(0.0, age_s))} before this verification."
        return passed(words, **details)

    def assertion(self, assertion: Assertion) -> Finding:
        """The operator's own question."""
        if assertion.database not in self.databases:
            return failed(
                f"There is no database {assertion.database!r} to ask.", "Mend the assertion, or look who dropped it."
            )
        with self._in(assertion.database) as session:
            session.run("begin read only")
            rows = session.rows(assertion.query)
        return judged(assertion, rows)

    def _noted_extensions(self, database: str) -> list[str]:
        for item in self._noted.get("databases", ()):
            if item.get("name") == database and isinstance(item.get("extensions"), list):
                return [str(extension["name"]) for extension in item["extensions"]]
        return []

    def _in(self, database: str) -> Any:
        return self._scratch.session(self._superuser, database)


def judged(assertion: Assertion, rows: list[dict[str, Any]]) -> Finding:
    """Pure: what the first value of the answer says."""
    details = {"query": assertion.query, "database": assertion.database}
    if not rows:
        return failed("The query yields no row.", "It must yield one value.", **details)
    value = next(iter(rows[0].values()))
    actual = {True: "true", False: "false", None: "null"}.get(value, value) if _is_plain(value) else value
    details["actual"] = str(actual)
    if assertion.expected is not None:
        details["expected"] = assertion.expected
        good = str(actual) == assertion.expected
        what = f"{actual}, expected {assertion.expected}"
    else:
        bounds = [f"at least {assertion.at_least}"] * (assertion.at_least is not None)
        bounds += [f"at most {assertion.at_most}"] * (assertion.at_most is not None)
        details["expected"] = " and ".join(bounds)
        what = f"{actual}, expected {details['expected']}"
        try:
            number = float(value)
        except (TypeError, ValueError):
            return failed(f"{what}: it is no number.", "Mend the query.", **details)
        low = assertion.at_least is None or number >= assertion.at_least
        good = low and (assertion.at_most is None or number <= assertion.at_most)
    if good:
        return passed(f"It is {what}.", **details)
    return failed(f"It is {what}.", "Look at the data, here and in production.", **details)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def inventory_of(repository: Repository, record: BackupRecord) -> dict[str, Any]:
    """What was noted beside the backup; empty when nothing was."""
    for item in record.of_kind("inventory"):
        try:
            content = json.loads(b"".join(repository.read_object(record.label, item)))
        except ValueError as exc:
            raise Corrupt(f"{item.name} of {record.label} cannot be read: {exc}.", hint="Take a new backup.") from exc
        return content if isinstance(content, dict) else {}
    return {}
