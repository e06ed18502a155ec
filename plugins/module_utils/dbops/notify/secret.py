# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of channels, from files and the environment, at the moment of their use. No message ever holds one."""

from __future__ import annotations

import os
import stat
import urllib.parse

from ..errors import BadInput, Unreachable
from ..settings_notifications import ChannelSettings

_LONGEST = 8192


def read_file(path: str) -> str:
    """The content without the newline at its end. Refused when everybody on this host can read it."""
    try:
        with open(path, encoding="utf-8") as stream:
            if stat.S_IMODE(os.fstat(stream.fileno()).st_mode) & stat.S_IROTH:
                raise BadInput(f"{path} holds a secret and can be read by everybody.", hint=f"Run: chmod o= {path}")
            content = stream.read(_LONGEST).strip()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise Unreachable(f"{path} cannot be read: {reason}.", hint="Look at its owner and mode.") from exc
    if not content:
        raise BadInput(f"{path} is empty.", hint="Write the secret into it.")
    return content


def read_url(channel: ChannelSettings) -> str:
    """The channel's URL, wherever it stands; what is no http URL is refused without being shown."""
    url = read_any_url(channel)
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or any(ord(letter) <= 32 for letter in url):
        raise BadInput(f"What {_source(channel)} holds is no URL of http or https.", hint="Write the whole URL there.")
    return url


def read_any_url(channel: ChannelSettings) -> str:
    if channel.url is not None:
        return channel.url
    if channel.url_file is not None:
        return read_file(channel.url_file)
    url = os.environ.get(channel.url_env or "", "").strip()
    if not url:
        raise BadInput(
            f"{_source(channel)} is not set.", hint="Set it for the process that checks, or use url_file instead."
        )
    return url


def _source(channel: ChannelSettings) -> str:
    if channel.url is not None:
        return f"url of {channel.name}"
    return channel.url_file or f"the environment variable {channel.url_env}"
