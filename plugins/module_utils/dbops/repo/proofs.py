# SPDX-License-Identifier: GPL-3.0-or-later
"""Proofs: what each verification found, one object each, beside the backups. They are added and never changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Optional

from ..errors import Corrupt, DbopsError, Refused
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


def read_proofs(repository: Repository, label: Optional[str] = None) -> list[dict[str, Any]]:
    """Oldest first within a label, each with its `label`. What cannot be read proves nothing and is passed over."""
    prefix = layout.proofs(repository.cluster) + (f"{label}/" if label else "")
    found = []
    for key, content in repository.store.read_many([item.key for item in repository.store.list(prefix)]):
        if isinstance(content, DbopsError):
            if isinstance(content, (Corrupt, Refused)):
                continue
            raise content
        try:
            proof = json.loads(content or b"")
            from_iso(proof["finished"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        proof["label"] = key[len(layout.proofs(repository.cluster)) :].split("/", 1)[0]
        found.append(proof)
    return found
