# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file of this package answers which verb. A call imports that one: all of them take longer than many a verb."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

_VERBS = {  # in the order of --help
    "backup": ("backup",),
    "info": ("info",),
    "expire": ("expire", "hold", "release"),
    "repo": ("repo",),
    "restore": ("restore", "rollback", "validate"),
    "verify": ("verify",),
    "scrub": ("scrub",),
    "check": ("check",),
    "metrics": ("metrics",),
    "exporter": ("exporter",),
    "canary": ("canary",),
    "report": ("report",),
    "restore_point": ("restore-point",),
    "adopt": ("adopt",),
    "wal": ("wal",),
    "migrate": ("migrate",),
    "seed": ("seed",),
    "config": ("config", "version"),
}
_TAKE_A_WORD = ("--cluster", "--config", "--repository", "--output")


def rooms(arguments: Sequence[str]) -> list[Any]:
    """The one of the verb that is meant; all of them for --help, and for whatever is not plain."""
    verb = _verb(arguments)
    names = [name for name, verbs in _VERBS.items() if verb in verbs] or list(_VERBS)
    return [importlib.import_module(f".{name}", __package__) for name in names]


def _verb(arguments: Sequence[str]) -> str:
    """The first word that is no option and belongs to none; empty where an option is not known here."""
    words = iter(arguments)
    for word in words:
        if word in _TAKE_A_WORD:
            next(words, None)
        elif word != "--quiet" and not word.startswith(tuple(f"{option}=" for option in _TAKE_A_WORD)):
            return "" if word.startswith("-") else word
    return ""


def everything() -> None:
    """Never called: Ansible packs what it finds imported in the text, and what is packed gets installed on hosts."""
    from . import (  # noqa: F401
        adopt,
        backup,
        canary,
        check,
        config,
        expire,
        exporter,
        info,
        metrics,
        migrate,
        repo,
        report,
        restore,
        restore_point,
        scrub,
        seed,
        verify,
        wal,
    )
