# SPDX-License-Identifier: GPL-3.0-or-later
"""`check_settings <cluster> <file> [<environment file>]`: would the engine take them? For the roles that write them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .. import settings
from ..errors import DbopsError
from ..settings_environment_file import read_environment_file


def main(arguments: Sequence[str]) -> int:
    """0 and silence, or the error's exit code and its words on standard error."""
    cluster, path, *tried = arguments
    try:
        environment = read_environment_file(tried[0]) if tried else {}
        settings.load(cluster, path=path, environment=environment)  # the files are what is asked about
    except DbopsError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0
