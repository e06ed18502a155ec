# SPDX-License-Identifier: GPL-3.0-or-later
"""The service of systemd that a server runs in, where it does: it is not pg_ctl's alone to stop and start."""

from __future__ import annotations

import os
import re
from typing import Optional

from .datadir import postmaster_pid

# A server that was started by hand may be in a service too, of a terminal or of a job: that one knows nothing of it.
_SERVICE = re.compile(r"/([^/]*(?:postgres|pgsql|patroni)[^/]*\.service)$", re.I | re.M)


def service_of(data_directory: str) -> Optional[str]:
    """By the running server's control group, such as postgresql@17-main.service."""
    pid = postmaster_pid(data_directory)
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as stream:
            return service_in(stream.read())
    except OSError:
        return None


def systemd_runs() -> bool:
    """As sd_booted(3) finds out."""
    return os.path.isdir("/run/systemd/system")


def service_in(cgroups: str) -> Optional[str]:
    found = _SERVICE.search(cgroups)
    return found.group(1) if found else None
