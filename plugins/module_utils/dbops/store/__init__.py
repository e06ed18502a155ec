# SPDX-License-Identifier: GPL-3.0-or-later
"""Where bytes lie: stores behind one small protocol. Keys and bytes, nothing of PostgreSQL."""

from __future__ import annotations

from ..settings import RepositorySettings
from .local import LocalStore
from .protocol import AlreadyThere, Folder, ObjectInfo, Store, Trouble

__all__ = ["AlreadyThere", "Folder", "ObjectInfo", "Store", "Trouble", "open_store"]


def open_store(settings: RepositorySettings) -> Store:
    """The one place that knows which type is which. Nothing is asked of a cloud, nor its library imported, yet."""
    if settings.s3 is None and settings.gcs is None and settings.azure is None:
        return LocalStore(settings.path, name=settings.name)
    from .cloud import CloudStore  # a tenth of what archive_command takes to start

    if settings.s3 is not None:
        from .s3 import S3Bucket

        return CloudStore(S3Bucket(settings.s3, settings.transfer), settings)
    if settings.gcs is not None:
        from .gcs import GcsBucket

        return CloudStore(GcsBucket(settings.gcs, settings.transfer), settings)
    assert settings.azure is not None
    from .azure import AzureBucket

    return CloudStore(AzureBucket(settings.azure, settings.transfer), settings)
