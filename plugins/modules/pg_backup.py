#!/usr/bin/python
# Copyright (c) 2026, the dbops.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup
short_description: Take a backup of a PostgreSQL cluster
version_added: 1.0.0
description:
  - Copies a running server into a repository, either physically (the whole cluster, with C(pg_basebackup)) or logically
    (chosen databases, with C(pg_dump)).
  - A backup is listed only when it is complete. What a killed run leaves behind is removed by the next one.
  - Until it has been restored once, a backup counts as unverified.
author:
  - The dbops.postgres contributors (!UNKNOWN)
options:
  method:
    description:
      - V(physical) copies the files of the whole cluster. It is restored as a whole, into the same major version.
      - V(logical) dumps databases, each from one snapshot, with the number of rows of every table.
      - By default what the settings file says, else V(physical).
    type: str
    choices: [physical, logical]
  type:
    description:
      - What a physical backup rests on. V(full) needs no other backup.
      - V(incremental) holds what changed since the newest backup, and needs PostgreSQL 17 with C(summarize_wal).
        Where it
        cannot be made, for want of a full one for example, a full one is made, and the result says why.
      - By default what the settings file says, else V(full).
    type: str
    choices: [full, incremental]
  max_age:
    description:
      - A number and a unit, such as V(90s), V(15m), V(24h), V(14d) or V(4w).
      - When a backup that would do is younger, nothing is done and nothing is changed.
      - Without it every run takes a backup.
    type: str
  force:
    description: Take a backup whatever O(max_age) says.
    type: bool
    default: false
  databases:
    description:
      - The databases of a logical backup. By default what the settings file says, else all that accept connections.
    type: list
    elements: str
  dump_format:
    description:
      - The format of a logical backup, see C(pg_dump). V(directory) is the one that O(jobs) makes parallel.
      - By default what the settings file says, else V(custom).
    type: str
    choices: [custom, directory, plain]
  jobs:
    description: How many tables of a database are dumped at a time, in O(dump_format=directory).
    type: int
  include_tables:
    description: Patterns of the only tables to dump, as C(pg_dump --table) takes them.
    type: list
    elements: str
  exclude_tables:
    description: Patterns of tables to leave out, as C(pg_dump --exclude-table) takes them.
    type: list
    elements: str
  globals:
    description:
      - Whether a logical backup holds roles and tablespaces too. By default what the settings file says, else
        V(true).
    type: bool
  max_rate_kib_s:
    description: The most KiB per second that a physical backup reads from the server. By default as fast as it goes.
    type: int
  reason:
    description: Why this backup is taken; it is recorded in the catalog.
    type: str
    default: ''
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.attributes.progress
  - dbops.postgres.cluster
  - dbops.postgres.cluster.host
  - dbops.postgres.cluster.encryption
  - dbops.postgres.cluster.compression
  - dbops.postgres.connection
attributes:
  check_mode:
    support: full
    details: Server and repository are looked at as in a real run, and the sizes are told.
  diff_mode:
    support: full
    details: Shows the labels of the backups in the repository.
  idempotent:
    support: partial
    details: When O(max_age) is set and O(force) is not.
notes:
  - The role needs C(REPLICATION) for a physical backup, and for a logical one C(pg_read_all_data) or the tables'
    ownership.
seealso:
  - module: dbops.postgres.pg_backup_info
  - module: dbops.postgres.pg_backup_expire
  - module: dbops.postgres.pg_restore
"""

EXAMPLES = r"""
- name: Take a full physical backup, as the settings file of the cluster says
  dbops.postgres.pg_backup:
    cluster: main

- name: Make sure that there is a backup of today
  dbops.postgres.pg_backup:
    cluster: main
    type: incremental
    max_age: 24h

- name: Take a backup without a settings file
  dbops.postgres.pg_backup:
    cluster: main
    repositories:
      - path: /srv/backups
    login_unix_socket: /var/run/postgresql
    compression:
      codec: zstd
      level: 3
    reason: before the upgrade to 18

- name: Dump one database, four tables at a time
  dbops.postgres.pg_backup:
    cluster: main
    method: logical
    databases: [shop]
    dump_format: directory
    jobs: 4
    exclude_tables: ['audit.*']
    login_host: db1.example.org
    login_user: backup
    login_password: "{{ vault_backup_password }}"
"""

RETURN = r"""
msg:
  description: What was done, or would be, in one sentence.
  returned: always
  type: str
  sample: "Took 20261122T130500Z-full: physical full backup of main."
