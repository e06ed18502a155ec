# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the configuration of a restored server lies: mostly in its data directory, on Debian outside of it.

A service manager knows that; whoever starts the server without one has to say it.
"""

from __future__ import annotations

import os
import shlex
from typing import Optional

from ..errors import Refused
from ..pg.datadir import holds, last_config_file


def start_options(data_directory: str, recorded: Optional[str], given: str, *, old: Optional[str] = None) -> str:
    """`given`, preceded by what the server must be told to find its configuration, in the words of pg_ctl -o.

    `recorded` is where a backup says that the configuration lay outside of the data directory, if it did; `old` a data
    directory of the cluster that has been run before. Refused when the file is not on this host.
    """
    # Debian's file names a directory of its own, which would be started in place of this one.
    here = f"-c data_directory={shlex.quote(data_directory)}"
    if "config_file" in given:
        return given if "data_directory" in given else f"{here} {given}"
    candidates = [path for path in (last_config_file(old) if old else None, recorded) if path]
    outside = [path for path in candidates if not holds(data_directory, path)]
    if not outside:
        return given
    for path in outside:
        if os.path.isfile(path):
            return f"-c config_file={shlex.quote(path)} {here} {given}".strip()
    raise Refused(
        f"The server cannot be started here: its configuration, {outside[0]}, is not on this host.",
        hint="Put it there first: a restore with config_directory unpacks what was backed up; or give start_options "
        "with -c config_file=PATH.",
    )
