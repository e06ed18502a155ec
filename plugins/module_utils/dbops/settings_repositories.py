# SPDX-License-Identifier: GPL-3.0-or-later
"""Where backups go: one repository's settings. What a cloud has a name for keeps that name.

No setting here holds a secret: credentials come from files, from the environment, or from the machine's identity.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Optional

from .errors import BadInput
from .schema import between, duration_s, one_of
from .settings_retention import RetentionSettings

TYPES = ("local", "s3", "gcs", "azure")
S3_ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")
AZURE_CREDENTIALS = ("auto", "connection_string", "account_key", "sas", "managed_identity")
AZURE_TIERS = ("Hot", "Cool", "Cold")  # not Archive: what lies there cannot be read for hours
COLD_S3_CLASSES = ("GLACIER", "DEEP_ARCHIVE")
COOLABLE = ("daily", "weekly", "monthly", "yearly")  # rules of retention
# Classes that answer within milliseconds: a backup that has to thaw first is no backup in the worst hour.
COOL_CLASSES = {
    "s3": ("STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"),
    "gcs": ("NEARLINE", "COLDLINE", "ARCHIVE"),
    "azure": ("Cool", "Cold"),
}


@dataclass(frozen=True)
class TransferSettings:
    """How bytes go to and from an object store. Memory: about (`parallel` + 2) * `part_bytes` per object on its way."""

    part_bytes: int = 16 << 20  # grows by itself for an object of more than 500 parts
    parallel: int = 4  # parts on their way at a time, for each object
    connect_timeout_s: int = 10
    read_timeout_s: int = 60  # without a byte from the other side
    retry_budget_s: int = 120  # how long one request is tried again before the error counts

    def check(self) -> None:
        between("transfer.part_bytes", self.part_bytes, 5 << 20, 512 << 20)  # S3 takes no smaller part
        if self.part_bytes % (256 << 10):  # Google's rule
            raise BadInput(
                f"transfer.part_bytes must be a multiple of 262144, got {self.part_bytes}.", hint="Write 16777216."
            )
        between("transfer.parallel", self.parallel, 1, 64)
        between("transfer.connect_timeout_s", self.connect_timeout_s, 1, 600)
        between("transfer.read_timeout_s", self.read_timeout_s, 1, 3_600)
        between("transfer.retry_budget_s", self.retry_budget_s, 0, 86_400)


@dataclass(frozen=True)
class S3Settings:
    """Amazon S3, or anything that speaks its protocol at `endpoint_url`."""

    bucket: str
    prefix: str = ""
    region: Optional[str] = None
    endpoint_url: Optional[str] = None
    addressing_style: str = "auto"  # path: for servers without a name per bucket
    ca_bundle: Optional[str] = None
    profile: Optional[str] = None
    credentials_file: Optional[str] = None  # as of the AWS tools; None: theirs, the environment, or the machine's role
    config_file: Optional[str] = None
    server_side_encryption: Optional[str] = None
    sse_kms_key_id: Optional[str] = None
    storage_class: Optional[str] = None
    tags: dict[str, str] = field(default_factory=dict)
    request_checksums: str = "when_supported"  # when_required: for older servers that refuse the headers
    conditional_writes: bool = True  # False: the server cannot; whoever is first wins only most of the time

    def check(self) -> None:
        _named("s3.bucket", self.bucket)
        _prefix("s3.prefix", self.prefix)
        _url("s3.endpoint_url", self.endpoint_url)
        one_of("s3.addressing_style", self.addressing_style, ("auto", "path", "virtual"))
        one_of("s3.request_checksums", self.request_checksums, ("when_supported", "when_required"))
        for name in ("ca_bundle", "credentials_file", "config_file"):
            _absolute(f"s3.{name}", getattr(self, name))
        if self.server_side_encryption is not None:
            one_of("s3.server_side_encryption", self.server_side_encryption, S3_ENCRYPTIONS)
        if self.sse_kms_key_id is not None and not (self.server_side_encryption or "").startswith("aws:kms"):
            raise BadInput(
                "s3.sse_kms_key_id is set, and s3.server_side_encryption is not aws:kms.",
                hint="Set s3.server_side_encryption to aws:kms, or leave the key out.",
            )
        if self.storage_class in COLD_S3_CLASSES:
            raise BadInput(
                f"s3.storage_class cannot be {self.storage_class}: what lies there cannot be read for hours.",
                hint="Choose GLACIER_IR or a warmer class, and let a lifecycle rule move what is old.",
            )
        if len(self.tags) > 10:
            raise BadInput("s3.tags has more than 10 entries.", hint="S3 takes at most 10 tags for each object.")


@dataclass(frozen=True)
class GcsSettings:
    """Google Cloud Storage. Without `key_file`: application default credentials, which are the machine's own there."""

    bucket: str
    prefix: str = ""
    project: Optional[str] = None
    key_file: Optional[str] = None
    api_endpoint: Optional[str] = None  # with http:// no credentials are sent: for an emulator
    ca_bundle: Optional[str] = None
    kms_key_name: Optional[str] = None
    storage_class: Optional[str] = None

    def check(self) -> None:
        _named("gcs.bucket", self.bucket)
        _prefix("gcs.prefix", self.prefix)
        _url("gcs.api_endpoint", self.api_endpoint)
        for name in ("key_file", "ca_bundle"):
            _absolute(f"gcs.{name}", getattr(self, name))


