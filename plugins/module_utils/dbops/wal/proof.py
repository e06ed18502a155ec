# SPDX-License-Identifier: GPL-3.0-or-later
"""Proof that archiving works: before a backup is copied, and again of its own WAL before it is listed.

An archive_command that returned 0 is no proof; the segment in the repository is.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterable

from ..errors import Unreachable
from ..pg.connection import connected
from ..pg.server import Server
from ..pg.wal import lsn_to_int, segments_between
from ..pg.walfile import wal_name
from ..progress import Progress, Step
from ..repo.archive import WalArchive
from ..repo.record import WalRange
from ..repo.repository import Repository

SWITCH_LIMIT_S = 60
BACKUP_LIMIT_S = 300
_POLL_S = 0.2
# The message makes sure that there is something to switch away from.
_MAY_SWITCH = "select has_function_privilege('pg_switch_wal()', 'EXECUTE')"
_SWITCH = """
select pg_walfile_name(lsn) as file
from (select pg_logical_emit_message(false, 'dbops', 'archiving is proven') as lsn) as message, lateral pg_switch_wal()
"""


def relies_on_archive(server: Server, cluster: str) -> bool:
    """Whether this primary archives with our script for this cluster; a standby leaves that to its primary."""
    if server.in_recovery or server.settings["archive_mode"] == "off":
        return False
    return is_our_command(server.settings["archive_command"], cluster)


def is_our_command(command: str, cluster: str) -> bool:
    """By the script's own words, since it may lie anywhere; or the command `dbops wal push` itself."""
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    if not words:
        return False
    if re.search(r"(^|/)dbops$", words[0]) and "push" in words:
        return True
    try:
        with open(words[0], encoding="utf-8", errors="replace") as stream:
            head = stream.read(2000)
    except OSError:
        return False
    return f"Written by dbops for cluster {cluster};" in head


def prove_archiving(
    server: Server, repositories: Iterable[Repository], progress: Progress, *, limit_s: int = SWITCH_LIMIT_S
) -> None:
    """Finish a segment and see it in each repository. Unreachable, before a byte was copied, when it does not come."""
    with connected(server.connection, server.identity) as session:
        if not session.value(_MAY_SWITCH):
            progress.warn(
                f"Role {server.connection.login_user!r} may not call pg_switch_wal(), so archiving is proven only at "
                "the end, by the backup's own WAL: GRANT EXECUTE ON FUNCTION pg_switch_wal() TO that role."
            )
            return
        segment = str(session.value(_SWITCH))
    progress.report(Step("wait for the archive", note=segment))
    for repository in repositories:
        _wait(WalArchive(repository, server.system_identifier), [segment], limit_s, "Nothing was copied.")


def wait_for_wal(
    server: Server, repositories: Iterable[Repository], wal: WalRange, *, limit_s: int = BACKUP_LIMIT_S
) -> None:
    """Return when every segment that the backup needs is in each repository; Unreachable names one that is not."""
    names = segments_between(wal.timeline, lsn_to_int(wal.start_lsn), lsn_to_int(wal.stop_lsn), wal.segment_size)
    for repository in repositories:
        _wait(WalArchive(repository, server.system_identifier), names, limit_s, "The backup is not listed.")


def _wait(archive: WalArchive, names: Iterable[str], limit_s: int, consequence: str) -> None:
    until = time.monotonic() + limit_s
    for name in names:
        while not archive.has(wal_name(name)):
            if time.monotonic() > until:
                raise Unreachable(
                    f"Segment {name} did not come into repository {archive.name!r} within {limit_s} s: archiving does "
                    f"not work. {consequence}",
                    hint="See dbops wal status and the server's log, mend archiving, then take the backup again.",
                )
            time.sleep(_POLL_S)
