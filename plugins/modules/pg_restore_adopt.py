#!/usr/bin/python
# Copyright (c) 2026, the dbops.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_restore_adopt
short_description: Turn a side instance of a recovery into a cluster
version_added: 1.0.0
description:
  - Lifts the isolation of a server that M(dbops.postgres.pg_restore) recovered beside its cluster, has it archive as
    O(cluster), and starts it. It lies in O(data_directory), and runs.
  - As the cluster that it was recovered from it takes that one's place, on its new timeline. The old server must be
    stopped, and nobody else may have archived that timeline.
  - As another cluster it is one of its own, with settings file, archive and state of that name. The original goes on.
  - Archiving is set up before the isolation is lifted, so no segment goes astray. Nothing is adopted whose
    configuration is not in its data directory.
options:
  port:
    description: Its port, written where C(ALTER SYSTEM) writes. By default what its configuration says.
    type: int
  start:
    description: Whether to start it with C(pg_ctl). Otherwise it is left stopped, for a service manager to start.
    type: bool
    default: true
  start_options:
    description: More options for the server, as C(pg_ctl -o) takes them.
    type: str
    default: ''
  take_over:
    description: Whether to replace the C(archive_command) of another tool in its configuration.
    type: bool
    default: false
  lib_path:
    description: Where the role P(dbops.postgres.agent#role) has put the engine, which the archiving scripts start.
    type: path
    default: /usr/local/lib/dbops
  python:
    description: The interpreter that those scripts start, by its absolute path.
    type: path
    default: /usr/bin/python3
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
    details: What was adopted is no side instance any more, so a second run fails.
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.cluster
  - dbops.postgres.cluster.host
  - dbops.postgres.connection
notes:
  - O(login_user) must be a superuser, to see subscriptions. It gets in over the side instance's own socket.
seealso:
  - module: dbops.postgres.pg_restore
  - module: dbops.postgres.wal_archive
author:
  - The dbops.postgres contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Let the recovered instance be a cluster of its own, beside the original
  dbops.postgres.pg_restore_adopt:
    cluster: shop-copy # /etc/dbops/shop-copy.json names the side instance's directory
    login_user: postgres
    port: 5999
    confirm: shop-copy
"""

RETURN = r"""
msg:
  description: What was done, or would be, in one sentence.
  returned: success
  type: str
  sample: >-
    The side instance in /srv/side/data is now cluster 'shop-copy', which archives on timeline 2. Next: a full backup of
    it.
adopt:
  description: What became of it.
  returned: success
  type: dict
  contains:
    data_directory:
      description: Where it lies.
      returned: success
      type: str
      sample: /srv/side/data
    original:
      description: The cluster that it was recovered from.
      returned: success
      type: str
      sample: shop
    new_identity:
      description: Whether it is another cluster than that.
      returned: success
      type: bool
      sample: true
    system_identifier:
      description: The system identifier, which both have.
      returned: success
      type: str
      sample: '7445123412341234123'
    timeline:
      description: The timeline that it writes.
      returned: success
      type: int
      sample: 2
    runs_with:
      description: Settings that come back with the end of the isolation, as its files have them.
      returned: success
      type: dict
      sample: {archive_mode: 'on', port: '5999'}
    written:
      description: Files that were written, or would be.
      returned: success
      type: list
      elements: str
      sample: [/srv/side/data/postgresql.auto.conf]
    started:
      description: Whether it was started, and answered.
      returned: success
      type: bool
      sample: true
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: Stop it first.
error_code:
  description: The kind of failure.
  returned: failure
  type: str
  sample: refused
"""

from ..module_utils._module import CONNECTION, HOST, DbopsModule
from ..module_utils.dbops.restore import adopt
from ..module_utils.dbops.wal import setup


def main() -> None:
    module = DbopsModule(
        {
            **CONNECTION,
            **HOST,
            "port": {"type": "int"},
            "start": {"type": "bool", "default": True},
            "start_options": {"type": "str", "default": ""},
            "take_over": {"type": "bool", "default": False},
            "lib_path": {"type": "path", "default": "/usr/local/lib/dbops"},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "confirm": {"type": "str"},
        }
    )
    asked = module.params
    with module.session() as (settings, _progress):
        archiving = setup.Request(
            take_over=asked["take_over"], python=asked["python"], lib_path=asked["lib_path"], config=asked["config"]
        )
        request = adopt.Request(asked["port"], asked["start"], asked["start_options"], archiving)
        module.require_confirmation(f"Adopting lets the world reach {settings.host.data_directory}")
        plan = adopt.plan(settings, request)
        result = plan.preview() if module.check_mode else adopt.run(plan)
        before = {plan.data_directory: f"a side instance of {plan.original}"}
        module.exit(result, before=before, after={plan.data_directory: dict(plan.runs_with)})


if __name__ == "__main__":
    main()
