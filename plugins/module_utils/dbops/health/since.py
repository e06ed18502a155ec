# SPDX-License-Identifier: GPL-3.0-or-later
"""Since when the policy has asked for a recovery window of that length, remembered on this host.

Nothing reaches further back than it was asked for: until so much time has passed, a shorter window is no fault. The
oldest backup would not do instead, because it would grow younger just when somebody deletes too much.
"""

from __future__ import annotations

import contextlib
import json
import os
from datetime import datetime
from typing import Optional

from ..errors import DbopsError
from ..pg.osuser import cluster_identity
from ..repo.record import from_iso, iso
from ..settings import Settings


def window_policy_since(settings: Settings, now: datetime) -> Optional[datetime]:
    """From now on where another length, or none, was asked for before. None where no window is, or nothing is kept."""
    wanted = settings.health.min_window_s
    if wanted is None:
        return None
    path = os.path.join(settings.state_path, "window-policy.json")
    since = _read(path, wanted)
    if since is not None and since <= now:  # a clock that went wrong must not silence anything for years
        return since
    with contextlib.suppress(OSError, DbopsError):
        identity = cluster_identity(settings.host.os_user, settings.host.data_directory)
        identity.make_private_directory(settings.state_path)
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as stream:
            json.dump({"min_window_s": wanted, "since": iso(now)}, stream)
        identity.give(temporary)  # root and the cluster's OS user look in turn
        os.replace(temporary, path)
        return now
    return None


def _read(path: str, wanted: int) -> Optional[datetime]:
    try:
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
        return from_iso(data["since"]) if data["min_window_s"] == wanted else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
