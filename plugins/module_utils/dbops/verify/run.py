# SPDX-License-Identifier: GPL-3.0-or-later
"""One verification from its plan to its proof: restore, look, clean up, and write down what was found.

Restore, validation and clean-up are judged apart: a backup is not worse because its scratch could not be removed, and
a restore that works is told even when the data in it is wrong.
"""

from __future__ import annotations

import socket
import time
from datetime import datetime, timezone
from typing import Any, Optional

from .. import __version__
from ..errors import BadInput, DbopsError, NotFound
from ..notify.tell import tell_verified
from ..pg.osuser import current_identity
from ..progress import Progress
from ..repo.proofs import write_proof
from ..repo.record import iso
from ..settings import Settings
from . import live, logical, physical
from .estimate import rto_estimate, throughput
from .plan import Request, VerifyPlan, plan
from .scratch import Scratch, remove, scratch, sweep
from .verdict import LEVELS, Check, Ladder, Verdict, of_error, overall, proven_level

_RESTORE = LEVELS[: LEVELS.index("restore") + 1]


def verify(settings: Settings, request: Request, progress: Progress, *, dry_run: bool = False) -> dict[str, Any]:
    """The result, whatever the verdict. Raises BadInput and NotFound: there is nothing that could be verified."""
    begun = datetime.now(timezone.utc)
    try:
        planned = plan(settings, request)
    except (BadInput, NotFound):
        raise
    except DbopsError as error:
        return _without_plan(settings, request, error, begun)
    if dry_run:
        return planned.preview()
    return run(planned, progress)


def run(planned: VerifyPlan, progress: Progress) -> dict[str, Any]:
    """Do it. A scratch of a killed run is removed first, ours at the end, whatever happens in between."""
    begun = datetime.now(timezone.utc)
    clock = time.monotonic()
    ladder = Ladder(progress)
    facts: dict[str, Any] = {"phases": {}}
    swept = sweep(planned.root, progress)
    cleanup = {"verdict": Verdict.PASS.value, "message": "The scratch is removed.", "swept": swept}
    kept: Optional[Scratch] = None
    planned, counted = live.aim(planned, ladder)
    facts.update(counted, begun=begun)
    with scratch(planned.settings, planned.root, planned.identity, planned.record.label) as place:
        try:
            _climb(planned, place, ladder, facts, progress)
            kept = place if planned.request.keep else None
        finally:
            if kept is None:
                cleanup.update(_removed(place, planned))
    if kept is not None:
        cleanup.update(message=f"The scratch {kept.path} is left running, as asked; the next verification removes it.")
    warnings = [] if cleanup["verdict"] == "pass" else [str(cleanup["message"])]
    finished = datetime.now(timezone.utc)
    facts["phases"]["total_s"] = round(time.monotonic() - clock, 3)
    proof = _proof(planned, ladder, facts, cleanup, begun, finished)
    try:
        proof["proof"] = write_proof(planned.repository, planned.record.label, finished, proof)
    except DbopsError as error:
        warnings.append(f"The proof could not be written: {error.message}")
    if ladder.verdict is Verdict.PASS:
        warnings += tell_verified(planned.settings).warnings
    if kept is not None:
        proof["instance"] = {"socket_directory": kept.sockets, "port": kept.port, "data_directory": kept.data}
    return {
        "changed": proof["proof"] is not None,
        "msg": sentence(planned.record.label, ladder.verdict, ladder.checks),
        "verification": proof,
        "warnings": warnings,
    }


def _climb(planned: VerifyPlan, place: Scratch, ladder: Ladder, facts: dict[str, Any], progress: Progress) -> None:
    if ladder.verdict is not Verdict.PASS and ladder.checks:  # the target itself could not be made
        return
    how = physical.climb if planned.record.method == "physical" else logical.climb
    try:
        how(planned, place, ladder, facts, progress)
    except DbopsError as error:  # between two checks: still an answer, and never a pass
        ladder.add("restore", "the verification itself", of_error(error))


