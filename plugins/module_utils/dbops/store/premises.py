# SPDX-License-Identifier: GPL-3.0-or-later
"""The bucket or directory itself: is it there, does it keep versions, does it lock. Objects are the stores' affair.

An identity that only writes backups may not be allowed to see any of that: then the answer is None, and no error.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Optional, Protocol

from ..errors import DbopsError, NotFound, Refused, Unreachable
from .azure import AzureBucket
from .cloud import CloudStore
from .gcs import GcsBucket
from .local import LocalStore
from .protocol import Store, Trouble
from .s3 import S3Bucket


@dataclass(frozen=True)
class Found:
    """None is "cannot be seen"; a directory keeps no versions and locks nothing."""

    exists: bool
    versioning: Optional[bool] = None
    locking: Optional[bool] = None  # whether objects can be locked there at all


class Premises(Protocol):
    def look(self) -> Found: ...

    def create(self, *, locking: bool) -> None: ...

    def keep_versions(self) -> None: ...

    def allow_locks(self) -> None: ...


def premises_of(store: Store, owner: Optional[tuple[int, int]] = None) -> Premises:
    """`owner` is the user and group that a directory is made for; None: whoever makes it."""
    if isinstance(store, LocalStore):
        return Directory(store, owner)
    bucket = store.bucket if isinstance(store, CloudStore) else None
    if isinstance(store, CloudStore) and isinstance(bucket, S3Bucket):
        return S3Premises(store, bucket)
    if isinstance(store, CloudStore) and isinstance(bucket, GcsBucket):
        return GcsPremises(store, bucket)
    if isinstance(store, CloudStore) and isinstance(bucket, AzureBucket):
        return AzurePremises(store, bucket)
    raise TypeError(f"{type(store).__name__} has no premises")


class Directory:
    def __init__(self, store: LocalStore, owner: Optional[tuple[int, int]]) -> None:
        self._store = store
        self._owner = owner

    def look(self) -> Found:
        return Found(os.path.isdir(self._store.root), versioning=False, locking=False)

    def create(self, *, locking: bool) -> None:
        """That directory alone: with its parents missing, a disk may not be mounted."""
        del locking
        try:
            os.mkdir(self._store.root, 0o750)
            if self._owner is not None:
                os.chown(self._store.root, *self._owner)
        except FileNotFoundError as exc:
            raise NotFound(
                f"{self._store.root} cannot be made: {os.path.dirname(self._store.root)} does not exist.",
                hint="Mount the disk, or make that directory.",
            ) from exc
        except OSError as exc:
            raise Unreachable(f"{self._store.root} cannot be made: {exc.strerror}.", hint="Run as root.") from exc

    def keep_versions(self) -> None:
        raise Refused(f"{self._store.root} is a directory: it keeps no versions.", hint="Snapshot its file system.")

    def allow_locks(self) -> None:
        raise Refused(f"{self._store.root} is a directory: it locks nothing.", hint="Use a bucket with `lock`.")


class S3Premises:
    def __init__(self, store: CloudStore, bucket: S3Bucket) -> None:
        self._store = store
        self._bucket = bucket
        self._named = {"Bucket": bucket.name}

    def look(self) -> Found:
        client = self._bucket.client
        try:
            # asked for as a list: the permission for it is what backups need anyway, and an answer with words
            self._store.ask("look at the bucket", lambda: client.list_objects_v2(**self._named, MaxKeys=1))
        except Trouble as exc:
            if exc.reason == "no_bucket":
                return Found(exists=False)
            raise
        versioning = _seen(self._store, "see its versioning", lambda: client.get_bucket_versioning(**self._named))
        try:
            locks = self._store.ask("see its lock", lambda: client.get_object_lock_configuration(**self._named))
            locking = locks["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled"
        except DbopsError as exc:
            locking = False if "ObjectLockConfigurationNotFoundError" in exc.message else None
        return Found(True, None if versioning is None else versioning.get("Status") == "Enabled", locking)

    def create(self, *, locking: bool) -> None:
        region = self._bucket.client.meta.region_name
        place = {} if region in (None, "us-east-1", "aws-global") else {"LocationConstraint": region}
        more: dict[str, Any] = {"CreateBucketConfiguration": place} if place else {}
        if locking:
            more["ObjectLockEnabledForBucket"] = True
        self._store.ask("make the bucket", lambda: self._bucket.client.create_bucket(**self._named, **more))

    def keep_versions(self) -> None:
        state = {"Status": "Enabled"}
        self._store.ask(
            "switch versioning on",
            lambda: self._bucket.client.put_bucket_versioning(**self._named, VersioningConfiguration=state),
        )

    def allow_locks(self) -> None:
        """It takes versioning. Each object is locked on its own; no default of the bucket is set."""
        state = {"ObjectLockEnabled": "Enabled"}
        self._store.ask(
            "switch object lock on",
            lambda: self._bucket.client.put_object_lock_configuration(**self._named, ObjectLockConfiguration=state),
        )


class GcsPremises:
    def __init__(self, store: CloudStore, bucket: GcsBucket) -> None:
        self._store = store
        self._bucket = bucket

    def look(self) -> Found:
        client = self._bucket.manager
        try:
            pages = client.list_blobs(self._bucket.name, max_results=1).pages
            self._store.ask("look at the bucket", lambda: next(pages, None))
        except Trouble as exc:
            if exc.reason == "no_bucket":
                return Found(exists=False)
            raise
        seen = _seen(self._store, "see the bucket's settings", lambda: client.get_bucket(self._bucket.name))
        if seen is None:
            return Found(True)
        return Found(True, bool(seen.versioning_enabled), getattr(seen, "object_retention_mode", None) == "Enabled")

    def create(self, *, locking: bool) -> None:
        client = self._bucket.manager
        more = {"enable_object_retention": True} if locking else {}
        self._store.ask("make the bucket", lambda: client.create_bucket(self._bucket.name, **more))

    def keep_versions(self) -> None:
        def switch_on() -> None:
            bucket = self._bucket.manager.get_bucket(self._bucket.name)
            bucket.versioning_enabled = True
            bucket.patch()

        self._store.ask("switch versioning on", switch_on)

    def allow_locks(self) -> None:
        raise Refused(
            f"Google switches object retention on for a new bucket only, and {self._bucket.where} is there already.",
            hint="Make a new bucket (create: true), or switch it on in Google's console.",
        )


class AzurePremises:
    def __init__(self, store: CloudStore, bucket: AzureBucket) -> None:
        self._store = store
        self._bucket = bucket

    def look(self) -> Found:
        """Versioning is the account's, and cannot be seen from here; a container that locks versions has them."""
        try:
            found = self._store.ask("look at the container", self._bucket.container.get_container_properties)
        except Trouble as exc:
            if exc.reason == "no_bucket":
                return Found(exists=False)
            raise
        locking = bool(getattr(found, "immutable_storage_with_versioning_enabled", False))
        return Found(True, True if locking else None, locking)

    def create(self, *, locking: bool) -> None:
        if locking:
            self.allow_locks()
        self._store.ask("make the container", self._bucket.container.create_container)

    def keep_versions(self) -> None:
        raise Refused(
            "Azure switches versioning on for a whole account, with rights that no backup should have.",
            hint="az storage account blob-service-properties update --enable-versioning true --account-name ACCOUNT",
        )

    def allow_locks(self) -> None:
        raise Refused(
            "Azure makes a container lock versions only with rights on the account, which no backup should have.",
            hint=f"az storage container-rm create --enable-vlw true --name {self._bucket.name} --account-name ACCOUNT",
        )


def _seen(store: CloudStore, verb: str, call: Any) -> Any:
    """The answer, or None to those who may not ask, or of a server that does not know the question."""
    try:
        return store.ask(verb, call)
    except Trouble as exc:
        if exc.reason in ("permission", "request"):
            return None
        raise
