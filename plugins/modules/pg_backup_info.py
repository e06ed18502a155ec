#!/usr/bin/python
# Copyright (c) 2026, the dbops.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_info
short_description: List the backups of a PostgreSQL cluster
version_added: 1.0.0
description:
  - Reads the repository and returns its backups, newest first, with what each of them rests on.
  - It needs neither the server nor a connection to it.
  - What was killed on its way, and what cannot be read, is listed apart; neither is ever shown as a backup.
author:
  - The dbops.postgres contributors (!UNKNOWN)
options:
  label:
    description: Return this backup alone, with its objects. An unknown label is a failure.
    type: str
  method:
    description: Return backups of this method alone.
    type: str
    choices: [physical, logical]
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.cluster
attributes:
  check_mode:
    support: full
    details: It changes nothing anyway.
  diff_mode:
    support: none
  idempotent:
    support: full
notes:
  - Run it as a user who may read the repository.
seealso:
  - module: dbops.postgres.pg_backup
  - module: dbops.postgres.pg_backup_expire
  - module: dbops.postgres.pg_restore
"""

EXAMPLES = r"""
- name: List the backups
  dbops.postgres.pg_backup_info:
    cluster: main
  register: catalog

- name: Fail when the newest backup is older than a day
  ansible.builtin.assert:
    that: (now(utc=true) - (catalog.backups[0].stopped | to_datetime('%Y-%m-%dT%H:%M:%S.%fZ'))).total_seconds() < 86400

- name: Look at one backup in a repository that no settings file names
  dbops.postgres.pg_backup_info:
    cluster: main
    label: 20261122T130500Z-full
    repositories:
      - path: /mnt/backups
"""

RETURN = r"""
msg:
  description: How many backups there are, in one sentence.
  returned: always
  type: str
  sample: 14 backups of main in default.
cluster:
  description: The cluster that they are of.
  returned: success
  type: str
  sample: main
repository:
  description: Where they lie.
  returned: success
  type: dict
  contains:
    name:
      description: What the repository is called.
      returned: success
      type: str
      sample: default
    type:
      description: What kind of store it is.
      returned: success
      type: str
      sample: local
    path:
      description: Its directory.
      returned: success
      type: str
      sample: /srv/backups
    free_bytes:
      description: What is free there, or V(null) where nobody can know.
      returned: success
      type: int
      sample: 50000000000
backups:
  description: The backups, newest first; an empty list when there is none.
  returned: success
  type: list
  elements: dict
  contains:
    label:
      description: Its name, by which it is restored.
      returned: success
      type: str
      sample: 20261122T130500Z-full
    cluster:
      description: The cluster that it is of.
      returned: success
      type: str
      sample: main
    repository:
      description: The repository that holds it.
      returned: success
      type: str
      sample: default
    method:
      description: V(physical) or V(logical).
      returned: success
      type: str
      sample: physical
    type:
      description: V(full), V(incremental) or V(dump).
      returned: success
      type: str
      sample: full
    parent:
      description: The backup that an incremental one rests on, else V(null).
      returned: success
      type: str
      sample: null
    started:
      description: When it began.
      returned: success
      type: str
      sample: '2026-11-22T13:05:00.123Z'
    stopped:
      description: When it ended. A physical backup restores to this moment, or later with archived WAL.
      returned: success
      type: str
      sample: '2026-11-22T13:05:14.456Z'
    duration_s:
      description: How long it took.
      returned: success
      type: float
      sample: 14.333
    database_bytes:
      description: The size of what was copied, or V(null) where the role may not see it.
      returned: success
      type: int
      sample: 3851236123
    stored_bytes:
      description: The size of the backup in the repository.
      returned: success
      type: int
      sample: 902341234
    codec:
      description: How it is compressed.
      returned: success
      type: str
      sample: zstd
    system_identifier:
      description: The server's system identifier. It has more digits than a JSON number is safe for.
      returned: success
      type: str
      sample: '7441234567890123456'
    postgres_version:
      description: The server's version.
      returned: success
      type: str
      sample: '18.1'
    timeline:
      description: The timeline, or V(null) for a logical backup.
      returned: success
      type: int
      sample: 1
    start_lsn:
      description: Where replay begins, or V(null) for a logical backup.
      returned: success
      type: str
      sample: 0/5000028
    stop_lsn:
      description: Where the backup is consistent, or V(null) for a logical backup.
      returned: success
      type: str
      sample: 0/5000158
    databases:
      description: The databases of a logical backup.
      returned: success
      type: list
      elements: str
      sample: []
    from_standby:
      description: Whether the server was a standby.
      returned: success
      type: bool
      sample: false
    reason:
      description: Why it was taken, in the words of who took it.
      returned: success
      type: str
      sample: before the upgrade to 18
    verified:
      description: How far it is proven; V(unverified) until it has been restored.
      returned: success
      type: str
      sample: unverified
    verified_at:
      description: When it was proven, or V(null).
      returned: success
      type: str
      sample: null
    held:
      description: The reason of the hold that keeps it from expiring, or V(null).
      returned: success
      type: str
      sample: null
    notes:
      description: What the run had to remark.
      returned: success
      type: list
      elements: str
      sample: []
    chain:
      description: The labels that a restore needs, the full one first; empty when one of them is missing.
      returned: success
      type: list
      elements: str
      sample: [20261122T130500Z-full]
    chain_broken:
      description: What is wrong with the chain, or V(null).
      returned: success
      type: str
      sample: null
    children:
      description: The incremental backups that rest directly on this one.
      returned: success
      type: list
      elements: str
      sample: [20261123T130500Z-incr]
    objects:
      description:
        - Its objects, with C(name), C(kind), C(codec), C(stored_bytes), C(sha256), C(plain_bytes) and C(database).
      returned: when O(label) is given
      type: list
      elements: dict
      sample:
        - name: base.tar.zst
          kind: base
          codec: zstd
          stored_bytes: 902340000
          sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
          plain_bytes: 3851236123
          database: null
