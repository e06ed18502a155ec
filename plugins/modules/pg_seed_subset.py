#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: pg_seed_subset
short_description: Copy an anonymised subset of a restored backup
version_added: 1.0.0
description:
  - Chooses rows of a root table, such as a number of users, and copies them with all that belongs to them under their
    foreign keys into another database.
  - Every column that can hold anything is masked by a rule, with a keyed HMAC. Equal values stay equal, and so does how
    often they come. A column without a rule is refused.
  - Proves that no original value is in the copy, or leaves nothing behind.
  - The source is only read. A copy of the same rules, key, number and source is left as it is.
options:
  rules:
    description:
      - The rules, a YAML or JSON file on the managed host, or their content. C(docs/seeding.md) describes the format.
    type: raw
    required: true
  source_database:
    description: The database of the restored backup.
    type: str
    required: true
  source_host:
    description: The host of the restored backup, if it is another than O(login_host).
    type: str
  source_unix_socket:
    description: The socket directory of the restored backup, if it is another than O(login_unix_socket).
    type: path
  source_port:
    description: The port of the restored backup, if it is another than O(login_port).
    type: int
  database:
    description: The database to fill. Its tables are there, and empty but for reference rows. By default O(login_db).
    type: str
  roots:
    description: How many rows of the rules' root table are taken.
    type: int
    required: true
  key_file:
    description:
      - A file that only its owner can read, with a key of at least 32 bytes.
      - The same key masks the same way each time. Who has it can find out whether a value was there.
    type: path
    required: true
  allow:
    description: The exact name of O(database), if it looks like production and the copy really belongs there.
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
- name: Give the developers a hundred riders of last night's backup, as nobody can know them
  dbops.postgres.pg_seed_subset:
    cluster: main
    rules: /srv/ridehailing/seed/anonymise.yml
    source_database: ridehailing
    source_unix_socket: /var/tmp/restored
    source_port: 5999
    database: ridehailing_dev
    roots: 100
    key_file: /etc/dbops/subset.key
"""

RETURN = r"""
rows:
  description: Rows by table that were copied, or would be. Empty when they are there already.
  returned: success
  type: dict
  sample: {users: 231, rides: 1040}
roots:
  description: How many roots were chosen.
  returned: when rows were copied
  type: int
  sample: 100
source:
  description: Which cluster's database they are of, by system identifier.
  returned: when rows were copied
  type: str
  sample: 7412345678901234567/ridehailing
originals:
  description: How many different original values were looked for.
  returned: when rows were copied, except in check mode
  type: int
  sample: 9120
checked:
  description: In how many different values of the copy.
  returned: when rows were copied, except in check mode
  type: int
  sample: 14307
msg:
  description: What was done, in one sentence.
  returned: always
  type: str
  sample: Would copy 4210 rows of 24 tables from 7412345678901234567/ridehailing into 'ridehailing_dev'.
hint:
  description: What to do next.
  returned: failure
  type: str
  sample: Give these columns a mask; a column that is kept must not repeat what others mask.
error_code:
  description: The kind of failure.
  returned: failure
  type: str
  sample: corrupt
"""

from ..module_utils._module import CONNECTION, HOST, DbopsModule
from ..module_utils.dbops.seed import subset, subset_rules


def main() -> None:
    module = DbopsModule(
        {
            **CONNECTION,
            **HOST,
            "rules": {"type": "raw", "required": True},
            "source_database": {"type": "str", "required": True},
            "source_host": {"type": "str"},
            "source_unix_socket": {"type": "path"},
            "source_port": {"type": "int"},
            "database": {"type": "str"},
            "roots": {"type": "int", "required": True},
            "key_file": {"type": "path", "required": True, "no_log": False},  # a path, and no key
            "allow": {"type": "str"},
        }
    )
    with module.session() as (settings, progress):
        params = module.params
        result = subset.take(
            settings,
            subset_rules.given(params["rules"]),
            progress,
            source=subset.Source(
                params["source_database"],
                params["source_host"] or "",
                params["source_unix_socket"] or "",
                params["source_port"] or 0,
            ),
            database=params["database"] or settings.connection.login_db,
            roots=params["roots"],
            key_file=params["key_file"],
            dry_run=module.check_mode,
            **module.given("allow"),
        )
        module.exit(result, before={"rows": {}}, after={"rows": result["rows"]})


if __name__ == "__main__":
    main()
