# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading every stored byte again, a part of it each night, so that rot is found while another copy is still good.

A ledger on this host says when each object was read last. A run takes those that were read longest ago, never read
first, until its budget is spent: what the days demand, or what the operator allows.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Optional

from ..errors import Corrupt, DbopsError, NotFound
from ..pg.osuser import cluster_identity
from ..progress import Meter, Progress
from ..repo import layout
from ..repo.archive import WalArchive
from ..repo.proofs import write_proof
from ..repo.record import iso
from ..repo.repository import Repository, open_repository
from ..settings import Settings
from .verdict import Verdict

_FORMAT = 1


@dataclass(frozen=True)
class Item:
    """One stored object. `label` is its backup's, None for WAL; `read` reads and checks all of it."""

    key: str
    size_bytes: int
    label: Optional[str]
    read: Callable[[], None]


def scrub(
    settings: Settings, progress: Progress, *, repository: Optional[str] = None, now: Optional[datetime] = None
) -> dict[str, Any]:
    """What was read and found. A damaged object of a backup becomes a failed proof of it, which health shows."""
    moment = now or datetime.now(timezone.utc)
    opened = open_repository(settings, repository)
    path = os.path.join(settings.state_path, f"scrub-{opened.name}.json")
    ledger = _read(path)
    with opened.restoring():  # nothing that is to be read expires meanwhile
        items = {item.key: item for item in _items(opened)}
        budget = budget_bytes(
            sum(item.size_bytes for item in items.values()), settings.verify.scrub_days, settings.verify.scrub_bytes
        )
        chosen = choose({key: item.size_bytes for key, item in items.items()}, ledger, budget)
        meter = Meter(progress, "scrub", total_bytes=sum(items[key].size_bytes for key in chosen))
        bad = [problem for key in chosen for problem in _look(opened, items[key], ledger, meter, moment)]
        meter.finish()
    ledger = {key: when for key, when in ledger.items() if key in items}
    cluster_identity(settings.host.os_user, settings.host.data_directory).make_private_directory(settings.state_path)
    _write(path, ledger)
    limit = iso(moment - timedelta(days=settings.verify.scrub_days))
    overdue = sum(ledger.get(key, "") < limit for key in items)
    verdicts = {problem["verdict"] for problem in bad}
    verdict = next((item.value for item in (Verdict.FAIL, Verdict.COULD_NOT_VERIFY) if item.value in verdicts), "pass")
    words = f"{len(chosen) - len(bad)} of {len(items)} objects ({meter.done_bytes} bytes) were read and are as stored"
    return {
        "changed": False,
        "msg": f"{words}; {len(bad)} are not: {bad[0]['message']}" if bad else f"{words}.",
        "scrub": {
            "cluster": settings.cluster,
            "repository": opened.name,
            "verdict": verdict,
            "objects": len(items),
            "read": len(chosen),
            "read_bytes": meter.done_bytes,
            "budget_bytes": budget,
            "overdue": overdue,
            "problems": bad,
        },
        "warnings": [],
    }


def budget_bytes(total_bytes: int, days: int, most: Optional[int]) -> int:
    """Bytes for one nightly run, so that all of it comes round within the days."""
    share = -(-total_bytes // days)
    return share if most is None else min(share, most)


def choose(sizes: Mapping[str, int], ledger: Mapping[str, str], budget: int) -> list[str]:
    """Those that were read longest ago, until the budget is spent. At least one: an object may exceed any budget."""
    chosen: list[str] = []
    spent = 0
    for key in sorted(sizes, key=lambda item: (ledger.get(item, ""), item)):
        if chosen and spent >= budget:
            break
        chosen.append(key)
        spent += sizes[key]
    return chosen


def _items(opened: Repository) -> Iterable[Item]:
    for entry in opened.catalog().entries:
        record = entry.record
        for stored in record.objects:

            def read(label: str = record.label, stored: Any = stored) -> None:
                for _chunk in opened.read_object(label, stored):
                    pass

            key = layout.backup(opened.cluster, record.label) + stored.name
            yield Item(key, stored.stored.size_bytes, record.label, read)
    for system in opened.store.children(layout.wal(opened.cluster)):
        archive = WalArchive(opened, system)
        for file in archive.files():

            def read_wal(archive: WalArchive = archive, name: Any = file.name) -> None:
                for _chunk in archive.stream(name):
                    pass

            yield Item(file.key, file.stored_bytes, None, read_wal)


def _look(
    opened: Repository, item: Item, ledger: dict[str, str], meter: Meter, moment: datetime
) -> Iterable[dict[str, str]]:
    try:
        item.read()
    except (Corrupt, NotFound) as error:
        if item.label:
            _write_down(opened, item.label, error, moment)
        yield {"key": item.key, "verdict": Verdict.FAIL.value, "message": error.message, "hint": error.hint}
    except DbopsError as error:  # not read, so it stays what is due first
        yield {"key": item.key, "verdict": Verdict.COULD_NOT_VERIFY.value, "message": error.message, "hint": error.hint}
        return
    ledger[item.key] = iso(moment)
    meter.add(item.size_bytes)


def _write_down(opened: Repository, label: str, error: DbopsError, moment: datetime) -> None:
    check = {"level": "bytes", "name": "scrub", "verdict": "fail", "message": error.message, "hint": error.hint}
    proof = {
        "label": label, "cluster": opened.cluster, "repository": opened.name, "verdict": "fail", "level": None,
        "checks": [check], "started": iso(moment), "finished": iso(moment),
    }  # fmt: skip
    write_proof(opened, label, moment, proof)


def _read(path: str) -> dict[str, str]:
    """Without a ledger everything counts as never read."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
        if data["format"] == _FORMAT:
            return {str(key): str(when) for key, when in data["read"].items()}
    return {}


def _write(path: str, ledger: Mapping[str, str]) -> None:
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as stream:
        json.dump({"format": _FORMAT, "read": dict(ledger)}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
