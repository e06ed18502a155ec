# SPDX-License-Identifier: GPL-3.0-or-later
"""`dbops canary`, for a timer: one row a minute."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import BadInput
from ..pg import canary
from ..repo.record import iso
from .door import Answer, Door


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "canary",
        parents=[common],
        help="write the row by which the true RPO is measured",
        description="Write one row into dbops.canary, and make that table the first time. Run every minute by a timer, "
        "it gives an idle database a commit to follow. On a standby nothing is done. Needs canary.enabled.",
    )
    parser.set_defaults(verb=run)


def run(door: Door) -> Answer:
    settings = door.settings()
    if not settings.canary.enabled:
        raise BadInput(
            f"{settings.cluster} has no canary.", hint='Set "canary": {"enabled": true} in its settings (dbops_canary).'
        )
    written = canary.write(settings)
    if written is None:
        msg = f"{settings.cluster} is a standby here: its primary writes the canary."
    else:
        msg = f"Canary {written.number} of {settings.cluster} was written at {iso(written.at)}."
    row = None if written is None else {"number": written.number, "at": iso(written.at)}
    return Answer({"changed": written is not None, "msg": msg, "canary": row, "warnings": []}, msg)
