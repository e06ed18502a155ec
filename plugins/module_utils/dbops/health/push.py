# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics to a Pushgateway, for jobs that end before anybody could scrape them (CronJobs).

POST and not PUT: the gateway then replaces the families that come, and leaves those that other pushes brought. The
group is the cluster and the job, so that two clusters never overwrite each other; it is deleted when a cluster goes.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
from typing import Optional

from .. import __version__
from ..errors import BadInput, Unreachable

JOB = "dbops"
_TIMEOUT_S = 30


def push(url: str, cluster: str, text: str, *, job: str = JOB) -> None:
    """`text` is an exposition. Unreachable says what the gateway answered."""
    body = text.encode()
    request = urllib.request.Request(
        group(url, cluster, job), data=body, method="POST", headers={"Content-Type": "text/plain; version=0.0.4"}
    )
    _ask(request)


def delete(url: str, cluster: str, *, job: str = JOB) -> None:
    """Everything of this cluster's job: a gateway never forgets by itself."""
    _ask(urllib.request.Request(group(url, cluster, job), method="DELETE"))


def group(url: str, cluster: str, job: str) -> str:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput("The Pushgateway's address is no URL of http or https.", hint="Write http://host:9091")
    return f"{url.rstrip('/')}/metrics/{_label('job', job)}/{_label('cluster', cluster)}"


def _label(name: str, value: str) -> str:
    """In base64, so that any value is one step of the path (Pushgateway, "URL")."""
    return f"{name}@base64/{base64.urlsafe_b64encode(value.encode()).decode()}"


def _ask(request: urllib.request.Request) -> None:
    request.add_header("User-Agent", f"dbops/{__version__}")
    try:
        with urllib.request.build_opener().open(request, timeout=_TIMEOUT_S) as response:
            response.read()
    except urllib.error.HTTPError as exc:
        said = _said(exc)
        raise Unreachable(
            f"The Pushgateway at {request.host} answered HTTP {exc.code}{f': {said}' if said else ''}.",
            hint="See its log; promtool check metrics shows what is wrong with what was sent.",
        ) from exc
    except (OSError, http.client.HTTPException) as exc:
        reason = getattr(exc, "reason", None) or exc
        raise Unreachable(
            f"The Pushgateway at {request.host} cannot be reached: {reason}.", hint="Look at its address."
        ) from exc


def _said(exc: urllib.error.HTTPError) -> Optional[str]:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return " ".join(exc.read(500).decode("utf-8", "replace").split())
    return None