@dataclass(frozen=True)
class AzureSettings:
    """Azure Blob Storage. Secrets come from files, or from AZURE_STORAGE_CONNECTION_STRING, _KEY or _SAS_TOKEN."""

    container: str
    prefix: str = ""
    account_url: Optional[str] = None  # https://<account>.blob.core.windows.net; a connection string has its own
    credential: str = "auto"  # auto: the first of the others that is there
    connection_string_file: Optional[str] = None
    account_key_file: Optional[str] = None
    sas_token_file: Optional[str] = None
    client_id: Optional[str] = None  # of a managed identity that is not the machine's own
    ca_bundle: Optional[str] = None
    encryption_scope: Optional[str] = None
    standard_blob_tier: Optional[str] = None
    tags: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        _named("azure.container", self.container)
        _prefix("azure.prefix", self.prefix)
        _url("azure.account_url", self.account_url)
        one_of("azure.credential", self.credential, AZURE_CREDENTIALS)
        for name in ("connection_string_file", "account_key_file", "sas_token_file", "ca_bundle"):
            _absolute(f"azure.{name}", getattr(self, name))
        if self.standard_blob_tier is not None:
            one_of("azure.standard_blob_tier", self.standard_blob_tier, AZURE_TIERS)
        if len(self.tags) > 10:
            raise BadInput("azure.tags has more than 10 entries.", hint="Azure takes at most 10 tags for each blob.")


@dataclass(frozen=True)
class LockSettings:
    """What the cloud itself keeps from being deleted or replaced: S3 Object Lock, GCS retention, Azure immutability.

    Without `period` it is worked out: retention.keep_within, and `full_interval` for the full backup before that.
    """

    mode: str = "governance"  # compliance: nobody at all can end it early, not even the account's owner
    period: Optional[str] = None  # a duration such as 21d, from the moment of writing
    full_interval: str = "7d"  # the longest time between two full backups

    def check(self) -> None:
        one_of("lock.mode", self.mode, ("governance", "compliance"))
        for name in ("period", "full_interval"):
            if getattr(self, name) is not None and not duration_s(getattr(self, name), f"lock.{name}"):
                raise BadInput(f"lock.{name} cannot be nothing.", hint="Leave `lock` out to switch it off.")


@dataclass(frozen=True)
class RepositorySettings:
    """`path` is for type local; every other type has its options under its own name."""

    name: str = "default"
    type: str = "local"
    path: str = ""
    required: bool = True  # False: backups and WAL are accepted without it, and follow later
    retention: Optional[RetentionSettings] = None  # None: as `retention` says for all
    cool: dict[str, str] = field(default_factory=dict)  # monthly: GLACIER_IR; what only that rule keeps moves there
    lock: Optional[LockSettings] = None  # None: who may write there may delete, as far as the cloud lets him
    s3: Optional[S3Settings] = None
    gcs: Optional[GcsSettings] = None
    azure: Optional[AzureSettings] = None
    transfer: TransferSettings = field(default_factory=TransferSettings)

    def check(self) -> None:
        one_of("repositories[].type", self.type, TYPES)
        if self.type == "local" and not os.path.isabs(self.path):
            raise BadInput(
                f"Repository {self.name!r} needs an absolute path, got {self.path!r}.",
                hint="Set repositories[].path to a directory on a disk that is not the data directory's.",
            )
        if self.type != "local" and self.path:
            raise BadInput(
                f"Repository {self.name!r} is of type {self.type} and has a path.",
                hint=f"Set repositories[].{self.type}.prefix instead.",
            )
        if self.type == "local" and self.lock is not None:
            raise BadInput(
                f"Repository {self.name!r} is a directory, which cannot lock what it holds.",
                hint="Leave `lock` out, or use a bucket; see docs/repositories.md.",
            )
        self._check_cool()
        for other in TYPES[1:]:
            there = getattr(self, other) is not None
            if there != (other == self.type):
                raise BadInput(
                    f"Repository {self.name!r} is of type {self.type} and has {'' if there else 'no '}options "
                    f"under {other!r}.",
                    hint=f"Give repositories[].{self.type} and no other.",
                )

    def _check_cool(self) -> None:
        if self.cool and self.type == "local":
            raise BadInput(
                f"Repository {self.name!r} is a directory, which has no storage classes.", hint="Leave `cool` out."
            )
        for rule, storage_class in self.cool.items():
            one_of(f"repositories[].cool of {self.name!r}", rule, COOLABLE)
            one_of(f"repositories[].cool.{rule} of {self.name!r}", storage_class, COOL_CLASSES[self.type])

    @property
    def location(self) -> str:
        """Where it is, for people: a directory or a URL without anything secret."""
        if self.s3 is not None:
            return _joined(f"s3://{self.s3.bucket}", self.s3.prefix)
        if self.gcs is not None:
            return _joined(f"gs://{self.gcs.bucket}", self.gcs.prefix)
        if self.azure is not None:
            return _joined(f"azure://{self.azure.container}", self.azure.prefix)
        return self.path


def _joined(root: str, prefix: str) -> str:
    return f"{root}/{prefix}".rstrip("/")


def _named(name: str, value: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9$][A-Za-z0-9_.:/-]{1,254}", value):
        raise BadInput(f"{name} cannot be {value!r}.", hint="Give its plain name, without s3:// or a path.")


def _prefix(name: str, value: str) -> None:
    if any(not part or part.startswith(".") for part in value.split("/")) and value:
        raise BadInput(
            f"{name} cannot be {value!r}.", hint="Write components joined by single slashes, none at either end."
        )


def _url(name: str, value: Optional[str]) -> None:
    if value is None:
        return
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", value):
        raise BadInput(
            f"{name} is not a plain URL.",
            hint="Write https://host or https://host:port, without a user, a password or a query in it.",
        )


def _absolute(name: str, value: Optional[str]) -> None:
    if value is not None and not os.path.isabs(value):
        raise BadInput(f"{name} must be an absolute path, got {value!r}.", hint="Begin it with a slash.")
