# SPDX-License-Identifier: GPL-3.0-or-later
"""A scenario's server: `local_server.py <base> create|write|hashes|kill|remove`. PostgreSQL 18 of the wheel.

`create` fills it and writes `vars.json`, which molecule/inventory.yml reads; `write` adds rows; `hashes` prints as JSON
what it holds; `kill` is a power cut; `remove` leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from localpg.content import cluster_hashes, content_hashes
from localpg.installations import embedded
from localpg.processes import kill_below
from localpg.server import LocalServer

DATABASE = "shop"
SEED = """
create database shop;
\\connect shop
create table customers (id bigint generated always as identity primary key, name text not null);
create table orders (id bigint primary key, customer_id bigint not null references customers, amount numeric(10, 2));
create index on orders (customer_id);
create table "odd ""name"" ü" (note text);
insert into customers (name) select 'customer ' || n from generate_series(1, 1000) n;
insert into orders select n, 1 + n % 1000, n % 977 / 10.0 from generate_series(1, 50000) n;
insert into "odd ""name"" ü" values (E'tab\\t, quote '', backslash \\\\'), (null);
"""
# Everybody comes through the private socket, the backup role with its password.
HBA = ("local all postgres trust", "local all dbops scram-sha-256", "local replication dbops scram-sha-256")


def create(base: Path) -> None:
    base.mkdir(mode=0o755)
    server = LocalServer(embedded(cache=base / "wheel"), base / "pg", settings={"summarize_wal": "on"})
    server.create()
    server.set_hba(*HBA)
    server.start()
    server.psql(SEED)
    known = {
        "os_user": server.os_user.name,
        "data_directory": str(server.data),
        "bin_dir": str(server.installation.bin_dir),
        "unix_socket": str(server.sockets),
        "port": server.port,
    }
    (base / "vars.json").write_text(json.dumps(known))


def created(base: Path) -> LocalServer:
    known = json.loads((base / "vars.json").read_text())
    return LocalServer(embedded(cache=base / "wheel"), base / "pg", port=known["port"])


def write(base: Path) -> None:
    created(base).psql("insert into customers (name) select 'later ' || n from generate_series(1, 10) n;", DATABASE)


def hashes(base: Path) -> None:
    server = created(base)
    sys.stdout.write(json.dumps({**content_hashes(server, DATABASE), **cluster_hashes(server)}, sort_keys=True))


def remove(base: Path) -> None:
    if os.path.lexists(base):
        status = base.lstat()
        if base.is_symlink() or status.st_uid != os.geteuid():
            sys.exit(f"{base} is not ours: look at it and remove it by hand.")
        kill_below(base)
        shutil.rmtree(base)


if __name__ == "__main__":
    place, verb = Path(sys.argv[1]), sys.argv[2]
    {"create": create, "write": write, "hashes": hashes, "kill": kill_below, "remove": remove}[verb](place)
