# SPDX-License-Identifier: GPL-3.0-or-later
"""Amazon S3 and what speaks its protocol, through boto3. Credentials are the AWS tools' own business and files."""

from __future__ import annotations

import base64
import contextlib
import functools
import gc
import importlib.util
import io
import threading
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Optional
from urllib.parse import urlencode

from ..errors import BadInput, MissingLibrary
from ..settings_repositories import S3Settings, TransferSettings
from .bucket import CHUNK, How, Judgement, Page, Piece
from .protocol import ObjectInfo
from .s3_errors import judge
from .troubles import check_readable

_MOST_PARTS = 10_000
_OLD_BOTO = "dbops-if-none-match"


class S3Bucket:
    def __init__(self, settings: S3Settings, transfer: TransferSettings) -> None:
        self._settings = settings
        self._transfer = transfer
        self._made: Any = None
        self._making = threading.Lock()
        self.prefix = f"{settings.prefix}/" if settings.prefix else ""
        self.name = settings.bucket
        self.where = f"s3://{settings.bucket}" + (f" ({settings.endpoint_url})" if settings.endpoint_url else "")
        self.takes_conditions = settings.conditional_writes
        self._has_checksums = settings.request_checksums == "when_supported"

    @property
    def client(self) -> Any:
        with self._making:
            if self._made is None:
                self._made = new_client(self._settings, self._transfer)
            return self._made

    def preload(self) -> None:
        _library()
        loader = _descriptions()
        with _no_collection():
            loader.load_service_model("s3", "service-2")
            loader.load_service_model("s3", "endpoint-rule-set-1")
            for name in ("endpoints", "partitions", "sdk-default-configuration"):
                loader.load_data(name)

    def put(self, key: str, data: bytes, how: How) -> None:
        more = _checksum(data) if self._has_checksums else {}
        self.client.put_object(**self._named(key), **self._options(how), **self._condition(how), **more, Body=data)

    def begin(self, key: str, how: How) -> S3Upload:
        more = {"ChecksumAlgorithm": "CRC32"} if self._has_checksums else {}
        begun = self.client.create_multipart_upload(**self._named(key), **self._options(how), **more)
        named = {**self._named(key), "UploadId": begun["UploadId"]}
        return S3Upload(self.client, named, self._condition(how), checksums=self._has_checksums)

    def read(self, key: str, start: int, length: int, version: Optional[str]) -> Piece:
        condition = {"IfMatch": version} if version else {}
        asked = f"bytes={start}-{start + length - 1}"
        try:
            found = self.client.get_object(**self._named(key), Range=asked, **condition)
        except self.client.exceptions.ClientError as exc:
            if exc.response.get("Error", {}).get("Code") != "InvalidRange":
                raise
            return Piece(deque(), self.head(key).size_bytes, "")  # it ends before
        total = found.get("ContentRange", "").rpartition("/")[2]
        total_bytes = int(total) if total.isdigit() else int(found["ContentLength"])
        try:
            with contextlib.closing(found["Body"]) as body:
                chunks = deque(iter(lambda: body.read(CHUNK), b""))
        except Exception as exc:
            if type(exc).__name__ != "FlexibleChecksumError" or found["ContentLength"] == total_bytes:
                raise
            # S3 says no checksum with a range. This server says the whole object's: none of its answers is compared.
            self.client.meta.config.response_checksum_validation = "when_required"
            return self.read(key, start, length, version)
        return Piece(chunks, total_bytes, found["ETag"])

    def head(self, key: str) -> ObjectInfo:
        try:
            found = self.client.head_object(**self._named(key))
        except self.client.exceptions.ClientError as exc:
            if exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode") != 404:
                raise
            # A HEAD has no words: it may be the bucket that is not there, which would prove nothing. A GET says it.
            self.client.get_object(**self._named(key), Range="bytes=0-0")["Body"].close()
            raise
        return ObjectInfo(key, found["ContentLength"], found["LastModified"], dict(found.get("Metadata", {})))

    def page(self, prefix: str, *, folders: bool, after: Optional[str]) -> Page:
        more: dict[str, Any] = {"Delimiter": "/"} if folders else {}
        if after is not None:
            more["ContinuationToken"] = after
        found = self.client.list_objects_v2(Bucket=self._settings.bucket, Prefix=prefix, **more)
        objects = [
            ObjectInfo(item["Key"], item["Size"], item["LastModified"], storage_class=item.get("StorageClass", ""))
            for item in found.get("Contents", ())
        ]
        below = [item["Prefix"] for item in found.get("CommonPrefixes", ())]
        return Page(objects, below, found["NextContinuationToken"] if found.get("IsTruncated") else None)

    def delete(self, key: str) -> None:
        self.client.delete_object(**self._named(key))

    def retain(self, key: str, until: datetime, *, compliance: bool) -> None:
        retention = {"Mode": _mode(compliance), "RetainUntilDate": until}
        self.client.put_object_retention(**self._named(key), Retention=retention)

    def retained(self, key: str) -> Optional[datetime]:
        until: Optional[datetime] = self.client.head_object(**self._named(key)).get("ObjectLockRetainUntilDate")
        return until

    def change_class(self, key: str, storage_class: str) -> None:
        """A copy onto itself, in parts where it is large, which brings no metadata along: so it is given again."""
        from boto3.s3.inject import copy
        from boto3.s3.transfer import TransferConfig

        seen = self.client.head_object(**self._named(key))
        options = {**self._options(How(metadata=seen.get("Metadata", {}))), "StorageClass": storage_class}
        replaced = {"MetadataDirective": "REPLACE", "TaggingDirective": "REPLACE"}
        copy(
            self.client,
            self._named(key),
            **self._named(key),
            ExtraArgs={**options, **replaced},
            Config=TransferConfig(multipart_threshold=5 << 30, multipart_chunksize=1 << 30),
        )

    def expunge(self, key: str) -> None:
        found = self.client.list_object_versions(Bucket=self._settings.bucket, Prefix=key)
        for version in [*found.get("Versions", ()), *found.get("DeleteMarkers", ())]:
            if version["Key"] == key:
                self.client.delete_object(**self._named(key), VersionId=version["VersionId"])

    def unfinished(self, prefix: str) -> Sequence[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        more: dict[str, Any] = {}
        while True:
            try:
                page = self.client.list_multipart_uploads(Bucket=self._settings.bucket, Prefix=prefix, **more)
            except self.client.exceptions.NoSuchUpload:
                return found  # rclone's server: none
            found += [
                (item["Key"], item["UploadId"]) for item in page.get("Uploads", ()) if item["Key"].startswith(prefix)
            ]
            if not page.get("IsTruncated"):
                return found
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def discard(self, upload: tuple[str, str]) -> None:
        key, identifier = upload
        with contextlib.suppress(self.client.exceptions.NoSuchUpload):
            self.client.abort_multipart_upload(**self._named(key), UploadId=identifier)

    def judge(self, exc: Exception, verb: str, key: str) -> Judgement:
        return judge(exc, verb, key)

    # -- below: how

    def _named(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._settings.bucket, "Key": key}

    def _condition(self, how: How) -> dict[str, Any]:
        return {"IfNoneMatch": "*"} if how.if_absent and self.takes_conditions else {}

    def _options(self, how: How) -> dict[str, Any]:
        wanted = self._settings
        options: dict[str, Any] = {
            "Metadata": dict(how.metadata) or None,
            "ServerSideEncryption": wanted.server_side_encryption,
            "SSEKMSKeyId": wanted.sse_kms_key_id,
            "StorageClass": wanted.storage_class,
            "Tagging": urlencode(wanted.tags) or None,
        }
        if how.retain_until is not None:
            options.update(ObjectLockMode=_mode(how.compliance), ObjectLockRetainUntilDate=how.retain_until)
        return {name: value for name, value in options.items() if value is not None}


def _checksum(data: bytes) -> dict[str, str]:
    """Said before the bytes. botocore would say it after them, in chunks: more CPU, and not every server takes that."""
    crc32 = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode("ascii")
    return {"ChecksumAlgorithm": "CRC32", "ChecksumCRC32": crc32}  # both: some ask for the first with an object lock


def _mode(compliance: bool) -> str:
    return "COMPLIANCE" if compliance else "GOVERNANCE"


class S3Upload:
    ordered = False

    def __init__(self, client: Any, named: Mapping[str, Any], condition: Mapping[str, Any], *, checksums: bool) -> None:
        self._client = client
        self._named = named
        self._condition = condition
        self._has_checksums = checksums
        self._parts: dict[int, dict[str, Any]] = {}

    def part(self, number: int, data: bytes, *, last: bool) -> None:
        del last
        if number >= _MOST_PARTS:
            raise BadInput(
                f"{self._named['Key']} has more than {_MOST_PARTS} parts.",
                hint="Set a larger transfer.part_bytes for this repository.",
            )
        checksum = _checksum(data) if self._has_checksums else {}
        done = self._client.upload_part(**self._named, **checksum, PartNumber=number + 1, Body=data)
        part = {"PartNumber": number + 1, "ETag": done["ETag"]}
        if "ChecksumCRC32" in done:
            part["ChecksumCRC32"] = done["ChecksumCRC32"]
        self._parts[number] = part

    def finish(self) -> None:
        parts = [self._parts[number] for number in sorted(self._parts)]
        self._client.complete_multipart_upload(**self._named, **self._condition, MultipartUpload={"Parts": parts})

    def abort(self) -> None:
        with contextlib.suppress(self._client.exceptions.NoSuchUpload):
            self._client.abort_multipart_upload(**self._named)


def new_client(settings: S3Settings, transfer: TransferSettings) -> Any:
    """boto3's client, which is botocore's, since every process that pushes WAL has to make one: without the rest.

    It repeats nothing by itself: how often and how long is decided in one place, patience.py.
    """
    botocore = _library()
    check_readable({f"s3.{name}": getattr(settings, name) for name in ("ca_bundle", "config_file", "credentials_file")})
    options: dict[str, Any] = {
        "connect_timeout": transfer.connect_timeout_s,
        "read_timeout": transfer.read_timeout_s,
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "max_pool_connections": 8 * transfer.parallel,
        "s3": {"addressing_style": settings.addressing_style},
        "user_agent_extra": "dbops",
        "tcp_keepalive": True,
    }
    checksums = {
        "request_checksum_calculation": settings.request_checksums,
        "response_checksum_validation": settings.request_checksums,
    }
    try:
        config = botocore.config.Config(**options, **checksums)
    except TypeError:  # botocore before 1.36: it adds no checksums by itself
        config = botocore.config.Config(**options)
    session = botocore.session.Session(profile=settings.profile)
    session.register_component("data_loader", _descriptions())
    for name in ("credentials_file", "config_file", "region"):
        if getattr(settings, name) is not None:
            session.set_config_variable(name, getattr(settings, name))
    with _no_collection():
        client = session.create_client(
            "s3", endpoint_url=settings.endpoint_url, config=config, verify=settings.ca_bundle
        )
    if settings.request_checksums == "when_supported" and client.meta.endpoint_url.startswith("https:"):
        client.meta.config.s3["payload_signing_enabled"] = False  # TLS and a checksum protect a body: no sha256 besides
    client.meta.events.register("before-send.s3", _send_at_once)
    for operation in ("PutObject", "CompleteMultipartUpload"):
        if "IfNoneMatch" not in client.meta.service_model.operation_model(operation).input_shape.members:
            client.meta.events.register(f"before-parameter-build.s3.{operation}", _take_condition)
            client.meta.events.register(f"before-call.s3.{operation}", _give_condition)
    return client


def _library() -> Any:
    try:
        import botocore.config
        import botocore.session

        if importlib.util.find_spec("boto3") is None:
            raise ImportError("boto3")  # change_class needs it: told now
    except ImportError as exc:
        raise MissingLibrary("boto3", needed_for="a repository of type s3", package="python3-boto3") from exc
    return botocore


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """While a megabyte of JSON is read, the garbage collector would walk it over and over: a third of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class _Every:
    """Whatever one asks for is in it: that there is an S3 need not be looked up in the folders of 400 services."""

    def __contains__(self, name: object) -> bool:
        return True


@functools.lru_cache(maxsize=1)
def _descriptions() -> Any:
    """botocore's description of S3, read once: most of what making a client takes."""
    from botocore.loaders import create_loader

    loader = create_loader()
    loader.list_available_services = lambda type_name: _Every()
    return loader


def _send_at_once(request: Any, **_more: Any) -> None:
    """botocore makes a file of a body, which is then read and sent in pieces of 16 KiB, each of them Python's turn."""
    if isinstance(request.body, io.BytesIO):
        request.body = request.body.getvalue()  # the same bytes, not a copy


def _take_condition(params: dict[str, Any], context: dict[str, Any], **_more: Any) -> None:
    """botocore before 1.35 does not know the parameter, and sends the header all the same."""
    condition = params.pop("IfNoneMatch", None)
    if condition is not None:
        context[_OLD_BOTO] = condition


def _give_condition(params: dict[str, Any], context: dict[str, Any], **_more: Any) -> None:
    if _OLD_BOTO in context:
        params["headers"]["If-None-Match"] = context[_OLD_BOTO]
