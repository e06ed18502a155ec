# SPDX-License-Identifier: GPL-3.0-or-later
"""Rehearse a directory of migrations on databases made for it and dropped afterwards; never on its own one."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ..errors import BadInput, NotFound
from ..pg.fingerprint import Fingerprint
from ..pg.osuser import cluster_identity
from ..pg.scratch import scratch_server
from ..progress import Progress, Step
from ..settings import Settings
from .bench import Bench
from .files import DOWN, UP, Migrations, load, scan
from .finding import ERROR, WARNING, Budgets, Finding, basename, sorted_findings
from .lint_rules import irreversible
from .matrix import Matrix
from .objects import changes
from .scene import Scene, send
from .shape import Script, Shape, copies_from_client, read_script
from .since import changed_since
from .snapshot import take

_SPARE = 100  # databases of some 8 MB that a throwaway server may keep until it goes


@dataclass(frozen=True)
class Request:
    """`data` is a directory of NNNNNN_*.sql: rows to add after the up of that version. `only` and `since` choose."""

    jobs: int = 0  # 0: one more than there are CPUs
    data: Optional[str] = None
    only: Optional[int] = None
    since: Optional[str] = None
    budgets: Budgets = field(default_factory=Budgets)
    on_server: bool = False  # on the settings' server instead of a throwaway one
    clean: bool = False  # there, drop the databases that killed rehearsals left first


def rehearse(settings: Settings, request: Request, progress: Progress) -> dict[str, Any]:
    """The whole report; `passed` is False with any error among its findings."""
    migrations = load(settings.migrations.path)
    if not migrations.all:
        raise NotFound(f"There is no migration in {migrations.directory}.", hint="Name their directory with --path.")
    scripts = {(item.version, way): _script(item.half(way)) for item in migrations.all for way in (UP, DOWN)}
    began = time.monotonic()
    with workbench(settings, on_server=request.on_server) as bench:
        version_num = bench.check()
        if request.clean:
            for name in bench.clean():
                progress.warn(f"A rehearsal had been killed: its database {name} is dropped.")
        bench.expect_roles([name for script in scripts.values() for name in _made(script, "role")])
        told = [*_before_running(migrations, scripts), *_missing_extensions(bench, migrations, scripts)]
        data = rows_of(request.data, migrations) if request.data else {}
        scene = Scene(bench, migrations, scripts, data, request.budgets, _chosen(migrations, request))
        scene.findings.extend(told)
        progress.report(Step(f"rehearse {len(migrations.all)} versions on PostgreSQL {version_num // 10000}"))
        jobs = _jobs(request)
        Matrix(scene, only_cells=request.only is not None, jobs=jobs).run()
    return _report(scene, version_num, jobs, time.monotonic() - began)


def preview(settings: Settings, request: Request) -> dict[str, Any]:
    """Every file read, and nothing run."""
    migrations = load(settings.migrations.path)
    scripts = {(item.version, way): _script(item.half(way)) for item in migrations.all for way in (UP, DOWN)}
    findings = _before_running(migrations, scripts)
    chosen = _chosen(migrations, request)
    where = "the configured server" if request.on_server else "a throwaway server"
    return {
        "changed": False,
        "msg": f"Would rehearse {len(migrations.all)} versions on {where}.",
        "rehearsal": {
            "passed": not any(item.severity == ERROR for item in findings),
            "directory": migrations.directory,
            "postgres": None,
            "seconds": 0.0,
            "jobs": _jobs(request),
            "rows": 0,
            "versions": [
                {"version": item.version, "name": item.name, "chosen": chosen is None or item.version in chosen}
                for item in migrations.all
            ],
            "findings": [item.as_dict() for item in sorted_findings(findings)],
        },
    }


def schemas_at(settings: Settings, versions: Sequence[int]) -> Mapping[int, Fingerprint]:
    """What the files make of an empty database up to each version, for the doctor."""
    migrations = load(settings.migrations.path)
    made: dict[int, Fingerprint] = {}
    with workbench(settings, on_server=False) as bench:
        name = bench.create()
        with bench.session(name) as session:
            if -1 in versions:
                made[-1] = take(session)
            for item in migrations.all:
                if item.version > max(versions):
                    break
                send(session, _script(item.up))
                if item.version in versions:
                    made[item.version] = take(session)
    return made


@contextlib.contextmanager
def workbench(settings: Settings, *, on_server: bool) -> Iterator[Bench]:
    """A throwaway server, or databases of our own on the settings' server."""
    identity = cluster_identity(settings.host.os_user, settings.host.data_directory)
    if on_server:
        bench = Bench(settings.connection, identity)
        try:
            yield bench
        finally:
            bench.clear()
        return
    with scratch_server(identity, bin_dir=settings.host.bin_dir) as (connection, ourselves):
        bench = Bench(connection, ourselves, spare=_SPARE)
        try:
            yield bench
        finally:
            bench.close()


