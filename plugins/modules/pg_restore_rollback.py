#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_restore_rollback
short_description: Undo a physical restore in place
version_added: 1.0.0
description:
  - Brings the directories back that M(dbops.postgres.pg_restore) moved aside, tablespaces included.
  - What had been restored is moved to C(<directory>.rolled-back-<UTC>). Nothing is removed.
  - It undoes the newest restore into the data directory. Killed in between, a second run finishes it.
options:
  stop:
    description:
      - Stop a server that runs on the restored directory.
      - Without it a running server is a reason to refuse.
    type: bool
    default: false
  start:
    description: Start the server on the old directory, and check that it answers.
    type: bool
    default: false
  start_options:
    description: More options for the server, as C(pg_ctl -o) takes them.
    type: str
    default: ''
  confirm:
    description: The name of the cluster once more. Outside check mode nothing is done without it.
    type: str
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: none
    details: What was brought back is no longer aside, so there is nothing to repeat and a second run fails.
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.cluster
  - dbops.postgres.cluster.host
  - dbops.postgres.connection
seealso:
  - module: dbops.postgres.pg_restore
author:
  - The dbops.postgres contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Go back to what was there before the restore
  dbops.postgres.pg_restore_rollback:
    cluster: main
    stop: true
    start: true
    confirm: main
"""

RETURN = r"""
rollback:
  description: What was brought back, or in check mode would be.
  returned: success
  type: dict
  sample: {}
  contains:
    target:
      description: The data directory.
      returned: always
      type: str
      sample: /var/lib/postgresql/18/main
    restored:
      description: The backup whose restore was undone.
      returned: always
      type: str
      sample: 20261122T120000Z-full
    moved:
      description:
        - Where the restored directories are now, by their former place.
        - In check mode where the old ones are, that would be brought back.
      returned: always
      type: dict
      sample: {/var/lib/postgresql/18/main: /var/lib/postgresql/18/main.rolled-back-20261122T133000Z}
    started:
      description: Whether the server was started and answered.
      returned: always
      type: bool
      sample: true
msg:
  description: What was done, in one sentence.
  returned: always
  type: str
  sample: Would put /data.before-20261122T130500Z back as /data.
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: Only a restore in place can be rolled back.
error_code:
  description: The kind of failure.
  returned: failure
  type: str
  sample: not_found
"""

from ..module_utils._module import CONNECTION, HOST, DbopsModule
from ..module_utils.dbops.restore import rollback


def main() -> None:
    module = DbopsModule(
        {
            **CONNECTION,
            **HOST,
            "stop": {"type": "bool", "default": False},
            "start": {"type": "bool", "default": False},
            "start_options": {"type": "str", "default": ""},
            "confirm": {"type": "str"},
        }
    )
    with module.session() as (settings, _progress):
        plan = rollback.plan(
            settings,
            stop=module.params["stop"],
            start=module.params["start"],
            start_options=module.params["start_options"],
        )
        module.require_confirmation(f"Rolling back moves {plan.target} away")
        result = plan.preview() if module.check_mode else rollback.run(plan)
        module.exit(result, before={plan.target: plan.restored}, after={plan.target: plan.moved[plan.target]})


if __name__ == "__main__":
    main()
