# SPDX-License-Identifier: GPL-3.0-or-later
"""Azure Blob Storage, through azure-storage-blob. A large object is a block blob, visible with its list of blocks."""

from __future__ import annotations

import base64
import contextlib
import os
import threading
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Optional

from ..errors import BadInput, MissingLibrary, NotFound
from ..settings_repositories import AzureSettings, TransferSettings
from .bucket import How, Judgement, Page, Piece
from .protocol import AlreadyThere, ObjectInfo
from .troubles import by_status, check_readable, seconds, trouble

_MOST_BLOCKS = 50_000
_REASONS = {
    "AuthenticationFailed": "credentials",
    "NoAuthenticationInformation": "credentials",
    "InvalidAuthenticationInfo": "credentials",
    "AuthorizationFailure": "permission",
    "AuthorizationPermissionMismatch": "permission",
    "AuthorizationProtocolMismatch": "permission",
    "AuthorizationSourceIPMismatch": "permission",
    "InsufficientAccountPermissions": "permission",
    "AccountIsDisabled": "permission",
    "ContainerNotFound": "no_bucket",
    "ContainerBeingDeleted": "no_bucket",
    "ServerBusy": "busy",
    "InternalError": "server",
    "OperationTimedOut": "server",
    "Md5Mismatch": "server",
}


class AzureBucket:
    takes_conditions = True

    def __init__(self, settings: AzureSettings, transfer: TransferSettings) -> None:
        self._settings = settings
        self._transfer = transfer
        self._made: Any = None
        self._making = threading.Lock()
        self.prefix = f"{settings.prefix}/" if settings.prefix else ""
        self.name = settings.container
        self.where = f"container {settings.container}" + (f" of {settings.account_url}" if settings.account_url else "")

    @property
    def container(self) -> Any:
        with self._making:
            if self._made is None:
                self._made = new_client(self._settings, self._transfer)
            return self._made

    def preload(self) -> None:
        _library()
        credential(self._settings)  # a managed identity has a library of its own

    def put(self, key: str, data: bytes, how: How) -> None:
        blob = self.container.get_blob_client(key)
        blob.upload_blob(data, length=len(data), overwrite=not how.if_absent, **self._options(how))

    def begin(self, key: str, how: How) -> AzureUpload:
        return AzureUpload(self.container.get_blob_client(key), how, self._options(how))

    def read(self, key: str, start: int, length: int, version: Optional[str]) -> Piece:
        from azure.core import MatchConditions
        from azure.core.exceptions import HttpResponseError

        same = {"etag": version, "match_condition": MatchConditions.IfNotModified} if version else {}
        try:
            found = self.container.get_blob_client(key).download_blob(offset=start, length=length, **same)
            data = found.readall()
        except HttpResponseError as exc:
            if getattr(exc, "error_code", "") != "InvalidRange":
                raise
            return Piece(deque(), self.head(key).size_bytes, "")
        total = str(found.properties.content_range or "").rpartition("/")[2]
        return Piece(deque([data]), int(total) if total.isdigit() else len(data), found.properties.etag or "")

    def head(self, key: str) -> ObjectInfo:
        found = self.container.get_blob_client(key).get_blob_properties()
        return ObjectInfo(key, found.size, found.last_modified, dict(found.metadata or {}))

    def page(self, prefix: str, *, folders: bool, after: Optional[str]) -> Page:
        listing = (
            self.container.walk_blobs(name_starts_with=prefix, delimiter="/")
            if folders
            else self.container.list_blobs(name_starts_with=prefix)
        )
        pages = listing.by_page(continuation_token=after)
        found = list(next(pages, ()))
        below = [item.name for item in found if not hasattr(item, "etag")]
        objects = [
            ObjectInfo(item.name, item.size, item.last_modified, storage_class=str(item.blob_tier or ""))
            for item in found
            if hasattr(item, "etag")
        ]
        return Page(objects, below, pages.continuation_token or None)

    def delete(self, key: str) -> None:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            self.container.get_blob_client(key).delete_blob()
        except ResourceNotFoundError as exc:
            if getattr(exc, "error_code", "") != "BlobNotFound":
                raise

    def retain(self, key: str, until: datetime, *, compliance: bool) -> None:
        from azure.storage.blob import ImmutabilityPolicy

        policy = ImmutabilityPolicy(expiry_time=until, policy_mode="Locked" if compliance else "Unlocked")
        self.container.get_blob_client(key).set_immutability_policy(policy)

    def retained(self, key: str) -> Optional[datetime]:
        policy = self.container.get_blob_client(key).get_blob_properties().immutability_policy
        until: Optional[datetime] = policy.expiry_time if policy else None
        return until

    def change_class(self, key: str, storage_class: str) -> None:
        self.container.get_blob_client(key).set_standard_blob_tier(storage_class)

    def expunge(self, key: str) -> None:
        for blob in self.container.list_blobs(name_starts_with=key, include=["versions"]):
            if blob.name == key:
                one = self.container.get_blob_client(key, version_id=blob.version_id)
                one.delete_blob()

    def unfinished(self, prefix: str) -> Sequence[tuple[str, str]]:
        whole = {item.name for item in self.container.list_blobs(name_starts_with=prefix)}
        every = self.container.list_blobs(name_starts_with=prefix, include=["uncommittedblobs"])
        return [(item.name, "") for item in every if item.name not in whole]

    def discard(self, upload: tuple[str, str]) -> None:
        """Blocks without a blob go only with one: an empty blob takes their place for a moment."""
        from azure.core import MatchConditions
        from azure.core.exceptions import ResourceExistsError

        blob = self.container.get_blob_client(upload[0])
        with contextlib.suppress(ResourceExistsError):  # somebody has finished it
            made = blob.upload_blob(b"", overwrite=False)
            blob.delete_blob(etag=made["etag"], match_condition=MatchConditions.IfNotModified)

    def judge(self, exc: Exception, verb: str, key: str) -> Judgement:
        return judge(exc, verb, key)

    # -- below: how

    def _options(self, how: How) -> dict[str, Any]:
        options: dict[str, Any] = {
            "metadata": dict(how.metadata) or None,
            "standard_blob_tier": self._settings.standard_blob_tier,
            "encryption_scope": self._settings.encryption_scope,
            "tags": dict(self._settings.tags) or None,
        }
        if how.retain_until is not None:
            from azure.storage.blob import ImmutabilityPolicy

            options["immutability_policy"] = ImmutabilityPolicy(
                expiry_time=how.retain_until, policy_mode="Locked" if how.compliance else "Unlocked"
            )
        return {name: value for name, value in options.items() if value is not None}


