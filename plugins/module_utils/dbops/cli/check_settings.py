# SPDX-License-Identifier: GPL-3.0-or-later
"""`check_settings <cluster> <file>`: is this a settings file that the engine would take? For the agent role."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .. import settings
from ..errors import DbopsError


def main(arguments: Sequence[str]) -> int:
    """0 and silence, or the error's exit code and its words on standard error."""
    cluster, path = arguments
    try:
        settings.load(cluster, path=path, environment={})  # the file is what is asked about
    except DbopsError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0
