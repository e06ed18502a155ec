#!/usr/bin/python
# Copyright (c) 2026, the dbops.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_repo_check
short_description: Probe what the credentials in use can do in a repository
version_added: 1.0.0
description:
  - Probes list, write, read, decrypt and delete in each repository, with the credentials that backups use there, and
    says of each whether it passed, failed, or could not be verified, which is no pass.
  - It writes one small object of its own, C(<cluster>/probes/<UTC>-<random>), and tries to delete every version of it.
    Where a lock denies that, the object stays behind, locked for three minutes. No backup is touched.
author:
  - The dbops.postgres contributors (!UNKNOWN)
options:
  fail_on:
    description:
      - When the task fails, V(fail) when a probe failed, V(could_not_verify) also when one could not be verified,
        V(never) not at all.
    type: str
    choices: [fail, could_not_verify, never]
    default: fail
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.cluster
attributes:
  check_mode:
    support: full
    details: Nothing is written, so that writing and deleting could not be verified.
  diff_mode:
    support: none
  idempotent:
    support: full
seealso:
  - module: dbops.postgres.pg_repo_sync
"""

EXAMPLES = r"""
- name: See whether backups would work, and whether this host could destroy them
  dbops.postgres.pg_repo_check:
    cluster: main
"""

RETURN = r"""
msg:
  description: What was found, in one sentence.
  returned: always
  type: str
  sample: '6 of 6 probes passed: pass.'
verdict:
  description: V(fail) when one probe failed, V(pass) when all passed, else V(could_not_verify).
  returned: success
  type: str
  sample: pass
checks:
  description: The probes, for each repository.
  returned: success
  type: list
  elements: dict
  contains:
    repository:
      description: The repository.
      returned: success
      type: str
      sample: default
    probe:
      description: What was tried.
      returned: success
      type: str
      sample: delete denied
    verdict:
      description: V(pass), V(fail) or V(could_not_verify).
      returned: success
      type: str
      sample: pass
    detail:
      description: What was seen.
      returned: success
      type: str
      sample: The probe is still there.
    advice:
      description: What to do about it, empty for a pass.
      returned: success
      type: str
      sample: ''
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: Mend what failed, then check again.
error_code:
  description: The kind of error, which stays the same between versions while words may change.
  returned: failure
  type: str
  sample: error
"""

from ..module_utils._module import DbopsModule
from ..module_utils.dbops.errors import DbopsError
from ..module_utils.dbops.repo.check import check

BAD = {"fail": ("fail",), "could_not_verify": ("fail", "could_not_verify"), "never": ()}


def main() -> None:
    module = DbopsModule({"fail_on": {"type": "str", "choices": list(BAD), "default": "fail"}})
    with module.session() as (settings, _progress):
        result = check(settings, repository=module.params["repository"], read_only=module.check_mode)
        if result["verdict"] in BAD[module.params["fail_on"]]:
            told = [
                f"{item['repository']}: {item['probe']}: {item['detail']} {item['advice']}"
                for item in result["checks"]
                if item["verdict"] != "pass"
            ]
            raise DbopsError(" ".join([result["msg"], *told]), hint="Mend what failed, then check again.")
    module.exit(result)


if __name__ == "__main__":
    main()
