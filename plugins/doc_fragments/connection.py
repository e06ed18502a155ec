# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the server is reached; the names are those of the collection community.postgresql."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  login_host:
    description: The host that runs the server. Empty or V(localhost) means a socket, if there is one.
    type: str
  login_port:
    description: The server's port. By default the settings file's, else the environment's E(PGPORT), else V(5432).
    type: int
  login_user:
    description:
      - The role to log in as. By default the settings file's, else the environment's E(PGUSER), else V(postgres).
    type: str
  login_password:
    description:
      - The role's password.
      - It reaches PostgreSQL's programs in a private temporary file, never on a command line.
      - Where a passfile (C(~/.pgpass), or C(passfile) in O(connect_params)) or peer authentication will do, leave it
        out.
    type: str
  login_unix_socket:
    description:
      - The directory of the server's socket.
      - By default it is found in the data directory's C(postmaster.pid), when O(data_directory) is known, else libpq
        decides.
    type: path
  login_db:
    description: The database to connect to. By default the settings file's, else V(postgres).
    type: str
  ssl_mode:
    description: How much of TLS to insist on, see libpq's C(sslmode). By default the settings file's, else V(prefer).
    type: str
    choices: [disable, allow, prefer, require, verify-ca, verify-full]
  ca_cert:
    description: The file of the certificate authority that signed the server's certificate.
    type: path
  ssl_cert:
    description: The file of the client's certificate.
    type: path
  ssl_key:
    description: The file of the client's key.
    type: path
  connect_params:
    description:
      - More of libpq's parameters, such as C(passfile) or C(service).
      - C(password) and C(sslpassword) are refused here, since they would show in process lists.
    type: dict
  session_role:
    description: The role to switch to after logging in.
    type: str
requirements:
  - psycopg2 on the host (the package python3-psycopg2)
"""