def _removed(place: Scratch, planned: VerifyPlan) -> dict[str, str]:
    try:
        remove(place.path, physical.tools_of(planned))
    except DbopsError as error:
        return {"verdict": Verdict.FAIL.value, "message": str(error)}
    return {}


def _proof(
    planned: VerifyPlan,
    ladder: Ladder,
    facts: dict[str, Any],
    cleanup: dict[str, Any],
    begun: datetime,
    finished: datetime,
) -> dict[str, Any]:
    record = planned.record
    restored = facts.get("restore") or {}
    phases = facts["phases"]
    return {
        "label": record.label,
        "cluster": planned.settings.cluster,
        "repository": planned.repository.name,
        "method": record.method,
        "chain": [item.label for item in planned.chain],
        "system_identifier": record.system_identifier,
        "postgres_version": record.postgres_version,
        "verdict": ladder.verdict.value,
        "level": proven_level(ladder.checks),
        "restore": {"verdict": _part(ladder.checks, restore=True).value},
        "validation": {"verdict": _part(ladder.checks, restore=False).value},
        "cleanup": cleanup,
        "target": "the backup's own end" if planned.recovery is None else str(planned.recovery),
        "recovery": restored.get("recovery"),
        "checks": [check.describe() for check in ladder.checks],
        "rpo": facts.get("rpo"),
        "phases": phases,
        "restored_bytes": restored.get("restored_bytes") or record.database_bytes,
        "throughput_bytes_per_s": throughput(restored.get("restored_bytes") or record.database_bytes, phases),
        "rto_estimate": rto_estimate(restored, record.database_bytes, phases),
        "started": iso(begun),
        "finished": iso(finished),
        "host": socket.gethostname(),
        "by": current_identity().name,
        "tool_version": __version__,
        "proof": None,
    }


def _part(checks: list[Check], *, restore: bool) -> Verdict:
    """Of the restore, or of what was looked at afterwards; not looked at is a doubt."""
    return overall(check.verdict for check in checks if (check.level in _RESTORE) is restore)


def sentence(label: str, verdict: Verdict, checks: list[Check]) -> str:
    if verdict is Verdict.PASS:
        return f"{label} is proven to level {proven_level(checks)}: {len(checks)} checks passed."
    first = next(check for check in checks if check.verdict is verdict) if checks else None
    what = f"{first.level}, {first.name}: {first.message}" if first else "nothing was looked at."
    return f"{label} {'FAILED' if verdict is Verdict.FAIL else 'could not be verified'} at {what}"


def _without_plan(settings: Settings, request: Request, error: DbopsError, begun: datetime) -> dict[str, Any]:
    """The repository or this host did not let us begin: a verdict too, though nobody can write it down as a proof."""
    finding = of_error(error)
    now = iso(datetime.now(timezone.utc))
    check = Check("bytes", "the verification can begin", finding.verdict, finding.message, hint=finding.hint)
    nothing = {"verdict": Verdict.COULD_NOT_VERIFY.value}
    return {
        "changed": False,
        "msg": sentence(f"Backup {request.backup!r} of {settings.cluster}", finding.verdict, [check]),
        "verification": {
            "label": None, "cluster": settings.cluster, "repository": request.repository, "method": request.method,
            "chain": [], "system_identifier": None, "postgres_version": None, "verdict": finding.verdict.value,
            "level": None, "restore": {"verdict": finding.verdict.value}, "validation": nothing,
            "cleanup": {"verdict": Verdict.PASS.value, "message": "Nothing was made.", "swept": []},
            "target": request.target, "recovery": None, "checks": [check.describe()], "rpo": None, "phases": {},
            "restored_bytes": None, "throughput_bytes_per_s": None, "rto_estimate": None, "started": iso(begun),
            "finished": now, "host": socket.gethostname(), "by": current_identity().name,
            "tool_version": __version__, "proof": None,
        },
        "warnings": [],
    }  # fmt: skip
