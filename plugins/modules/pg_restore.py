#!/usr/bin/python
# Copyright (c) 2026, the dbops.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_restore
short_description: Restore a PostgreSQL cluster, or some of its databases, from a backup
version_added: 1.0.0
description:
  - A physical restore unpacks a whole cluster into a data directory, incremental backups combined with what they rest
    on.
  - With O(recovery), archived WAL is replayed on it up to a point in time. The backup to start from is chosen, a point
    that the archive cannot reach is refused before anything is touched, with the nearest one that it can, and replay is
    followed to its real end.
  - A logical restore loads databases of a dump into a running server, under names of your choice.
  - Nothing is removed. A data directory or a database that is in the way is refused, or moved aside when that is
    asked for.
  - Until the very end everything happens beside the old data, so a restore that fails or is killed leaves it as it was.
author:
  - The dbops.postgres contributors (!UNKNOWN)
options:
  method:
    description: Whether to restore a physical backup or a logical one.
    type: str
    choices: [physical, logical]
    default: physical
  label:
    description: The backup to restore, by its label. By default the newest of the O(method).
    type: str
  before:
    description:
      - Restore the newest backup that was finished at this time, such as V(2026-11-22T13:05:00Z).
      - A time needs its zone, Z or an offset.
    type: str
  validate_only:
    description:
      - Restore nothing. Read every byte of the backup, and of those that it rests on, and compare it with what was
        stored.
      - This proves that the bytes are whole. That PostgreSQL can use them, only a restore proves.
    type: bool
    default: false
  plan:
    description: Whether to check everything, return what would be done, and do nothing, as check mode does.
    type: bool
    default: false
  confirm:
    description:
      - The name of the cluster, once more.
      - Needed outside check mode whenever old data may be moved aside, with O(in_place=true) or O(existing=replace).
    type: str
  target:
    description:
      - The data directory to restore into, for O(method=physical). It must be missing or empty, unless O(in_place) is
        set.
      - By default that of the cluster, as the settings file or O(data_directory) names it.
    type: path
  in_place:
    description: Whether to move a cluster that is in O(target) aside, to C(<target>.before-<UTC>).
    type: bool
    default: false
  stop:
    description: Whether to stop a server that runs in O(target). Without it, a running server is a reason to refuse.
    type: bool
    default: false
  tablespace_map:
    description: Directories of tablespaces, by the tablespace's name or oid. By default each goes to where it was.
    type: dict
    default: {}
  tablespace_root:
    description: A directory below which all tablespaces go that O(tablespace_map) does not name.
    type: path
  verify:
    description: Whether to check the restored files with C(pg_verifybackup). A chain of incremental backups always is.
    type: bool
    default: false
  start:
    description:
      - Whether to start the restored server with C(pg_ctl), and ask it whether it is the cluster that it should be.
      - Where a service manager runs the server, start it by that one instead.
    type: bool
    default: false
  start_options:
    description:
      - Options for the server that O(start) or a recovery starts, as C(pg_ctl -o) takes them.
      - Where the configuration lay outside the data directory, C(-c config_file=) is added, unless it is among them.
    type: str
    default: ''
  config_directory:
    description:
      - A directory to put configuration files into that lay outside the data directory. By default they are left
        out.
    type: path
  recovery:
    description:
      - A point to recover to with archived WAL, for O(method=physical). Without it the backup comes back as it was.
      - Give one of O(recovery.time), O(recovery.lsn), O(recovery.xid), O(recovery.name), O(recovery.immediate) and
        O(recovery.latest).
      - Afterwards the server is stopped, unless O(start) or O(side) is set, or O(recovery.action) leaves it waiting.
    type: dict
    suboptions:
      time:
        description: The last commit up to this time, which needs its zone, such as V(2026-11-22T13:05:00Z).
        type: str
      lsn:
        description: A position in the WAL, such as V(16/B374D848).
        type: str
      xid:
        description: The end of the transaction of this number.
        type: str
      name:
        description: A restore point, as M(dbops.postgres.pg_restore_point) makes them.
        type: str
      immediate:
        description: As soon as the backup is consistent.
        type: bool
        default: false
      latest:
        description: The end of everything that is archived.
        type: bool
        default: false
      inclusive:
        description: Whether a time, LSN or transaction that is met exactly belongs to what is replayed.
        type: bool
        default: true
      timeline:
        description: V(latest), V(current), which is the backup's own, or a number.
        type: str
        default: latest
      action:
        description:
          - What the server does at the target.
          - V(pause) leaves it readable and not promoted, V(shutdown) stops it there.
        type: str
        choices: [promote, pause, shutdown]
        default: promote
  side:
    description:
      - Whether to recover into a server of its own beside the cluster, in an empty O(target). It is started.
      - It is cut off from the world, also when somebody starts it by hand. It archives nothing, listens on one private
        socket, follows and subscribes to nothing, and loads no libraries.
    type: bool
    default: false
  port:
    description: The port of the O(side) instance. By default the cluster's.
    type: int
  socket_directory:
    description: The directory of the O(side) instance's socket. By default one in its data directory.
    type: path
  lib_path:
    description:
      - Where the role P(dbops.postgres.agent#role) has put the engine. A O(recovery) takes a copy of it along, for the
        server's C(restore_command).
    type: path
    default: /usr/local/lib/dbops
  file:
    description:
      - A dump made by anybody, instead of a backup in the repository, for O(method=logical).
      - C(pg_dump)'s custom format, or plain SQL, which may be compressed with gzip or zstd. It lies on the host.
    type: path
  databases:
    description:
      - Which databases to restore, and under which names, for O(method=logical).
      - Each key is a database of the dump, its value the name that it gets, by default its own.
      - Without it all are restored under their own names. With O(file) there is exactly one.
    type: dict
    default: {}
  existing:
    description:
      - What to do with a database that has the wanted name already.
      - V(replace) makes a backup of it first, and then renames it; it is never dropped.
    type: str
    choices: [refuse, replace]
    default: refuse
  disconnect:
    description: Whether to end the sessions in a database that is replaced. Without it, they are a reason to refuse.
    type: bool
    default: false
  jobs:
    description: How many tables to load at a time, for O(method=logical).
    type: int
    default: 1
  globals:
    description:
      - Whether to create roles and tablespaces of the backup that are missing. Those that exist are left as they
        are.
    type: bool
    default: false
  no_owner:
    description: Whether to leave out who owns what; everything then belongs to the role that restores.
    type: bool
    default: false
  no_privileges:
    description: Whether to leave out grants.
    type: bool
    default: false
  no_tablespaces:
    description: Whether to put everything into the default tablespace.
    type: bool
    default: false
  allow_errors:
    description: Whether to go on after statements that fail, and accept other numbers of rows; both become warnings.
    type: bool
    default: false
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.attributes.progress
  - dbops.postgres.cluster
  - dbops.postgres.cluster.host
  - dbops.postgres.cluster.encryption
  - dbops.postgres.connection
attributes:
  check_mode:
    support: full
    details: >-
      Everything that can be refused is refused here too. With O(validate_only) it does the same as in a real run.
  diff_mode:
    support: full
    details: Shows what is in the place of the restored data, before and after.
  idempotent:
    support: none
    details: A restore is always a change. A second one is refused, unless it may move the first one's result aside.
seealso:
  - module: dbops.postgres.pg_backup
  - module: dbops.postgres.pg_backup_info
  - module: dbops.postgres.pg_restore_point
  - module: dbops.postgres.pg_restore_rollback
"""

EXAMPLES = r"""
- name: Restore the newest backup into an empty directory
  dbops.postgres.pg_restore:
    cluster: main
    target: /srv/restored

- name: Go back to last night, with the old data directory moved aside
  dbops.postgres.pg_restore:
    cluster: main
    before: '2026-11-22T03:00:00Z'
    in_place: true
    stop: true
    start: true
    confirm: main

- name: Look at the moment before the mistake, beside the running cluster
  dbops.postgres.pg_restore:
    cluster: main
    recovery:
      time: '2026-11-22T13:05:00Z'
    side: true
    target: /srv/side/data
    port: 5999
    socket_directory: /run/side

- name: Ask whether a restore point can be reached, and how long that would take
  dbops.postgres.pg_restore:
    cluster: main
    recovery:
      name: before-migration
    in_place: true
    stop: true
    plan: true

- name: Read a backup to its last byte
  dbops.postgres.pg_restore:
    cluster: main
    label: 20261122T130500Z-full
    validate_only: true

- name: Load yesterday's shop beside today's
  dbops.postgres.pg_restore:
    cluster: main
    method: logical
    databases:
      shop: shop_yesterday
    jobs: 4

- name: Load a dump that somebody sent
  dbops.postgres.pg_restore:
    cluster: main
    method: logical
    file: /srv/incoming/shop.sql.gz
    databases:
      shop: shop_copy
    no_owner: true
"""

RETURN = r"""
msg:
  description: What was done, or would be, in one sentence.
  returned: always
  type: str
  sample: Restored 20261122T130500Z-full into /var/lib/postgresql/18/main.
restore:
  description: A physical restore.
  returned: success, with O(method=physical), unless O(validate_only)
  type: dict
  contains:
    label:
      description: The backup.
      returned: success
      type: str
      sample: 20261122T130500Z-full
    chain:
      description: The backup and those that it rests on, the full one first.
      returned: success
      type: list
      elements: str
      sample: [20261122T130500Z-full]
    repository:
      description: The repository that holds it.
      returned: success
      type: str
      sample: default
    target:
      description: The data directory.
      returned: success
      type: str
      sample: /var/lib/postgresql/18/main
    tablespaces:
      description: The directories of the tablespaces, by oid.
      returned: success
      type: dict
      sample: {'16401': /srv/fast}
    stored_bytes:
      description: The size of the backup, and of those that it rests on, in the repository.
      returned: success
      type: int
      sample: 902341234
    move_aside:
      description: Whether an old data directory would be moved aside.
      returned: in check mode
      type: bool
      sample: true
    needed_bytes:
      description: An estimate of the space that it takes, from above.
      returned: in check mode
      type: int
      sample: 3851236123
    os_user:
      description: Who will own the files.
      returned: in check mode
      type: str
      sample: postgres
    moved_aside:
      description: Where the old data directory is now, or V(null).
      returned: success, outside check mode
      type: str
      sample: /var/lib/postgresql/18/main.before-20261122T140000Z
    moved:
      description: All directories that were moved aside, and where they are now.
      returned: success, outside check mode
      type: dict
      sample: {/var/lib/postgresql/18/main: /var/lib/postgresql/18/main.before-20261122T140000Z}
    restored_bytes:
      description: The size of the restored files.
      returned: success, outside check mode
      type: int
      sample: 3851236123
    phases:
      description: How long each phase took, in seconds.
      returned: success, outside check mode
      type: dict
      sample: {fetch_and_extract_s: 11.2, sync_s: 1.4}
    verified_manifest:
      description: V(true) when every file was compared with the backup's manifest, or V(null) when nobody looked.
      returned: success, outside check mode
      type: bool
      sample: true
    config_directory:
      description: Where configuration files were put, or V(null).
      returned: success, outside check mode
      type: str
      sample: null
    recovery:
      description: The O(recovery), planned or followed to its end, or V(null) for a backup alone.
      returned: success
      type: dict
      contains:
        target:
          description: The point, in words.
          returned: success
          type: str
          sample: time 2026-11-22T13:05:00.000000Z
        target_kind:
          description: Its kind.
          returned: success
          type: str
          sample: time
        target_value:
          description: Its value.
          returned: success
          type: str
          sample: '2026-11-22T13:05:00.000000Z'
        inclusive:
          description: Whether what meets it exactly is replayed.
          returned: success
          type: bool
          sample: true
        action:
          description: What the server does there.
          returned: success
          type: str
          sample: promote
        base:
          description: The backup that replay starts from.
          returned: success
          type: str
          sample: 20261122T120000Z-full
        timeline:
          description: The timeline that replay follows; after it, the one that the server writes.
          returned: success
          type: int
          sample: 1
        start_lsn:
          description: Where replay starts.
          returned: success
          type: str
          sample: 0/3000028
        until_lsn:
          description: Up to where WAL is needed.
          returned: success
          type: str
          sample: 0/7000000
        wal_segments:
          description: How many segments replay reads.
          returned: success
          type: int
          sample: 4
        wal_bytes:
          description: Their size in the repository.
          returned: success
          type: int
          sample: 314572
        expected_last_commit:
          description: When the last commit before the target was, as the WAL says, or V(null) when nobody looked.
          returned: success
          type: str
          sample: '2026-11-22T13:04:58.120381Z'
        estimated_seconds:
          description: A rough guess of how long it takes, from sizes alone.
          returned: success
          type: int
          sample: 40
        mode:
          description: V(side) or V(in_place).
          returned: success
          type: str
          sample: side
        port:
          description: The port of a side instance, or V(null).
          returned: success
          type: int
          sample: 5999
        socket_directory:
          description: Where the socket of a side instance is, or V(null).
          returned: success
          type: str
          sample: /run/side
        state:
          description: V(promoted), V(paused) or V(shutdown).
          returned: success, when it was done
          type: str
          sample: promoted
        target_reached:
          description: Whether this start's log says that replay stopped at the target.
          returned: success, when it was done
          type: bool
          sample: true
        stop_line:
          description: That line of the log; empty for the end of the WAL.
          returned: success, when it was done
          type: str
          sample: recovery stopping before commit of transaction 789, time 2026-11-22 13:05:01.1+00
        replayed_lsn:
          description: The last position replayed, or V(null) when the server was not there to be asked.
          returned: success, when it was done
          type: str
          sample: 0/6F011328
        last_transaction:
          description: When the last transaction ended that was replayed, or V(null).
          returned: success, when it was done
          type: str
          sample: '2026-11-22T13:04:58.120381Z'
        seconds:
          description: How long replay took.
          returned: success, when it was done
          type: float
          sample: 3.8
    started:
      description: Whether the server was started, and answered.
      returned: success, outside check mode
      type: bool
      sample: true
    server_version:
      description: What the started server said it is, or V(null).
      returned: success, outside check mode
      type: str
      sample: '18.1'
validation:
  description: What was read, and found to be what was stored.
  returned: success, with O(validate_only) and O(method=physical)
  type: dict
  contains:
    label:
      description: The backup.
      returned: success
      type: str
      sample: 20261122T130500Z-full
    chain:
      description: The backup and those that it rests on, the full one first.
      returned: success
      type: list
      elements: str
      sample: [20261122T130500Z-full]
    verdict:
      description: V(pass); anything else is a failure of the module.
      returned: success
      type: str
      sample: pass
    stored_bytes:
      description: How much was read.
      returned: success
      type: int
      sample: 902341234
    objects:
      description: Every object with its C(backup), C(name), C(stored_bytes) and C(verdict).
      returned: success
      type: list
      elements: dict
      sample: [{backup: 20261122T130500Z-full, name: base.tar.zst, stored_bytes: 902340000, verdict: pass}]
backup:
  description: The label of the logical backup, or V(null) for a O(file).
  returned: success, with O(method=logical)
  type: str
  sample: 20261122T130500Z-dump
file:
  description: The O(file), or V(null) for a backup.
  returned: success, with O(method=logical)
  type: str
  sample: null
databases:
  description: The databases.
  returned: success, with O(method=logical)
  type: list
  elements: dict
  contains:
    source:
      description: Its name in the dump.
      returned: success
      type: str
      sample: shop
    target:
      description: The name that it gets.
      returned: success
      type: str
      sample: shop_yesterday
    object:
      description: The object or file that it is read from.
      returned: success
      type: str
      sample: shop.dump.zst
    format:
      description: The format of the dump.
      returned: success
      type: str
      sample: custom
    stored_bytes:
      description: The size of the dump.
      returned: success
      type: int
      sample: 90234123
    replaces:
      description: Whether there was a database of this name.
      returned: success
      type: bool
      sample: false
    sessions:
      description: How many sessions that one had.
      returned: success
      type: int
      sample: 0
    moved_aside:
      description: The name that it has now, or V(null).
      returned: success
      type: str
      sample: null
    tables:
      description: How many tables were counted when it was dumped, or V(null).
      returned: success
      type: int
      sample: 12
    rows:
      description: How many rows they had, or V(null).
      returned: success
      type: int
      sample: 123456
    tables_compared:
      description: How many tables were found to have as many rows as when they were dumped, or V(null).
      returned: success, outside check mode, unless O(validate_only)
      type: int
      sample: 12
safety_backup:
  description: The label of the backup that was made of what is replaced, or V(null).
  returned: success, outside check mode, with O(method=logical), unless O(validate_only)
  type: str
  sample: null
globals:
  description: The roles and tablespaces that were created, and those that were there, or V(null) when not asked for.
  returned: success, with O(method=logical)
  type: dict
  sample: {created_roles: [app], created_tablespaces: [], kept: [postgres]}
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: Restore into an empty directory, or in place (the old one is then moved aside, never removed).
error_code:
  description: The kind of error, which stays the same between versions while words may change.
  returned: failure
  type: str
  sample: refused
stderr_tail:
  description: The last words of the program of PostgreSQL's that failed.
  returned: failure of a program
  type: str
  sample: 'pg_verifybackup: error: "base/5/1259" is not present on disk'
"""

from typing import Any, Optional

from ..module_utils._module import CONNECTION, ENCRYPTION, HOST, DbopsModule
from ..module_utils.dbops.errors import BadInput
from ..module_utils.dbops.progress import Progress
from ..module_utils.dbops.restore import logical, physical
from ..module_utils.dbops.restore.target import Target, parse
from ..module_utils.dbops.restore.validate import validate
from ..module_utils.dbops.settings import Settings

WHICH = {
    "label": {"type": "str"},
    "before": {"type": "str"},
}
PHYSICAL = {
    "target": {"type": "path"},
    "in_place": {"type": "bool", "default": False},
    "stop": {"type": "bool", "default": False},
    "tablespace_map": {"type": "dict", "default": {}},
    "tablespace_root": {"type": "path"},
    "verify": {"type": "bool", "default": False},
    "start": {"type": "bool", "default": False},
    "start_options": {"type": "str", "default": ""},
    "config_directory": {"type": "path"},
    "side": {"type": "bool", "default": False},
    "port": {"type": "int"},
    "socket_directory": {"type": "path"},
    "lib_path": {"type": "path", "default": "/usr/local/lib/dbops"},
}
RECOVERY = {
    "time": {"type": "str"},
    "lsn": {"type": "str"},
    "xid": {"type": "str"},
    "name": {"type": "str"},
    "immediate": {"type": "bool", "default": False},
    "latest": {"type": "bool", "default": False},
    "inclusive": {"type": "bool", "default": True},
    "timeline": {"type": "str", "default": "latest"},
    "action": {"type": "str", "choices": ["promote", "pause", "shutdown"], "default": "promote"},
}
LOGICAL = {
    "file": {"type": "path"},
    "databases": {"type": "dict", "default": {}},
    "existing": {"type": "str", "choices": ["refuse", "replace"], "default": "refuse"},
    "disconnect": {"type": "bool", "default": False},
    "jobs": {"type": "int", "default": 1},
    "globals": {"type": "bool", "default": False},
    "no_owner": {"type": "bool", "default": False},
    "no_privileges": {"type": "bool", "default": False},
    "no_tablespaces": {"type": "bool", "default": False},
    "allow_errors": {"type": "bool", "default": False},
}


def main() -> None:
    module = DbopsModule(
        {
            "method": {"type": "str", "choices": ["physical", "logical"], "default": "physical"},
            "validate_only": {"type": "bool", "default": False},
            "plan": {"type": "bool", "default": False},
            "confirm": {"type": "str"},
            "recovery": {"type": "dict", "options": RECOVERY},
            **WHICH,
            **PHYSICAL,
            **LOGICAL,
            **CONNECTION,
            **HOST,
            **ENCRYPTION,
        },
        mutually_exclusive=[("label", "before", "file"), ("in_place", "file")],
    )
    with module.session() as (settings, progress):
        _refuse_contradictions(module)
        difference: tuple[Any, Any] = (None, None)
        if module.params["method"] == "logical":
            result, difference = _logical(module, settings, progress)
        elif module.params["validate_only"]:
            result = validate(settings, progress=progress, **module.given("repository", *WHICH))
        else:
            result, difference = _physical(module, settings, progress)
    if module.params["plan"] and not module.check_mode:
        result, difference = {**result, "changed": False}, (None, None)  # nothing was changed, and nothing will be
    module.exit(result, before=difference[0], after=difference[1])


def _refuse_contradictions(module: DbopsModule) -> None:
    params = module.params
    if params["recovery"] and (params["method"] == "logical" or params["validate_only"]):
        raise BadInput(
            "A recovery replays WAL on a physical backup that is restored.",
            hint="Leave `recovery` out, or restore with method=physical and without validate_only.",
        )


def _physical(module: DbopsModule, settings: Settings, progress: Progress) -> tuple[dict[str, Any], tuple[Any, Any]]:
    if module.params["in_place"] and not module.params["plan"]:
        module.require_confirmation(f"Restoring in place moves the data of {settings.cluster} aside")
    options = module.given("repository", *WHICH, *PHYSICAL)
    options["tablespace_map"] = {str(name): str(path) for name, path in options["tablespace_map"].items()}
    plan = physical.plan(settings, physical.Request(recovery=_target(module.params["recovery"]), **options))
    dry = module.check_mode or module.params["plan"]
    return plan.preview() if dry else physical.run(plan, progress), plan.difference()


def _target(recovery: Optional[dict[str, Any]]) -> Optional[Target]:
    """None when no recovery is asked for: the backup alone."""
    if recovery is None:
        return None
    return parse(recovery, inclusive=recovery["inclusive"], timeline=recovery["timeline"], action=recovery["action"])


def _logical(module: DbopsModule, settings: Settings, progress: Progress) -> tuple[dict[str, Any], tuple[Any, Any]]:
    validate_only = module.params["validate_only"]
    if module.params["existing"] == "replace" and not (validate_only or module.params["plan"]):
        module.require_confirmation(f"Replacing databases of {settings.cluster} moves the old ones aside")
    options = module.given("repository", "validate_only", *WHICH, *LOGICAL)
    options["databases"] = {str(name): str(new or name) for name, new in options["databases"].items()}
    plan = logical.plan(settings, logical.Request(**options))
    # Reading changes nothing, so a dry run does it as well.
    dry = (module.check_mode or module.params["plan"]) and not validate_only
    result = plan.preview() if dry else logical.run(plan, progress)
    return result, (None, None) if validate_only else plan.difference()


if __name__ == "__main__":
    main()
