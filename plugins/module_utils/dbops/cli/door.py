# SPDX-License-Identifier: GPL-3.0-or-later
"""What every verb of the command has in hand, and what it gives back."""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional

from .. import settings as engine_settings
from ..errors import BadInput, Refused
from ..settings import DEFAULT_DIRECTORY, Settings
from .progress_bar import Told


@dataclass(frozen=True)
class Answer:
    """`data` is what a machine gets, to the byte what a module returns; `text` is the same for a person.

    `code` is for verbs whose answer may be bad news although they did what they should.
    """

    data: dict[str, Any]
    text: str
    code: int = 0


@dataclass(frozen=True)
class Door:
    args: argparse.Namespace
    progress: Told

    def settings(self, **overrides: Any) -> Settings:
        """The cluster's settings file with this call's options on top; None is not given."""
        args = self.args
        return engine_settings.load(cluster_named(args.cluster, args.config), path=args.config, overrides=overrides)

    def require_confirmation(self, settings: Settings, what: str) -> None:
        if self.args.confirm != settings.cluster:
            raise Refused(
                f"{what}, and that is not confirmed.",
                hint=f"Repeat with --confirm {settings.cluster}, or with --plan to see what would happen.",
            )


Verb = Callable[[Door], Answer]


def cluster_named(name: Optional[str], config: Optional[str], environment: Optional[Mapping[str, str]] = None) -> str:
    """The cluster that is meant: said, in DBOPS_CLUSTER, of the file, of the only file there is, or `main`."""
    said = name or (os.environ if environment is None else environment).get("DBOPS_CLUSTER")
    if said:
        return said
    if config:
        stem = os.path.splitext(os.path.basename(config))[0]
        return str(engine_settings.read_file(config).get("cluster", stem))
    known = _configured()
    if len(known) == 1:
        return known[0]
    if len(known) > 1 and "main" not in known:
        raise BadInput(
            "Several clusters are configured on this host, and none was named.",
            hint=f"Say which with --cluster: {', '.join(known)}.",
        )
    return "main"


def _configured() -> list[str]:
    try:
        names = sorted(os.listdir(DEFAULT_DIRECTORY))
    except OSError:  # not there, or not for us to see: then only names that are said help
        return []
    return [name[: -len(".json")] for name in names if name.endswith(".json") and not name.startswith(".")]


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """For tens of thousands of small objects and no circles: the collector would look at them again and again.

    What is there at the end it leaves alone for good, when the process ends too; without circles it goes by itself.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def given(**options: Any) -> dict[str, Any]:
    """Those options that were given."""
    return {name: value for name, value in options.items() if value is not None}
