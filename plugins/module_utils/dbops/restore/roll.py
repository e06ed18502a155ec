# SPDX-License-Identifier: GPL-3.0-or-later
"""Rolling a restored backup forward: the route to the target beforehand, and the replay itself afterwards."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING, Optional

from ..errors import BadInput, NoKey, NotFound
from ..pg import control
from ..pg.osuser import Identity
from ..pg.tools import Tools, find_tools
from ..progress import Progress
from ..repo.archive import WalArchive
from ..repo.coverage import Window, window_of
from ..repo.readable import check_wal
from ..repo.repository import Catalog, Repository
from ..repo.restore_points import read_points
from ..settings import Settings
from ..wal.runnable import find_engine
from .choose import Route, choose
from .edges import WalReader
from .follow import Outcome, follow
from .isolation import side_of
from .recovery import Recovery, resume_command, settle
from .target import Target

if TYPE_CHECKING:
    from .physical_plan import Request

_LOG = "dbops-recovery.log"


def check(request: Request) -> None:
    """BadInput for options that contradict each other."""
    if request.recovery is None:
        for name in ("side", "port", "socket_directory"):
            if getattr(request, name):
                raise BadInput(
                    f"{name} is only for a recovery.", hint="Give a recovery target too: immediate, for one."
                )
        return
    if request.before:
        raise BadInput("A recovery target chooses the backup itself.", hint="Leave `before` out, or give a label.")
    if request.side and (request.in_place or not request.target):
        raise BadInput(
            "A side instance needs a directory of its own, and moves nothing aside.",
            hint="Give an empty target directory, and leave in_place out.",
        )
    if not request.side and (request.port or request.socket_directory):
        raise BadInput("port and socket_directory are a side instance's.", hint="Ask for a side instance too.")


def recovery_for(
    settings: Settings,
    request: Request,
    repository: Repository,
    catalog: Catalog,
    identity: Identity,
    data_directory: str,
) -> Recovery:
    """The proven route to the request's target. NotFound and Refused say what could be reached instead."""
    target = request.recovery or Target()
    physical = [entry.record for entry in catalog.entries if entry.record.method == "physical"]
    if not physical:
        raise NotFound("There is no physical backup to recover from.", hint="See dbops info.")
    named = catalog.entry(request.label).record if request.label else None
    if named is not None and named.method != "physical":
        raise BadInput(f"{named.label} is a logical backup; WAL cannot be replayed on it.", hint="See dbops info.")
    newest = named or max(physical, key=lambda record: (record.stopped, record.label))
    window = window_of(repository, catalog, newest.system_identifier)
    archive = WalArchive(repository, newest.system_identifier)
    tools = find_tools(newest.postgres_version_num // 10000, identity, bin_dir=settings.host.bin_dir)
    with WalReader(archive, window, tools, cache=settings.state_path) as reader:
        points = read_points(repository, newest.system_identifier) if target.kind == "name" else []
        route = choose(target, window, reader, record=named, points=points)
    if check_wal(repository, _needed(window, route)):
        _check_may_read(settings, identity)
    side = side_of(settings, data_directory, request.port, request.socket_directory) if request.side else None
    return Recovery(
        route=route,
        data_directory=data_directory,
        settings=settings,
        only_repository=request.repository,
        codecs=frozenset(item.codec for item in archive.files()),
        side=side,
        engine=find_engine(request.lib_path),
    )


def _needed(window: Window, route: Route) -> Iterator[str]:
    """Where the WAL lies that replay will read, by key."""
    line = window.line(route.timeline)
    for place in window.between(line.path, route.start, route.until) if line else ():
        if place in window.keys:
            yield window.keys[place]


def _check_may_read(settings: Settings, identity: Identity) -> None:
    """restore_command runs as the server's OS user: what root can read is not enough."""
    encryption = settings.encryption
    files = [*encryption.identity_files, *filter(None, [encryption.passphrase_file, encryption.homedir])]
    script = 'for file; do [ -r "$file" ] || { echo "$file"; exit 1; }; done'
    done = subprocess.run(  # pylint: disable=ansible-bad-function  # no module at hand
        ["/bin/sh", "-c", script, "sh", *files],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        check=False,
        **identity.for_subprocess(),
    )
    if done.returncode != 0:
        raise NoKey(
            f"The archived WAL is encrypted, and {identity.name}, as whom PostgreSQL will ask for it, cannot read "
            f"{done.stdout.strip() or 'the keys'}.",
            hint=f"Let {identity.name} read it for the time of the recovery (chown, mode 0600).",
        )


def replay(recovery: Recovery, tools: Tools, options: str, progress: Progress) -> Outcome:
    """Start the server, follow it to the target, and leave it as the target's action says.

    After a promotion what was only for the recovery is taken back, and the server is stopped: the caller starts it as
    it is to run. Paused, it goes on running, and its log stays the one of this recovery.
    """
    path = recovery.data_directory
    log = os.path.join(path, _LOG)
    side = recovery.side
    if side is not None and not os.path.isdir(side.socket_directory):
        tools.identity.make_private_directory(side.socket_directory)
    tools.identity.make_private_directory(recovery.settings.state_path)
    tools.identity.make_private_directory(recovery.spool_path)
    control.start_recovery(tools, path, log, options=options)
    resume = resume_command(tools, path, log, options)
    outcome = follow(tools, path, log, recovery.settings.connection, recovery.route.target, progress, resume=resume)
    if outcome.state == "promoted":
        control.stop(tools, path)
        settle(recovery, tools)
    return outcome


def is_to_be_started(request: Request, followed: Optional[Outcome]) -> bool:
    """A side instance is there to be looked into; a cluster starts when asked; one that waits at its target runs."""
    if followed is None:
        return request.start
    return followed.state == "promoted" and (request.start or request.side)
