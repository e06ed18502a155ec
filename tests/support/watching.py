# SPDX-License-Identifier: GPL-3.0-or-later
"""What anybody on the host could see while something ran: every command line of every process."""

from __future__ import annotations

import threading
from pathlib import Path


class CommandLines(threading.Thread):
    """Everything that was ever seen in a command line while it ran."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen = b""
        self._lines: set[bytes] = set()
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.01):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self._lines.add(path.read_bytes())
                except OSError:
                    continue

    def __enter__(self) -> CommandLines:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self.join()
        self.seen = b"\n".join(self._lines)
