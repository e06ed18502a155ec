# SPDX-License-Identifier: GPL-3.0-or-later
"""A proxy that stands between a client and a server of HTTP, and does to chosen requests what networks and clouds do.

with FaultProxy(cloud.url) as proxy:
    proxy.plan = lambda request: "reset" if request.number % 3 == 0 else None
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

# What may happen to one request, and what its client sees of it.
FAULTS = (
    "reset",  # the connection is cut before the server has seen anything
    "lost",  # the server has done it, and its answer never arrives
    "500", "503", "429",  # the server says so, having done nothing
    "truncated",  # half of the answer's body, then the end
    "hang",  # nothing comes until the client gives up
    "slow",  # it arrives in drips
)  # fmt: skip
# What no repetition mends, or what a client may not notice by the answer alone.
WORSE = (
    "403",  # denied, from now on
    "skew",  # a signature of another hour
    "spoiled",  # a byte in the middle of the content is another one
    "stale",  # a list as it was when it was first asked for
    "whole checksum",  # to a range, the checksum of the whole object, as rclone's server says it
)
_CHECKSUM = "x-amz-checksum-crc32"
_KEPT = 10_000  # bytes of each body, for who wants to look
_ANSWERS = {
    "500": (500, "InternalError"), "503": (503, "SlowDown"), "429": (429, "TooManyRequests"),
    "403": (403, "AccessDenied"), "skew": (403, "RequestTimeTooSkewed"),
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    number: int  # from 1
    method: str
    path: str  # with its query
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def writes(self) -> bool:
        return self.method in ("PUT", "POST", "DELETE")


class FaultProxy:
    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 80)
        self._count = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.plan: Callable[[Request], str | None] = lambda request: None
        self.seen: list[tuple[Request, str | None]] = []
        self._checksums: dict[str, str] = {}
        self._lists: dict[str, tuple[http.client.HTTPResponse, bytes]] = {}
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                proxy.handle(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_OPTIONS = handle_one  # noqa: N815

            def log_message(self, *args: Any) -> None:
                del args

            def handle_expect_100(self) -> bool:
                return super().handle_expect_100()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{parts.path}"

    def __enter__(self) -> FaultProxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def faults(self) -> int:
        return sum(fault is not None for _request, fault in self.seen)

    def handle(self, client: BaseHTTPRequestHandler) -> None:
        body = client.rfile.read(int(client.headers.get("Content-Length") or 0))
        with self._lock:
            self._count += 1
            request = Request(self._count, client.command, client.path, dict(client.headers.items()), body[:_KEPT])
            fault = self.plan(request)
            self.seen.append((request, fault))
        if fault == "reset":
            return self._cut(client)
        if fault == "hang":
            self._over.wait(30)
            return self._cut(client)
        if fault in _ANSWERS:
            return self._refuse(client, fault)
        path, checksum = client.path.partition("?")[0], client.headers.get(_CHECKSUM)
        if checksum:
            self._checksums[path] = checksum
        answer, content = self._forward(client, body)
        if fault == "whole checksum" and path in self._checksums:
            answer.headers[_CHECKSUM] = self._checksums[path]
        if "list-type=2" in client.path and answer.status == 200:
            first = self._lists.setdefault(client.path, (answer, content))
            answer, content = first if fault == "stale" else (answer, content)
        if fault == "lost":
            return self._cut(client)
        return self._answer(client, answer, content, fault)

    def _forward(self, client: BaseHTTPRequestHandler, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        upstream = http.client.HTTPConnection(*self._target, timeout=60)
        with contextlib.closing(upstream):
            headers = {
                name: value for name, value in client.headers.items() if name.lower() not in ("connection", "expect")
            }
            upstream.request(client.command, client.path, body=body or None, headers=headers)
            answer = upstream.getresponse()
            return answer, answer.read()

    def _answer(
        self, client: BaseHTTPRequestHandler, answer: http.client.HTTPResponse, content: bytes, fault: str | None
    ) -> None:
        with contextlib.suppress(OSError):
            client.send_response(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "server", "date"):
                    client.send_header(name, value)
            is_head = client.command == "HEAD"
            length = answer.headers.get("Content-Length", "0") if is_head else str(len(content))
            client.send_header("Content-Length", length)
            client.end_headers()
            if is_head:
                return
            if fault == "spoiled" and content:
                middle = len(content) // 2
                content = content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :]
            if fault == "truncated":
                client.wfile.write(content[: len(content) // 2])
                self._cut(client)
            elif fault == "slow":
                for begin in range(0, len(content), max(1, len(content) // 20)):
                    client.wfile.write(content[begin : begin + max(1, len(content) // 20)])
                    self._over.wait(0.02)
            else:
                client.wfile.write(content)

    def _refuse(self, client: BaseHTTPRequestHandler, fault: str) -> None:
        status, code = _ANSWERS[fault]
        content = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
        with contextlib.suppress(OSError):
            client.send_response(status)
            client.send_header("Content-Type", "application/xml")
            client.send_header("Content-Length", str(len(content)))
            client.end_headers()
            if client.command != "HEAD":
                client.wfile.write(content)

    def _cut(self, client: BaseHTTPRequestHandler) -> None:
        """With a reset and not with a polite end."""
        client.close_connection = True
        with contextlib.suppress(OSError):
            client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.connection.shutdown(socket.SHUT_RDWR)
