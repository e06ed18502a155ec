#!/usr/bin/python
# Copyright (c) 2026, the dbops.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_restore_verify
short_description: Prove a backup of a PostgreSQL cluster by restoring it
version_added: 1.0.0
description:
  - Restores a backup into a scratch instance that is cut off from everything, rolls it forward with the archived WAL,
    looks at it as closely as PostgreSQL can, and removes it again. What was found is written into the repository as a
    proof.
  - A physical backup passes C(pg_verifybackup), C(pg_amcheck) with every row looked up in its indexes, a complete
    read by C(pg_dump), and C(pg_checksums). A dump is loaded into an empty server, roles first, and its rows are
    compared with those that were counted in the dump's own snapshot.
  - The verdict is V(pass), V(fail) or V(could_not_verify). What could not be looked at, for want of room for example,
    is never a pass, and never the backup's fault either.
author:
  - The dbops.postgres contributors (!UNKNOWN)
options:
  backup:
    description:
      - A backup's label, or which one to take. V(latest) is the one that ended last.
      - V(oldest_unverified) is the oldest that was never proven, then the one whose proof is the oldest, so that
        repeated runs come round to every backup.
      - V(random) is any.
    type: str
    default: latest
  target:
    description:
      - How far to roll a physical backup forward. V(end) is the end of the archived WAL, or the backup's own where no
        WAL is archived. V(random) is some instant between the backup and that end. V(backup) takes no archived WAL.
      - V(live) is a restore point that is made now on the running primary, whose rows are counted there and compared.
      - Else an instant with its zone, such as V(2026-11-22T13:05:00Z).
    type: str
    default: end
  method:
    description: Choose among physical backups or dumps alone.
    type: str
    choices: [physical, logical]
  until:
    description: The level to stop after. Each level presumes the ones before it.
    type: str
    choices: [bytes, wal, manifest, restore, structure, content, assertions]
    default: assertions
  scratch_path:
    description:
      - The directory to restore below. It needs as much room as the database.
      - By default what the settings file says, else C(verify) below the state path.
    type: path
  assertions:
    description: Queries whose answers must be as expected, instead of those in the settings file.
    type: list
    elements: dict
    suboptions:
      name:
        description: What it is called in results.
        type: str
        required: true
      database:
        description: Where to ask.
        type: str
        default: postgres
      query:
        description: A query that yields one value. It runs in a transaction that may only read.
        type: str
        required: true
      expected:
        description: The value, as text. A boolean is V(true) or V(false), and nothing is V(null).
        type: str
      at_least:
        description: The smallest number that is right.
        type: int
      at_most:
        description: The greatest number that is right.
        type: int
  fail_on_verdict:
    description:
      - Whether anything but V(pass) fails the task. Without it somebody must look at the verdict, for example after
        all hosts have theirs.
    type: bool
    default: true
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.attributes.progress
  - dbops.postgres.cluster
  - dbops.postgres.cluster.host
  - dbops.postgres.cluster.encryption
attributes:
  check_mode:
    support: full
    details: Chooses the backup, and checks the list of WAL, programs and room.
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Each run adds a proof.
notes:
  - It needs no running cluster, and may run on any host that has PostgreSQL's programs of the backup's major version
    and can read the repository.
  - The scratch of a run that was killed is removed by the next one.
seealso:
  - module: dbops.postgres.pg_backup_info
  - module: dbops.postgres.pg_restore
"""

EXAMPLES = r"""
- name: Prove the newest backup, up to the end of the archived WAL
  dbops.postgres.pg_restore_verify:
    cluster: main

- name: Come round to every backup, one each night, at some instant of its window
  dbops.postgres.pg_restore_verify:
    cluster: main
    backup: oldest_unverified
    target: random
    assertions:
      - name: orders of the last day
        database: shop
        query: select count(*) from orders where created > now() - interval '1 day'
        at_least: 1

- name: Look at the verdict later
  dbops.postgres.pg_restore_verify:
    cluster: main
    fail_on_verdict: false
  register: verification
"""

RETURN = r"""
msg:
  description: What was found, in one sentence.
  returned: always
  type: str
  sample: "20261122T130500Z-full is proven to level content: 13 checks passed."