recovery_window:
  description:
    - What the archived WAL can reach, one entry for each system whose WAL is in the repository; empty with O(label).
    - Each of C(lines) is a timeline with the C(intervals) that can be reached along it, from C(start_lsn) and
      C(start_time) to C(end_lsn) from the backups C(bases); C(broken_by) names the missing segment when there is WAL
      beyond it. C(end_time) is the last transaction's, on the newest timeline and where PostgreSQL's programs can read
      the WAL; else it is V(null).
  returned: success
  type: list
  elements: dict
  sample:
    - system_identifier: '7575001122334455667'
      repository: default
      segments: 128
      stored_bytes: 402653184
      dropped: 0
      lines:
        - timeline: 1
          intervals:
            - timeline: 1
              start_lsn: 0/2000120
              end_lsn: 0/82000000
              start_time: '2026-11-22T13:05:09.123Z'
              end_time: '2026-11-22T14:50:31.020Z'
              bases: [20261122T130500Z-full]
              broken_by: null
unfinished:
  description: Labels of backups that run now or were killed. The next backup removes what was killed.
  returned: success
  type: list
  elements: str
  sample: []
unreadable:
  description: What looks like a backup and cannot be read, each with C(label) and C(why).
  returned: success
  type: list
  elements: dict
  sample: []
repositories:
  description:
    - How far each repository is, when the cluster has several and none was named; empty otherwise. C(lacks) are the
      labels that another one has and that this one's own rules would keep, and C(behind_s) is by how much its newest
      backup is older than the newest of all. One that cannot be read has its C(error), and V(null) for the rest.
  returned: success
  type: list
  elements: dict
  sample:
    - name: far
      type: local
      required: false
      backups: 6
      newest: 20261121T130500Z-full
      newest_stopped: '2026-11-21T13:05:14.456Z'
      behind_s: 86400.0
      lacks: [20261122T130500Z-full]
      error: null
totals:
  description: Sums of the backups that are returned.
  returned: success
  type: dict
  contains:
    backups:
      description: How many there are.
      returned: success
      type: int
      sample: 14
    stored_bytes:
      description: How much room they take.
      returned: success
      type: int
      sample: 12632777276
    newest:
      description: The newest one, or V(null).
      returned: success
      type: str
      sample: 20261122T130500Z-full
    oldest:
      description: The oldest one, or V(null).
      returned: success
      type: str
      sample: 20261109T130500Z-full
    unverified:
      description: How many were never restored to prove them.
      returned: success
      type: int
      sample: 3
    held:
      description: How many are kept by a hold.
      returned: success
      type: int
      sample: 0
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: "Newest ones: 20261122T130500Z-full. See dbops info."
error_code:
  description: The kind of error, which stays the same between versions while words may change.
  returned: failure
  type: str
  sample: not_found
"""

from ..module_utils._module import DbopsModule
from ..module_utils.dbops.repo.info import info
from ..module_utils.dbops.restore.window_ends import ends_of


def main() -> None:
    module = DbopsModule(
        {
            "label": {"type": "str"},
            "method": {"type": "str", "choices": ["physical", "logical"]},
        }
    )
    with module.session() as (settings, _progress):
        result = info(settings, ends=ends_of(settings), **module.given("repository", "label", "method"))
    module.exit(result)


if __name__ == "__main__":
    main()