class AzureUpload:
    ordered = False

    def __init__(self, blob: Any, how: How, options: dict[str, Any]) -> None:
        self._blob = blob
        self._if_absent = how.if_absent
        self._options = options
        self._blocks: dict[int, str] = {}

    def part(self, number: int, data: bytes, *, last: bool) -> None:
        del last
        if number >= _MOST_BLOCKS:
            raise BadInput(
                f"{self._blob.blob_name} has more than {_MOST_BLOCKS} parts.",
                hint="Set a larger transfer.part_bytes for this repository.",
            )
        scope = {name: self._options[name] for name in ("encryption_scope",) if name in self._options}
        block = base64.b64encode(f"{number:08d}".encode()).decode()
        self._blob.stage_block(block, data, length=len(data), **scope)
        self._blocks[number] = block

    def finish(self) -> None:
        from azure.core import MatchConditions
        from azure.storage.blob import BlobBlock

        blocks = [BlobBlock(self._blocks[number]) for number in sorted(self._blocks)]
        condition = {"match_condition": MatchConditions.IfMissing} if self._if_absent else {}
        self._blob.commit_block_list(blocks, **condition, **self._options)

    def abort(self) -> None:
        """Nothing: blocks are invisible, a sweep removes them, and Azure does so by itself within a week."""


def new_client(settings: AzureSettings, transfer: TransferSettings) -> Any:
    """A client of the container that repeats nothing by itself; see patience.py."""
    blobs = _library()
    check_readable({"azure.ca_bundle": settings.ca_bundle})
    options: dict[str, Any] = {
        "retry_total": 0,
        "connection_timeout": transfer.connect_timeout_s,
        "read_timeout": transfer.read_timeout_s,
        "max_single_put_size": 1 << 30,  # what we put in one piece is one request
        "max_single_get_size": 1 << 30,
        "logging_enable": False,
    }
    if settings.ca_bundle:
        options["connection_verify"] = settings.ca_bundle
    way, secret = credential(settings)
    if way != "connection_string" and settings.account_url is None:
        raise BadInput(
            "azure.account_url is missing, and there is no connection string that would have it.",
            hint="Set azure.account_url to https://<account>.blob.core.windows.net.",
        )
    try:
        if way == "connection_string":
            service = blobs.BlobServiceClient.from_connection_string(str(secret), **options)
        else:
            service = blobs.BlobServiceClient(settings.account_url, credential=secret, **options)
    except ValueError as exc:  # a malformed secret, one that the address does not go with: told without the secret
        raise BadInput(
            f"No client of azure.container {settings.container} can be made with this {way}: {exc}",
            hint="Look at azure.account_url and at the file or variable that the secret comes from.",
        ) from exc
    return service.get_container_client(settings.container)


