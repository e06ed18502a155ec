#!/usr/bin/python
# Copyright (c) 2026, the dbops.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_hold
short_description: Keep a PostgreSQL backup, whatever the retention rules say
version_added: 1.0.0
description:
  - Holds a backup, and with it all that it rests on and the WAL that it needs, until it is released.
  - In a cluster with several repositories it is held, or released, in each one that has it.
author:
  - The dbops.postgres contributors (!UNKNOWN)
options:
  label:
    description: The backup.
    type: str
    required: true
  state:
    description: V(present) holds it, V(absent) lets the rules decide about it again.
    type: str
    choices: [present, absent]
    default: present
  reason:
    description: Why. Whoever finds the disk full will want to know. A backup that is held already keeps its reason.
    type: str
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.cluster
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
notes:
  - A hold keeps expiry from deleting. What keeps everybody from deleting is the lock of a bucket, see the guide
    C(docs/repositories.md).
seealso:
  - module: dbops.postgres.pg_backup_expire
  - module: dbops.postgres.pg_backup_info
"""

EXAMPLES = r"""
- name: Keep the last backup before the migration
  dbops.postgres.pg_backup_hold:
    cluster: main
    label: 20261122T130500Z-full
    reason: before the migration to 18

- name: Let it go
  dbops.postgres.pg_backup_hold:
    cluster: main
    label: 20261122T130500Z-full
    state: absent
"""

RETURN = r"""
msg:
  description: What was done, or would be, in one sentence.
  returned: always
  type: str
  sample: 20261122T130500Z-full is held.
hold:
  description: How the backup stands now, in check mode how it stood.
  returned: success
  type: dict
  contains:
    label:
      description: The backup.
      returned: success
      type: str
      sample: 20261122T130500Z-full
    held:
      description: Whether it is held.
      returned: success
      type: bool
      sample: true
    reason:
      description: Why it is, or was.
      returned: success
      type: str
      sample: before the migration to 18
    repository:
      description: The first repository that has it.
      returned: success
      type: str
      sample: default
    repositories:
      description: All repositories that have it.
      returned: success
      type: list
      elements: str
      sample: [default]
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: "Newest ones: 20261122T130500Z-full. See dbops info."
error_code:
  description: The kind of error, which stays the same between versions while words may change.
  returned: failure
  type: str
  sample: not_found
"""

from ..module_utils._module import DbopsModule
from ..module_utils.dbops.pg.osuser import current_identity
from ..module_utils.dbops.repo import holds


def main() -> None:
    module = DbopsModule(
        {
            "label": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "reason": {"type": "str"},
        },
        required_if=[("state", "present", ["reason"])],
    )
    wanted = module.params["state"] == "present"
    options = {"repository": module.params["repository"], "dry_run": module.check_mode}
    with module.session() as (settings, _progress):
        if wanted:
            options.update(reason=module.params["reason"], by=current_identity().name)
            result = holds.hold(settings, module.params["label"], **options)
        else:
            result = holds.release(settings, module.params["label"], **options)
    held_before = wanted != result["changed"] if result["changed"] else wanted
    module.exit(result, before={"held": held_before}, after={"held": wanted})


if __name__ == "__main__":
    main()
