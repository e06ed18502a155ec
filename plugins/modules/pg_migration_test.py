#!/usr/bin/python
# Copyright (c) 2026, the dbops.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_migration_test
short_description: Rehearse migrations on databases that are made for it
version_added: 1.0.0
description:
  - Runs every file up, down and up again, in each order that production may meet, on copies of a database that is made
    for it and dropped afterwards. The database of the cluster is never touched.
  - Compares the catalog after each down with the one before its up, after each second up with the first, after all
    downs with nothing, and file by file with all in one session. With O(data), rows or values that get lost fail.
  - Tells for each statement its locks on tables that were there before, and which of them it rewrites or scans.
author:
  - The dbops.postgres contributors (!UNKNOWN)
options:
  data:
    description: A directory of files C(NNNNNN_name.sql) on the host, with rows to add after the up of that version.
    type: path
  jobs:
    description: How many databases are worked on at a time. With V(0), one more than there are CPUs.
    type: int
    default: 0
  only:
    description: Go down and up again at this version alone.
    type: int
  since:
    description: Go down and up again at the versions whose files differ from this commit.
    type: str
  on_server:
    description:
      - Whether to work in databases of its own on the configured server, which needs the right to create them.
      - By default on a throwaway server that is made on the host, of the newest installed version or of O(bin_dir).
    type: bool
    default: false
  clean:
    description: Whether to drop the databases that killed rehearsals left on that server first.
    type: bool
    default: false
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.cluster
  - dbops.postgres.cluster.host
  - dbops.postgres.connection
  - dbops.postgres.migrations
  - dbops.postgres.migrations.budgets
  - dbops.postgres.migrations.findings
attributes:
  check_mode:
    support: full
    details: Reads and checks every file, and runs none.
  diff_mode:
    support: none
  idempotent:
    support: full
seealso:
  - module: dbops.postgres.pg_migrate
  - module: dbops.postgres.pg_migration_lint
  - module: dbops.postgres.pg_migration_rehearse
"""

EXAMPLES = r"""
- name: Rehearse the migrations with rows in place
  dbops.postgres.pg_migration_test:
    cluster: main
    path: /srv/ridehailing/migrations
    data: /srv/ridehailing/rehearsal
    max_exclusive: 1
    reports:
      junit: /tmp/migrations.xml
"""

RETURN = r"""
msg:
  description: What was found, in one sentence.
  returned: always
  type: str
  sample: "The rehearsal of 34 versions passed in 7.1 s: 0 errors, 0 warnings."
rehearsal:
  description: Everything that was found. It is returned by a task that fails for it, too.
  returned: success, and failure for what was found
  type: dict
  contains:
    passed:
      description: Whether there is no error among the findings.
      returned: success
      type: bool
      sample: true
    directory:
      description: The directory of the files.
      returned: success
      type: str
      sample: /srv/ridehailing/migrations
    postgres:
      description: The major version that it ran on, V(null) in check mode.
      returned: success
      type: int
      sample: 18
    seconds:
      description: How long it took.
      returned: success
      type: float
      sample: 7.1
    jobs:
      description: How many databases were worked on at a time.
      returned: success
      type: int
      sample: 2
    rows:
      description: How many rows were carried through.
      returned: success
      type: int
      sample: 541
    versions:
      description:
        - Each version with C(name), C(up_s), C(down_s), C(down) and C(again) (V(equal), V(equal but for column order),
          V(different), V(failed), or V(null) for not tried), C(rows) (V(kept) or V(lost)), and C(statements).
        - In check mode with C(name), and C(chosen) for whether it would go down and up again.
      returned: success
      type: list
      elements: dict
      sample: []
    findings:
      description: The findings with C(check), C(severity), C(message), C(version), C(file), C(line) and C(details).
      returned: success
      type: list
      elements: dict
      sample: []
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: Mend the files that the findings name.
error_code:
  description: The kind of error; V(migrations_failed) when the findings are why the task fails.
  returned: failure
  type: str
  sample: migrations_failed
"""

from ..module_utils._module import CONNECTION, FINDINGS, HOST, DbopsModule
from ..module_utils.dbops.migrate import rehearse, report
from ..module_utils.dbops.migrate.finding import Budgets

SPEC = {
    "path": {"type": "path"},
    "data": {"type": "path"},
    "jobs": {"type": "int", "default": 0},
    "only": {"type": "int"},
    "since": {"type": "str"},
    "max_seconds": {"type": "float"},
    "max_exclusive": {"type": "float"},
    "on_server": {"type": "bool", "default": False},
    "clean": {"type": "bool", "default": False},
}


def main() -> None:
    module = DbopsModule({**SPEC, **FINDINGS, **CONNECTION, **HOST})
    params = module.params
    with module.session(migrations=module.given("path")) as (settings, progress):
        request = rehearse.Request(
            **{name: params[name] for name in ("jobs", "data", "only", "since", "on_server", "clean")},
            budgets=Budgets(params["max_seconds"], params["max_exclusive"]),
        )
        if module.check_mode:
            result = rehearse.preview(settings, request)
        else:
            result = rehearse.rehearse(settings, request, progress)
        found = result["rehearsal"]
        if not module.check_mode:
            cases = [str(item["version"]) for item in found["versions"]]
            paths, where = module.reports(), found["directory"]
            report.save(found["findings"], paths, directory=where, suite="rehearsal", cases=cases)
    module.exit_with_findings(result, passed=found["passed"])


if __name__ == "__main__":
    main()
