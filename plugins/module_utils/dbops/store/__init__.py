# SPDX-License-Identifier: GPL-3.0-or-later
"""Where bytes lie: stores behind one small protocol. Keys and bytes, nothing of PostgreSQL."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Optional

from ..errors import DbopsError
from ..settings import RepositorySettings
from .local import LocalStore
from .protocol import AlreadyThere, Folder, ObjectInfo, Store, Trouble

if TYPE_CHECKING:
    from .bucket import Bucket
    from .cloud import CloudStore

__all__ = ["AlreadyThere", "Folder", "ObjectInfo", "Store", "Trouble", "open_store", "preload"]


def open_store(settings: RepositorySettings) -> Store:
    """The one place that knows which type is which. Nothing is asked of a cloud, nor its library imported, yet."""
    return _cloud_store(settings) or LocalStore(settings.path, name=settings.name)


def preload(settings: RepositorySettings) -> None:
    """Import now what a process that is about to fork, and each of its children, would import in turn: 0.1 s for S3.

    What is missing, a library or a secret, is told by the store that needs it.
    """
    store = _cloud_store(settings)
    if store is not None:
        with contextlib.suppress(DbopsError):
            store.bucket.preload()


def _cloud_store(settings: RepositorySettings) -> Optional[CloudStore]:
    bucket = _bucket(settings)
    if bucket is None:
        return None
    from .cloud import CloudStore  # a tenth of what archive_command takes to start

    return CloudStore(bucket, settings)


def _bucket(settings: RepositorySettings) -> Optional[Bucket]:
    if settings.s3 is not None:
        from .s3 import S3Bucket

        return S3Bucket(settings.s3, settings.transfer)
    if settings.gcs is not None:
        from .gcs import GcsBucket

        return GcsBucket(settings.gcs, settings.transfer)
    if settings.azure is not None:
        from .azure import AzureBucket

        return AzureBucket(settings.azure, settings.transfer)
    return None