backup:
  description: The backup that was taken; V(null) in check mode and when none was needed.
  returned: success
  type: dict
  contains:
    label:
      description: Its name, by which it is restored.
      returned: success
      type: str
      sample: 20261122T130500Z-full
    cluster:
      description: The cluster that it is of.
      returned: success
      type: str
      sample: main
    repository:
      description: The repository that holds it.
      returned: success
      type: str
      sample: default
    method:
      description: V(physical) or V(logical).
      returned: success
      type: str
      sample: physical
    type:
      description: V(full), V(incremental) or V(dump).
      returned: success
      type: str
      sample: full
    parent:
      description: The backup that an incremental one rests on, else V(null).
      returned: success
      type: str
      sample: null
    started:
      description: When it began.
      returned: success
      type: str
      sample: '2026-11-22T13:05:00.123Z'
    stopped:
      description: When it ended. A physical backup restores to this moment, or later with archived WAL.
      returned: success
      type: str
      sample: '2026-11-22T13:05:14.456Z'
    duration_s:
      description: How long it took.
      returned: success
      type: float
      sample: 14.333
    database_bytes:
      description: The size of what was copied, or V(null) where the role may not see it.
      returned: success
      type: int
      sample: 3851236123
    stored_bytes:
      description: The size of the backup in the repository.
      returned: success
      type: int
      sample: 902341234
    codec:
      description: How it is compressed.
      returned: success
      type: str
      sample: zstd
    system_identifier:
      description: The server's system identifier. It has more digits than a JSON number is safe for.
      returned: success
      type: str
      sample: '7441234567890123456'
    postgres_version:
      description: The server's version.
      returned: success
      type: str
      sample: '18.1'
    timeline:
      description: The timeline, or V(null) for a logical backup.
      returned: success
      type: int
      sample: 1
    start_lsn:
      description: Where replay begins, or V(null) for a logical backup.
      returned: success
      type: str
      sample: 0/5000028
    stop_lsn:
      description: Where the backup is consistent, or V(null) for a logical backup.
      returned: success
      type: str
      sample: 0/5000158
    databases:
      description: The databases of a logical backup.
      returned: success
      type: list
      elements: str
      sample: []
    from_standby:
      description: Whether the server was a standby.
      returned: success
      type: bool
      sample: false
    reason:
      description: Why it was taken, in the words of O(reason).
      returned: success
      type: str
      sample: before the upgrade to 18
    verified:
      description: How far it is proven; V(unverified) until it has been restored.
      returned: success
      type: str
      sample: unverified
    verified_at:
      description: When it was proven, or V(null).
      returned: success
      type: str
      sample: null
    held:
      description: The reason of the hold that keeps it from expiring, or V(null).
      returned: success
      type: str
      sample: null
    notes:
      description: What the run had to remark.
      returned: success
      type: list
      elements: str
      sample: []
    repositories:
      description:
        - Every repository it was meant for, with C(name), C(required), C(stored) and C(error). An optional one that
          could not take it has V(false) and the reason, and gets it after a later backup or by C(dbops repo sync).
      returned: success, when a backup was taken
      type: list
      elements: dict
      sample:
        - {name: default, required: true, stored: true, error: null}
plan:
  description: What the module found, and decided.
  returned: in check mode, and when no backup was needed
  type: dict
  contains:
    needed:
      description: Whether a backup is to be taken.
      returned: success
      type: bool
      sample: true
    why:
      description: The reason, or the reason for a full one instead of an incremental.
      returned: success
      type: str
      sample: asked for
    method:
      description: V(physical) or V(logical).
      returned: success
      type: str
      sample: physical
    type:
      description: V(full), V(incremental) or V(dump).
      returned: success
      type: str
      sample: full
    repository:
      description: The repository that it would go to.
      returned: success
      type: str
      sample: default
    repositories:
      description: The names of all repositories that it would go to.
      returned: success
      type: list
      elements: str
      sample: [default]
    parent:
      description: The backup that an incremental one would rest on, else V(null).
      returned: success
      type: str
      sample: null
    databases:
      description: The databases that would be dumped.
      returned: success
      type: list
      elements: str
      sample: []
    newest:
      description: The newest backup that would do instead, or V(null).
      returned: success
      type: str
      sample: 20261121T130500Z-full
    newest_age_s:
      description: Its age, or V(null).
      returned: success
      type: float
      sample: 86400.5
    estimated_bytes:
      description: The size of what would be copied, before compression, or V(null) where the role may not see it.
      returned: success
      type: int
      sample: 3851236123
    free_bytes:
      description: What is free in the repository, or V(null) where nobody can know.
      returned: success
      type: int
      sample: 50000000000
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: Check host, socket directory and port.
error_code:
  description: The kind of error, which stays the same between versions while words may change.
  returned: failure
  type: str
  sample: unreachable
stderr_tail:
  description: The last words of the program of PostgreSQL's that failed.
  returned: failure of a program
  type: str
  sample: 'pg_basebackup: error: could not write to file: No space left on device'
"""

from ..module_utils._module import COMPRESSION, CONNECTION, ENCRYPTION, HOST, DbopsModule
from ..module_utils.dbops.backup import take
from ..module_utils.dbops.schema import duration_s

DEFAULTS = {
    "databases": {"type": "list", "elements": "str"},
    "dump_format": {"type": "str", "choices": ["custom", "directory", "plain"]},
    "jobs": {"type": "int"},
    "include_tables": {"type": "list", "elements": "str"},
    "exclude_tables": {"type": "list", "elements": "str"},
    "globals": {"type": "bool"},
    "max_rate_kib_s": {"type": "int"},
}


def main() -> None:
    module = DbopsModule(
        {
            "method": {"type": "str", "choices": ["physical", "logical"]},
            "type": {"type": "str", "choices": ["full", "incremental"]},
            "max_age": {"type": "str"},
            "force": {"type": "bool", "default": False},
            "reason": {"type": "str", "default": ""},
            **DEFAULTS,
            **COMPRESSION,
            **CONNECTION,
            **HOST,
            **ENCRYPTION,
        }
    )
    with module.session(backup=module.given(*DEFAULTS)) as (settings, progress):
        max_age = module.params["max_age"]
        request = take.Request(
            method=module.params["method"],
            type=module.params["type"],
            max_age_s=None if max_age is None else duration_s(max_age, "max_age"),
            force=module.params["force"],
            repository=module.params["repository"],
            reason=module.params["reason"],
        )
        plan = take.plan(settings, request)
        before = [entry.record.label for entry in plan.repository.catalog().entries]
        result = plan.preview() if module.check_mode else take.run(plan, progress)
    taken = result["backup"]["label"] if result["backup"] else f"a new {plan.method} {plan.type} backup"
    after = [taken, *before] if result["changed"] else before
    module.exit(result, before={"backups": before}, after={"backups": after})


if __name__ == "__main__":
    main()
