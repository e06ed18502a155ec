#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_role
short_description: Have a database role that may take backups, and little else
version_added: 1.0.0
description:
  - Makes sure that a role may log in, replicate (which a physical backup is to the server), and read all data, settings
    and statistics (C(pg_read_all_data), C(pg_read_all_settings), C(pg_read_all_stats)).
  - In O(login_db) it may call C(pg_switch_wal()), by which archiving is proven before a backup is copied, and
    C(pg_create_restore_point(text)).
  - What is missing is given, in one transaction. Nothing is ever taken away, and a superuser is left as it is.
  - C(pg_hba.conf) is not touched; RV(hba_lines) are lines by which the role gets in.
options:
  name:
    description: The role.
    type: str
    default: dbops
  password:
    description:
      - Its password. The server gets a SCRAM verifier made on this side, so the password stands in no log.
      - A password that is already this one is left as it is, so a second run changes nothing. Only a superuser may
        compare them; to anybody else an existing password is left alone, with a warning.
    type: str
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.cluster
  - dbops.postgres.cluster.host
  - dbops.postgres.connection
notes:
  - O(login_user) is who makes the role, usually a superuser. It is not the role itself.
seealso:
  - module: dbops.postgres.pg_backup
author:
  - The dbops.postgres contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Make the role that takes the backups
  dbops.postgres.pg_backup_role:
    cluster: main
    password: "{{ vault_dbops_password }}"
    login_user: postgres
    login_unix_socket: /run/postgresql
"""

RETURN = r"""
role:
  description: The role's name.
  returned: success
  type: str
  sample: dbops
changes:
  description: What was given to it, or in check mode would be.
  returned: success
  type: list
  elements: str
  sample: [give it REPLICATION]
hba_file:
  description: The server's C(pg_hba.conf), or null when the asking role may not know.
  returned: success
  type: str
  sample: /etc/postgresql/18/main/pg_hba.conf
hba_lines:
  description: Lines for it by which the role gets in over the loopback address with its password.
  returned: success
  type: list
  elements: str
  sample: ['host  all          "dbops"  127.0.0.1/32  scram-sha-256']
msg:
  description: What was done, in one sentence.
  returned: always
  type: str
  sample: "Role 'dbops': give it REPLICATION."
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: Run it on the primary; a standby gets its roles from there.
error_code:
  description: The kind of failure.
  returned: failure
  type: str
  sample: refused
"""

from ..module_utils._module import CONNECTION, HOST, DbopsModule
from ..module_utils.dbops.pg import backup_role


def main() -> None:
    module = DbopsModule(
        {
            **CONNECTION,
            **HOST,
            "name": {"type": "str", "default": "dbops"},
            "password": {"type": "str", "no_log": True},
        }
    )
    with module.session() as (settings, _progress):
        plan = backup_role.plan(
            settings.connection, settings.host, name=module.params["name"], password=module.params["password"]
        )
        result = plan.preview() if module.check_mode else backup_role.run(plan)
        module.exit(result, before={"missing": result["changes"]}, after={"missing": []})


if __name__ == "__main__":
    main()
