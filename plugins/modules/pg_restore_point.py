#!/usr/bin/python
# Copyright (c) 2026, the dbops.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_restore_point
short_description: Name this moment of a PostgreSQL cluster, to restore to it
version_added: 1.0.0
description:
  - Makes a named restore point, has the WAL segment that it is in finished, and returns only when the point is found
    again by its name in the archived WAL of every required repository.
  - O(dbops.postgres.pg_restore#module:recovery.name) goes back there. Make one before each risky change.
  - The role needs EXECUTE on C(pg_create_restore_point(text)) and C(pg_switch_wal()), which
    M(dbops.postgres.pg_backup_role) gives the backup role.
options:
  name:
    description:
      - What the moment is called, 1 to 63 bytes.
      - A name is used once. One that was made before is refused, since a recovery would stop at the first of that name.
    type: str
    required: true
  wait:
    description: How many seconds its WAL may take to be archived.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
    details: Name, rights and archiving are checked; that the archive takes the WAL, only a real run shows.
  diff_mode:
    support: full
  idempotent:
    support: none
    details: Each point is a moment of its own, so the same name again is refused.
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.cluster
  - dbops.postgres.cluster.host
  - dbops.postgres.connection
seealso:
  - module: dbops.postgres.pg_restore
  - module: dbops.postgres.wal_archive
author:
  - The dbops.postgres contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Name the moment before the migration
  dbops.postgres.pg_restore_point:
    cluster: main
    name: before-migration
"""

RETURN = r"""
msg:
  description: What was done, or would be, in one sentence.
  returned: success
  type: str
  sample: Restore point 'before-migration' is at 0/E040430 on timeline 1, archived.
restore_point:
  description: The point.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      returned: success
      type: str
      sample: before-migration
    system_identifier:
      description: The system that it is of.
      returned: success
      type: str
      sample: '7445123412341234123'
    repositories:
      description: The repositories in which it was found again; in check mode those where it would be looked for.
      returned: success
      type: list
      elements: str
      sample: [default]
    lsn:
      description: Where it is in the WAL.
      returned: success, outside check mode
      type: str
      sample: 0/E040430
    timeline:
      description: The timeline.
      returned: success, outside check mode
      type: int
      sample: 1
    segment:
      description: The segment.
      returned: success, outside check mode
      type: str
      sample: 00000001000000000000000E
    time:
      description: When it was made.
      returned: success, outside check mode
      type: str
      sample: '2026-11-22T13:05:00.120Z'
    by:
      description: The operating system's user who made it.
      returned: success, outside check mode
      type: str
      sample: root
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: Set up archiving first.
error_code:
  description: The kind of failure.
  returned: failure
  type: str
  sample: refused
"""

import getpass

from ..module_utils._module import CONNECTION, HOST, DbopsModule
from ..module_utils.dbops.wal import restore_point


def main() -> None:
    module = DbopsModule(
        {
            **CONNECTION,
            **HOST,
            "name": {"type": "str", "required": True},
            "wait": {"type": "int", "default": 60},
        }
    )
    with module.session() as (settings, _progress):
        name, wait_s = module.params["name"], module.params["wait"]
        if module.check_mode:
            result = restore_point.plan(settings, name).preview()
        else:
            result = restore_point.create(settings, name, wait_s=wait_s, by=getpass.getuser())
        module.exit(result, before={"restore_point": None}, after={"restore_point": name})


if __name__ == "__main__":
    main()
