# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of archiving, if the operator wants one: which file went out or came back when, and what went wrong.

It is opened anew for each line, so that it may be rotated at any time without telling anybody.
"""

from __future__ import annotations

import contextlib
import os
from datetime import datetime, timezone

from ..settings import Settings


def note(settings: Settings, who: str, text: str) -> None:
    """Append one line. One that cannot be written is lost: neither archiving nor recovery waits for a log."""
    path = settings.archiving.log_path
    if path is None:
        return
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = f"{now} {who}[{os.getpid()}] {' '.join(text.split())}\n"
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            os.write(descriptor, line.encode("utf-8", "backslashreplace"))
        finally:
            os.close(descriptor)
