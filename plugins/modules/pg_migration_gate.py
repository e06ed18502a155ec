#!/usr/bin/python
# Copyright (c) 2026, the dbops.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_migration_gate
short_description: Fail unless a cluster has a sure way back
version_added: 1.0.0
description:
  - Before something risky, such as migrations, asks whether there is a proven backup that is young enough, and whether
    WAL is archived. What could not be seen keeps the gate shut.
author:
  - The dbops.postgres contributors (!UNKNOWN)
options:
  max_age:
    description: The greatest age of the newest physical backup that a restore has proven, such as V(26h).
    type: str
    default: 26h
  waive:
    description:
      - What is not needed this time. V(verified_backup) is the proven backup, V(archive) that WAL is archived.
      - What is waived is still looked at, and told.
    type: list
    elements: str
    choices: [verified_backup, archive]
    default: []
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.cluster
  - dbops.postgres.cluster.host
  - dbops.postgres.connection
attributes:
  check_mode:
    support: full
    details: It changes nothing anyway.
  diff_mode:
    support: none
  idempotent:
    support: full
seealso:
  - module: dbops.postgres.pg_migrate
  - module: dbops.postgres.pg_backup_health
"""

EXAMPLES = r"""
- name: Go on only with a backup of last night and a living archive
  dbops.postgres.pg_migration_gate:
    cluster: main
    max_age: 26h
"""

RETURN = r"""
msg:
  description: Whether there is a way back, and why not, in one sentence.
  returned: always
  type: str
  sample: main has a way back.
gate:
  description: The gates. It is returned by a task that fails for them, too.
  returned: success, and failure for the gate
  type: dict
  contains:
    open:
      description: Whether each gate is open or waived.
      returned: success
      type: bool
      sample: true
    waived:
      description: The gates that are shut, and were waived.
      returned: success
      type: list
      elements: str
      sample: []
    findings:
      description: For each gate C(check) (its name), C(severity), C(message), C(hint) and more.
      returned: success
      type: list
      elements: dict
      sample: []
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: 'Take one and prove it: dbops backup, then dbops verify.'
error_code:
  description: The kind of error; V(gate_shut) when a gate is why the task fails.
  returned: failure
  type: str
  sample: gate_shut
"""

from ..module_utils._module import CONNECTION, HOST, DbopsModule
from ..module_utils.dbops.health.gate import GATES, gate


def main() -> None:
    module = DbopsModule(
        {
            "max_age": {"type": "str", "default": "26h"},
            "waive": {"type": "list", "elements": "str", "choices": list(GATES), "default": []},
            **CONNECTION,
            **HOST,
        }
    )
    with module.session() as (settings, _progress):
        result = gate(settings, max_age=module.params["max_age"], waive=module.params["waive"])
    hint = result.pop("hint")
    if result["gate"]["open"]:
        module.exit(result)
    module.fail_with(result, hint=hint, error_code="gate_shut")


if __name__ == "__main__":
    main()
