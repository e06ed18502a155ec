#!/usr/bin/python
# Copyright (c) 2026, the dbops.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_report
short_description: Write down whether PostgreSQL clusters can be recovered, with the evidence
version_added: 1.0.0
description:
  - Looks at a cluster as M(dbops.postgres.pg_backup_health), M(dbops.postgres.pg_backup_info) and
    M(dbops.postgres.pg_backup_expire) do, and returns everything as one report, in a versioned schema.
  - With O(directory), the report is written as one self-contained HTML page, as JSON and as JUnit XML.
  - With O(reports), reports that were made elsewhere are put together instead, for a page about many clusters.
author:
  - The dbops.postgres contributors (!UNKNOWN)
options:
  directory:
    description:
      - Where C(report.html), C(report.json) and C(junit.xml) go, on the host of the task. It is made if missing.
      - Without it nothing is written.
    type: path
  reports:
    description:
      - Reports as RV(report) of other tasks, to be put together. Of one that two hosts saw, the primary's view counts.
      - No cluster is looked at then; O(cluster) only names what the page is about in messages.
    type: list
    elements: dict
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.cluster
  - dbops.postgres.cluster.host
  - dbops.postgres.connection
attributes:
  check_mode:
    support: full
    details: Nothing is written, and all is returned.
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Every report says when it was made.
seealso:
  - module: dbops.postgres.pg_backup_health
  - module: dbops.postgres.pg_backup_info
  - module: dbops.postgres.pg_restore_verify
"""

EXAMPLES = r"""
- name: Write the report of one cluster
  dbops.postgres.pg_report:
    cluster: main
    directory: /var/lib/dbops/main/report

- name: Look at each cluster of the play
  dbops.postgres.pg_report:
    cluster: "{{ dbops_cluster }}"
  register: looked

- name: Put them together on the controller
  dbops.postgres.pg_report:
    cluster: fleet
    reports: "{{ ansible_play_hosts | map('extract', hostvars, ['looked', 'report']) | list }}"
    directory: /srv/reports
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
msg:
  description: Whether it can be recovered, in one sentence.
  returned: always
  type: str
  sample: "main is OK: 15 checks passed."
report:
  description: The report. C(report.json) is exactly this.
  returned: success
  type: dict
  contains:
    schema:
      description: The version of this structure. Within one version keys are only added.
      returned: success
      type: str
      sample: v1
    made:
      description: When it was put together.
      returned: success
      type: str
      sample: '2026-11-25T06:00:00.000Z'
    tool_version:
      description: The version of the collection that made it.
      returned: success
      type: str
      sample: 1.0.0
    clusters:
      description:
        - Each has C(name), C(seen), C(severity), C(sentence), C(postgres_version), C(database_bytes), C(in_recovery),
          C(targets) (what was promised against what is), C(findings) and C(repositories).
        - A repository has C(backups) with their proofs and their fate by retention, C(spans) that can be recovered to,
          C(reaches) (what it takes to recover to an instant of each), C(tail), C(points), C(verifications), and sizes.
      returned: success
      type: list
      elements: dict
      sample: []
files:
  description: The files that were written.
  returned: success
  type: list
  elements: str
  sample:
    - /srv/reports/report.html
    - /srv/reports/report.json
    - /srv/reports/junit.xml
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: Name a directory that is yours.
error_code:
  description: The kind of error, such as V(bad_input) or V(unreachable).
  returned: failure
  type: str
  sample: bad_input
"""

from ..module_utils._module import CONNECTION, HOST, DbopsModule
from ..module_utils.dbops.report.plain import read_report
from ..module_utils.dbops.report.report import report


def main() -> None:
    module = DbopsModule(
        {"directory": {"type": "path"}, "reports": {"type": "list", "elements": "dict"}, **CONNECTION, **HOST}
    )
    given = module.params["reports"]
    with module.session() as (settings, _progress):
        others = [read_report(item, where=f"reports[{number}]") for number, item in enumerate(given or ())]
        looked_at = [settings] if given is None else []
        result = report(looked_at, others=others, directory=module.params["directory"], dry_run=module.check_mode)
    module.exit(result)


if __name__ == "__main__":
    main()
