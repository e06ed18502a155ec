# SPDX-License-Identifier: GPL-3.0-or-later
"""The database role that takes backups: what it may do, no more, and what is missing for that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from ..errors import BadInput, Refused
from ..settings import ConnectionSettings, HostSettings
from .connection import Connection, connected, located
from .osuser import cluster_identity
from .scram import belongs_to, make_verifier

MEMBER_OF = ("pg_read_all_data", "pg_read_all_settings", "pg_read_all_stats")
# To prove archiving before a backup is copied, and to name a moment. Granted in the login database: functions are its.
MAY_CALL = ("pg_switch_wal()", "pg_create_restore_point(text)")
OLDEST_VERSION_NUM = 140000  # pg_read_all_data
LONGEST_NAME = 63
_MAY_CALL = "select has_function_privilege(%s, %s, 'EXECUTE')"
_MAY_GRANT = "select has_function_privilege(%s, 'EXECUTE WITH GRANT OPTION')"


@dataclass(frozen=True)
class RoleState:
    """The role as the server has it. `verifier` is None where there is no password, or where we may not see it."""

    exists: bool = False
    login: bool = False
    replication: bool = False
    superuser: bool = False
    member_of: frozenset[str] = frozenset()
    may_call: frozenset[str] = frozenset()
    grantable: frozenset[str] = frozenset(MAY_CALL)  # by the role that we came as
    verifier: Optional[str] = None
    verifier_visible: bool = False


@dataclass(frozen=True)
class Change:
    """One statement, and what an operator is told about it: never a password or its verifier."""

    statement: str
    say: str


@dataclass(frozen=True)
class RolePlan:
    name: str
    connection: ConnectionSettings
    host: HostSettings
    changes: tuple[Change, ...]
    state: RoleState
    hba_file: Optional[str]
    hba_lines: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def needed(self) -> bool:
        return bool(self.changes)

    def preview(self) -> dict[str, Any]:
        if not self.needed:
            return self._answer(f"Role {self.name!r} has all that a backup needs.")
        return self._answer(f"Would {'; '.join(change.say for change in self.changes)}.")

    def result(self) -> dict[str, Any]:
        done = f"Role {self.name!r}: {'; '.join(change.say for change in self.changes)}."
        return self._answer(done) if self.needed else self.preview()

    def _answer(self, msg: str) -> dict[str, Any]:
        return {
            "changed": self.needed,
            "msg": msg,
            "role": self.name,
            "changes": [change.say for change in self.changes],
            "hba_file": self.hba_file,
            "hba_lines": list(self.hba_lines),
            "warnings": list(self.warnings),
        }


def plan(connection: ConnectionSettings, host: HostSettings, *, name: str, password: Optional[str] = None) -> RolePlan:
    """Ask the server what the role lacks. Changes nothing; Unreachable and Refused say why it cannot be told."""
    check_name(name)
    located_at = located(connection, host.data_directory)
    identity = cluster_identity(host.os_user, host.data_directory)
    with connected(located_at, identity) as session:
        state, hba_file, in_recovery = _ask(session, name)
    changes = missing(name, state, password)
    if changes and in_recovery:
        raise Refused(
            f"Role {name!r} lacks something, and this server is a standby: {'; '.join(c.say for c in changes)}.",
            hint="Run it on the primary; a standby gets its roles from there.",
        )
    return RolePlan(
        name=name,
        connection=located_at,
        host=host,
        changes=tuple(changes),
        state=state,
        hba_file=hba_file,
        hba_lines=tuple(hba_lines(name)),
        warnings=tuple(warnings(name, state, password)),
    )


def run(plan: RolePlan) -> dict[str, Any]:
    """Make the planned changes, all or none."""
    if plan.needed:
        identity = cluster_identity(plan.host.os_user, plan.host.data_directory)
        with connected(plan.connection, identity) as session:
            session.run("begin")
            for change in plan.changes:
                session.run(change.statement)
            session.run("commit")
    return plan.result()


def check_name(name: str) -> None:
    if not name or "\0" in name or len(name.encode("utf-8")) > LONGEST_NAME or name.startswith("pg_"):
        raise BadInput(
            f"{name!r} cannot be the backup role's name.",
            hint=f"Use 1 to {LONGEST_NAME} bytes, and not the prefix pg_, which is the server's own.",
        )


def missing(name: str, state: RoleState, password: Optional[str]) -> list[Change]:
    """The statements that make the role what it should be; none when it is. Never takes a right away."""
    quoted = _identifier(name)
    changes = []
    if not state.exists:
        changes.append(Change(f"create role {quoted} login replication", "create it with LOGIN and REPLICATION"))
    elif not state.superuser:
        if not state.login:
            changes.append(Change(f"alter role {quoted} login", "give it LOGIN"))
        if not state.replication:
            changes.append(Change(f"alter role {quoted} replication", "give it REPLICATION"))
    if not state.superuser:
        for group in MEMBER_OF:
            if group not in state.member_of:
                changes.append(Change(f"grant {group} to {quoted}", f"make it a member of {group}"))
        for function in MAY_CALL:
            if function not in state.may_call and function in state.grantable:
                statement = f"grant execute on function pg_catalog.{function} to {quoted}"
                changes.append(Change(statement, f"let it call {function}"))
    if password and _password_must_be_set(state, password):
        statement = f"alter role {quoted} password {_literal(make_verifier(password))}"
        changes.append(Change(statement, "set its password"))
    return changes


def warnings(name: str, state: RoleState, password: Optional[str]) -> list[str]:
    found = []
    if state.superuser:
        found.append(f"Role {name!r} is a superuser, which is more than a backup needs.")
    withheld = [name for name in MAY_CALL if name not in state.may_call | state.grantable]
    if withheld and not state.superuser:
        found.append(
            f"Role {name!r} may not call {' and '.join(withheld)}, and that could not be granted: a superuser can. "
            "Without it archiving is proven only by the backup's own WAL, and the role can make no restore points."
        )
    if password and state.exists and not state.verifier_visible:
        found.append(
            f"Whether the password of role {name!r} is the wanted one could not be told, and it was left alone: "
            "only a superuser may see it. To change it, run ALTER ROLE ... PASSWORD."
        )
    return found


def hba_lines(name: str) -> list[str]:
    """Lines for pg_hba.conf by which the role gets in over the loopback address with its password."""
    quoted = '"' + name.replace('"', '""') + '"'
    return [
        f"host  {database:<11}  {quoted}  {address:<12}  scram-sha-256"
        for database in ("all", "replication")
        for address in ("127.0.0.1/32", "::1/128")
    ]


def _password_must_be_set(state: RoleState, password: str) -> bool:
    if not state.exists:
        return True
    if not state.verifier_visible:
        return False
    return state.verifier is None or not belongs_to(state.verifier, password)


def _ask(session: Connection, name: str) -> tuple[RoleState, Optional[str], bool]:
    version_num = int(session.value("show server_version_num"))
    if version_num < OLDEST_VERSION_NUM:
        raise Refused(
            f"PostgreSQL {version_num // 10000} has no role pg_read_all_data.", hint="Use PostgreSQL 14 or later."
        )
    hba = session.rows("select setting from pg_settings where name = 'hba_file'")
    visible = bool(session.value("select has_column_privilege('pg_authid', 'rolpassword', 'select')"))
    rows = session.rows(
        "select rolcanlogin, rolreplication, rolsuper, array(select b.rolname::text from pg_auth_members m "
        "join pg_roles b on b.oid = m.roleid where m.member = r.oid) as member_of from pg_roles r where rolname = %s",
        (name,),
    )
    in_recovery = bool(session.value("select pg_is_in_recovery()"))
    hba_file = str(hba[0]["setting"]) if hba else None
    grantable = frozenset(name for name in MAY_CALL if session.value(_MAY_GRANT, (f"pg_catalog.{name}",)))
    if not rows:
        return RoleState(verifier_visible=visible, grantable=grantable), hba_file, in_recovery
    verifier = session.value("select rolpassword from pg_authid where rolname = %s", (name,)) if visible else None
    callable_now = [item for item in MAY_CALL if session.value(_MAY_CALL, (name, f"pg_catalog.{item}"))]
    state = _state(rows, verifier, visible)
    return replace(state, may_call=frozenset(callable_now), grantable=grantable), hba_file, in_recovery


def _state(rows: Sequence[dict[str, Any]], verifier: Optional[str], visible: bool) -> RoleState:
    row = rows[0]
    return RoleState(
        exists=True,
        login=row["rolcanlogin"],
        replication=row["rolreplication"],
        superuser=row["rolsuper"],
        member_of=frozenset(row["member_of"]),
        verifier=verifier,
        verifier_visible=visible,
    )


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
