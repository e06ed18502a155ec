#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: dbops_command
short_description: Install the C(dbops) command and its engine on a host
version_added: 1.0.0
description:
  - Puts the engine of this collection, as it is on the controller, on the host, and a command that starts it. Scheduled
    backups and C(archive_command) need no Ansible then.
  - Files of an older version that are no longer part of the engine are removed; nothing outside O(lib_path) is.
  - The role P(dbops.postgres.agent#role) calls it. The libraries that the engine imports are the role's business too.
options:
  lib_path:
    description:
      - The directory that the engine goes to, in a folder C(dbops) beside the file C(VERSION).
      - The modules look at the default to warn when host and controller have different versions.
    type: path
    default: /usr/local/lib/dbops
  bin_path:
    description: The command.
    type: path
    default: /usr/local/bin/dbops
  python:
    description: The interpreter that the command starts, by its absolute path. It must be Python 3.9 or later.
    type: path
    default: /usr/bin/python3
  check_settings:
    description:
      - The content of a settings file, which the engine checks before anything is touched, in check mode too.
      - It is not written anywhere.
    type: dict
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
extends_documentation_fragment:
  - dbops.postgres.attributes
seealso:
  - module: dbops.postgres.pg_backup
author:
  - The dbops.postgres contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Install the command for all
  dbops.postgres.dbops_command:

- name: Install it below a home directory, for a user without root's rights
  dbops.postgres.dbops_command:
    lib_path: "{{ ansible_facts['user_dir'] }}/.local/lib/dbops"
    bin_path: "{{ ansible_facts['user_dir'] }}/.local/bin/dbops"
"""

RETURN = r"""
version:
  description: The version that was installed, or in check mode would be.
  returned: success
  type: str
  sample: 1.0.0
version_before:
  description: The version that was there, or null.
  returned: success
  type: str
  sample: 1.0.0
command:
  description: The command's path.
  returned: success
  type: str
  sample: /usr/local/bin/dbops
lib_path:
  description: The engine's directory.
  returned: success
  type: str
  sample: /usr/local/lib/dbops
python:
  description: The interpreter that the command starts.
  returned: success
  type: str
  sample: /usr/bin/python3
written:
  description: The files that were written, or in check mode would be.
  returned: success
  type: list
  elements: str
  sample: [/usr/local/bin/dbops]
removed:
  description: The files that were removed, or in check mode would be.
  returned: success
  type: list
  elements: str
  sample: []
msg:
  description: What was done, in one sentence.
  returned: always
  type: str
  sample: Installed dbops 1.0.0 over nothing in /usr/local/lib/dbops.
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: Name a newer interpreter by its absolute path.
error_code:
  description: The kind of failure.
  returned: failure
  type: str
  sample: bad_input
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.dbops.cli import install
from ..module_utils.dbops.errors import DbopsError
from ..module_utils.dbops.settings import from_mapping


def everything_that_the_command_needs() -> None:
    """Never called: Ansible packs what a module imports, inside functions too, and what is packed gets installed."""
    from ..module_utils.dbops.cli import check_settings, main  # noqa: F401


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "lib_path": {"type": "path", "default": "/usr/local/lib/dbops"},
            "bin_path": {"type": "path", "default": "/usr/local/bin/dbops"},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "check_settings": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    try:
        if module.params["check_settings"] is not None:
            from_mapping(module.params["check_settings"])
        plan = install.plan(module.params["lib_path"], module.params["bin_path"], module.params["python"])
        result = plan.preview() if module.check_mode else install.run(plan)
    except DbopsError as error:
        module.fail_json(msg=str(error), hint=error.hint, error_code=error.error_code, exception=error.__cause__)
    after = {"version": result["version"]}
    before = {"version": result["version_before"]} if plan.needed else after
    module.exit_json(**result, diff=[{"before": before, "after": after}, *_files(result)])


def _files(result: dict[str, Any]) -> list[dict[str, str]]:
    """What is written and removed; a first installation is told in one line."""
    written = result["written"] if result["version_before"] else [f"{len(result['written'])} files"]
    shown = [*(f"write {path}" for path in written), *(f"remove {path}" for path in result["removed"])]
    return [{"prepared": "\n".join(shown) + "\n"}] if result["changed"] else []


if __name__ == "__main__":
    main()
