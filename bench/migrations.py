#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the rehearsal of the reference migrations takes, one thing after the other and as it is by default.

make setup && . .venv/bin/activate && python bench/migrations.py [rounds]
"""

from __future__ import annotations

import os
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "plugins" / "module_utils"), str(ROOT / "scripts")]


def main() -> None:
    from dbops.migrate import rehearse
    from dbops.progress import Silent
    from dbops.settings import from_mapping

    from localpg.installations import installations
    from localpg.osuser import server_user

    example = ROOT / "examples" / "ridehailing"
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    for installation in installations():
        host = {"bin_dir": str(installation.bin_dir), "os_user": server_user().name}
        mapping = {"cluster": "bench", "host": host, "migrations": {"path": str(example / "migrations")}}
        settings = from_mapping(mapping)
        for jobs in (1, (os.cpu_count() or 1) + 1):
            request = rehearse.Request(jobs=jobs, data=str(example / "rehearsal"))
            seconds = [
                rehearse.rehearse(settings, request, Silent())["rehearsal"]["seconds"] for _round in range(rounds)
            ]
            median = statistics.median(seconds)
            spread = f"of {rounds}: {min(seconds)}-{max(seconds)}"
            print(f"PostgreSQL {installation.major}, {jobs} jobs: {median:.1f} s ({spread})")


if __name__ == "__main__":
    main()
