# SPDX-License-Identifier: GPL-3.0-or-later
"""Every other service through apprise, where that library is installed."""

from __future__ import annotations

from ..errors import MissingLibrary, Unreachable
from ..settings_notifications import ChannelSettings
from . import words
from .due import Notice
from .secret import read_any_url


def apprise(channel: ChannelSettings, notice: Notice, timeout_s: int) -> None:
    del timeout_s  # apprise has its own, in the URL: ?rto=10
    try:
        from apprise import Apprise
    except ImportError as exc:
        raise MissingLibrary("apprise", needed_for=f"channel {channel.name}", package="apprise") from exc
    service = Apprise()
    if not service.add(read_any_url(channel)):
        raise Unreachable(f"apprise does not know the URL of {channel.name}.", hint="See its list of services.")
    if not service.notify(title=words.subject(notice), body=words.text(notice)):
        raise Unreachable(f"apprise could not deliver to {channel.name}.", hint="Try it by hand: apprise --verbose.")
