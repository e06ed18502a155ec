# SPDX-License-Identifier: GPL-3.0-or-later
"""Recovery to a target, written into a restored data directory before it gets its place; and tidied when it is done.

Everything that replay needs lies in `dbops_recovery/` of the data directory itself: the script for restore_command, the
engine that it runs, its settings. So a server that was stopped on the way, or by a store that went away, goes on where
it was when it is simply started again, by whomever; and once it is promoted, by whomever, PostgreSQL itself has that
taken back which would stop a standby made from it at the same target: by recovery_end_command.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
from dataclasses import asdict, dataclass
from typing import Any, Optional

from ..pg.osuser import Identity
from ..pg.tools import Tools
from ..settings import Settings
from ..wal.runnable import runnable
from ..wal.scripts import Place, get_script
from .choose import Route
from .durable import write_durably
from .isolation import DIRECTORY, Side, complete, isolation, rewrite
from .target import BLOCK_BEGIN, BLOCK_END, parameters

# PostgreSQL calls it in the data directory. Nothing of it is needed for the data: it fails with a warning in the log.
_END = f"""\
#!/bin/sh
# recovery_end_command: takes from postgresql.auto.conf what was only for the recovery that has ended.
set -eu
umask 077
file=postgresql.auto.conf
sed '/^{BLOCK_BEGIN}$/,/^{BLOCK_END}$/{{ /^recovery_/d; /^restore_command/d; }}' "$file" > "$file.dbops"
sync "$file.dbops"
mv -f "$file.dbops" "$file"
sync .
"""
_END_IN_PLACE = 'rm -rf "${0%/*}"\n'  # nor is the directory needed that this script lies in


@dataclass(frozen=True)
class Recovery:
    """`data_directory` is the final place; what is prepared may still lie elsewhere."""

    route: Route
    data_directory: str
    settings: Settings
    only_repository: Optional[str]  # the one that the caller named; None: a segment is missing when all say so
    codecs: frozenset[str]
    side: Optional[Side]
    engine: str  # the directory that holds the package; a copy of it is what restore_command runs

    def describe(self, base_bytes: int) -> dict[str, Any]:
        side = self.side
        return {
            **self.route.describe(base_bytes),
            "mode": "side" if side else "in_place",
            "port": side.port if side else None,
            "socket_directory": side.socket_directory if side else None,
        }

    @property
    def spool_path(self) -> str:
        """Of this data directory alone: the real cluster's spool is in use."""
        mark = hashlib.sha256(self.data_directory.encode()).hexdigest()[:12]
        return os.path.join(self.settings.state_path, f"recovery-{mark}")


def prepare(recovery: Recovery, root: str, tools: Tools) -> None:
    """Write everything into `root`, the complete data directory that is still to be moved to its place."""
    identity = tools.identity
    directory = os.path.join(root, DIRECTORY)
    shutil.rmtree(directory, ignore_errors=True)
    os.mkdir(directory, 0o700)
    identity.give(directory)
    settings = parameters(recovery.route.target, restore_command=_write_command(recovery, directory, identity))
    if recovery.side is not None:
        settings.update(isolation(recovery.side, recovery.data_directory, root, tools))
        complete(root)
    end = os.path.join(directory, "end")
    write_durably(end, (_END + ("" if recovery.side else _END_IN_PLACE)).encode(), 0o700)
    settings["recovery_end_command"] = _as_command(os.path.join(recovery.data_directory, DIRECTORY, "end"))
    rewrite(root, settings)
    write_durably(os.path.join(root, "recovery.signal"), b"")


def settle(recovery: Recovery, tools: Tools) -> None:
    """After a promotion: take back what was only for this recovery, and keep what isolates a side instance.

    Left behind, a recovery target would stop any standby that is made from this cluster.
    """
    root = recovery.data_directory
    if recovery.side is None:
        rewrite(root, {})
        shutil.rmtree(os.path.join(root, DIRECTORY), ignore_errors=True)
    else:
        rewrite(root, isolation(recovery.side, recovery.data_directory, root, tools))
    shutil.rmtree(recovery.spool_path, ignore_errors=True)


def _write_command(recovery: Recovery, directory: str, identity: Identity) -> str:
    """The script of restore_command, its settings and its engine; how PostgreSQL is to call it."""
    final = os.path.join(recovery.data_directory, DIRECTORY)
    types = {item.type for item in recovery.settings.repositories}
    _lib, python = runnable(recovery.engine, directory, recovery.codecs | types, identity)
    config = os.path.join(directory, "settings.json")
    write_durably(config, (json.dumps(_settings(recovery), indent=1) + "\n").encode())
    place = Place(
        recovery.settings.cluster,
        os.path.join(final, "settings.json"),
        recovery.spool_path,
        python,
        (os.path.join(final, "lib"),),
    )
    write_durably(os.path.join(directory, "get"), get_script(place).encode(), 0o700)
    return f"{_as_command(os.path.join(final, 'get'))} %f %p"


def _as_command(path: str) -> str:
    """%f, %p and %r are PostgreSQL's; a percent sign in a path would be taken for one of them."""
    return shlex.quote(path).replace("%", "%%")


def _settings(recovery: Recovery) -> dict[str, Any]:
    """The cluster's settings as the script needs them: this data directory, and the repositories that count."""
    data: dict[str, Any] = _without_nones(asdict(recovery.settings))
    data["host"]["data_directory"] = recovery.data_directory
    data["host"]["state_path"] = recovery.settings.state_path
    data["archiving"]["spool_path"] = recovery.spool_path
    if recovery.only_repository is not None:
        data["repositories"] = [item for item in data["repositories"] if item["name"] == recovery.only_repository]
    return data


def _without_nones(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nones(item) for key, item in value.items() if item is not None}
    return [_without_nones(item) for item in value] if isinstance(value, (list, tuple)) else value


def resume_command(tools: Tools, data_directory: str, log: str, options: str) -> str:
    """What a person types, as root or as the cluster's OS user, to have a stopped recovery go on."""
    words = [os.path.join(tools.bin_dir, "pg_ctl"), "start", "-D", data_directory, "-l", log]
    if tools.identity.needs_switch:
        words = ["runuser", "-u", tools.identity.name, "--", *words]
    return shlex.join([*words, *(["-o", options] if options else [])])
