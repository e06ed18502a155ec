#!/usr/bin/python
# Copyright (c) 2026, the dbops.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_migration_lint
short_description: Lint a directory of migrations without a server
version_added: 1.0.0
description:
  - Looks at the names of files, at each file, and at each pair of an up and a down, with the rules of this collection.
  - Adds PostgreSQL's own grammar and the statement rules of squawk where the host has them.
  - What it says on transactions is right for golang-migrate, where a file is one implicit transaction.
author:
  - The dbops.postgres contributors (!UNKNOWN)
options:
  engines:
    description:
      - Whose rules.
      - V(ours) needs nothing, V(syntax) the Python library C(pglast), and V(squawk) the program of C(squawk-cli).
    type: list
    elements: str
    choices: [ours, syntax, squawk]
    default: [ours]
  naming_only:
    description: Look at the names of files alone.
    type: bool
    default: false
  since:
    description: A commit. Findings count in files that differ from it, and so do edits of files that it has.
    type: str
  baseline:
    description: A file on the host with findings that are known and do not count. It may be missing.
    type: path
  severities:
    description: By rule, V(error), V(warning), V(note) or V(off), instead of its own severity.
    type: dict
    default: {}
  postgres:
    description: The major version that squawk has in mind.
    type: str
    default: '15'
  row_counts:
    description:
      - A file on the host with the number of rows of production's tables, as JSON or as lines of C(table|rows).
      - What squawk says of how long a lock lasts does not count for tables of O(small_rows) rows or less.
    type: path
  small_rows:
    description: How many rows a small table has at most.
    type: int
    default: 10000
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.cluster
  - dbops.postgres.migrations
  - dbops.postgres.migrations.findings
attributes:
  check_mode:
    support: full
    details: It changes nothing anyway, but for the reports, which are not written.
  diff_mode:
    support: none
  idempotent:
    support: full
seealso:
  - module: dbops.postgres.pg_migration_test
"""

EXAMPLES = r"""
- name: Lint what differs from the main branch
  dbops.postgres.pg_migration_lint:
    cluster: main
    path: /srv/ridehailing/migrations
    since: origin/main
    severities:
      select-star: "off"
"""

RETURN = r"""
msg:
  description: How much was found, in one sentence.
  returned: always
  type: str
  sample: "68 files: 0 errors, 0 warnings."
lint:
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
      description: The directory.
      returned: success
      type: str
      sample: /srv/ridehailing/migrations
    files:
      description: The files that were looked at.
      returned: success
      type: list
      elements: str
      sample: [000001_create_users.down.sql, 000001_create_users.up.sql]
    findings:
      description: The findings with C(check), C(severity), C(message), C(version), C(file), C(line) and C(details).
      returned: success
      type: list
      elements: dict
      sample:
        - check: drop-database
          severity: error
          message: Drops a database.
          version: 2
          file: 000002_x.down.sql
          line: 2
          details: []
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

from ..module_utils._module import FINDINGS, DbopsModule
from ..module_utils.dbops.migrate import lint, report

SPEC = {
    "path": {"type": "path"},
    "engines": {"type": "list", "elements": "str", "choices": ["ours", "syntax", "squawk"], "default": ["ours"]},
    "naming_only": {"type": "bool", "default": False},
    "since": {"type": "str"},
    "baseline": {"type": "path"},
    "severities": {"type": "dict", "default": {}},
    "postgres": {"type": "str", "default": "15"},
    "row_counts": {"type": "path"},
    "small_rows": {"type": "int", "default": 10000},
}


def main() -> None:
    module = DbopsModule({**SPEC, **FINDINGS})
    params = module.params
    with module.session(migrations=module.given("path")) as (settings, _progress):
        request = lint.Request(
            engines=tuple(params["engines"]),
            severities=dict(lint.severity(rule, how) for rule, how in params["severities"].items()),
            **{
                name: params[name]
                for name in ("naming_only", "since", "baseline", "postgres", "row_counts", "small_rows")
            },
        )
        result = lint.lint(settings.migrations.path, request)
        found = result["lint"]
        if not module.check_mode:
            paths, where = module.reports(), found["directory"]
            report.save(found["findings"], paths, directory=where, suite="migration lint", cases=found["files"])
    module.exit_with_findings(result, passed=found["passed"])


if __name__ == "__main__":
    main()
