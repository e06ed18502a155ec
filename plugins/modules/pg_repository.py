#!/usr/bin/python
# Copyright (c) 2026, the dbops.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_repository
short_description: Bring a repository of backups to the state that was asked for
version_added: 1.0.0
description:
  - Looks whether the bucket, container or directory is there, whether it keeps versions and locks objects, and whether
    the instructions for a recovery by hand, C(RECOVER.md), lie in it, and brings about what is missing.
  - Where the settings give the repository a C(lock), its bucket has to lock objects.
  - What the credentials in use cannot see is warned of, and never taken for what was asked.
    M(dbops.postgres.pg_repo_check) tries what they can do.
author:
  - The dbops.postgres contributors (!UNKNOWN)
options:
  state:
    description: The repository is there, as asked. Nothing here removes one.
    type: str
    choices: [present]
    default: present
  create:
    description:
      - Whether a missing bucket, container or directory is made. Of a directory only the last component is, so that
        a disk that is not mounted is not mistaken for a new repository.
    type: bool
    default: false
  versioning:
    description:
      - Whether the bucket must keep versions, so that what is deleted or overwritten can be brought back. What is not
        given is left as it is.
      - Azure switches them on for a whole account, with rights that no backup should have. The error says how.
    type: bool
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.cluster
  - dbops.postgres.cluster.host
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
notes:
  - Making a bucket and changing its settings take rights that the identity which writes backups should not have. Run
    it once with an administrator's credentials, in the environment or from elsewhere.
seealso:
  - module: dbops.postgres.pg_repository_info
  - module: dbops.postgres.pg_repo_check
"""

EXAMPLES = r"""
- name: Make the bucket, with versions, and put the instructions there
  dbops.postgres.pg_repository:
    cluster: main
    repository: aws
    create: true
    versioning: true

- name: Fail when the bucket is not as the settings want it
  dbops.postgres.pg_repository:
    cluster: main
    repository: aws
  check_mode: true
  register: repository
  failed_when: repository is changed or repository is failed
"""

RETURN = r"""
msg:
  description: What was done, or would be, in one sentence.
  returned: always
  type: str
  sample: Repository aws at s3://acme-backups was brought as it should be (create, recover_md).
steps:
  description: What there was to do, in order.
  returned: success
  type: list
  elements: str
  sample: [create, recover_md]
repository:
  description: The repository, as it is then.
  returned: success
  type: dict
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
    exists:
      description: Whether the bucket or directory is there.
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
      description: Whether the instructions are V(present), V(missing) or V(outdated).
      returned: success
      type: str
      sample: present
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: 'Make it, mend its settings, or let it be made (create: true).'
error_code:
  description: The kind of error, which stays the same between versions while words may change.
  returned: failure
  type: str
  sample: not_found
"""

from ..module_utils._module import HOST, DbopsModule
from ..module_utils.dbops.repo import present


def main() -> None:
    module = DbopsModule(
        {
            **HOST,
            "state": {"type": "str", "choices": ["present"], "default": "present"},
            "create": {"type": "bool", "default": False},
            "versioning": {"type": "bool"},
        }
    )
    wanted = present.Wanted(create=module.params["create"], versioning=module.params["versioning"])
    with module.session() as (settings, _progress):
        plan = present.plan(settings, wanted, module.params["repository"])
        result = plan.preview() if module.check_mode or not plan.needed else present.run(plan)
    module.exit(result, before=plan.before.describe(), after=plan.after.describe())


if __name__ == "__main__":
    main()
