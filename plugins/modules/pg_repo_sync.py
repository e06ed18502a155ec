#!/usr/bin/python
# Copyright (c) 2026, the dbops.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_repo_sync
short_description: Copy to a repository what another one has
version_added: 1.0.0
description:
  - Brings the repositories of a cluster up to date from one another with backups, archived WAL, proofs and holds.
  - Every object is copied as it lies there and verified by its hash on the way, a backup's record last. What is there
    already stays as it is, nothing is overwritten and nothing is deleted. Interrupted, it is simply run again.
  - What the rules of the receiving repository would expire again is not copied.
author:
  - The dbops.postgres contributors (!UNKNOWN)
options:
  source:
    description: Copy only what this repository has. By default what any other one has.
    type: str
  target:
    description: Bring only this repository up to date. By default each of them. O(repository) means the same.
    type: str
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.cluster
attributes:
  check_mode:
    support: full
    details: Returns what would be copied.
  diff_mode:
    support: full
  idempotent:
    support: full
notes:
  - Encrypted objects are copied without being opened, so that no private key is needed.
seealso:
  - module: dbops.postgres.pg_backup_info
  - module: dbops.postgres.pg_repo_check
"""

EXAMPLES = r"""
- name: Bring every repository up to date
  dbops.postgres.pg_repo_sync:
    cluster: main

- name: Fill a new repository from an old one
  dbops.postgres.pg_repo_sync:
    cluster: main
    source: near
    target: far
"""

RETURN = r"""
msg:
  description: What was copied, or would be, in one sentence.
  returned: always
  type: str
  sample: Copied 1 backup and 12 WAL files (902341234 bytes) from near to far.
sync:
  description: What each repository got from which other one.
  returned: success
  type: list
  elements: dict
  contains:
    from:
      description: The repository it came from.
      returned: success
      type: str
      sample: near
    to:
      description: The repository it went to.
      returned: success
      type: str
      sample: far
    backups:
      description: The labels of the backups.
      returned: success
      type: list
      elements: str
      sample: [20261122T130500Z-full]
    wal_files:
      description: How many archived WAL files.
      returned: success
      type: int
      sample: 12
    small_objects:
      description: How many proofs, holds, restore points and adopted systems.
      returned: success
      type: int
      sample: 1
    stored_bytes:
      description: The size of backups and WAL.
      returned: success
      type: int
      sample: 902341234
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: Copy this backup from another repository, and keep the object for examination.
error_code:
  description: The kind of error, which stays the same between versions while words may change.
  returned: failure
  type: str
  sample: corrupt
"""

from ..module_utils._module import DbopsModule
from ..module_utils.dbops.repo import sync


def main() -> None:
    module = DbopsModule(
        {"source": {"type": "str"}, "target": {"type": "str"}},
        mutually_exclusive=[("repository", "target")],
    )
    with module.session() as (settings, progress):
        target = module.params["target"] or module.params["repository"]
        plans = sync.plan(settings, source=module.params["source"], target=target)
        result = plans.preview() if module.check_mode or not plans.needed else sync.run(plans, progress)
    copied = {f"{item['from']} to {item['to']}": item["backups"] for item in result["sync"]}
    module.exit(result, before={key: [] for key in copied}, after=copied)


if __name__ == "__main__":
    main()
