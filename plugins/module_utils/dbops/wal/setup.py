# SPDX-License-Identifier: GPL-3.0-or-later
"""Switching a cluster's continuous archiving on and off: two scripts, and one file among the server's configuration.

`plan` looks and decides, `run` writes. Nothing here restarts a server. ALTER SYSTEM is not used: postgresql.auto.conf
wins over every other file without a word, and travels in every base backup.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ..errors import BadInput, NotFound, Refused, Unreachable
from ..installed import LIB_PATH
from ..pg.config_files import Line, configuration, read
from ..pg.connection import connected
from ..pg.osuser import Identity
from ..settings import Settings, default_file, load
from .drop_in import DIRECTORY, DROP_IN, ESSENTIAL, drop_in_text, include_added, overriding, wanted_values
from .parameters import Parameter, Surroundings, ask, normal, surroundings
from .place import File, put, remove
from .scripts import Place, get_script, push_script

_RELOAD_LIMIT_S = 15.0
_PILES_UP = (
    "Until the server is restarted archive_mode stays on, and WAL piles up in pg_wal once the configuration is "
    "reloaded: restart it soon."
)


@dataclass(frozen=True)
class Request:
    present: bool = True
    archive_timeout_s: int = 300
    summarize_wal: bool = True
    take_over: bool = False  # replace the archive_command of another tool
    reload: bool = False
    python: str = "/usr/bin/python3"
    lib_path: str = LIB_PATH
    config: Optional[str] = None


@dataclass(frozen=True)
class SetupPlan:
    """`writes` and `removals` are what differs. `wanted` is what the server is to run with afterwards."""

    server: Surroundings
    request: Request
    drop_in: str
    scripts: tuple[str, str]
    state_path: str
    spool: str
    writes: tuple[File, ...]
    removals: tuple[str, ...]
    wanted: Mapping[str, str]
    before: Mapping[str, str]  # what the files hold that are ours, by path
    after: Mapping[str, str]
    warnings: tuple[str, ...]

    def shown_before(self) -> dict[str, Any]:
        """What --diff shows; a second run shows no difference."""
        written = [item.path for item in self.writes]
        return {"files": dict(self.before), "to_write": written, "waits_for_reload": self.stale(restart=False)}

    def shown_after(self) -> dict[str, Any]:
        left = [] if self.request.reload else self.stale(restart=False)
        return {"files": dict(self.after), "to_write": [], "waits_for_reload": left}

    @property
    def needed(self) -> bool:
        return bool(self.writes or self.removals) or bool(self.request.reload and self.stale(restart=False))

    def stale(self, *, restart: bool, parameters: Optional[Mapping[str, Parameter]] = None) -> list[str]:
        """Settings that the server does not run with yet; with `restart` those that a reload will not change."""
        running = parameters or self.server.parameters
        return [
            name
            for name, value in self.wanted.items()
            if running[name].needs_restart is restart and running[name].value != value
        ]

    def describe(self, parameters: Optional[Mapping[str, Parameter]] = None) -> dict[str, Any]:
        reload, restart = (self.stale(restart=needed, parameters=parameters) for needed in (False, True))
        return {
            "configuration_file": self.drop_in,
            "archive_script": self.scripts[0],
            "restore_script": self.scripts[1],
            "written": [item.path for item in self.writes],
            "removed": list(self.removals),
            "settings": dict(self.wanted),
            "reload_required": bool(reload),
            "restart_required": bool(restart),
            "waits_for_reload": reload,
            "waits_for_restart": restart,
            "warnings": list(self.warnings),
        }

    def preview(self) -> dict[str, Any]:
        verb = "set up" if self.request.present else "taken away"
        data = self.describe()
        if self.request.reload:
            data.update(reload_required=False, waits_for_reload=[])
        msg = f"Archiving would be {verb} in {self.drop_in}." if self.needed else self.told(data)
        return {"changed": self.needed, "msg": msg, **data}

    def told(self, data: Mapping[str, Any]) -> str:
        state = "set up in" if self.request.present else "not in"
        next_step = ""
        if data["restart_required"]:
            next_step = f" It takes effect after a restart ({', '.join(data['waits_for_restart'])})."
        elif data["reload_required"]:
            next_step = f" It takes effect after a reload ({', '.join(data['waits_for_reload'])})."
        return f"Archiving is {state} {self.drop_in}.{next_step}"


def plan(settings: Settings, request: Request, *, planned: Optional[Mapping[str, Optional[str]]] = None) -> SetupPlan:
    """Refused when the configuration would not count, or would cut off another tool's archiving.

    `planned` are files of the configuration as they will be by then, where the caller is about to change them.
    """
    server = surroundings(settings)
    main = os.path.realpath(server.config_file)
    drop_in = os.path.join(os.path.dirname(server.config_file), DIRECTORY, DROP_IN)
    directory = os.path.join(settings.state_path, "scripts")
    scripts = (os.path.join(directory, "archive"), os.path.join(directory, "restore"))
    given = dict(planned or {})
    others = configuration(server.config_file, server.data_directory, {**given, drop_in: None})
    wanted, files, warnings = _without(server, others), [], []
    include: Optional[str] = None
    if request.present:
        place = _place(settings, request, server.identity)
        _refuse_other_tools(others, server, request, scripts[0])
        values = wanted_values(
            scripts,
            others,
            major=server.major,
            archive_timeout_s=request.archive_timeout_s,
            summarize_wal=request.summarize_wal,
        )
        text = drop_in_text(settings.cluster, values)
        include = include_added(read(main) or "", server.config_file)
        files = [
            File(scripts[0], push_script(place), 0o755, owner=server.identity),
            File(scripts[1], get_script(place), 0o755, owner=server.identity),
            File(drop_in, text, like=main),
        ]
        if include is not None:
            files.append(File(main, include, like=main))
        ours = {drop_in: text, **({main: include} if include is not None else {})}
        result = configuration(server.config_file, server.data_directory, {**given, **ours})
        warnings = _refuse_overrides(result, server, values, drop_in)
        wanted = {
            **wanted,
            **values,
            **{line.name: normal(line.name, line.value) for line in result if line.name in values},
        }
    elif os.path.lexists(drop_in) and server.parameters["archive_mode"].value != "off":
        warnings = [_PILES_UP]
    before = read(drop_in)
    return SetupPlan(
        server=server,
        request=request,
        drop_in=drop_in,
        scripts=scripts,
        state_path=settings.state_path,
        spool=settings.spool_path,
        writes=tuple(item for item in files if item.differs()),
        removals=() if request.present or not os.path.lexists(drop_in) else (drop_in,),
        wanted=wanted,
        before={} if before is None else {drop_in: before},
        after={drop_in: files[2].content} if files else {},
        warnings=tuple(warnings),
    )


def run(plan: SetupPlan) -> dict[str, Any]:
    """Write what differs, what the server reads last; then reload if that was asked for."""
    identity = plan.server.identity
    if plan.request.present:
        _make_directories(plan)
    for item in plan.writes:
        put(item)
        if item.path in plan.scripts:
            _check_executable(identity, item.path)
    for path in plan.removals:
        remove(path)
    parameters = _reload(plan) if plan.request.reload and plan.stale(restart=False) else None
    data = plan.describe(parameters)
    return {"changed": plan.needed, "msg": plan.told(data), **data}


# -- what is decided


def _without(server: Surroundings, others: Sequence[Line]) -> dict[str, str]:
    """What the server will run with when our file is gone."""
    values = {name: item.boot for name, item in server.parameters.items()}
    values.update({line.name: normal(line.name, line.value) for line in others if line.name in values})
    return values


def _refuse_overrides(
    result: Sequence[Line], server: Surroundings, values: Mapping[str, str], drop_in: str
) -> list[str]:
    """Warnings for what costs comfort only."""
    found = overriding(result, values, drop_in)
    fatal = [f"{line.name} in {line.where}" for line in found if line.name in ESSENTIAL]
    for name in ESSENTIAL:
        if server.parameters[name].source == "command line" and server.parameters[name].value != values[name]:
            fatal.append(f"{name} on the server's command line")
    if fatal:
        raise Refused(
            f"{drop_in} would not count: {'; '.join(fatal)} wins over it.",
            hint="Remove it there; from postgresql.auto.conf with ALTER SYSTEM RESET.",
        )
    return [f"{line.name} in {line.where} wins over {drop_in}." for line in found]


def _refuse_other_tools(others: Sequence[Line], server: Surroundings, request: Request, script: str) -> None:
    last = {line.name: line for line in others}
    library, command = last.get("archive_library"), last.get("archive_command")
    if library is not None and library.value:
        raise Refused(
            f"{library.where} archives with the library {library.value!r}, and a command would not be called.",
            hint="Remove archive_library there first.",
        )
    empty = command is None or command.value.strip() in ("", "(disabled)")
    if command is None or empty or request.take_over or script in command.value:
        return
    raise Refused(
        f"{command.where} already archives, with {command.value!r}.",
        hint="Remove it there, or set take_over to replace it; its archive gets no more WAL then.",
    )


# -- looking and acting


def _place(settings: Settings, request: Request, identity: Identity) -> Place:
    """What the scripts hold, tried as the user that will run them."""
    config = request.config or default_file(settings.cluster)
    place = Place(settings.cluster, config, settings.spool_path, request.python, (request.lib_path,))
    place.check()
    stated = load(settings.cluster, path=config)
    if stated.repositories != settings.repositories:
        raise BadInput(
            f"The server archives into the repositories that {config} names, and the task gives others.",
            hint="Change the settings file (playbooks/setup.yml), and leave them out here.",
        )
    stated.repository()  # says when there is none
    library = {"zstd": "zstandard", "lz4": "lz4.frame"}.get(stated.archiving.codec, "zlib")
    code = (
        f"import sys; sys.path.insert(0, {request.lib_path!r}); import {library}; import dbops.wal.push; "
        f"from dbops.settings import load; load({settings.cluster!r}, path={config!r})"
    )
    try:
        done = subprocess.run(  # pylint: disable=ansible-bad-function  # no module at hand
            [request.python, "-I", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd="/",
            check=False,
            timeout=60,
            **identity.for_subprocess(),
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise NotFound(
            f"{identity.name} cannot start {request.python}: {exc}.", hint="Name an interpreter that it can start."
        ) from exc
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise NotFound(
            f"The command of archiving does not work for {identity.name}; {request.python} said: {said}.",
            hint=f"Run playbooks/setup.yml, and let {identity.name} read {request.lib_path} and {config}.",
        )
    return place


def _make_directories(plan: SetupPlan) -> None:
    try:
        for directory in (plan.state_path, os.path.dirname(plan.scripts[0]), plan.spool):
            plan.server.identity.make_private_directory(directory)
    except OSError as exc:
        raise Unreachable(
            f"Cannot make {exc.filename}: {exc.strerror}.", hint="Run as root, or set host.state_path."
        ) from exc


def _check_executable(identity: Identity, path: str) -> None:
    done = subprocess.run(  # pylint: disable=ansible-bad-function  # no module at hand
        ["/bin/sh", "-c", '[ -x "$1" ]', "sh", path], cwd="/", check=False, **identity.for_subprocess()
    )
    if done.returncode != 0:
        raise Unreachable(
            f"{identity.name} cannot execute {path}.",
            hint="A directory above it is closed to that user: set host.state_path to one that is not.",
        )


def _reload(plan: SetupPlan) -> dict[str, Parameter]:
    """Have the files read again, and wait until the server runs with them."""
    server = plan.server
    with connected(server.connection, server.identity) as session:
        if not session.value("select pg_reload_conf()"):
            raise Unreachable("The server cannot reload its configuration.", hint="See the server's log.")
        limit = time.monotonic() + _RELOAD_LIMIT_S
        while True:
            parameters = ask(session)
            left = plan.stale(restart=False, parameters=parameters)
            if not left:
                return parameters
            if time.monotonic() > limit:
                raise Refused(
                    f"The server was told to reload and does not run with the new {', '.join(left)}.",
                    hint="See its log: a line of its configuration may be wrong.",
                )
            time.sleep(0.05)
