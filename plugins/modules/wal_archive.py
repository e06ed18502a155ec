#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: wal_archive
short_description: Switch a cluster's continuous archiving on or off, and prove that it works
version_added: 1.0.0
description:
  - Writes the two scripts that the server calls, as C(archive_command) and C(restore_command), below the cluster's
    state directory, and one file C(conf.d/50-dbops-archiving.conf) beside C(postgresql.conf) with C(wal_level),
    C(archive_mode), C(archive_command), C(archive_timeout), C(restore_command) and, from PostgreSQL 17,
    C(summarize_wal).
  - Where C(postgresql.conf) does not read C(conf.d) yet, an C(include_dir) line is added at its end.
  - It never restarts the server; RV(restart_required) says that somebody has to.
  - A C(wal_level) of V(logical) that is set elsewhere stays.
options:
  state:
    description:
      - V(present) has the cluster archive into all repositories of its settings file.
      - V(absent) removes the configuration file. The scripts stay, because a server that was not reloaded yet calls
          them, and so does everything that is archived.
    type: str
    choices: [present, absent]
    default: present
  archive_timeout:
    description:
      - After how many seconds a segment is archived although it is not full. It bounds what a quiet cluster can lose.
    type: int
    default: 300
  summarize_wal:
    description: Whether the server summarizes WAL, which incremental backups need. Only from PostgreSQL 17.
    type: bool
    default: true
  take_over:
    description:
      - Replace an C(archive_command) that C(postgresql.conf) or a file that it includes has for another tool. The
        archive of that tool gets no more WAL. Without this option the module refuses.
    type: bool
    default: false
  reload:
    description: Have the server read its configuration again when that is needed, and wait until it runs with it.
    type: bool
    default: false
  verify_round_trip:
    description:
      - Finish the segment that is being written, and wait until that very segment can be read back, verified, from each
        repository. The module fails if a required repository has not got it in time. A switched segment does not count
        as a change.
      - Not possible on a standby, nor before the restart that switches C(archive_mode) on.
      - In check mode nothing is switched, and RV(round_trip) is V(null).
    type: bool
    default: false
  timeout:
    description: How many seconds to wait for the round trip.
    type: int
    default: 60
  lib_path:
    description: Where the role P(dbops.postgres.agent#role) has put the engine, which the scripts start.
    type: path
    default: /usr/local/lib/dbops
  python:
    description: The interpreter that the scripts start, by its absolute path.
    type: path
    default: /usr/bin/python3
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.cluster
  - dbops.postgres.cluster.host
  - dbops.postgres.connection
notes:
  - The server must be running, on the host that the module runs on. The settings file must exist, since the scripts
    read it.
  - It refuses when C(postgresql.auto.conf), the server's command line or a file that is read later says otherwise than
    the file that it would write, and names the place.
  - O(reload) needs a superuser, or EXECUTE on C(pg_reload_conf()); O(verify_round_trip) needs one, or EXECUTE on
    C(pg_switch_wal()).
seealso:
  - module: dbops.postgres.wal_archive_info
author:
  - The dbops.postgres contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Set archiving up
  dbops.postgres.wal_archive:
    cluster: main
    reload: true
  register: archiving

- name: Restart the server if that is what it takes
  ansible.builtin.service:
    name: postgresql@18-main
    state: restarted
  when: archiving.restart_required

- name: Prove that what is written now comes back from every repository
  dbops.postgres.wal_archive:
    cluster: main
    verify_round_trip: true
    timeout: 120
"""

RETURN = r"""
configuration_file:
  description: The file that holds the settings.
  returned: success
  type: str
  sample: /etc/postgresql/18/main/conf.d/50-dbops-archiving.conf
archive_script:
  description: What C(archive_command) calls.
  returned: success
  type: str
  sample: /var/lib/dbops/main/scripts/archive
restore_script:
  description: What C(restore_command) calls.
  returned: success
  type: str
  sample: /var/lib/dbops/main/scripts/restore
written:
  description: Files that were written, or in check mode would be.
  returned: success
  type: list
  elements: str
  sample: [/etc/postgresql/18/main/conf.d/50-dbops-archiving.conf]
removed:
  description: Files that were removed, or in check mode would be.
  returned: success
  type: list
  elements: str
  sample: []
settings:
  description: The settings that the server's files amount to afterwards.
  returned: success
  type: dict
  sample:
    archive_mode: 'on'
    archive_timeout: '300'
reload_required:
  description: Whether the server has to read its configuration again.
  returned: success
  type: bool
  sample: false
restart_required:
  description: Whether the server has to be restarted.
  returned: success
  type: bool
  sample: true
waits_for_reload:
  description: The settings that a reload would change.
  returned: success
  type: list
  elements: str
  sample: []
waits_for_restart:
  description: The settings that a restart would change.
  returned: success
  type: list
  elements: str
  sample: [archive_mode]
round_trip:
  description: The proof, or V(null) when there was none.
  returned: success
  type: dict
  contains:
    segment:
      description: The segment that went there and back.
      returned: success
      type: str
      sample: 00000001000000000000002A
    seconds:
      description: How long all of it took.
      returned: success
      type: float
      sample: 0.412
    repositories:
      description: By repository, whether it can be read there, since when, and if not, why.
      returned: success
      type: list
      elements: dict
      sample:
        - repository: default
          required: true
          readable: true
          seconds: 0.412
          why: null
msg:
  description: What was done, in one sentence or two.
  returned: always
  type: str
  sample: Archiving is set up in /etc/postgresql/18/main/conf.d/50-dbops-archiving.conf.
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: Remove it there; from postgresql.auto.conf with ALTER SYSTEM RESET.
error_code:
  description: The kind of failure.
  returned: failure
  type: str
  sample: refused
"""

from ..module_utils._module import CONNECTION, HOST, DbopsModule
from ..module_utils.dbops.wal import roundtrip, setup


def main() -> None:
    module = DbopsModule(
        {
            **CONNECTION,
            **HOST,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "archive_timeout": {"type": "int", "default": 300},
            "summarize_wal": {"type": "bool", "default": True},
            "take_over": {"type": "bool", "default": False},
            "reload": {"type": "bool", "default": False},
            "verify_round_trip": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 60},
            "lib_path": {"type": "path", "default": "/usr/local/lib/dbops"},
            "python": {"type": "path", "default": "/usr/bin/python3"},
        }
    )
    asked = module.params
    with module.session() as (settings, _progress):
        request = setup.Request(
            present=asked["state"] == "present",
            archive_timeout_s=asked["archive_timeout"],
            summarize_wal=asked["summarize_wal"],
            take_over=asked["take_over"],
            reload=asked["reload"],
            python=asked["python"],
            lib_path=asked["lib_path"],
            config=asked["config"],
        )
        plan = setup.plan(settings, request)
        result = plan.preview() if module.check_mode else setup.run(plan)
        result["round_trip"] = None
        if asked["verify_round_trip"] and not module.check_mode:
            result = roundtrip.added(result, settings, timeout_s=asked["timeout"])
        module.exit(result, before=plan.shown_before(), after=plan.shown_after())


if __name__ == "__main__":
    main()
