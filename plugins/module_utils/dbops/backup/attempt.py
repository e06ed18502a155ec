# SPDX-License-Identifier: GPL-3.0-or-later
"""How the last try at a backup went, on this host. A backup that failed leaves nothing in the repository to tell it.

The file is locked while the backup runs, and the kernel takes the lock back with the process: so one that says it runs
and is not locked was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import IO, Optional

from ..errors import DbopsError
from ..pg.osuser import Identity
from ..repo.record import from_iso, iso
from ..settings import Settings


@dataclass(frozen=True)
class Attempt:
    """`ok` None: it is running now."""

    method: str
    started: datetime
    ok: Optional[bool]
    words: str = ""


@contextlib.contextmanager
def attempted(settings: Settings, method: str, identity: Identity) -> Iterator[None]:
    """Write down that a backup begins, and how it ended. Whether that can be written changes nothing of the backup."""
    started = iso(datetime.now(timezone.utc))
    with contextlib.ExitStack() as stack:
        stream = None
        with contextlib.suppress(
            OSError, DbopsError
        ):  # another run's, a full disk, no right: then nothing is told of this one
            identity.make_private_directory(settings.state_path)
            stream = stack.enter_context(open(_path(settings, method), "a+", encoding="utf-8"))
            identity.give(stream.name)  # root and the cluster's OS user take backups in turn
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(stream, {"started": started, "ok": None})
        try:
            yield
        except BaseException as exc:
            words = exc.message if isinstance(exc, DbopsError) else type(exc).__name__
            _write(stream, {"started": started, "ok": False, "words": words})
            raise
        _write(stream, {"started": started, "ok": True})


def last(settings: Settings, method: str) -> Optional[Attempt]:
    """None where nobody tried yet, or nobody may know."""
    try:
        with open(_path(settings, method), encoding="utf-8") as stream:
            data = json.load(stream)
            started = from_iso(data["started"])
            if data["ok"] is not None:
                return Attempt(method, started, bool(data["ok"]), str(data.get("words", "")))
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Attempt(method, started, None)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Attempt(method, started, False, "It was killed.")


def _path(settings: Settings, method: str) -> str:
    return os.path.join(settings.state_path, f"last-{method}.json")


def _write(stream: Optional[IO[str]], content: dict[str, object]) -> None:
    if stream is None:
        return
    with contextlib.suppress(OSError):
        stream.seek(0)
        stream.truncate()
        stream.write(json.dumps(content))
        stream.flush()
