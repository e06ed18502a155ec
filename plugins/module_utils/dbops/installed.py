# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine that role agent put on this host, which schedules and PostgreSQL's own commands run."""

from __future__ import annotations

import os
import re
from typing import Optional

LIB_PATH = "/usr/local/lib/dbops"


def version(lib_path: str = LIB_PATH) -> Optional[str]:
    """None where there is none, or it cannot be read."""
    try:
        with open(os.path.join(lib_path, "dbops", "__init__.py"), encoding="utf-8") as stream:
            found = re.search(r'^__version__ = "([^"]+)"', stream.read(), re.MULTILINE)
    except OSError:
        return None
    return found.group(1) if found else None
