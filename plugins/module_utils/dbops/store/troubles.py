# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cloud's answer means, in words that tell a wrong key from a missing right, a network or a missing bucket."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Optional

from ..errors import Unreachable
from .bucket import Judgement
from .protocol import Trouble

_WORDS = {
    "credentials": "the credentials are not accepted",
    "permission": "permission is denied",
    "network": "the network fails",
    "no_bucket": "the bucket does not exist",
    "clock": "this host's clock is wrong",
    "busy": "the server asks for patience",
    "server": "the server fails",
    "request": "the request is refused",
}
HINTS = {
    "credentials": "Look at the credentials in use: `dbops config` names their file; see docs/repositories.md.",
    "permission": "The identity in use lacks a permission: docs/repositories.md has the least policy.",
    "network": "Check name, port and route to the endpoint, and whether the server is up.",
    "no_bucket": "Make the bucket, or mend its name and endpoint in the repository's settings.",
    "clock": "Set this host's clock (see `timedatectl`).",
    "busy": "It was asked more and more slowly until the time was over: run again later.",
    "server": "The server has a fault of its own: look at its state, then run again.",
    "request": "See what the server says about it, and mend the repository's options.",
}


def trouble(
    reason: str, sentence: str, told: str, *, hint: str = "", again: bool = False, wait_s: Optional[float] = None
) -> Judgement:
    """`sentence` says who cannot do what, `told` is what the other side said."""
    words = " ".join(told.split())[:500].rstrip(".")
    error = Trouble(f"{sentence}: {_WORDS[reason]} ({words}).", hint=hint or HINTS[reason], reason=reason)
    return Judgement(error, again, wait_s)


def check_readable(files: Mapping[str, Optional[str]]) -> None:
    """Unreachable for a setting's file that cannot be read: a library passes it over, or says the network fails."""
    for name, path in files.items():
        if path is None:
            continue
        try:
            os.close(os.open(path, os.O_RDONLY))  # certificates may be a directory
        except OSError as exc:
            raise Unreachable(
                f"{name} cannot be read: {path}: {exc.strerror}.",
                hint="Mend its path, or let the OS user read it whom this runs as.",
            ) from exc


def seconds(header: object) -> Optional[float]:
    """A Retry-After in seconds; as a date it is passed over."""
    text = str(header or "")
    return float(text) if text.isdigit() else None


def by_status(status: int, sentence: str, told: str, *, wait_s: Optional[float] = None) -> Judgement:
    """What the HTTP status alone says, where no code says more."""
    if status in (429, 503):
        return trouble("busy", sentence, told, again=True, wait_s=wait_s)
    if status == 408 or (status >= 500 and status != 501):
        return trouble("server", sentence, told, again=True, wait_s=wait_s)
    return trouble({401: "credentials", 403: "permission"}.get(status, "request"), sentence, told)
