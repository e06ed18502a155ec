# SPDX-License-Identifier: GPL-3.0-or-later
"""Channels that are a URL: Slack's incoming webhook, a webhook with a signature, a heartbeat.

Whoever has such a URL can post to it, so that errors name the channel and its host and never the URL.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any, Optional

from .. import __version__
from ..errors import DbopsError, Unreachable
from ..settings_notifications import ChannelSettings
from . import words
from .due import Notice
from .secret import read_file, read_url


def slack(channel: ChannelSettings, notice: Notice, timeout_s: int) -> None:
    _post(channel, {"text": words.as_slack(notice)}, timeout_s)


def webhook(channel: ChannelSettings, notice: Notice, timeout_s: int) -> None:
    """Signed when there is a secret: HMAC-SHA256 of `<time>.<body>`, so that an old message cannot be sent again."""
    secret = read_file(channel.secret_file).encode() if channel.secret_file else None
    _post(channel, words.as_json(notice), timeout_s, secret=secret)


def heartbeat(channel: ChannelSettings, timeout_s: int) -> None:
    """Only ever called when all went well: whoever waits for it raises the alarm when it stays out."""
    _ask(channel, urllib.request.Request(read_url(channel), headers=_headers()), timeout_s)


def signature(secret: bytes, moment: str, body: bytes) -> str:
    return "sha256=" + hmac.new(secret, moment.encode() + b"." + body, hashlib.sha256).hexdigest()


def _post(
    channel: ChannelSettings, payload: Mapping[str, Any], timeout_s: int, *, secret: Optional[bytes] = None
) -> None:
    body = json.dumps(payload).encode("ascii")  # ASCII: a lone surrogate stays an escape
    headers = {**_headers(), "Content-Type": "application/json"}
    if secret is not None:
        moment = str(int(time.time()))
        headers.update({"X-Dbops-Timestamp": moment, "X-Dbops-Signature": signature(secret, moment, body)})
    _ask(channel, urllib.request.Request(read_url(channel), data=body, headers=headers, method="POST"), timeout_s)


def _headers() -> dict[str, str]:
    return {"User-Agent": f"dbops/{__version__}"}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the message to a place that nobody named."""

    def redirect_request(self, *_args: Any, **_more: Any) -> None:
        return None


def _ask(channel: ChannelSettings, request: urllib.request.Request, timeout_s: int) -> None:
    opener = urllib.request.build_opener(
        _NoRedirect, urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=channel.ca_cert))
    )
    try:
        with opener.open(request, timeout=timeout_s) as response:
            response.read(1 << 16)
    except urllib.error.HTTPError as exc:
        with contextlib.suppress(OSError, http.client.HTTPException), exc:
            exc.read(1 << 16)
        raise _undelivered(request, f"answered HTTP {exc.code}") from None
    except (OSError, http.client.HTTPException) as exc:
        reason = getattr(exc, "reason", None) or exc
        raise _undelivered(request, f"cannot be reached ({_told(reason)})") from None


def _undelivered(request: urllib.request.Request, what: str) -> DbopsError:
    return Unreachable(
        f"{request.host} {what}.", hint="Look at the URL's file and at the network; the next check tries again."
    )


def _told(reason: object) -> str:
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return "timed out" if isinstance(reason, TimeoutError) else type(reason).__name__
