# SPDX-License-Identifier: GPL-3.0-or-later
"""A new pair of files, numbered after the highest there is."""

from __future__ import annotations

import os
import re
from datetime import datetime
from typing import Any

from ..errors import BadInput, Busy
from .files import scan

DIGITS = 6
_UP = """-- What changes, and why. What it relies on: which application versions run, how many rows there are.
set local lock_timeout = '3s';

"""
_DOWN = """-- The way back, exactly; or one line that begins with "irreversible:" and says why there is none.
set local lock_timeout = '3s';

"""


def create(directory: str, name: str, *, timestamp: datetime | None = None) -> dict[str, Any]:
    """Make NNNNNN_name.up.sql and .down.sql (with `timestamp`, numbered by it); neither may exist."""
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if not slug:
        raise BadInput(f"{name!r} leaves nothing to name a file with.", hint="Use letters and digits.")
    if timestamp is not None:
        number = timestamp.strftime("%Y%m%d%H%M%S")
    else:
        newest = max((item.version for item in scan(directory).files), default=0)
        number = f"{newest + 1:0{DIGITS}d}"
    paths = [os.path.join(directory, f"{number}_{slug}.{half}.sql") for half in ("up", "down")]
    for path, text in zip(paths, (_UP, _DOWN)):
        try:
            with open(path, "x", encoding="utf-8") as stream:
                stream.write(text)
        except FileExistsError as exc:
            raise Busy(f"{path} exists already.", hint="Somebody made it just now: run again.") from exc
    return {
        "changed": True,
        "msg": f"Created {' and '.join(os.path.basename(path) for path in paths)}.",
        "files": paths,
    }
