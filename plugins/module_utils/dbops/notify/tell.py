# SPDX-License-Identifier: GPL-3.0-or-later
"""The use case: what is due goes to each channel, and is written down channel by channel as it is delivered.

Nothing here raises: whatever becomes of the messages, the check that they are about has its own result.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Callable, Optional

from ..errors import DbopsError
from ..settings import Settings
from ..settings_notifications import ChannelSettings
from ..severity import Severity
from . import http, mail, others
from .due import Notice, Report, Told, due
from .state import Channel, State, alone, load, save

# Each raises when nobody was reached; what it returns, if anything, is whom it did not reach besides.
Deliver = Callable[[ChannelSettings, Notice, int], Optional[str]]
Send = Callable[[], Optional[str]]
_BY_TYPE: Mapping[str, Deliver] = {
    "email": mail.email,
    "slack": http.slack,
    "webhook": http.webhook,
    "apprise": others.apprise,
}


@dataclass(frozen=True)
class Delivery:
    """`event` is that of the notice, `ok` for a heartbeat, or `test`; `result` is sent or failed."""

    channel: str
    event: str
    result: str
    message: str = ""

    def describe(self) -> dict[str, str]:
        return dict(vars(self))


@dataclass(frozen=True)
class Outcome:
    deliveries: tuple[Delivery, ...] = ()
    warnings: tuple[str, ...] = ()

    def describe(self) -> list[dict[str, str]]:
        return [item.describe() for item in self.deliveries]


def tell(settings: Settings, report: Report) -> Outcome:
    """After a check: transitions to whom they concern, and a heartbeat when everything is in order."""
    ok = report.severity is Severity.OK
    return _Round(settings).go(lambda each: each.check(report, ok=ok))


def tell_verified(settings: Settings) -> Outcome:
    """After a verification that passed: the heartbeats that wait for one."""
    return _Round(settings).go(lambda each: each.beat("verify"))


def test(settings: Settings) -> Outcome:
    """A test message through every channel, whatever was told before. A heartbeat is not sent: it would be a lie."""
    now = datetime.now(timezone.utc)
    words = f"This is a test of {settings.cluster}'s notifications: nothing has happened."
    report = Report(settings.cluster, now, Severity.OK, words, host=socket.gethostname())
    incident = f"{settings.cluster}-test-{now:%Y%m%dT%H%M%S%fZ}"
    return _Round(settings).go(lambda each: each.test(Notice("test", incident, now, 0, report)))


class _Round:
    """All channels once. `state` is written after each delivery, so that a kill in between repeats nothing."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._channels = settings.notifications.channels
        self._state: State = {}
        self._deliveries: list[Delivery] = []
        self._warnings: list[str] = []

    def go(self, act: Callable[[_Round], None]) -> Outcome:
        if self._channels:
            try:
                with alone(self._settings.state_path):
                    self._load()
                    act(self)
            except DbopsError as error:
                self._warnings.append(f"Nobody was told: {error}")
        return Outcome(tuple(self._deliveries), tuple(dict.fromkeys(self._warnings)))

    def check(self, report: Report, *, ok: bool) -> None:
        for channel in self._channels:
            if channel.type == "heartbeat":
                continue
            known = self._state[channel.name]
            notice, then = due(channel, known.told, report, self._settings.notifications.repeat_s(channel))
            if notice is not None:
                self._deliver(channel, notice, then)
            elif then != known.told:  # news, but of a kind that this channel does not want
                self._keep(channel.name, replace(known, told=then))
        if ok:
            self.beat("check")

    def beat(self, after: str) -> None:
        for channel in self._channels:
            if channel.type == "heartbeat" and (channel.after or "check") == after:
                self._attempt(channel, "ok", lambda item=channel: http.heartbeat(item, self._timeout_s), None)  # type: ignore[misc]

    def test(self, notice: Notice) -> None:
        for channel in self._channels:
            if channel.type == "heartbeat":
                self._warnings.append(f"{channel.name} is a heartbeat: it is sent only when all is well.")
            else:
                self._deliver(channel, notice, None)

    @property
    def _timeout_s(self) -> int:
        return self._settings.notifications.timeout_s

    def _deliver(self, channel: ChannelSettings, notice: Notice, then: Optional[Told]) -> None:
        way = _BY_TYPE[channel.type]
        self._attempt(channel, notice.event, lambda: way(channel, notice, self._timeout_s), then)

    def _attempt(self, channel: ChannelSettings, event: str, send: Send, then: Optional[Told]) -> None:
        """`then` is what the channel knows when it was told; until that is delivered, the next check tries again."""
        sent, words = _sent(send)
        self._deliveries.append(Delivery(channel.name, event, "sent" if sent else "failed", words))
        if words:
            self._warnings.append(f"{channel.name} was {'' if sent else 'not '}told: {words}")
        known = self._state[channel.name].counted(sent=sent)
        self._keep(channel.name, replace(known, told=then) if sent and then is not None else known)

    def _load(self) -> None:
        known: State = {}
        try:
            known = load(self._settings.state_path)
        except DbopsError as error:
            self._warnings.append(str(error))
        self._state = {channel.name: known.get(channel.name, Channel()) for channel in self._channels}

    def _keep(self, name: str, channel: Channel) -> None:
        self._state[name] = channel
        try:
            save(self._settings.state_path, self._state)
        except DbopsError as error:
            self._warnings.append(str(error))


def _sent(send: Send) -> tuple[bool, str]:
    """Whether it was delivered; and why not, or to whom else it was not."""
    try:
        return True, send() or ""
    except DbopsError as error:
        return False, str(error)
    except Exception as exc:  # noqa: BLE001  # a library of somebody else's must not end the check
        return False, f"Unexpected {type(exc).__name__}."  # its words might hold the URL
