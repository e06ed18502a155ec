#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_seed
short_description: Fill a database with invented rows that obey its domain
version_added: 1.0.0
description:
  - Makes the rows that a profile describes, inside the server, and proves them with the profile's own invariants.
  - The same profile, seed and anchor give the same rows, on every PostgreSQL version and with any number of workers.
  - A profile that is loaded already is left as it is. Another one has to be removed first, with O(state=absent).
  - Refuses a database that holds rows of others in a table to be filled, or that looks like production.
options:
  profile:
    description:
      - The profile, a file on the managed host, or its content.
      - A file is YAML or JSON, and may stand on another one. C(docs/seeding.md) describes the format.
    type: raw
    required: true
  state:
    description:
      - With V(present) the profile is loaded, unless it is.
      - With V(absent) the rows that seeding made are deleted, and none besides.
    type: str
    choices: [present, absent]
    default: present
  database:
    description: The database. By default O(login_db).
    type: str
  scale:
    description: Every count of the profile is multiplied by it.
    type: int
    default: 1
  anchor:
    description:
      - The present of the rows, V(now) or a date or time such as V(2026-11-01). All their times are derived from it.
      - V(now) means the first load's time; a later run does not move it.
    type: str
    default: now
  workers:
    description: How many sessions load a big profile. A small one is loaded in one transaction unless this is above 1.
    type: int
  allow:
    description: The exact name of the database, if it looks like production and invented rows really belong there.
    type: str
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
author:
  - The dbops.postgres contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Have the medium profile in the test database
  dbops.postgres.pg_seed:
    cluster: main
    database: ridehailing
    profile: /srv/ridehailing/seed/medium.yml

- name: Take the seeded rows out again
  dbops.postgres.pg_seed:
    cluster: main
    database: ridehailing
    profile: /srv/ridehailing/seed/medium.yml
    state: absent
"""

RETURN = r"""
profile:
  description: The profile's name.
  returned: when O(state=present)
  type: str
  sample: medium
digest:
  description: A hash of the profile's content; the seed is part of it.
  returned: when O(state=present)
  type: str
  sample: 6d1c7a55b1c2e3f4
seed:
  description: The profile's seed.
  returned: when O(state=present)
  type: int
  sample: 52
scale:
  description: By what its counts were multiplied.
  returned: when O(state=present)
  type: int
  sample: 1
anchor:
  description: The present of the rows, in UTC.
  returned: when O(state=present)
  type: str
  sample: "2026-11-01T00:00:00Z"
rows:
  description: Seeded rows by table; in check mode those whose number the profile promises.
  returned: success
  type: dict
  sample: {users: 52, rides: 200, payments: 140}
hashes:
  description: A hash of each table's seeded rows, whatever their order. Equal content, equal hash, on any version.
  returned: when rows were made
  type: dict
  sample: {users: 1a28f0d2c4b8e6a1}
estimated_bytes:
  description: About how much the tables and their indexes would take.
  returned: in check mode, when rows would be made
  type: int
  sample: 412000
duration_s:
  description: How long it took, proof included.
  returned: when rows were made
  type: float
  sample: 0.15
rows_per_s:
  description: Rows made and proven per second.
  returned: when rows were made
  type: int
  sample: 6797
msg:
  description: What was done, in one sentence.
  returned: always
  type: str
  sample: Seeded 1020 rows of profile 'medium' into 'ridehailing' in 0.2 s; 28 invariants hold.
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: Reset first; it removes the rows that seeding made.
error_code:
  description: The kind of failure.
  returned: failure
  type: str
  sample: refused
"""

from ..module_utils._module import CONNECTION, HOST, DbopsModule
from ..module_utils.dbops.seed import profile, run


def main() -> None:
    module = DbopsModule(
        {
            **CONNECTION,
            **HOST,
            "profile": {"type": "raw", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "database": {"type": "str"},
            "scale": {"type": "int", "default": 1},
            "anchor": {"type": "str", "default": "now"},
            "workers": {"type": "int"},
            "allow": {"type": "str"},
        }
    )
    with module.session() as (settings, progress):
        wanted = profile.given(module.params["profile"])
        where = {"database": module.params["database"] or settings.connection.login_db, **module.given("allow")}
        if module.params["state"] == "absent":
            result = run.reset(settings, wanted, dry_run=module.check_mode, **where)
            module.exit(result, before={"rows": result["rows"]}, after={"rows": {}})
        how = module.given("scale", "anchor")
        if module.check_mode:
            result = run.preview(settings, wanted, **how, **where)
        else:
            result = run.seed(settings, wanted, progress, **how, **where, **module.given("workers"))
        module.exit(
            result, before={"rows": {} if result["changed"] else result["rows"]}, after={"rows": result["rows"]}
        )


if __name__ == "__main__":
    main()
