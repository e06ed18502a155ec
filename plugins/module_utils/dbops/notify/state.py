# SPDX-License-Identifier: GPL-3.0-or-later
"""What every channel was told, and how often a delivery went well or not: one file that outlives every run.

It lies in the cluster's state directory, which is not ours to make: it belongs to the cluster's OS user.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Optional

from ..errors import Busy, Unreachable
from .due import Told

_FORMAT = 1
_FILE = "notifications.json"
_PATIENCE_S = 60.0  # another check delivers, at most as long as its channels' timeouts


@dataclass(frozen=True)
class Channel:
    told: Told = field(default_factory=Told)
    sent: int = 0
    failed: int = 0

    def counted(self, *, sent: bool) -> Channel:
        return replace(self, sent=self.sent + sent, failed=self.failed + (not sent))


State = dict[str, Channel]


def file_of(directory: str) -> str:
    return os.path.join(directory, _FILE)


def load(directory: str) -> State:
    """By channel; empty when nobody was ever told anything. Unreachable says why it cannot be read."""
    path = file_of(directory)
    try:
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
        if data["format"] != _FORMAT:
            raise ValueError(f"format {data['format']!r}")
        return {str(name): _channel(item) for name, item in data["channels"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise Unreachable(
            f"{path} cannot be read ({exc!r}), so nobody knows what was told before.",
            hint="What is bad now is told again; remove the file if it stays unreadable.",
        ) from exc


def counts(directory: str) -> dict[tuple[str, str], int]:
    """Deliveries by channel and result, for the metrics; nothing where nothing is known."""
    try:
        state = load(directory)
    except Unreachable:
        return {}
    return {
        (name, result): number
        for name, channel in state.items()
        for result, number in (("sent", channel.sent), ("failed", channel.failed))
    }


def save(directory: str, state: Mapping[str, Channel]) -> None:
    """Whole or not at all. Unreachable when it cannot be written."""
    path = file_of(directory)
    temporary = f"{path}.{os.getpid()}"
    content = {"format": _FORMAT, "channels": {name: _described(item) for name, item in state.items()}}
    try:
        with open(temporary, "w", encoding="utf-8") as stream:
            json.dump(content, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        _give(directory, temporary)
        os.replace(temporary, path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise Unreachable(
            f"{path} cannot be written: {exc.strerror or exc}.", hint="Until it can, the same is told again each time."
        ) from exc


@contextlib.contextmanager
def alone(directory: str) -> Iterator[None]:
    """Two checks at once would both tell the same. Busy when the other one does not end."""
    try:
        stream = open(f"{file_of(directory)}.lock", "a", encoding="ascii")  # noqa: SIM115  # closed below
    except OSError:
        yield  # nothing can be kept here, which `save` explains; a message that comes twice is better than none
        return
    with stream:
        with contextlib.suppress(OSError):
            _give(directory, stream.name)
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as exc:
                if time.monotonic() > until:
                    raise Busy(
                        "Another check has been telling people for a minute.", hint="Look whether it hangs."
                    ) from exc
                time.sleep(0.05)
        yield


def _give(directory: str, path: str) -> None:
    """To the owner of the directory: root and the cluster's OS user run checks in turn."""
    if os.geteuid() == 0:
        owner = os.stat(directory)
        os.chown(path, owner.st_uid, owner.st_gid)


def _described(channel: Channel) -> dict[str, Any]:
    told = channel.told
    return {
        "incident": told.incident,
        "opened": told.opened.isoformat() if told.opened else None,
        "worst": dict(told.worst),
        "at": told.at.isoformat() if told.at else None,
        "messages": told.messages,
        "sent": channel.sent,
        "failed": channel.failed,
    }


def _channel(item: Mapping[str, Any]) -> Channel:
    told = Told(
        incident=item["incident"],
        opened=_moment(item["opened"]),
        worst={str(key): int(rank) for key, rank in item["worst"].items()},
        at=_moment(item["at"]),
        messages=int(item["messages"]),
    )
    return Channel(told, int(item["sent"]), int(item["failed"]))


def _moment(text: Optional[str]) -> Optional[datetime]:
    return None if text is None else datetime.fromisoformat(text)
