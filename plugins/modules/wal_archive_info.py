#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: wal_archive_info
short_description: Tell how a cluster's continuous archiving stands
version_added: 1.0.0
description:
  - Asks the server what it runs with and where that comes from, looks what waits in C(pg_wal), and reads what each
    repository holds, so that gaps are seen before a restore needs what is missing.
  - It changes nothing. M(dbops.postgres.wal_archive) can prove that archiving works, with
    O(dbops.postgres.wal_archive#module:verify_round_trip=true).
options:
  repositories_too:
    description: Whether to read the repositories as well. Listing a large archive takes a while.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    details: It changes nothing anyway.
  diff_mode:
    support: none
  idempotent:
    support: full
extends_documentation_fragment:
  - dbops.postgres.attributes
  - dbops.postgres.attributes.action_group
  - dbops.postgres.cluster
  - dbops.postgres.cluster.host
  - dbops.postgres.connection
notes:
  - The server must be running, on the host that the module runs on.
seealso:
  - module: dbops.postgres.wal_archive
author:
  - The dbops.postgres contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Look at archiving
  dbops.postgres.wal_archive_info:
    cluster: main
  register: archiving

- name: Fail when it does not work, or when WAL is missing
  ansible.builtin.assert:
    that:
      - archiving.enabled
      - not archiving.archiver.failing
      - archiving.repositories | rejectattr('error', 'none') | length == 0
      - archiving.repositories | map(attribute='gaps') | flatten | length == 0
      - archiving.repositories | map(attribute='missing') | flatten | length == 0
"""

RETURN = r"""
msg:
  description: How it stands, in one sentence.
  returned: always
  type: str
  sample: Archiving of main is on; 0 files waiting.
cluster:
  description: The cluster.
  returned: success
  type: str
  sample: main
system_identifier:
  description: The server's system identifier. It has more digits than a JSON number is safe for.
  returned: success
  type: str
  sample: '7441234567890123456'
timeline:
  description: The server's timeline, at its last checkpoint.
  returned: success
  type: int
  sample: 1
in_recovery:
  description: Whether the server is a standby.
  returned: success
  type: bool
  sample: false
enabled:
  description: Whether the running server archives.
  returned: success
  type: bool
  sample: true
settings:
  description:
    - The settings that matter here, by name, as the server runs with them. Each has C(value), C(source),
      C(source_file), C(source_line) and C(pending_restart).
  returned: success
  type: dict
  sample:
    archive_mode:
      value: 'on'
      source: configuration file
      source_file: /etc/postgresql/18/main/conf.d/50-dbops-archiving.conf
      source_line: 3
      pending_restart: false
overrides:
  description: Lines of the server's configuration files that have no effect, because a later one says otherwise.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The setting.
      returned: success
      type: str
      sample: archive_command
    value:
      description: What the line says.
      returned: success
      type: str
      sample: cp %p /srv/archive/%f
    file:
      description: Where the line stands.
      returned: success
      type: str
      sample: /etc/postgresql/18/main/postgresql.conf
    line:
      description: Its number.
      returned: success
      type: int
      sample: 241
    overridden_by:
      description: File and number of the line that counts.
      returned: success
      type: str
      sample: /etc/postgresql/18/main/conf.d/50-dbops-archiving.conf:4
restart_pending:
  description: Those of the settings that wait for a restart.
  returned: success
  type: list
  elements: str
  sample: []
archiver:
  description: The server's C(pg_stat_archiver), and C(failing), which is true while the last attempt was a failure.
  returned: success
  type: dict
  sample:
    archived_count: 42
    last_archived_wal: 00000001000000000000002A
    last_archived_time: '2026-11-22T13:05:00.123Z'
    failed_count: 0
    last_failed_wal: null
    last_failed_time: null
    stats_reset: '2026-11-01T00:00:00.000Z'
    failing: false
backlog:
  description: What waits to be archived, C(files) in number, the C(first) of them, and for how many C(seconds) it has.
  returned: success
  type: dict
  sample:
    files: 0
    first: null
    seconds: null
worker:
  description: The detached worker. Whether it is C(alive), how many files it C(pushed) and the C(last_pushed).
  returned: success
  type: dict
  sample:
    alive: true
    pushed: 12
    last_pushed: 00000001000000000000002A
last_error:
  description: What went wrong last on this host, or V(null).
  returned: success
  type: str
  sample: null
repositories:
  description: What each repository holds of this server's WAL.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: What the repository is called.
      returned: success
      type: str
      sample: default
    segments:
      description: How many whole segments there are.
      returned: success
      type: int
      sample: 42
    stored_bytes:
      description: How much room all of it takes.
      returned: success
      type: int
      sample: 91234567
    first:
      description: The first segment, or V(null).
      returned: success
      type: str
      sample: '000000010000000000000001'
    last:
      description: The last one, or V(null).
      returned: success
      type: str
      sample: 00000001000000000000002A
    timelines:
      description: The timelines that have WAL or a history here.
      returned: success
      type: list
      elements: int
      sample: [1]
    partial:
      description: Unfinished last segments of timelines that a promotion left.
      returned: success
      type: list
      elements: str
      sample: []
    dropped:
      description: Segments that were given up to save a full disk.
      returned: success
      type: list
      elements: str
      sample: []
    gaps:
      description:
        - Segments that are not there although older and newer ones are. Each has C(first), C(last) and C(count).
      returned: success
      type: list
      elements: dict
      sample:
        - first: '000000010000000000000007'
          last: '000000010000000000000008'
          count: 2
    missing:
      description:
        - By C(backup), the C(segments) that it does not bring along, cannot do without, and that are not there.
      returned: success
      type: list
      elements: dict
      sample: []
    orphaned:
      description:
        - Segments that no backup leads to, because they are older than the first one, or behind a gap. Each has
          C(first), C(last) and C(count).
      returned: success
      type: list
      elements: dict
      sample: []
    window:
      description:
        - What can be reached. Each interval has C(timeline), C(start_lsn), C(start_time), C(end_lsn), C(bases) and
          C(broken_by), the missing segment at which it ends although there is more.
      returned: success
      type: list
      elements: dict
      sample:
        - timeline: 1
          start_lsn: 0/5000158
          start_time: '2026-11-22T13:05:14.456Z'
          end_lsn: 0/2B000000
          bases: [20261122T130500Z-full]
          broken_by: null
    error:
      description: Why it cannot be read, or V(null). The other values mean nothing then.
      returned: success
      type: str
      sample: null
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: Run it on the database host; archiving needs the server's own files.
error_code:
  description: The kind of failure.
  returned: failure
  type: str
  sample: unreachable
"""

from ..module_utils._module import CONNECTION, HOST, DbopsModule
from ..module_utils.dbops.wal.report import report


def main() -> None:
    module = DbopsModule({**CONNECTION, **HOST, "repositories_too": {"type": "bool", "default": True}})
    with module.session() as (settings, _progress):
        result = report(settings, with_repositories=module.params["repositories_too"])
    module.exit(result)


if __name__ == "__main__":
    main()
