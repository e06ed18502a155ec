# SPDX-License-Identifier: GPL-3.0-or-later
"""E-mail: text and HTML, encrypted before a password is said, one thread for each incident."""

from __future__ import annotations

import smtplib
import socket
import ssl
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Optional

from .. import __version__
from ..errors import Unreachable
from ..settings_notifications import ChannelSettings
from . import words
from .due import Notice
from .secret import read_file


def email(channel: ChannelSettings, notice: Notice, timeout_s: int) -> Optional[str]:
    """Raises when nobody got it. Some addresses refused: told in words, since sending again would repeat it to all."""
    password = read_file(channel.password_file) if channel.password_file else None
    content = message(channel, notice)
    try:
        refused = _send(channel, content, password, timeout_s)
    except (OSError, smtplib.SMTPException) as exc:
        raise Unreachable(
            f"{channel.host}:{channel.mail_port} did not take the message: {_told(exc)}.",
            hint="Look at host, port, security, user and password_file; the next check tries again.",
        ) from None
    return f"the server refused {', '.join(sorted(refused))}, and took it for the others." if refused else None


def message(channel: ChannelSettings, notice: Notice) -> EmailMessage:
    """The first message of an incident has the id that all later ones refer to."""
    made = EmailMessage(policy=policy.SMTP)
    sender = channel.sender or ""
    domain = sender.rpartition("@")[2]
    first = f"<dbops.{notice.incident}@{domain}>"
    made["Subject"] = words.subject(notice)
    made["From"] = sender
    made["To"] = ", ".join(channel.recipients)
    made["Date"] = format_datetime(notice.report.seen)
    made["Message-ID"] = first if notice.number == 0 else f"<dbops.{notice.incident}.{notice.number}@{domain}>"
    if notice.number:
        made["In-Reply-To"] = first
        made["References"] = first
    made["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    made["X-Mailer"] = f"dbops {__version__}"
    made.set_content(words.text(notice))
    made.add_alternative(words.as_html(notice), subtype="html")
    return made


def _send(channel: ChannelSettings, content: EmailMessage, password: Optional[str], timeout_s: int) -> set[str]:
    """Whom the server refused, while it took the others."""
    context = ssl.create_default_context(cafile=channel.ca_cert)
    host, port, me = channel.host or "", channel.mail_port, socket.gethostname()
    client: smtplib.SMTP
    if channel.mail_security == "tls":
        client = smtplib.SMTP_SSL(host, port, local_hostname=me, timeout=timeout_s, context=context)
    else:
        client = smtplib.SMTP(host, port, local_hostname=me, timeout=timeout_s)
    with client:
        if channel.mail_security == "starttls":
            client.starttls(context=context)  # raises where the server offers none: nothing goes on in the clear
        if channel.user is not None and password is not None:
            client.login(channel.user, password)
        return set(client.send_message(content))


def _told(exc: BaseException) -> str:
    """In our words: a server may repeat in its own what it was told."""
    if isinstance(exc, smtplib.SMTPAuthenticationError):
        return f"user or password was not accepted ({exc.smtp_code})"
    if isinstance(exc, smtplib.SMTPResponseException):
        return f"code {exc.smtp_code}"
    if isinstance(exc, smtplib.SMTPRecipientsRefused):
        return f"every recipient was refused ({', '.join(sorted(exc.recipients))})"
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not valid here ({exc.verify_message})"
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return words.plain(str(exc)) or type(exc).__name__
