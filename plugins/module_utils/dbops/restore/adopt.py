# SPDX-License-Identifier: GPL-3.0-or-later
"""Turning a side instance into a cluster: its isolation is lifted, and it archives under the name that adopts it.

Under the original's name it takes the original's place, on the new timeline that its promotion began. Under another
name it is a cluster of its own, with an archive of its own; both then carry the same system identifier, and may never
meet in one archive.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from ..errors import BadInput, DbopsError, NotFound, Refused
from ..pg import control
from ..pg.config_files import AUTO, configuration, read
from ..pg.connection import connected, located
from ..pg.controlfile import control_file
from ..pg.datadir import major_version, postmaster_pid, running_elsewhere
from ..pg.osuser import cluster_identity
from ..pg.tools import Tools, find_tools
from ..repo.ownership import check_owner
from ..settings import Settings
from ..wal import setup
from ..wal.targets import archives
from .durable import write_durably
from .isolation import DIRECTORY, STUB
from .target import rewrite_auto_conf

_SUBSCRIPTIONS = """
select s.subname, d.datname from pg_subscription s join pg_database d on d.oid = s.subdbid where s.subenabled order by 1
"""
# What an operator wants to see before the world can reach the server again.
_COMES_BACK = ("port", "listen_addresses", "unix_socket_directories", "shared_preload_libraries",
               "synchronous_standby_names", "archive_mode", "archive_command")  # fmt: skip


@dataclass(frozen=True)
class Request:
    """`python`, `lib_path` and `config` are for the archiving scripts; see wal/setup.py."""

    port: Optional[int] = None  # written where ALTER SYSTEM writes; None: what the configuration says
    start: bool = True
    start_options: str = ""
    archiving: setup.Request = field(default_factory=setup.Request)


@dataclass(frozen=True)
class AdoptPlan:
    settings: Settings
    request: Request
    data_directory: str
    tools: Tools
    original: str  # the cluster that the side instance was recovered from
    system_identifier: str
    timeline: int
    auto_conf: str
    runs_with: Mapping[str, str]
    archiving: setup.SetupPlan
    warnings: tuple[str, ...]

    def preview(self) -> dict[str, Any]:
        return self.told(f"Would turn the side instance in {self.data_directory} into cluster", started=False)

    def told(self, words: str, *, started: bool) -> dict[str, Any]:
        return {
            "changed": True,
            "msg": f"{words} {self.settings.cluster!r}, which archives on timeline {self.timeline}. "
            "Next: a full backup of it.",
            "adopt": {
                "data_directory": self.data_directory,
                "original": self.original,
                "new_identity": self.original != self.settings.cluster,
                "system_identifier": self.system_identifier,
                "timeline": self.timeline,
                "runs_with": dict(self.runs_with),
                "written": [*(item.path for item in self.archiving.writes), os.path.join(self.data_directory, AUTO)],
                "started": started,
            },
            "warnings": list(self.warnings),
        }


def plan(settings: Settings, request: Request) -> AdoptPlan:
    """Everything that could go wrong is refused here, while the instance is still cut off. Changes nothing."""
    root = settings.host.data_directory
    if not root:
        raise BadInput(
            f"Cluster {settings.cluster!r} has no host.data_directory.",
            hint="Set it to the side instance's directory: that is where this cluster is going to live.",
        )
    original = _side_of(root)
    identity = cluster_identity(settings.host.os_user, root)
    tools = find_tools(major_version(root) or 0, identity, bin_dir=settings.host.bin_dir)
    here = replace(settings, connection=replace(settings.connection, login_host="", login_unix_socket=""))
    timeline, subscriptions = _ask(here, tools)
    system = control_file(root).system_identifier
    _require_configuration(root)
    _require_free_timeline(settings, system, timeline)
    auto = rewrite_auto_conf(read(os.path.join(root, AUTO)) or "", {"port": str(request.port)} if request.port else {})
    archiving = setup.plan(here, request.archiving, planned={os.path.join(root, AUTO): auto})
    after = {item.path: item.content for item in archiving.writes}
    after[os.path.join(root, AUTO)] = auto
    lines = configuration(archiving.server.config_file, root, after)
    runs_with = {line.name: line.value for line in lines if line.name in _COMES_BACK}
    new_identity = original != settings.cluster
    if new_identity and subscriptions:
        raise Refused(
            f"The instance has subscriptions that {original!r} goes on using: {', '.join(subscriptions)}.",
            hint="ALTER SUBSCRIPTION ... DISABLE each in its database; two subscribers would share one slot.",
        )
    _require_alone(root, system, runs_with, new_identity)
    return AdoptPlan(
        settings=settings,
        request=request,
        data_directory=root,
        tools=tools,
        original=original,
        system_identifier=system,
        timeline=timeline,
        auto_conf=auto,
        runs_with=runs_with,
        archiving=archiving,
        warnings=tuple(_warnings(runs_with, subscriptions, archiving)),
    )


def run(plan: AdoptPlan) -> dict[str, Any]:
    """Stop it, write where it archives, and only then lift the isolation: killed in between, it is still a side one."""
    root = plan.data_directory
    control.stop(plan.tools, root)
    setup.run(plan.archiving)
    write_durably(os.path.join(root, AUTO), plan.auto_conf.encode("utf-8", "surrogateescape"))
    shutil.rmtree(os.path.join(root, DIRECTORY), ignore_errors=True)
    if plan.request.start:
        control.start(plan.tools, root, options=plan.request.start_options)
        control.check_answers(plan.tools, root, plan.settings.connection, plan.system_identifier)
    return plan.told(f"The side instance in {root} is now cluster", started=plan.request.start)


# -- what is asked before


def _side_of(root: str) -> str:
    """The cluster that this side instance was recovered from. NotFound for anything else."""
    try:
        with open(os.path.join(root, DIRECTORY, "settings.json"), encoding="utf-8") as stream:
            original = str(json.load(stream)["cluster"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise NotFound(
            f"{root} is no side instance.",
            hint="Make one with a recovery beside the cluster: dbops restore --time ... --side --target ...",
        ) from exc
    if postmaster_pid(root) is None:
        raise Refused(f"The side instance in {root} does not run.", hint=f"Start it first: pg_ctl start -D {root}")
    return original


def _ask(settings: Settings, tools: Tools) -> tuple[int, list[str]]:
    """Its timeline, and its enabled subscriptions. Refused while it still recovers."""
    connection = located(settings.connection, settings.host.data_directory)
    with connected(connection, tools.identity) as session:
        if session.value("select pg_is_in_recovery()"):
            raise Refused(
                f"The side instance in {settings.host.data_directory} is still in recovery.",
                hint="Look at it; then promote it with pg_ctl promote, or recover again.",
            )
        timeline = int(str(session.value("select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")), 16)
        try:
            rows = session.rows(_SUBSCRIPTIONS)
        except DbopsError:  # only a superuser may see them
            raise Refused(
                f"Role {connection.login_user!r} may not see the subscriptions.", hint="Connect as a superuser."
            ) from None
    return timeline, [f"{row['subname']} in {row['datname']}" for row in rows]


def _require_configuration(root: str) -> None:
    for name in ("postgresql.conf", "pg_hba.conf"):
        content = read(os.path.join(root, name))
        if content is None or content.startswith(STUB):
            raise Refused(
                f"The cluster's {name} lay outside its data directory, and a side instance runs without it.",
                hint=f"Restore with config_directory, copy {name} into {root}, look it through, then adopt.",
            )


def _require_free_timeline(settings: Settings, system: str, timeline: int) -> None:
    """Nobody else may have written this timeline: two histories under one name cannot be told apart."""
    for archive in archives(settings, system):
        check_owner(archive.repository, system)
        for item in archive.files():
            if item.name.timeline == timeline:
                raise Refused(
                    f"Repository {archive.name!r} has {item.name.text} of timeline {timeline} already, as cluster "
                    f"{settings.cluster!r}, from another server.",
                    hint="Recover a new side instance, which then takes a timeline after that one, and adopt it.",
                )


def _require_alone(root: str, system: str, runs_with: Mapping[str, str], new_identity: bool) -> None:
    """No other server of this system in the original's place, and none whose port would be taken."""
    for directory in running_elsewhere():
        if os.path.realpath(directory) == os.path.realpath(root):
            continue
        try:
            same = control_file(directory).system_identifier == system
            with open(os.path.join(directory, "postmaster.pid"), encoding="utf-8") as stream:
                port, sockets, addresses = stream.read().splitlines()[3:6]
        except (DbopsError, OSError, ValueError):
            continue
        if same and not new_identity:
            raise Refused(
                f"The cluster still runs in {directory}, and two servers would archive as one.", hint="Stop it first."
            )
        if port == runs_with.get("port", "5432") and _meet(sockets, addresses, runs_with):
            raise Refused(
                f"Port {port} is used by the server in {directory}.", hint="Give the adopted one another port."
            )


def _meet(sockets: str, addresses: str, runs_with: Mapping[str, str]) -> bool:
    """Whether two servers of one port would be in each other's way. What no file says is the server's own default."""
    ours = runs_with.get("unix_socket_directories", sockets)
    both_listen = bool(addresses.strip()) and runs_with.get("listen_addresses", "localhost") != ""
    return both_listen or sockets.strip() in [path.strip() for path in ours.split(",")]


def _warnings(runs_with: Mapping[str, str], subscriptions: list[str], archiving: setup.SetupPlan) -> list[str]:
    found = list(archiving.warnings)
    if subscriptions:
        found.append(f"Subscriptions go on where they were: {', '.join(subscriptions)}.")
    if runs_with.get("shared_preload_libraries"):
        found.append(f"Libraries are loaded again, and their jobs run: {runs_with['shared_preload_libraries']}.")
    if runs_with.get("synchronous_standby_names"):
        found.append(f"Commits will wait for standbys again: {runs_with['synchronous_standby_names']}.")
    return found