verification:
  description: The proof; V(null) in check mode. It is returned by a task that fails for the verdict, too.
  returned: success, and failure for the verdict
  type: dict
  contains:
    label:
      description: The backup, or V(null) when the repository could not even be read.
      returned: success
      type: str
      sample: 20261122T130500Z-full
    cluster:
      description: The cluster.
      returned: success
      type: str
      sample: main
    repository:
      description: The repository.
      returned: success
      type: str
      sample: default
    method:
      description: V(physical) or V(logical).
      returned: success
      type: str
      sample: physical
    chain:
      description: The backups that were restored together, the full one first.
      returned: success
      type: list
      elements: str
      sample: [20261122T130500Z-full]
    system_identifier:
      description: The system that it is a backup of.
      returned: success
      type: str
      sample: '7441234567890123456'
    postgres_version:
      description: The version that was backed up.
      returned: success
      type: str
      sample: '18.1'
    verdict:
      description: V(pass), V(fail) or V(could_not_verify), over all checks.
      returned: success
      type: str
      sample: pass
    level:
      description: The highest level up to which every check passed, or V(null).
      returned: success
      type: str
      sample: content
    restore:
      description: The verdict on the restore alone, as C(verdict).
      returned: success
      type: dict
      sample:
        verdict: pass
    validation:
      description: The verdict on what was looked at afterwards, as C(verdict).
      returned: success
      type: dict
      sample:
        verdict: pass
    cleanup:
      description: The verdict on the removal of the scratch, a C(message), and the paths of older ones in C(swept).
      returned: success
      type: dict
      sample:
        verdict: pass
        message: The scratch is removed.
        swept: []
    target:
      description: What it was rolled forward to, in words.
      returned: success
      type: str
      sample: the end of the archived WAL
    recovery:
      description: The route and the outcome of the recovery, as M(dbops.postgres.pg_restore) tells it, or V(null).
      returned: success
      type: dict
      sample: null
    checks:
      description: Every check with its C(level), C(name), C(verdict), C(message), C(seconds), C(hint) and C(details).
      returned: success
      type: list
      elements: dict
      sample:
        - level: structure
          name: heaps and indexes
          verdict: pass
          message: pg_amcheck finds every heap and B-tree sound, and every row in its indexes.
          seconds: 12.5
          hint: ''
          details: {}
    phases:
      description: Seconds by phase, as measured.
      returned: success
      type: dict
      sample:
        fetch_and_extract_s: 31.2
        verify_s: 4.1
        sync_s: 1.9
        recovery_s: 22.8
        checks_s: 40.3
        total_s: 101.7
    restored_bytes:
      description: How much was restored.
      returned: success
      type: int
      sample: 3851236123
    throughput_bytes_per_s:
      description: The rate from repository to disk.
      returned: success
      type: int
      sample: 103521933
    rto_estimate:
      description: How long this run's rates make a restore of the whole database take. An estimate, not a measured RTO.
      returned: success
      type: dict
      sample:
        label: estimate, from this run's rates; not a measured RTO
        seconds: 60.1
        copy_s: 37.2
        replay_s: 22.9
        database_bytes: 3851236123
        copy_bytes_per_s: 103521933
        replay_wal_bytes_per_s: 9523000
    rpo:
      description:
        - By the canary, the C(seconds) that would have been lost had the cluster been lost when this began, with
          C(canary_at) and C(measured_at). V(null) without a canary, or with another target than V(end).
      returned: success
      type: dict
      sample:
        seconds: 41.2
        canary_at: '2026-11-23T02:04:18.923Z'
        measured_at: '2026-11-23T02:05:00.123Z'
    started:
      description: When it began.
      returned: success
      type: str
      sample: '2026-11-23T02:05:00.123Z'
    finished:
      description: When it ended.
      returned: success
      type: str
      sample: '2026-11-23T02:06:41.823Z'
    host:
      description: Where it ran.
      returned: success
      type: str
      sample: verify1
    by:
      description: The operating system's user.
      returned: success
      type: str
      sample: root
    tool_version:
      description: The version of dbops.
      returned: success
      type: str
      sample: 1.0.0
    proof:
      description: The key of the proof in the repository, or V(null) when it could not be written.
      returned: success
      type: str
      sample: main/proofs/20261122T130500Z-full/20261123T020641Z.json
plan:
  description: What would be verified, and where.
  returned: in check mode
  type: dict
  sample:
    label: 20261122T130500Z-full
    chain: [20261122T130500Z-full]
    method: physical
    repository: default
    target: the end of the archived WAL
    scratch_path: /var/lib/dbops/main/verify
    needed_bytes: 4119671579
    until: assertions
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: Free space there, set verify.scratch_path to another disk, or verify on another host.
error_code:
  description: The kind of error; V(fail) and V(could_not_verify) for the verdicts.
  returned: failure
  type: str
  sample: could_not_verify
"""

from ..module_utils._module import ENCRYPTION, HOST, DbopsModule
from ..module_utils.dbops.verify.plan import Request
from ..module_utils.dbops.verify.run import verify
from ..module_utils.dbops.verify.verdict import LEVELS


def main() -> None:
    module = DbopsModule(
        {
            "backup": {"type": "str", "default": "latest"},
            "target": {"type": "str", "default": "end"},
            "method": {"type": "str", "choices": ["physical", "logical"]},
            "until": {"type": "str", "choices": list(LEVELS), "default": LEVELS[-1]},
            "scratch_path": {"type": "path"},
            "assertions": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "name": {"type": "str", "required": True},
                    "database": {"type": "str", "default": "postgres"},
                    "query": {"type": "str", "required": True},
                    "expected": {"type": "str"},
                    "at_least": {"type": "int"},
                    "at_most": {"type": "int"},
                },
            },
            "fail_on_verdict": {"type": "bool", "default": True},
            **HOST,
            **ENCRYPTION,
        }
    )
    with module.session(verify=module.given("assertions")) as (settings, progress):
        params = module.params
        request = Request(
            backup=params["backup"],
            target=params["target"],
            method=params["method"],
            repository=params["repository"],
            until=params["until"],
            scratch_path=params["scratch_path"],
        )
        result = verify(settings, request, progress, dry_run=module.check_mode)
    found = result["verification"]
    if found is None or found["verdict"] == "pass" or not params["fail_on_verdict"]:
        module.exit(result)
    hints = [check["hint"] for check in found["checks"] if check["verdict"] == found["verdict"] and check["hint"]]
    module.fail_with(result, hint=" ".join(hints[:1]), error_code=found["verdict"])


if __name__ == "__main__":
    main()
