# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backup is meant: by label, newest before a moment, or simply the newest. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Optional

from ..errors import BadInput, NotFound
from ..repo import layout
from ..repo.record import iso
from ..repo.repository import Catalog, Entry

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}:?[0-5]\d)", re.ASCII)


def moment(text: str) -> datetime:
    """A time that can mean only one instant; a zone's name or a missing zone could mean two."""
    if not _TIME.fullmatch(text.strip()):
        raise BadInput(
            f"{text!r} is not one certain instant.",
            hint="Write date, time and offset: 2026-11-22T13:05:00Z or 2026-11-22 14:05:00+01:00.",
        )
    plain = text.strip().replace("Z", "+00:00").replace(" ", "T")
    plain = re.sub(r"([+-]\d{2})(\d{2})$", r"\1:\2", plain)
    plain = re.sub(r"\.(\d{1,6})", lambda match: "." + match.group(1).ljust(6, "0"), plain)
    try:
        return datetime.fromisoformat(plain).astimezone(timezone.utc)
    except (ValueError, OverflowError) as exc:  # the latter beyond the years 1 to 9999 in UTC
        raise BadInput(f"{text!r} is not a time: {exc}.", hint="Check day, hour and minute.") from exc


def select(
    catalog: Catalog, *, label: Optional[str] = None, before: Optional[str] = None, method: str = "physical"
) -> Entry:
    """The entry that is meant. A backup counts from its stop time on: before that it holds nothing that was asked."""
    if label and before:
        raise BadInput("Both a label and a time were given.", hint="Give one of them.")
    if label:
        layout.check_label(label)
        entry = catalog.entry(label)
        if entry.record.method != method:
            raise BadInput(f"{label} is a {entry.record.method} backup, not a {method} one.", hint="See dbops info.")
        return entry
    entries = [entry for entry in catalog.entries if entry.record.method == method]
    if not entries:
        raise NotFound(f"There is no {method} backup.", hint="See dbops info, and which repository it names.")
    if before:
        limit = moment(before)
        entries = [entry for entry in entries if entry.record.stopped <= limit]
        if not entries:
            oldest = min(entry.record.stopped for entry in catalog.entries if entry.record.method == method)
            raise NotFound(
                f"No {method} backup had finished by {iso(limit)}.", hint=f"The earliest finished at {iso(oldest)}."
            )
    return max(entries, key=lambda entry: entry.record.stopped)
