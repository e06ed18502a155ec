#!/usr/bin/python
# Copyright (c) 2026, the dbops.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_expire
short_description: Delete the backups of a PostgreSQL cluster that no rule wants any more
version_added: 1.0.0
description:
  - Decides about every backup in the repository, says why, and deletes those that no rule wants.
  - A backup stays when one rule wants it, when a hold is on it, or when one that stays rests on it.
  - Without any rule, in the settings file or here, everything is kept.
  - When the repository cannot be listed completely, or would lose more than was decided at first, nothing is deleted.
  - What killed backups left behind is removed too.
  - Without O(repository) this is done in each repository of the cluster, by its own rules where it has some. One that
    is away keeps none of the others from it; the task fails at the end when it is a required one.
author:
  - The dbops.postgres contributors (!UNKNOWN)
options:
  keep_last:
    description: Keep this many of the newest backups.
    type: int
  keep_within:
    description:
      - Keep all of this time, such as V(72h), V(14d) or V(4w), and the one before, so that every moment of it can be
        restored.
    type: str
  daily:
    description: Keep the newest backup of each of this many days.
    type: int
  weekly:
    description: Keep the newest backup of each of this many weeks.
    type: int
  monthly:
    description: Keep the newest backup of each of this many months.
    type: int
  yearly:
    description: Keep the newest backup of each of this many years.
    type: int
  min_redundancy:
    description: Never keep fewer restorable backups than this. The engine's own default is V(1).
    type: int
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.cluster
attributes:
  check_mode:
    support: full
    details: Returns the plan, with the reasons for every backup.
  diff_mode:
    support: full
    details: Shows the labels of the backups in the repository.
  idempotent:
    support: full
    details: Until backups have grown older.
notes:
  - Rules that are not given are those of the settings file. Those that are given hold for every repository.
  - The rules hold for physical backups, and for the dumps of every database, each for itself.
seealso:
  - module: dbops.postgres.pg_backup
  - module: dbops.postgres.pg_backup_info
"""

EXAMPLES = r"""
- name: Delete what the settings file of the cluster no longer wants
  dbops.postgres.pg_backup_expire:
    cluster: main

- name: Show what two weeks and a year of months would keep
  dbops.postgres.pg_backup_expire:
    cluster: main
    keep_within: 14d
    monthly: 12
  check_mode: true
"""

RETURN = r"""
msg:
  description: What was done, or would be, in one sentence.
  returned: always
  type: str
  sample: Deleted 2 backups (1804682468 bytes).
repositories:
  description: The decisions for each repository, as in RV(expire).
  returned: success
  type: list
  elements: dict
  sample: []
expire:
  description: The decisions for the first repository, or the one that was named.
  returned: success
  type: dict
  contains:
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
    policy:
      description: The rules, from the settings file and the task.
      returned: success
      type: dict
      sample: {keep_last: 7, keep_within: null, daily: 0, weekly: 0, monthly: 0, yearly: 0, min_redundancy: 1}
    planned_at:
      description: The time for which it was decided.
      returned: success
      type: str
      sample: '2026-11-22T13:05:00.123Z'
    window_start:
      description: Since when O(keep_within) keeps everything, or V(null).
      returned: success
      type: str
      sample: '2026-11-08T13:05:00.123Z'
    backups:
      description: Every backup, newest first.
      returned: success
      type: list
      elements: dict
      contains:
        label:
          description: Its name.
          returned: success
          type: str
          sample: 20261122T130500Z-full
        keep:
          description: Whether it stays.
          returned: success
          type: bool
          sample: true
        reasons:
          description: Why.
          returned: success
          type: list
          elements: str
          sample: [keep_last 1 of 7]
        method:
          description: V(physical) or V(logical), or V(null) when its record cannot be read.
          returned: success
          type: str
          sample: physical
        type:
          description: V(full), V(incremental) or V(dump), or V(null).
          returned: success
          type: str
          sample: full
        parent:
          description: The backup that an incremental one rests on, or V(null).
          returned: success
          type: str
          sample: null
        databases:
          description: The databases of a logical backup.
          returned: success
          type: list
          elements: str
          sample: []
        started:
          description: When it began, or V(null).
          returned: success
          type: str
          sample: '2026-11-22T13:05:00.123Z'
        stopped:
          description: When it ended, or V(null).
          returned: success
          type: str
          sample: '2026-11-22T13:05:14.456Z'
        stored_bytes:
          description: Its size in the repository, or V(null).
          returned: success
          type: int
          sample: 902341234
        held:
          description: The reason of the hold that is on it, or V(null).
          returned: success
          type: str
          sample: null
    delete:
      description: The labels that the plan deletes, in this order.
      returned: success
      type: list
      elements: str
      sample: [20261101T130500Z-full]
    deleted:
      description: The labels that were deleted.
      returned: success, outside check mode, when there was something to delete
      type: list
      elements: str
      sample: [20261101T130500Z-full]
    cleaned:
      description: The labels of killed backups whose remains were removed.
      returned: success, outside check mode, when there was something to delete
      type: list
      elements: str
      sample: []
    freed_bytes:
      description: The room that is freed.
      returned: success
      type: int
      sample: 902341234
    wal:
      description:
        - The archived WAL's fate, one entry for each system, with C(system_identifier), C(delete_segments) and
          C(ranges). Each range has C(timeline), C(first), C(last), C(segments), C(keep) and C(reason).
      returned: success
      type: list
      elements: dict
      sample: []
    unfinished:
      description: The remains of killed backups, each with C(label) and C(stored_bytes).
      returned: success
      type: list
      elements: dict
      sample: []
    remaining:
      description: What is left, per method, database and system identifier, with its oldest and newest moment.
      returned: success
      type: list
      elements: dict
      sample:
        - method: physical
          database: null
          system_identifier: '7441234567890123456'
          oldest: '2026-11-08T13:05:14.456Z'
          newest: '2026-11-22T13:05:14.456Z'
          labels: [20261122T130500Z-full, 20261108T130500Z-full]
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: Look at the new plan (dbops expire), then apply that one.
error_code:
  description: The kind of error, which stays the same between versions while words may change.
  returned: failure
  type: str
  sample: refused
"""

from ..module_utils._module import DbopsModule
from ..module_utils.dbops.repo import expire_all

RULES = {
    "keep_last": {"type": "int"},
    "keep_within": {"type": "str"},
    "daily": {"type": "int"},
    "weekly": {"type": "int"},
    "monthly": {"type": "int"},
    "yearly": {"type": "int"},
    "min_redundancy": {"type": "int"},
}


def main() -> None:
    module = DbopsModule(RULES)
    with module.session() as (settings, progress):
        plans = expire_all.plan(settings, repository=module.params["repository"], rules=module.given(*RULES))
        result = plans.preview() if module.check_mode else expire_all.apply(plans, progress)
    before = {plan.repository.name: [line.label for line in plan.lines] for plan in plans.plans}
    gone = {item["repository"]: item.get("deleted", item["delete"]) for item in result["repositories"]}
    after = {name: [label for label in labels if label not in gone[name]] for name, labels in before.items()}
    if len(before) == 1:
        before, after = ({"backups": labels} for ((_name, labels),) in (before.items(), after.items()))
    module.exit(result, before=before, after=after)


if __name__ == "__main__":
    main()
