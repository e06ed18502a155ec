#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's server on this machine, with the variables that `make demo` has written; -e overrides each of them.

A script, so that they are read once and not for every variable of every task. DBOPS_DEMO names another directory than
the usual one.
"""

from __future__ import annotations

import json
import os
import sys

path = os.path.join(os.environ.get("DBOPS_DEMO") or f"/var/tmp/dbops-demo-{os.geteuid()}", "vars.json")
try:
    with open(path, encoding="utf-8") as stream:
        written = json.load(stream)
except FileNotFoundError:
    sys.exit(f"There is no {path}. Next: make demo")

fixed = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    "dbops_become": False,
    "dbops_retention": {"keep_within": "14d"},
}
json.dump({"postgres": {"hosts": ["demo"], "vars": {**fixed, **written}}, "_meta": {"hostvars": {}}}, sys.stdout)
