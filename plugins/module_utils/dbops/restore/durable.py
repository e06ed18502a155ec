# SPDX-License-Identifier: GPL-3.0-or-later
"""Getting gigabytes of new files safely to disk without an fsync for each.

`sync --file-system` (syncfs) flushes one whole file system and reports write errors; started now and then in the
background it overlaps with unpacking, and the last one, waited for, is what counts.
"""

from __future__ import annotations

import os
import subprocess
from typing import Optional

from ..errors import Unreachable

_EVERY_BYTES = 512 << 20


class Flusher:
    def __init__(self, path: str) -> None:
        self._path = path
        self._running: Optional[subprocess.Popen[bytes]] = None
        self._since = 0

    def wrote(self, size: int) -> None:
        self._since += size
        if self._since >= _EVERY_BYTES and (self._running is None or self._running.poll() is not None):
            self._since = 0
            self._running = self._start()

    def finish(self) -> None:
        """Return when everything is on disk; Unreachable when the kernel says it is not."""
        if self._running is not None:
            self._running.wait()
        process = self._start()
        _out, errors = process.communicate()
        if process.returncode != 0:
            raise Unreachable(
                f"Cannot flush {self._path} to disk: {errors.decode('utf-8', 'replace').strip()}.",
                hint="Check the disk (dmesg), then restore again.",
            )

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # pylint: disable=ansible-bad-function  # beside us, and no module at hand
            ["sync", "--file-system", self._path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )


def fsync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: str, content: bytes, mode: int = 0o600) -> None:
    """Write beside, fsync, rename into place, fsync the directory; the file belongs to the directory's owner."""
    temporary = f"{path}.dbops"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode & 0o777)
    with os.fdopen(descriptor, "wb") as stream:
        parent = os.stat(os.path.dirname(path))
        if os.geteuid() == 0:
            os.fchown(stream.fileno(), parent.st_uid, parent.st_gid)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(temporary, path)
    fsync_directory(os.path.dirname(path))
