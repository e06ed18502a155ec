#!/usr/bin/python
# Copyright (c) 2026, the dbops.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_migration_rehearse
short_description: Rehearse pending migrations on a restored backup
version_added: 1.0.0
description:
  - Restores the newest backup that was proven into an instance of its own, cut off from everything, and runs the
    pending files there, with a reader and a writer at work beside them. Then goes back again and compares the schema.
  - Tells for each file how long it takes, which locks it takes on which tables and for how long, what it rewrites, how
    long others had to wait, and how much WAL and disk it needs, before production sees it.
  - Neither the cluster nor the repository is changed, and nothing is left on the host.
author:
  - The dbops.postgres contributors (!UNKNOWN)
options:
  backup:
    description: A physical backup's label. By default the newest one that a restore has proven.
    type: str
  target:
    description:
      - How far to roll the backup forward. V(end) is the end of the archived WAL, or the backup's own where no WAL is
        archived. V(backup) takes no archived WAL. Else an instant with its zone.
    type: str
    default: end
  scratch_path:
    description: The directory to restore below. It needs as much room as the database, and what the files write.
    type: path
  rollback:
    description: Whether to go back again, and to compare.
    type: bool
    default: true
  rows:
    description: Whether to compare all values before and after, too, which reads all data twice.
    type: bool
    default: false
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.cluster
  - dbops.postgres.cluster.host
  - dbops.postgres.cluster.encryption
  - dbops.postgres.migrations
  - dbops.postgres.migrations.database
  - dbops.postgres.migrations.budgets
  - dbops.postgres.migrations.findings
attributes:
  check_mode:
    support: full
    details: Chooses the backup, and checks programs and room.
  diff_mode:
    support: none
  idempotent:
    support: full
seealso:
  - module: dbops.postgres.pg_migration_test
  - module: dbops.postgres.pg_restore_verify
"""

EXAMPLES = r"""
- name: See what the pending migrations will do to production
  dbops.postgres.pg_migration_rehearse:
    cluster: main
    database: ridehailing
    path: /srv/ridehailing/migrations
    max_exclusive: 2
"""

RETURN = r"""
msg:
  description: What was found, in one sentence.
  returned: always
  type: str
  sample: "1 pending files passed: they take 1.3 s; way back: equal. On 20261122T130500Z-full, 9.1 s in all."
rehearsal:
  description:
    - Everything that was found; V(null) in check mode. It is returned by a task that fails for it, too.
  returned: success, and failure for what was found
  type: dict
  contains:
    passed:
      description: Whether there is no error, and the way back was exact where it was tried.
      returned: success
      type: bool
      sample: true
    cluster:
      description: The cluster.
      returned: success
      type: str
      sample: main
    backup:
      description: The backup's label.
      returned: success
      type: str
      sample: 20261122T130500Z-full
    repository:
      description: The repository.
      returned: success
      type: str
      sample: default
    target:
      description: What it was rolled forward to, in words.
      returned: success
      type: str
      sample: the end of the archived WAL
    postgres:
      description: The major version.
      returned: success
      type: int
      sample: 18
    restored_bytes:
      description: How much was restored.
      returned: success
      type: int
      sample: 3851236123
    restored_s:
      description: How long it took until the instance was there.
      returned: success
      type: float
      sample: 7.2
    seconds:
      description: How long all of it took.
      returned: success
      type: float
      sample: 9.1
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
    version:
      description: The version that the backup has, V(null) for nothing.
      returned: success
      type: int
      sample: 33
    files:
      description:
        - The files in the order in which they ran, ups and downs, with C(version), C(direction), C(file),
          C(duration_s), C(exclusive_s), C(wal_bytes), C(attempts), C(size_before), C(size_peak), C(size_after),
          C(locks), C(rewritten), C(statements) and C(waited).
      returned: success
      type: list
      elements: dict
      sample: []
    rollback:
      description:
        - The schema after the way back, V(equal), V(equal but for column order) or V(different).
        - V(failed), V(could_not_verify) or V(not tried) where the way back did not end.
      returned: success
      type: str
      sample: equal
    findings:
      description: The findings with C(check), C(severity), C(message), C(version), C(file), C(line) and C(details).
      returned: success
      type: list
      elements: dict
      sample: []
plan:
  description: What would be restored, and where.
  returned: in check mode
  type: dict
  sample:
    backup: 20261122T130500Z-full
    target: the end of the archived WAL
    scratch_path: /var/lib/dbops/main/verify
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

from ..module_utils._module import ENCRYPTION, FINDINGS, HOST, DbopsModule
from ..module_utils.dbops.migrate import report
from ..module_utils.dbops.migrate.finding import Budgets
from ..module_utils.dbops.rehearsal.run import Request, rehearse

SPEC = {
    "path": {"type": "path"},
    "database": {"type": "str"},
    "backup": {"type": "str"},
    "target": {"type": "str", "default": "end"},
    "scratch_path": {"type": "path"},
    "max_seconds": {"type": "float"},
    "max_exclusive": {"type": "float"},
    "rollback": {"type": "bool", "default": True},
    "rows": {"type": "bool", "default": False},
}


def main() -> None:
    module = DbopsModule({**SPEC, **FINDINGS, **HOST, **ENCRYPTION})
    params = module.params
    with module.session(migrations=module.given("path", "database")) as (settings, progress):
        names = ("backup", "target", "repository", "scratch_path", "rollback", "rows")
        request = Request(
            **{name: params[name] for name in names}, budgets=Budgets(params["max_seconds"], params["max_exclusive"])
        )
        result = rehearse(settings, request, progress, dry_run=module.check_mode)
        found = result["rehearsal"]
        if found is not None:
            cases, paths = [str(item["version"]) for item in found["files"]], module.reports()
            suite = "rehearsal on a backup"
            report.save(found["findings"], paths, directory=found["directory"], suite=suite, cases=cases)
    module.exit_with_findings(result, passed=found is None or found["passed"])


if __name__ == "__main__":
    main()