def _library() -> Any:
    try:
        from azure.storage import blob
    except ImportError as exc:
        raise MissingLibrary(
            "azure.storage.blob", needed_for="a repository of type azure", package="azure-storage-blob (pip)"
        ) from exc
    return blob


def credential(settings: AzureSettings) -> tuple[str, Any]:
    """Which way in, and its secret. A file of the settings goes before the environment, the machine's own is last."""
    ways = (
        ("connection_string", "connection_string_file", "AZURE_STORAGE_CONNECTION_STRING"),
        ("account_key", "account_key_file", "AZURE_STORAGE_KEY"),
        ("sas", "sas_token_file", "AZURE_STORAGE_SAS_TOKEN"),
    )
    for way, option, variable in ways:
        if settings.credential not in ("auto", way):
            continue
        path = getattr(settings, option)
        secret = _read(f"azure.{option}", path) if path else os.environ.get(variable, "").strip()
        if secret:
            return way, secret.lstrip("?") if way == "sas" else secret
        if settings.credential == way:
            raise BadInput(f"azure.credential is {way}, and there is none.", hint=f"Set azure.{option} or {variable}.")
    try:
        from azure.identity import DefaultAzureCredential, ManagedIdentityCredential
    except ImportError as exc:
        raise MissingLibrary("azure.identity", needed_for="a managed identity", package="azure-identity (pip)") from exc
    if settings.client_id or settings.credential == "managed_identity":
        return "managed_identity", ManagedIdentityCredential(client_id=settings.client_id)
    return "managed_identity", DefaultAzureCredential()


def _read(name: str, path: str) -> str:
    check_readable({name: path})
    with open(path, encoding="utf-8") as stream:
        return stream.read().strip()


def judge(exc: Exception, sentence: str, key: str) -> Judgement:
    import azure.core.exceptions as azure

    told = str(getattr(exc, "message", "") or exc) or type(exc).__name__
    code = str(getattr(getattr(exc, "error_code", ""), "value", getattr(exc, "error_code", "")) or "")
    if isinstance(exc, azure.HttpResponseError):
        status = int(exc.status_code or 0)
        if code in ("BlobNotFound", "ResourceNotFound") or (status == 404 and not code and not key):
            return Judgement(NotFound(f"{sentence}: there is no {key}.", hint="It is proven not to be there."))
        if code in ("BlobAlreadyExists", "ConditionNotMet", "UnauthorizedBlobOverwrite"):
            return Judgement(AlreadyThere(f"{sentence}: something else is there."))
        headers = getattr(exc.response, "headers", None) or {}
        wait_s = seconds(headers.get("Retry-After"))
        reason = _REASONS.get(code)
        if reason is not None:
            told = f"{code} {told}"
            return trouble(reason, sentence, told, again=reason in ("busy", "server"), wait_s=wait_s)
        return by_status(status, sentence, told, wait_s=wait_s)
    if isinstance(exc, azure.AzureError):
        if "CERTIFICATE_VERIFY_FAILED" in told:
            hint = "Set azure.ca_bundle to the certificate of the authority that signed the server's."
            return trouble("network", sentence, told, hint=hint)
        if isinstance(exc, azure.ClientAuthenticationError) or type(exc).__name__ == "CredentialUnavailableError":
            return trouble("credentials", sentence, told)
        return trouble("network", sentence, told, again=True)
    if isinstance(exc, OSError) or type(exc).__module__.startswith(("urllib3.", "requests.")):
        return trouble("network", sentence, told, again=True)
    if isinstance(exc, ValueError) and "onnection string" in told:
        return trouble("credentials", sentence, "the connection string cannot be read")
    raise exc
