# SPDX-License-Identifier: GPL-3.0-or-later
"""Proofs: what each verification found, one object each, beside the backups. They are added and never changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ..errors import Refused
from ..store import AlreadyThere
from . import layout
from .record import from_iso
from .repository import Repository

FORMAT = 1


def write_proof(repository: Repository, label: str, finished: datetime, proof: Mapping[str, Any]) -> str:
    """Add it; its key. Two that end in the same second get two keys."""
    content = json.dumps({"format": FORMAT, **proof}, indent=1, ensure_ascii=False, default=str) + "\n"
    for number in range(100):
        key = layout.proof(repository.cluster, label, finished, number)
        try:
            repository.store.put(key, [content.encode("utf-8", "backslashreplace")], if_absent=True)
        except AlreadyThere:
            continue
        return key
    raise Refused(f"{label} has a hundred proofs of one second.", hint="Set this host's clock right.")


def read_proofs(repository: Repository, label: str = "") -> list[dict[str, Any]]:
    """Oldest first within a label, each with its `label`. What cannot be read proves nothing and is passed over."""
    return dated(repository.proofs(label))


def dated(proofs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that say when they were made."""
    return [proof for proof in proofs if _is_dated(proof)]


def _is_dated(proof: Mapping[str, Any]) -> bool:
    try:
        from_iso(proof["finished"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return True
