#!/usr/bin/python
# Copyright (c) 2026, the dbops.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_migrate
short_description: Bring a PostgreSQL database to a version of its migrations
version_added: 1.0.0
description:
  - Runs golang-migrate's files with golang-migrate's state table and advisory locks, so that either tool can go on
    where the other one stopped.
  - Every file is read and checked before the first one is sent. A file that is one transaction and gives up on a lock
    is sent again.
  - A state that is dirty is never guessed at; C(dbops migrate doctor) on the host says what is true, and so does
    O(repair).
author:
  - The dbops.postgres contributors (!UNKNOWN)
options:
  version:
    description:
      - The version to reach, by applying files or by going back. V(latest) applies all that are pending, V(0) goes
        back all the way.
    type: str
    default: latest
  table:
    description: The state table. By default V(schema_migrations).
    type: str
  wait:
    description: How many seconds to wait for another run to finish. The engine's own default is V(15).
    type: int
  lock_timeout:
    description: How many milliseconds one statement may wait for a lock. The engine's own default is V(2000).
    type: int
  out_of_order:
    description: Apply files that are numbered below the database's version and were never applied.
    type: bool
    default: false
  accept_edited:
    description: Go on though a file was edited after it was applied.
    type: bool
    default: false
  repair:
    description:
      - Whether a state that is dirty is diagnosed first, and set right where the diagnosis is sure.
      - Where it is not, the task fails and says what differs.
    type: bool
    default: false
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.cluster
  - dbops.postgres.cluster.host
  - dbops.postgres.connection
  - dbops.postgres.migrations
  - dbops.postgres.migrations.database
attributes:
  check_mode:
    support: full
    details: Lists the files that would run, having read and checked them all.
  diff_mode:
    support: full
    details: Shows the objects of the schema that changed; in check mode the version alone.
  idempotent:
    support: full
seealso:
  - module: dbops.postgres.pg_backup
"""

EXAMPLES = r"""
- name: Apply what is pending
  dbops.postgres.pg_migrate:
    cluster: main
    database: ridehailing
    path: /srv/ridehailing/migrations

- name: Go back to version 31
  dbops.postgres.pg_migrate:
    cluster: main
    database: ridehailing
    path: /srv/ridehailing/migrations
    version: 31
"""

RETURN = r"""
msg:
  description: What was done, or would be, in one sentence.
  returned: always
  type: str
  sample: Ran 3 of ridehailing's migrations, from 31 to 34.
migrations:
  description: The files and the states.
  returned: success
  type: dict
  contains:
    database:
      description: The database.
      returned: success
      type: str
      sample: ridehailing
    directory:
      description: The directory of the files.
      returned: success
      type: str
      sample: /srv/ridehailing/migrations
    before:
      description: The state at first, with C(version), V(null) for nothing, and C(dirty).
      returned: success
      type: dict
      sample: {version: 31, dirty: false}
    after:
      description: The state at the end.
      returned: success
      type: dict
      sample: {version: 34, dirty: false}
    steps:
      description: The files in their order, each with C(version), C(direction) and C(file).
      returned: success
      type: list
      elements: dict
      sample: [{version: 34, direction: up, file: 000034_index_payments_processed.up.sql}]
    applied:
      description: What was run, each with C(duration_s), C(wal_bytes), C(attempts) and C(notices) besides.
      returned: success
      type: list
      elements: dict
      sample: []
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: dbops migrate doctor says what is true, and repairs it.
error_code:
  description: The kind of error, which stays the same between versions while words may change.
  returned: failure
  type: str
  sample: migration_failed
"""

from ..module_utils._module import CONNECTION, HOST, DbopsModule
from ..module_utils.dbops.errors import BadInput
from ..module_utils.dbops.migrate import doctor, run
from ..module_utils.dbops.migrate.plan import Request

SPEC = {
    "version": {"type": "str", "default": "latest"},
    "path": {"type": "path"},
    "database": {"type": "str"},
    "table": {"type": "str"},
    "wait": {"type": "int"},
    "lock_timeout": {"type": "int"},
    "out_of_order": {"type": "bool", "default": False},
    "accept_edited": {"type": "bool", "default": False},
    "repair": {"type": "bool", "default": False},
}
SECTION = {
    "path": "path",
    "database": "database",
    "table": "table",
    "wait": "wait_s",
    "lock_timeout": "lock_timeout_ms",
}


def request_of(params) -> Request:
    how = {name: params[name] for name in ("out_of_order", "accept_edited")}
    if params["version"] == "latest":
        return Request("up", **how)
    if not params["version"].isdigit():
        raise BadInput(f"{params['version']!r} is no version.", hint="Give a migration's number, or latest.")
    number = int(params["version"])
    return Request("goto", version=number or -1, **how)


def main() -> None:
    module = DbopsModule({**SPEC, **CONNECTION, **HOST})
    section = {SECTION[name]: value for name, value in module.given(*SECTION).items()}
    with module.session(migrations=section) as (settings, progress):
        request = request_of(module.params)
        if module.params["repair"] and not module.check_mode:
            doctor.repair(settings, progress)
        result = run.preview(settings, request) if module.check_mode else run.run(settings, request, progress)
    found = result["migrations"]
    before = {"version": found["before"]["version"], "schema": found.pop("schema_before", [])}
    after = {"version": found["after"]["version"], "schema": found.pop("schema_after", [])}
    module.exit(result, before=before, after=after)


if __name__ == "__main__":
    main()
