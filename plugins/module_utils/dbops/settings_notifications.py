# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is told what, and how to reach them. Secrets stand in files or the environment, never here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Optional

from .errors import BadInput
from .schema import between, duration_s, one_of

TYPES = ("email", "slack", "webhook", "heartbeat", "apprise")
EVENTS = ("problem", "repeat", "resolved")
SEVERITIES = ("warning", "unknown", "critical")
SECURITIES = ("starttls", "tls", "none")
_URL = ("url_file", "url_env")
# What only some types know; whatever is set elsewhere would silently do nothing.
_KNOWN = {
    "email": (
        "host", "port", "security", "user", "password_file", "sender", "recipients", "ca_cert",
    ),
    "slack": _URL,
    "webhook": ("url", *_URL, "secret_file", "ca_cert"),
    "heartbeat": ("url", *_URL, "after", "ca_cert"),
    "apprise": _URL,
}  # fmt: skip
_SPECIAL = tuple(dict.fromkeys(name for names in _KNOWN.values() for name in names))


@dataclass(frozen=True)
class ChannelSettings:
    """One way to somebody. `events` are what it is told, and `min_severity` from when on there is a problem for it."""

    name: str
    type: str
    events: tuple[str, ...] = EVENTS
    min_severity: str = "warning"
    repeat: Optional[str] = None  # None: as for all; 0: never again
    # slack, webhook, heartbeat, apprise: exactly one of them
    url: Optional[str] = None
    url_file: Optional[str] = None
    url_env: Optional[str] = None
    # webhook
    secret_file: Optional[str] = None  # signs what is sent; None: unsigned
    # heartbeat
    after: Optional[str] = None  # check (None too) | verify: what must have gone well
    # email
    host: Optional[str] = None
    port: Optional[int] = None  # None: 587, 465 for tls, 25 for none
    security: Optional[str] = None  # None: starttls
    user: Optional[str] = None
    password_file: Optional[str] = None
    sender: Optional[str] = None
    recipients: tuple[str, ...] = ()
    ca_cert: Optional[str] = None  # None: the system's

    def check(self) -> None:
        what = f"Notification channel {self.name!r}"
        if not self.name.strip() or not self.name.isprintable():
            raise BadInput(f"A notification channel cannot be called {self.name!r}.", hint="Give it a name.")
        one_of(f"type of {self.name}", self.type, TYPES)
        one_of(f"min_severity of {self.name}", self.min_severity, SEVERITIES)
        for event in self.events:
            one_of(f"events of {self.name}", event, EVENTS)
        if self.repeat is not None:
            duration_s(self.repeat, f"repeat of {self.name}")
        for name in _SPECIAL:
            if name not in _KNOWN[self.type] and getattr(self, name) not in (None, ()):
                raise BadInput(
                    f"{what} is of type {self.type}, which knows no {name}.",
                    hint=f"It knows: {', '.join(_KNOWN[self.type])}.",
                )
        for name in ("url_file", "secret_file", "password_file", "ca_cert"):
            path = getattr(self, name)
            if path is not None and not os.path.isabs(path):
                raise BadInput(f"{name} of {self.name} must be an absolute path.", hint="Begin it with a slash.")
        if self.type == "email":
            self._check_email(what)
        else:
            self._check_url(what)

    def _check_email(self, what: str) -> None:
        if not self.host or not self.sender or not self.recipients:
            raise BadInput(f"{what} needs host, sender and recipients.", hint="Give all three.")
        one_of(f"security of {self.name}", self.mail_security, SECURITIES)
        between(f"port of {self.name}", self.mail_port, 1, 65535)
        for address in (self.sender, *self.recipients):
            if "@" not in address or any(character in address for character in "\r\n,;"):
                raise BadInput(f"{what}: {address!r} is not one address.", hint="Write name@example.org.")
        if (self.user is None) != (self.password_file is None):
            raise BadInput(f"{what} needs user and password_file, or neither.", hint="Give both.")
        if self.user is not None and self.mail_security == "none":
            raise BadInput(
                f"{what} would send a password in the clear.",
                hint="Set security to starttls or tls, or leave user out.",
            )

    def _check_url(self, what: str) -> None:
        given = [name for name in ("url", *_URL) if getattr(self, name) is not None]
        if len(given) != 1:
            raise BadInput(
                f"{what} needs exactly one of {', '.join(name for name in _KNOWN[self.type] if 'url' in name)}.",
                hint="Name the file, or the environment variable, that holds its URL.",
            )
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise BadInput(f"url of {self.name} must begin with http:// or https://.", hint="Write the whole URL.")
        if self.type == "heartbeat":
            one_of(f"after of {self.name}", self.after or "check", ("check", "verify"))

    @property
    def mail_security(self) -> str:
        return self.security or "starttls"

    @property
    def mail_port(self) -> int:
        return self.port or {"starttls": 587, "tls": 465, "none": 25}.get(self.mail_security, 587)


@dataclass(frozen=True)
class NotificationSettings:
    channels: tuple[ChannelSettings, ...] = ()
    repeat: str = "24h"  # how long a problem lasts before it is told again; 0: never
    timeout_s: int = 10  # of one delivery

    def check(self) -> None:
        duration_s(self.repeat, "notifications.repeat")
        between("notifications.timeout_s", self.timeout_s, 1, 300)
        names = [channel.name for channel in self.channels]
        for name in names:
            if names.count(name) > 1:
                raise BadInput(f"Two notification channels are called {name!r}.", hint="Give each its own name.")

    def repeat_s(self, channel: ChannelSettings) -> int:
        return duration_s(self.repeat if channel.repeat is None else channel.repeat)
