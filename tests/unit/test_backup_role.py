# SPDX-License-Identifier: GPL-3.0-or-later
"""What the backup role lacks, decided from its state alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg import backup_role
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.backup_role import MAY_CALL, MEMBER_OF, RoleState
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.pg.scram import make_verifier

COMPLETE = RoleState(
    exists=True,
    login=True,
    replication=True,
    member_of=frozenset(MEMBER_OF),
    may_call=frozenset(MAY_CALL),
    verifier_visible=True,
)


def said(state, password=None):
    return [change.say for change in backup_role.missing("dbops", state, password)]


def test_a_complete_role_lacks_nothing():
    assert said(COMPLETE) == []


def test_only_what_is_missing_is_given():
    assert said(replace(COMPLETE, replication=False)) == ["give it REPLICATION"]
    assert said(replace(COMPLETE, login=False)) == ["give it LOGIN"]
    assert said(replace(COMPLETE, member_of=frozenset(MEMBER_OF[1:]))) == [f"make it a member of {MEMBER_OF[0]}"]


def test_a_function_that_cannot_be_granted_is_a_warning_and_no_change_that_never_ends():
    state = replace(COMPLETE, may_call=frozenset())
    assert said(state) == [f"let it call {name}" for name in MAY_CALL]
    state = replace(state, grantable=frozenset())
    assert said(state) == []
    assert "could not be granted" in backup_role.warnings("dbops", state, None)[0]


def test_a_superuser_is_left_as_it_is_and_spoken_of():
    state = RoleState(exists=True, login=True, superuser=True)
    assert said(state) == []
    assert "superuser" in backup_role.warnings("dbops", state, None)[0]


def test_the_password_stands_in_no_statement_and_in_no_word():
    for change in backup_role.missing("dbops", RoleState(), "s3cret-enough"):
        assert "s3cret-enough" not in change.statement + change.say
        assert "SCRAM" not in change.say


def test_the_same_password_changes_nothing_and_another_one_does():
    state = replace(COMPLETE, verifier=make_verifier("right"))
    assert said(state, "right") == []
    assert said(state, "other") == ["set its password"]


def test_a_password_that_cannot_be_compared_is_left_alone_with_a_warning():
    state = replace(COMPLETE, verifier_visible=False)
    assert said(state, "right") == []
    assert "could not be told" in backup_role.warnings("dbops", state, "right")[0]


def test_a_name_with_quotes_stays_one_name():
    first = backup_role.missing('a"b', RoleState(), None)[0]
    assert first.statement == 'create role "a""b" login replication'
    assert '"a""b"' in backup_role.hba_lines('a"b')[0]


@pytest.mark.parametrize("name", ["", "pg_dbops", "x" * 64, "a\0b"])
def test_a_name_that_the_server_would_refuse_or_cut_is_refused_here(name):
    with pytest.raises(BadInput):
        backup_role.check_name(name)
