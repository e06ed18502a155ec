# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof that archiving works: a segment that is finished now comes back, verified, from every repository.

A counter that goes up, or an archive_command that returned 0, proves less: here the very bytes are read back by what
restore_command itself uses.
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass, replace
from typing import Any, Optional

from ..errors import DbopsError, Refused, Unreachable
from ..pg.connection import connected
from ..pg.walfile import WalName, wal_name
from ..repo.archive import WalArchive
from ..settings import Settings
from .fetch import FOUND, IMPOSSIBLE, fetch
from .parameters import Surroundings, surroundings
from .status import status
from .targets import archives

_PAUSE_S = 0.1


@dataclass
class Way:
    """One repository's part."""

    archive: WalArchive
    required: bool
    seconds: Optional[float] = None  # None: it has not come back
    why: str = "it is not there"
    locked: str = ""  # why its content could not be read back: no private key here

    def describe(self) -> dict[str, Any]:
        back = self.seconds is not None and not self.locked
        return {
            "repository": self.archive.name,
            "required": self.required,
            "readable": back,
            "seconds": self.seconds,
            "why": None if back else self.locked or self.why,
        }


def prove(settings: Settings, *, timeout_s: int) -> dict[str, Any]:
    """The segment and how long each repository took. Unreachable when a required one has not got it in time."""
    server = surroundings(settings)
    if server.in_recovery:
        raise Refused("A standby writes no WAL of its own.", hint="Prove the round trip on the primary.")
    mode = server.parameters["archive_mode"]
    if mode.value == "off":
        raise Refused(
            "The server runs with archive_mode=off: nothing is archived.",
            hint="Set archiving up, and restart the server.",
        )
    required = {item.name: item.required for item in settings.repositories}
    ways = [Way(item, required[item.name]) for item in archives(settings, server.system_identifier)]
    started = time.monotonic()
    name = _finished_segment(server)
    with tempfile.TemporaryDirectory(prefix="dbops-roundtrip-") as directory:
        while True:
            for way in ways:
                if way.seconds is None:
                    _look(way, name, os.path.join(directory, way.archive.name), started)
            waiting = [way for way in ways if way.seconds is None]
            if not waiting or time.monotonic() - started > timeout_s:
                break
            time.sleep(_PAUSE_S)
    lost = [way for way in waiting if way.required]
    if lost:
        raise Unreachable(
            f"Segment {name.text} has not come back within {timeout_s} s from "
            f"{' and '.join(f'repository {way.archive.name!r} ({way.why})' for way in lost)}.",
            hint=f"{_archiver_says(settings, server)} See the server's log.",
        )
    return {
        "segment": name.text,
        "seconds": round(time.monotonic() - started, 3),
        "repositories": [way.describe() for way in ways],
        "warnings": [
            f"Segment {name.text} is in repository {way.archive.name!r}, with the checksum of its content at its head, "
            f"and was not read back: {way.locked}"
            for way in ways
            if way.locked
        ]
        + [
            f"Segment {name.text} is not in the optional repository {way.archive.name!r} yet: {way.why}."
            for way in waiting
        ],
    }


def added(result: dict[str, Any], settings: Settings, *, timeout_s: int) -> dict[str, Any]:
    """A result with the proof in it."""
    proof = prove(settings, timeout_s=timeout_s)
    warnings = [*result.get("warnings", ()), *proof.pop("warnings")]
    msg = f"{result['msg']} Segment {proof['segment']} came back in {proof['seconds']} s."
    return {**result, "msg": msg, "round_trip": proof, "warnings": warnings}


def _finished_segment(server: Surroundings) -> WalName:
    """Something is written first: a segment with nothing in it would not be switched."""
    with connected(server.connection, server.identity) as session:
        session.run("select pg_logical_emit_message(true, 'dbops', 'round trip')")
        return wal_name(str(session.value("select pg_walfile_name(pg_switch_wal())")))


def _look(way: Way, name: WalName, path: str, started: float) -> None:
    try:
        if not way.archive.has(name):
            return
        way.locked = way.archive.why_locked(name)
        if way.locked:
            way.seconds = round(time.monotonic() - started, 3)
            return
        outcome = fetch([way.archive], name, path)
    except DbopsError as exc:
        way.why = exc.message.rstrip(".")
        return
    if outcome.verdict == FOUND:
        os.unlink(path)
        way.seconds = round(time.monotonic() - started, 3)
    elif outcome.verdict == IMPOSSIBLE:
        way.why = " ".join(outcome.lines).rstrip(".") or "its copy is damaged"


def _archiver_says(settings: Settings, server: Surroundings) -> str:
    """What the server counts, and what our command has noted on this host."""
    with connected(server.connection, server.identity) as session:
        row = session.row("select failed_count, last_failed_wal from pg_stat_archiver")
    if not row["failed_count"]:
        return "The archiver reports no failure."
    here = replace(settings, host=replace(settings.host, data_directory=server.data_directory))
    try:
        noted = status(here)["last_error"]
    except DbopsError as exc:
        noted = exc.message
    said = f"The archiver failed {row['failed_count']} times, the last time with {row['last_failed_wal']}."
    return f"{said} It said: {noted}" if noted else said
