# SPDX-License-Identifier: GPL-3.0-or-later
"""The narrow door for archive_command, restore_command and their workers: few imports, one line, PostgreSQL's codes.

[--script] [--cluster NAME] [--config FILE] [--spool DIR] push PATH | get FILE PATH
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn, Optional

from ..codec.keyring import forget_keyrings
from ..errors import BadInput, DbopsError
from ..settings import Settings, default_file, load
from ..wal.launch import Launcher
from ..wal.log import note
from ..wal.premises import Premises, premises
from ..wal.scripts import MISSING, code_of, running_lib_path

_OPTIONS = ("--cluster", "--config", "--spool")
_VERBS = {"push": 1, "get": 2, "push-worker": 2, "get-worker": 1, "optional-worker": 2}


class Call:
    """The words of one call. BadInput for those that make no sense."""

    def __init__(self, words: Sequence[str]) -> None:
        given = list(words)
        self.options: dict[str, str] = {}
        self.from_script = False
        while given and given[0].startswith("--"):
            option = given.pop(0)
            if option == "--script":
                self.from_script = True
            elif option in _OPTIONS and given:
                self.options[option] = given.pop(0)
            else:
                raise BadInput(f"{option!r} means nothing here.", hint="See dbops wal --help.")
        self.verb, self.words = (given[0] if given else ""), given[1:]
        if _VERBS.get(self.verb) != len(self.words):
            raise BadInput(
                f"{' '.join(given)!r} is not a call that archiving knows.",
                hint="Use archive_command = '<script> %p' and restore_command = '<script> %f %p'.",
            )

    @property
    def cluster(self) -> str:
        return self.options.get("--cluster") or os.environ.get("DBOPS_CLUSTER") or "main"

    def settings(self) -> Settings:
        return load(self.cluster, path=self.config(self.cluster))

    def config(self, cluster: str) -> str:
        return self.options.get("--config") or default_file(cluster)

    def launcher(self, settings: Settings, spool_path: str, lib_paths: Sequence[str]) -> Launcher:
        options = ["--script", "--cluster", settings.cluster, "--config", self.config(settings.cluster)]
        options += ["--spool", spool_path]
        return Launcher(code_of(tuple(lib_paths)), options, spool_path, partial(main, lib_paths=lib_paths))


def run(lib_paths: Sequence[str]) -> NoReturn:
    """What the scripts start. The server waits for the end, so the interpreter does not take itself apart first."""
    code: Any = 1
    try:
        code = main(lib_paths=lib_paths)
    except SystemExit as exc:
        code = exc.code
    finally:
        forget_keyrings()
        os._exit(code)


def main(words: Optional[Sequence[str]] = None, *, lib_paths: Optional[Sequence[str]] = None) -> int:
    """The exit code. `lib_paths` is where the workers that are started find this package and its libraries."""
    words = list(sys.argv[1:] if words is None else words)
    is_get = "get" in words or "get-worker" in words
    settings: Optional[Settings] = None
    try:
        call = Call(words)
        is_get = call.verb == "get"
        before = premises(call.config(call.cluster), call.words[0])
        settings = call.settings()
        spool_path = call.options.get("--spool") or settings.spool_path
        launcher = call.launcher(settings, spool_path, lib_paths or [running_lib_path()])
        if call.verb == "push":
            return _push(settings, spool_path, call.words[0], launcher)
        if call.verb == "get":
            return _get(settings, spool_path, call, launcher)
        return _work(settings, spool_path, call, launcher, before)
    except DbopsError as error:
        said, code = f"{error}", error.exit_code
    except Exception as error:  # noqa: BLE001  # the outermost door: PostgreSQL must never misread our end
        said, code = f"Unexpected {type(error).__name__}: {error}. Please report it.", 1
    _say(said)
    if settings is not None:
        note(settings, call.verb, f"{' '.join(call.words)} failed: {said}")
    return 255 if is_get else code


def is_meant(words: Sequence[str]) -> bool:
    """Whether these words of the command `dbops` are a server's call and not a person's."""
    return any(pair in (("wal", "push"), ("wal", "get")) for pair in zip(words, words[1:]))


def without_wal(words: Sequence[str]) -> list[str]:
    """`--cluster main wal push X` as `--cluster main push X`."""
    place = list(words).index("wal")
    return [*words[:place], *words[place + 1 :]]


def _push(settings: Settings, spool_path: str, path: str, launcher: Launcher) -> int:
    from ..wal.push import push

    pushed = push(settings, spool_path, path, launcher)
    for line in pushed.lines:
        _say(line)
    note(settings, "push", " ".join([f"{pushed.name} archived: {pushed.stored}.", *pushed.lines]))
    return 0


def _get(settings: Settings, spool_path: str, call: Call, launcher: Launcher) -> int:
    from ..wal.get import get

    signal.signal(signal.SIGTERM, _ended)  # PostgreSQL takes 143 for the shutdown that it is
    got = get(settings, spool_path, call.words[0], call.words[1], launcher)
    if got.lines:
        _say(" ".join(got.lines))
    told = {0: "came back.", 1: "is missing."}.get(got.exit_code, "is not known:")
    note(settings, "get", " ".join([call.words[0], told, *got.lines]))
    return MISSING if got.exit_code == 1 and call.from_script else got.exit_code


def _work(settings: Settings, spool_path: str, call: Call, launcher: Launcher, before: Premises) -> int:
    """`before` is what held before the settings were read."""
    from ..wal.cluster import cluster_in
    from ..wal.spool import Spool

    cluster = cluster_in(call.words[0])
    spool = Spool(spool_path, cluster)
    if call.verb == "push-worker":
        from ..wal.worker import run_worker

        run_worker(settings, spool, cluster, launcher, skip=call.words[1], config=call.config(settings.cluster))
    elif call.verb == "get-worker":
        from ..wal import prefetch

        config = call.config(settings.cluster)
        prefetch.run_worker(settings, spool, cluster, still_true=lambda: before == premises(config, call.words[0]))
    else:
        from ..wal import optional

        optional.run_worker(settings, spool, cluster, call.words[1])
    return 0


def _ended(number: int, frame: Any) -> NoReturn:
    del frame
    raise SystemExit(128 + number)


def _say(text: str) -> None:
    """One line, whatever the text; PostgreSQL's log is where it goes."""
    line = " ".join(text.split())
    try:
        sys.stderr.write(f"dbops: {line}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return
