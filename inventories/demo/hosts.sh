#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The demo's server on this machine, with the variables that `make demo` has written; -e overrides each of them.
# A script, so that they are read once and not for every variable of every task. DBOPS_DEMO names another directory than
# the usual one.
set -eu
path=${DBOPS_DEMO:-/var/tmp/dbops-demo-$(id -u)}/vars.json
if [ ! -e "$path" ]; then
    echo "There is no $path. Next: make demo" >&2
    exit 1
fi
cat <<INVENTORY
{
    "_meta": {"hostvars": {}},
    "all": {
        "vars": {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "dbops_become": false,
            "dbops_retention": {"keep_within": "14d"}
        }
    },
    "postgres": {"hosts": ["demo"], "vars": $(cat "$path")}
}
INVENTORY
