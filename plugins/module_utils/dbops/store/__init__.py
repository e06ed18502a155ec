# SPDX-License-Identifier: GPL-3.0-or-later
"""Where bytes lie: stores behind one small protocol. Keys and bytes, nothing of PostgreSQL."""

from __future__ import annotations

from ..errors import BadInput
from ..settings import RepositorySettings
from .local import LocalStore
from .protocol import AlreadyThere, ObjectInfo, Store

__all__ = ["AlreadyThere", "ObjectInfo", "Store", "open_store"]


def open_store(settings: RepositorySettings) -> Store:
    if settings.type == "local":
        return LocalStore(settings.path, name=settings.name)
    raise BadInput(f"Repository {settings.name!r} has the unknown type {settings.type!r}.", hint="Use: local.")
