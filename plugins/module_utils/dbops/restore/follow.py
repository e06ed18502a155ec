# SPDX-License-Identifier: GPL-3.0-or-later
"""Following a recovery to its real end, by the log of this very start and by what the server itself answers.

"Consistent recovery state reached" is no end: replay goes on after it. The end is a promotion, a pause at the target, a
shutdown there, or a failure; and only a stop line in this start's log says that the target was met.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Optional

from ..errors import DbopsError, Refused, ToolFailed, Unreachable
from ..pg.connection import connected_in
from ..pg.datadir import postmaster_pid
from ..pg.tools import Tools
from ..progress import Progress, Step
from ..settings import ConnectionSettings
from .target import Target, iso_micro

_POLL_S = 0.2
_SETTLE_S = 60.0  # between what the log says and what the server answers
_STOPPED = re.compile(
    r"recovery stopping (?:after|before) (?P<what>commit|abort|reaching consistency|WAL location|transaction)"
    r"|recovery stopping at (?P<point>restore point)"
)
_QUERY = """
select pg_is_in_recovery() as recovering,
       case when pg_is_in_recovery() then pg_get_wal_replay_pause_state() end as pause,
       pg_last_wal_replay_lsn()::text as lsn, pg_last_xact_replay_timestamp() as moment,
       case when not pg_is_in_recovery() then substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end as timeline
"""


@dataclass(frozen=True)
class Outcome:
    """`state`: promoted, paused or shutdown. LSN and time are those of the last that was replayed, None if unseen."""

    state: str
    target_reached: bool
    stop_line: str
    replayed_lsn: Optional[str]
    last_transaction: Optional[datetime]
    timeline: Optional[int]
    seconds: float

    def describe(self) -> dict[str, Any]:
        moment = self.last_transaction
        return {
            "state": self.state,
            "target_reached": self.target_reached,
            "stop_line": self.stop_line,
            "replayed_lsn": self.replayed_lsn,
            "last_transaction": iso_micro(moment) if moment else None,
            "timeline": self.timeline,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Said:
    """What one log says. Pure; see `read_log`."""

    stop_line: str = ""
    complete: bool = False  # archive recovery complete: promoted
    pausing: bool = False
    shut_down: bool = False
    insufficient: str = ""
    fatal: str = ""
    ours: str = ""  # the last words of restore_command


def read_log(text: str) -> Said:
    """A start's log in English, as PostgreSQL 14 to 18 write it."""
    stop_line = fatal = ours = insufficient = ""
    for line in text.splitlines():
        message = re.sub(r"^.*?\b(?:LOG|FATAL|PANIC|WARNING|HINT|DETAIL):\s+", "", line).strip()
        if _STOPPED.search(line):
            stop_line = message
        elif re.search(r"\b(?:FATAL|PANIC):", line) and not re.search(r"the database system is|terminating", line):
            fatal = fatal or message
        elif line.startswith("dbops: "):
            ours = line[len("dbops: ") :].strip()
        elif "insufficient parameter settings" in line:
            insufficient = message
    return Said(
        stop_line=stop_line,
        complete="archive recovery complete" in text,
        pausing="pausing at the end of recovery" in text,
        shut_down="shutdown at recovery target" in text,
        insufficient=insufficient,
        fatal=fatal,
        ours=ours,
    )


