# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m dbops`, from the directory that holds the package."""

from __future__ import annotations

from .cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
