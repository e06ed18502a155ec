# SPDX-License-Identifier: GPL-3.0-or-later
"""Those who are told: a mail server with TLS and passwords, and a web server, both real and on this machine."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER, PASSWORD = "dbops", "pa'ss \"word\\"


@dataclass(frozen=True)
class Certificate:
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def certificate(directory: Path) -> Certificate:
    """One for localhost, signed by itself: whoever gets it as `ca_cert` trusts it, and nobody else does."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    found = Certificate(directory / "localhost.crt", directory / "localhost.key")
    found.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    found.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, *private))
    return found


@dataclass
class Mailbox:
    """`messages` are those that were taken, in their order; `refusing` are recipients that are not."""

    port: int = 0
    messages: list[EmailMessage] = field(default_factory=list)
    logins: list[bool] = field(default_factory=list)
    refusing: set[str] = field(default_factory=set)

    # aiosmtpd's names
    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        del server, session, options
        if address in self.refusing:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        del server, session
        self.messages.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 taken"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        del server, session, envelope, mechanism
        good = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        self.logins.append(good)
        return AuthResult(success=good, handled=good)  # else aiosmtpd answers for us


class _Controller(Controller):
    def __init__(self, mailbox: Mailbox, context: ssl.SSLContext | None, *, implicit: bool, **options: Any) -> None:
        self._starttls = None if implicit else context
        super().__init__(mailbox, hostname="127.0.0.1", port=0, ssl_context=context if implicit else None, **options)

    def factory(self) -> SMTP:
        return SMTP(self.handler, tls_context=self._starttls, **self.SMTP_kwargs)

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]  # 0 was asked for
        super()._trigger_server()


@contextlib.contextmanager
def mail_server(security: str, credentials: Certificate | None = None) -> Iterator[Mailbox]:
    """`starttls` and `tls` ask for USER and PASSWORD, and for encryption before that; `none` takes anything."""
    mailbox = Mailbox()
    options: dict[str, Any] = {}
    if security != "none":
        starttls = security == "starttls"  # implicit TLS is below what aiosmtpd sees
        options = {"auth_require_tls": starttls, "require_starttls": starttls, "auth_required": True}
        options["authenticator"] = mailbox.authenticate
        options["auth_exclude_mechanism"] = ["LOGIN"]  # whose questions Alertmanager does not understand from aiosmtpd
    context = credentials.context() if credentials else None
    controller = _Controller(mailbox, context, implicit=security == "tls", **options)
    controller.start()
    mailbox.port = controller.port
    try:
        yield mailbox
    finally:
        controller.stop()


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class WebServer:
    """What was asked, in its order. `status` is what is answered; a path that is in `statuses` has its own."""

    requests: list[Request] = field(default_factory=list)
    status: int = 200
    statuses: dict[str, int] = field(default_factory=dict)
    url: str = ""

    def to(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]


@contextlib.contextmanager
def web_server(credentials: Certificate | None = None) -> Iterator[WebServer]:
    found = WebServer()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found.requests.append(Request(self.command, self.path, dict(self.headers), body))
            status = found.statuses.get(self.path, found.status)
            self.send_response(status)
            if status in (301, 302, 307):
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *words: Any) -> None:
            del words

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if credentials:
        server.socket = credentials.context().wrap_socket(server.socket, server_side=True)
    found.url = f"{'https' if credentials else 'http'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
