# SPDX-License-Identifier: GPL-3.0-or-later
"""The same servers as for the integration tests, here to be hurt."""

from __future__ import annotations

from tests.integration.conftest import (
    base_directory,
    place,
    pytest_generate_tests,
    repository_path,
    server,
    settings,
    small_disk,
    templates,
)

__all__ = [
    "base_directory", "place", "pytest_generate_tests", "repository_path", "server", "settings", "small_disk",
    "templates",
]  # fmt: skip
