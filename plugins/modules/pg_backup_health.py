#!/usr/bin/python
# Copyright (c) 2026, the dbops.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_health
short_description: Say whether a PostgreSQL cluster is protected
version_added: 1.0.0
description:
  - Looks at every repository, at the server and at this host, and holds what it sees against the C(health) section of
    the cluster's settings file.
  - The total is the worst of all findings. What could not be looked at is UNKNOWN, which is never OK.
author:
  - The dbops.postgres contributors (!UNKNOWN)
options:
  deep:
    description: Whether to read the newest backup of each repository to its last byte.
    type: bool
    default: false
  fail_at:
    description:
      - The severity from which on the task fails. V(unknown) includes V(critical), and V(warning) includes both.
      - With V(never), somebody must look at the result.
    type: str
    choices: [warning, unknown, critical, never]
    default: unknown
  notify:
    description:
      - Whether to send what is due to the channels of the settings' C(notifications) section. A delivery that fails is
        a warning and a metric, and changes nothing of the result. In check mode nothing is sent.
    type: bool
    default: false
  test_notify:
    description: Send a test message to every channel instead of looking at anything. It fails unless each took it.
    type: bool
    default: false
  max_age:
    description: The greatest age of the newest backup that is healthy, such as V(26h), instead of the settings file's.
    type: str
  min_count:
    description: The least number of valid backups that is healthy, instead of the settings file's.
    type: int
  min_size_bytes:
    description: The least stored size of a backup that is healthy, instead of the settings file's.
    type: int
  rpo:
    description: The greatest age of an unarchived commit that is healthy, instead of the settings file's.
    type: str
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.cluster
  - dbops.postgres.cluster.host
  - dbops.postgres.connection
attributes:
  check_mode:
    support: full
    details: It changes nothing anyway, and tells nobody.
  diff_mode:
    support: none
  idempotent:
    support: full
seealso:
  - module: dbops.postgres.pg_backup_info
  - module: dbops.postgres.pg_restore_verify
  - module: dbops.postgres.wal_archive_info
"""

EXAMPLES = r"""
- name: Fail unless the cluster is protected
  dbops.postgres.pg_backup_health:
    cluster: main

- name: Look at what is not in order
  dbops.postgres.pg_backup_health:
    cluster: main
    fail_at: never
  register: found

- name: Look from a schedule, and tell whoever is to know when the answer changes
  dbops.postgres.pg_backup_health:
    cluster: main
    notify: true
    fail_at: never

- name: Show it
  ansible.builtin.debug:
    msg: "{{ found.health.findings | rejectattr('severity', 'eq', 'OK') | map(attribute='message') }}"
"""

RETURN = r"""
msg:
  description: The total and the worst finding, in one sentence.
  returned: always
  type: str
  sample: "main is OK: 15 checks passed."
health:
  description: Everything that was found. It is returned by a task that fails for it, too.
  returned: success, and failure for what was found
  type: dict
  contains:
    schema:
      description: The version of this structure.
      returned: success
      type: str
      sample: v1
    cluster:
      description: The cluster.
      returned: success
      type: str
      sample: main
    seen:
      description: When it was looked at.
      returned: success
      type: str
      sample: '2026-11-22T13:05:00.123Z'
    severity:
      description: The total, V(OK), V(WARNING), V(UNKNOWN) or V(CRITICAL).
      returned: success
      type: str
      sample: OK
    exit_code:
      description: The total as a Nagios plugin would end with it.
      returned: success
      type: int
      sample: 0
    verdict:
      description: The total as V(pass), V(fail) or V(could_not_verify).
      returned: success
      type: str
      sample: pass
    counts:
      description: How many findings there are of each severity.
      returned: success
      type: dict
      sample:
        OK: 15
        WARNING: 0
        UNKNOWN: 0
        CRITICAL: 0
    findings:
      description:
        - Each has C(check), C(subject), C(severity), C(verdict), C(message), C(hint), and C(measure), which is V(null)
          or has C(name), C(value), C(unit), C(warning) and C(critical).
      returned: success
      type: list
      elements: dict
      sample:
        - check: age
          subject: disk physical
          severity: OK
          verdict: pass
          message: 20261122T020500Z-full ended 11 h 00 min ago.
          hint: ''
          measure:
            name: disk physical age
            value: 39600
            unit: s
            warning: null
            critical: '93600'
notifications:
  description: What was sent, each with C(channel), C(event), C(result), which is V(sent) or V(failed), and C(message).
  returned: always
  type: list
  elements: dict
  sample:
    - channel: ops-mail
      event: problem
      result: sent
      message: ''
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: Take one now (dbops backup). Then look why none was taken, in its log and its schedule.
error_code:
  description: The kind of error; V(unhealthy) when the findings are why the task fails.
  returned: failure
  type: str
  sample: unhealthy
"""

from ..module_utils._module import CONNECTION, HOST, DbopsModule
from ..module_utils.dbops.health.check import check, tested
from ..module_utils.dbops.health.finding import Severity, ordered
from ..module_utils.dbops.settings import Settings

LIMITS = {
    "max_age": {"type": "str"},
    "min_count": {"type": "int"},
    "min_size_bytes": {"type": "int"},
    "rpo": {"type": "str"},
}


def main() -> None:
    module = DbopsModule(
        {
            "deep": {"type": "bool", "default": False},
            "fail_at": {"type": "str", "choices": ["warning", "unknown", "critical", "never"], "default": "unknown"},
            "notify": {"type": "bool", "default": False},
            "test_notify": {"type": "bool", "default": False},
            **LIMITS,
            **CONNECTION,
            **HOST,
        }
    )
    with module.session(health=module.given(*LIMITS)) as (settings, _progress):
        if module.params["test_notify"]:
            _test(module, settings)
        result, _facts, findings = check(
            settings, deep=module.params["deep"], notify=module.params["notify"] and not module.check_mode
        )
    limit = module.params["fail_at"]
    bad = [item for item in ordered(findings) if item.severity is not Severity.OK]
    if limit == "never" or not bad or bad[0].severity.rank < Severity(limit.upper()).rank:
        module.exit(result)
    module.fail_with(result, hint=bad[0].hint, error_code="unhealthy")


def _test(module: DbopsModule, settings: Settings) -> None:
    """Ends the module."""
    if module.check_mode:
        module.exit({"changed": False, "msg": "Would send a test message to each channel.", "notifications": []})
    result = tested(settings)
    if result["notifications"] and all(item["result"] == "sent" for item in result["notifications"]):
        module.exit(result)
    hint = "Look at the settings' section notifications." if not result["notifications"] else "See the warnings."
    module.fail_with(result, hint=hint, error_code="unreachable")


if __name__ == "__main__":
    main()