def follow(
    tools: Tools,
    data_directory: str,
    log: str,
    connection: ConnectionSettings,
    target: Target,
    progress: Progress,
    *,
    resume: str,
) -> Outcome:
    """Wait for the end. A failure is an error that says why; the data directory then stays as it is, not promoted.

    `resume` is the command by which recovery goes on after what stopped it is mended.
    """
    begun = time.monotonic()
    seen: dict[str, Any] = {}
    ended_at: Optional[float] = None
    while True:
        pid = postmaster_pid(data_directory)
        said = read_log(_read(log))
        if pid is None and (said.fatal or said.shut_down or time.monotonic() - begun > 5):
            said = read_log(_read(log))
            if said.shut_down and not said.fatal:
                return _outcome("shutdown", target, said, seen, begun)
            raise failure(said, data_directory, log, resume=resume)
        if said.insufficient:
            raise Refused(
                f"Recovery in {data_directory} stands still: {said.insufficient}.",
                hint=f"Raise those settings to the primary's values, restart that server; see {log}.",
            )
        answer = _ask(tools, data_directory, connection)
        if isinstance(answer, dict):
            seen = answer
            progress.report(Step("replay", note=f"{seen['lsn']} {seen['moment'] or ''}".strip()))
            if not seen["recovering"] and said.complete:
                return _outcome("promoted", target, said, seen, begun)
            if seen["pause"] == "paused" and said.stop_line:
                return _outcome("paused", target, said, seen, begun)
        if said.complete or said.pausing:
            ended_at = ended_at or time.monotonic()
            if time.monotonic() - ended_at > _SETTLE_S:
                raise Unreachable(
                    f"The log says that recovery in {data_directory} has ended, and the server does not confirm it: "
                    f"{answer}",
                    hint=f"Ask it yourself (select pg_is_in_recovery()), and see {log}.",
                )
        time.sleep(_POLL_S)


def failure(said: Said, data_directory: str, log: str, *, resume: str) -> DbopsError:
    """Why a recovery ended without its target, in words that say what to do."""
    kept = f"The server is stopped, and the data in {data_directory} is kept as it is and was not promoted"
    if "could not restore file" in said.fatal:
        return Unreachable(
            f"Recovery stopped, since a WAL file could not be had: {said.ours or said.fatal}",
            hint=f"{kept}. Mend the repository, then start that server again and it goes on from there: {resume}. "
            f"Its log is {log}.",
        )
    if "recovery ended before configured recovery target was reached" in said.fatal:
        return Refused(
            "Recovery replayed all WAL that there is and did not meet its target.",
            hint=f"{kept}. Choose a target within the recovery window (dbops info).",
        )
    if "before consistent recovery point" in said.fatal:
        return Refused("The target lies before the backup's end.", hint=f"{kept}. Choose an older backup.")
    return ToolFailed(
        f"Recovery in {data_directory} failed: {said.fatal or 'the server is gone'}.",
        hint=f"{kept}. See {log}.",
        stderr_tail=said.ours,
    )


def met(target: Target, stop_line: str) -> bool:
    """Whether this stop line is that of the target; the end of the WAL has none."""
    found = _STOPPED.search(stop_line)
    if target.kind == "latest":
        return found is None
    if found is None:
        return False
    what = "restore point" if found.group("point") else found.group("what")
    return {
        "immediate": what == "reaching consistency",
        "lsn": what == "WAL location",
        "name": what == "restore point" and f'"{target.value}"' in stop_line,
        "xid": what in ("commit", "abort", "transaction") and f"transaction {target.value}," in stop_line,
        "time": what in ("commit", "abort", "transaction"),
    }[target.kind]


def _outcome(state: str, target: Target, said: Said, seen: dict[str, Any], begun: float) -> Outcome:
    timeline = seen.get("timeline")
    return Outcome(
        state=state,
        target_reached=met(target, said.stop_line),
        stop_line=said.stop_line,
        replayed_lsn=seen.get("lsn"),
        last_transaction=seen.get("moment"),
        timeline=int(timeline, 16) if timeline else None,
        seconds=time.monotonic() - begun,
    )


def _ask(tools: Tools, data_directory: str, connection: ConnectionSettings) -> Any:
    """What the server answers, or the error while it does not."""
    try:
        with connected_in(data_directory, connection, tools.identity) as session:
            return session.row(_QUERY)
    except DbopsError as error:
        return error


def _read(log: str) -> str:
    try:
        with open(log, encoding="utf-8", errors="replace") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - (1 << 20)))
            return stream.read()
    except OSError:
        return ""
