#!/usr/bin/python
# Copyright (c) 2026, the dbops.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_repository_info
short_description: Tell how the repositories of a cluster stand, and what they cost
version_added: 1.0.0
description:
  - Of each repository, whether it is there, keeps versions, locks objects and explains itself; on request what it
    holds, in bytes, objects and requests, for each backup and each day, with an estimate of the monthly cost and
    advice on storage classes.
  - It changes nothing. A repository that cannot be reached is no failure of the task, and has an C(error).
author:
  - The dbops.postgres contributors (!UNKNOWN)
options:
  usage:
    description: Whether to say what it holds as well. This lists every object, and fails where that is not possible.
    type: bool
    default: false
  prices:
    description:
      - A table of prices as JSON, on the host; the guide C(docs/repositories.md) has its shape. By default list prices
        of 2025, which nobody keeps up to date.
    type: path
  days:
    description: Over how many days the mean of a day is taken.
    type: int
    default: 7
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
seealso:
  - module: dbops.postgres.pg_repository
  - module: dbops.postgres.pg_backup_info
"""

EXAMPLES = r"""
- name: Look at the repositories and at what they cost
  dbops.postgres.pg_repository_info:
    cluster: main
    usage: true
    prices: /etc/dbops/prices.json
  register: repositories

- name: Fail when one of them is away
  ansible.builtin.assert:
    that: repositories.repositories | rejectattr('error', 'none') | length == 0
"""

RETURN = r"""
msg:
  description: How they stand, in one sentence.
  returned: always
  type: str
  sample: 2 of 2 repositories of main are there.
repositories:
  description: Each repository, in the order of the settings.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      returned: success
      type: str
      sample: aws
    type:
      description: Its type.
      returned: success
      type: str
      sample: s3
    location:
      description: Where it is.
      returned: success
      type: str
      sample: s3://acme-backups
    required:
      description: Whether backups and WAL wait for it.
      returned: success
      type: bool
      sample: true
    exists:
      description: Whether the bucket or directory is there, null where that cannot be known.
      returned: success
      type: bool
      sample: true
    versioning:
      description: Whether versions are kept, null where the credentials cannot see it.
      returned: success
      type: bool
      sample: true
    object_lock:
      description: Whether objects can be locked, null where the credentials cannot see it.
      returned: success
      type: bool
      sample: true
    recover_md:
      description: Whether the instructions for a recovery by hand are V(present), V(missing) or V(outdated).
      returned: success
      type: str
      sample: present
    error:
      description: Why nothing is known about it, null where something is.
      returned: success
      type: str
      sample: null
usage:
  description: What each repository holds and would cost, as C(dbops repo usage --output json) has it.
  returned: when O(usage=true)
  type: list
  elements: dict
  contains:
    name:
      description: The repository.
      returned: success
      type: str
      sample: aws
    objects:
      description: How many objects it holds of this cluster.
      returned: success
      type: int
      sample: 1284
    stored_bytes:
      description: Their bytes.
      returned: success
      type: int
      sample: 98304200
    parts:
      description: The same for C(backups), C(wal) and C(other).
      returned: success
      type: dict
      sample: {backups: 73400320, wal: 24900000, other: 3880}
    classes:
      description: Bytes by storage class.
      returned: success
      type: dict
      sample: {STANDARD: 98304200}
    backups:
      description: Objects, bytes, requests to write and to read, class and tier of each backup.
      returned: success
      type: list
      elements: dict
      sample: []
    per_day:
      description: Objects, bytes and requests to write, the mean of O(days).
      returned: success
      type: dict
      sample: {days: 7, objects: 96.3, stored_bytes: 14043457, write_requests: 97.1}
    cost_month:
      description: C(storage), C(requests) and C(total), null where something has no price.
      returned: success
      type: dict
      sample: {storage: 0.002, requests: 0.01, total: 0.012}
    advice:
      description: What would cost less, or costs more than it looks; C(topic), C(text) and C(saves_month).
      returned: success
      type: list
      elements: dict
      sample: []
prices:
  description: The C(currency) and the C(source) of the prices.
  returned: when O(usage=true)
  type: dict
  sample: {currency: USD, source: 'list prices of 2025, built in'}
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: See docs/repositories.md for its shape.
error_code:
  description: The kind of error, which stays the same between versions while words may change.
  returned: failure
  type: str
  sample: not_found
"""

from ..module_utils._module import DbopsModule
from ..module_utils.dbops.repo import present, prices
from ..module_utils.dbops.repo.usage import DAYS, usage


def main() -> None:
    module = DbopsModule(
        {
            "usage": {"type": "bool", "default": False},
            "prices": {"type": "path"},
            "days": {"type": "int", "default": DAYS},
        }
    )
    name = module.params["repository"]
    with module.session() as (settings, _progress):
        result = present.overview(settings, name)
        if module.params["usage"]:
            table = prices.load(module.params["prices"])
            told = usage(settings, table, repository=name, days=max(1, module.params["days"]))
            result.update(usage=told["repositories"], prices=told["prices"])
    module.exit(result)


if __name__ == "__main__":
    main()