def rows_of(directory: str, migrations: Migrations) -> dict[int, str]:
    """The rows to add at each version: files NNNNNN_name.sql, by the number."""
    found: dict[int, str] = {}
    try:
        names = sorted(os.listdir(directory))
    except OSError as exc:
        raise NotFound(f"Cannot read the rows in {directory}: {exc.strerror}.", hint="Name the directory.") from exc
    for name in names:
        number = name.split("_")[0]
        if not name.endswith(".sql") or not number.isdigit():
            continue
        if int(number) not in migrations.versions:
            raise BadInput(f"{name} has rows for a version that there is not.", hint="Number it as a migration.")
        with open(os.path.join(directory, name), encoding="utf-8") as stream:
            found[int(number)] = found.get(int(number), "") + stream.read()
    return found


def _jobs(request: Request) -> int:
    """By default one more than there are CPUs: one of them mostly waits for the checkpoint of a copy."""
    return request.jobs or (os.cpu_count() or 1) + 1


def _chosen(migrations: Migrations, request: Request) -> Optional[frozenset[int]]:
    if request.only is not None:
        return frozenset({migrations.at(request.only).version})
    if request.since is not None:
        names = changed_since(migrations.directory, request.since)
        files = [file for file in scan(migrations.directory).files if file.basename in names]
        return frozenset(file.version for file in files)
    return None


def _script(file: Any) -> Script:
    return file.script() if file is not None else read_script("")


def _before_running(migrations: Migrations, scripts: Mapping[tuple[int, str], Script]) -> list[Finding]:
    """What can be said of the files before a server sees them."""
    found = []
    for item in migrations.all:
        for name in _made(scripts[item.version, UP], "role"):
            text = f"Makes the role {name}, which belongs to the whole server and not to one of its databases."
            found.append(Finding("could_not_verify", ERROR, text, item.version, basename(item, UP)))
        for way in (UP, DOWN):
            half, script = item.half(way), scripts[item.version, way]
            if half is None:
                text = f"Version {item.version} has no {way} file: it cannot be rehearsed {way}."
                found.append(Finding("could_not_verify", WARNING, text, item.version))
            elif way == DOWN and irreversible(script):
                text = f"Version {item.version} says that there is no way back: it is not tried."
                found.append(Finding("could_not_verify", WARNING, text, item.version, half.basename))
            elif script.shape is Shape.SPLIT:
                text = "Ends a transaction of its own: what precedes its COMMIT stays when the rest fails."
                found.append(Finding("transaction", WARNING, text, item.version, half.basename))
            if half is not None and any(copies_from_client(one) for one in script.statements):
                found.append(
                    Finding("transaction", ERROR, "COPY FROM STDIN has no stdin here.", item.version, half.basename)
                )
    return found


def _missing_extensions(
    bench: Bench, migrations: Migrations, scripts: Mapping[tuple[int, str], Script]
) -> list[Finding]:
    """Said before the run, which stops at that file for a reason that is the server's and not the file's."""
    with bench.session(bench.connection.login_db) as session:
        known = {str(row["name"]) for row in session.rows("select name from pg_available_extensions")}
    found = []
    for item in migrations.all:
        for name in _made(scripts[item.version, UP], "extension"):
            if name not in known:
                text = f"This server has no extension {name}: from version {item.version} on nothing can be rehearsed."
                found.append(Finding("could_not_verify", ERROR, text, item.version, basename(item, UP)))
    return found


def _made(script: Script, kind: str) -> list[str]:
    found = [change for item in script.statements for change in changes(item)]
    return [change.what[1] for change in found if change.verb == "create" and change.what[0] == kind]


def _report(scene: Scene, version_num: int, jobs: int, seconds: float) -> dict[str, Any]:
    errors = [item for item in scene.findings if item.severity == ERROR]
    warnings = [item for item in scene.findings if item.severity == WARNING]
    versions, rows = len(scene.cells), scene.rows.get(max(scene.rows, default=-1))
    verdict = "passed" if not errors else "failed"
    return {
        "changed": False,
        "msg": f"The rehearsal of {versions} versions {verdict} in {seconds:.1f} s: "
        f"{len(errors)} errors, {len(warnings)} warnings.",
        "rehearsal": {
            "passed": not errors,
            "directory": scene.migrations.directory,
            "postgres": version_num // 10000,
            "seconds": round(seconds, 2),
            "jobs": jobs,
            "rows": rows.rows if rows else 0,
            "versions": [cell.as_dict() for _version, cell in sorted(scene.cells.items())],
            "findings": [item.as_dict() for item in sorted_findings(scene.findings)],
        },
    }
