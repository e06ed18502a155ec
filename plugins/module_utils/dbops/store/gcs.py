# SPDX-License-Identifier: GPL-3.0-or-later
"""Google Cloud Storage, through google-cloud-storage.

A large object goes out as one resumable upload, part after part: it becomes visible, under its condition, with its
last part, and Google forgets an unfinished one within a week. Parallel parts would be objects of their own, which a
bucket's retention policy would keep.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Optional

from ..errors import BadInput, MissingLibrary, NotFound
from ..settings_repositories import GcsSettings, TransferSettings
from .bucket import How, Judgement, Page, Piece
from .protocol import AlreadyThere, ObjectInfo, Trouble
from .troubles import HINTS, by_status, check_readable, seconds, trouble

_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_SCOPE_OF_BUCKETS = "https://www.googleapis.com/auth/devstorage.full_control"
_BINARY = "application/octet-stream"


class GcsBucket:
    takes_conditions = True

    def __init__(self, settings: GcsSettings, transfer: TransferSettings) -> None:
        self._settings = settings
        self._transfer = transfer
        self._made: Any = None
        self._making = threading.Lock()
        self._often = {"timeout": (transfer.connect_timeout_s, transfer.read_timeout_s), "retry": None}
        self.prefix = f"{settings.prefix}/" if settings.prefix else ""
        self.name = settings.bucket
        self.where = f"gs://{settings.bucket}" + (f" ({settings.api_endpoint})" if settings.api_endpoint else "")

    @property
    def client(self) -> Any:
        with self._making:
            if self._made is None:
                self._made = new_client(self._settings, self._transfer)
            return self._made

    @property
    def manager(self) -> Any:
        """A client that may be allowed to change the bucket itself; writing objects needs no such scope."""
        return new_client(self._settings, self._transfer, scope=_SCOPE_OF_BUCKETS)

    def preload(self) -> None:
        _library()

    def put(self, key: str, data: bytes, how: How) -> None:
        self._blob(key, how).upload_from_string(data, content_type=_BINARY, **self._condition(how), **self._often)

    def begin(self, key: str, how: How) -> GcsUpload:
        blob = self._blob(key, how)
        address = blob.create_resumable_upload_session(content_type=_BINARY, **self._condition(how), **self._often)
        return GcsUpload(self.client, address, self._often["timeout"])

    def read(self, key: str, start: int, length: int, version: Optional[str]) -> Piece:
        from google.api_core.exceptions import NotFound as Absent
        from google.api_core.exceptions import RequestRangeNotSatisfiable

        blob = self._blob(key)
        same = {"if_generation_match": int(version)} if version else {}
        more = {"raw_download": True, "checksum": None, **same, **self._often}
        try:
            data = blob.download_as_bytes(start=start, end=start + length - 1, **more)
        except RequestRangeNotSatisfiable:
            data = b""
        except Absent as exc:
            raise self._absent(key) from exc
        if version or 0 < len(data) < length:
            return Piece(deque([data]), start + len(data), version or "")
        seen = self._reloaded(key)  # how much is there besides? One request that small objects do not need
        return Piece(deque([data]), seen.size, str(seen.generation))

    def head(self, key: str) -> ObjectInfo:
        blob = self._reloaded(key)
        return ObjectInfo(key, blob.size, blob.updated, dict(blob.metadata or {}))

    def page(self, prefix: str, *, folders: bool, after: Optional[str]) -> Page:
        delimiter = "/" if folders else None
        listing = self.client.list_blobs(
            self._settings.bucket, prefix=prefix, delimiter=delimiter, page_token=after, **self._often
        )
        found = next(listing.pages, ())
        objects = [
            ObjectInfo(blob.name, blob.size, blob.updated, storage_class=blob.storage_class or "") for blob in found
        ]
        return Page(objects, sorted(listing.prefixes), listing.next_page_token)

    def delete(self, key: str) -> None:
        from google.api_core.exceptions import NotFound as Absent

        try:
            self._blob(key).delete(**self._often)
        except Absent:
            self._absent(key)  # gone is fine, unless the whole bucket is

    def retain(self, key: str, until: datetime, *, compliance: bool) -> None:
        blob = self._reloaded(key)
        blob.retention.mode = "Locked" if compliance else "Unlocked"
        blob.retention.retain_until_time = until
        blob.patch(**self._often)

    def retained(self, key: str) -> Optional[datetime]:
        until: Optional[datetime] = self._reloaded(key).retention.retain_until_time
        return until

    def change_class(self, key: str, storage_class: str) -> None:
        """Rewritten in place, by as many requests as Google wants."""
        self._reloaded(key).update_storage_class(storage_class, timeout=self._often["timeout"])

    def expunge(self, key: str) -> None:
        for blob in self.client.list_blobs(self._settings.bucket, prefix=key, versions=True, **self._often):
            if blob.name == key:
                blob.delete(**self._often)

    def unfinished(self, prefix: str) -> Sequence[tuple[str, str]]:
        return ()  # no list has them, and they end by themselves

    def discard(self, upload: tuple[str, str]) -> None: ...

    def judge(self, exc: Exception, verb: str, key: str) -> Judgement:
        return judge(exc, verb)

    # -- below: how

    def _blob(self, key: str, how: Optional[How] = None) -> Any:
        blob = self.client.bucket(self._settings.bucket).blob(key, kms_key_name=self._settings.kms_key_name)
        if how is not None:
            blob.metadata = dict(how.metadata)
            if self._settings.storage_class:
                blob.storage_class = self._settings.storage_class
            if how.retain_until is not None:
                blob.retention.mode = "Locked" if how.compliance else "Unlocked"
                blob.retention.retain_until_time = how.retain_until
        return blob

    def _condition(self, how: How) -> dict[str, Any]:
        return {"if_generation_match": 0} if how.if_absent else {}

    def _reloaded(self, key: str) -> Any:
        from google.api_core.exceptions import NotFound as Absent

        blob = self._blob(key)
        try:
            blob.reload(**self._often)
        except Absent as exc:
            raise self._absent(key) from exc
        return blob

    def _absent(self, key: str) -> NotFound:
        """A 404 says the same of an object and of its bucket; a list tells them apart."""
        from google.api_core.exceptions import NotFound as Absent

        try:
            next(self.client.list_blobs(self._settings.bucket, prefix=key, max_results=1, **self._often).pages, None)
        except Absent as exc:
            raise Trouble(f"{self.where} does not exist.", hint=HINTS["no_bucket"], reason="no_bucket") from exc
        return NotFound(f"There is no {key} in {self.where}.", hint="It is proven not to be there.")


class GcsUpload:
    """https://cloud.google.com/storage/docs/performing-resumable-uploads: chunks in order, the last one says so."""

    ordered = True

    def __init__(self, client: Any, address: str, timeout: Any) -> None:
        self._session = client._http  # noqa: SLF001  # the same credentials and connections; it has no public name
        self._address = address
        self._timeout = timeout
        self._sent = 0  # bytes that are known to be there
        self._begun = False
        self._finish: Optional[tuple[bytes, int]] = None

    def part(self, number: int, data: bytes, *, last: bool) -> None:
        begin = self._sent
        if last:
            self._finish = (data, begin)  # it makes the object visible, and that is `finish`
            return
        self._send(data, begin, "*")
        self._sent = begin + len(data)

    def finish(self) -> None:
        data, begin = self._finish or (b"", self._sent)
        self._send(data, begin, str(begin + len(data)))

    def abort(self) -> None:
        self._session.delete(self._address, timeout=self._timeout, headers={"Content-Length": "0"})

    def _send(self, data: bytes, begin: int, total: str) -> None:
        """Sends what is missing of it: an attempt before may have brought some across."""
        there = begin if not self._begun else self._there(begin, total)
        self._begun = True
        if there is None:
            return
        rest = data[there - begin :]
        if not rest and total == "*":
            self._begun = False
            return
        span = f"{there}-{there + len(rest) - 1}" if rest else "*"
        answer = self._put(rest, f"bytes {span}/{total}")
        if answer.status_code == 308 and total == "*":
            there = _received(answer)
            if there != begin + len(data):
                raise ConnectionError(f"{there - begin} bytes of {len(data)} arrived")
        elif answer.status_code not in (200, 201):
            raise _error_of(answer)
        self._begun = False

    def _there(self, begin: int, total: str) -> Optional[int]:
        """How far the server has got; None when the whole object is there already."""
        answer = self._put(b"", f"bytes */{total}")
        if answer.status_code in (200, 201):
            return None
        if answer.status_code != 308:
            raise _error_of(answer)
        return max(begin, _received(answer))

    def _put(self, data: bytes, content_range: str) -> Any:
        headers = {"Content-Range": content_range, "Content-Length": str(len(data))}
        return self._session.put(self._address, data=data, headers=headers, timeout=self._timeout)


def _received(answer: Any) -> int:
    upto = answer.headers.get("Range", "").rpartition("-")[2]
    return int(upto) + 1 if upto.isdigit() else 0


def _error_of(answer: Any) -> Exception:
    from google.api_core.exceptions import from_http_response

    error: Exception = from_http_response(answer)
    return error


def new_client(settings: GcsSettings, transfer: TransferSettings, *, scope: str = _SCOPE) -> Any:
    google = _library()
    check_readable({f"gcs.{name}": getattr(settings, name) for name in ("ca_bundle", "key_file")})
    from requests.adapters import HTTPAdapter

    project = settings.project
    if (settings.api_endpoint or "").startswith("http://"):
        credentials, project = google.auth.credentials.AnonymousCredentials(), project or "none"
    elif settings.key_file:
        of_file = google.oauth2.service_account.Credentials.from_service_account_file
        try:
            credentials = of_file(settings.key_file, scopes=[scope])
        except ValueError as exc:  # its words say where, and nothing of the key
            raise BadInput(
                f"gcs.key_file {settings.key_file} is not a service account's key: {exc}",
                hint="Give the JSON file that Google made for the service account, as it is.",
            ) from exc
        project = project or credentials.project_id
    else:
        credentials, found = google.auth.default(scopes=[scope])
        project = project or found
    session = google.auth.transport.requests.AuthorizedSession(credentials)
    session.mount("https://", HTTPAdapter(pool_maxsize=8 * transfer.parallel))
    session.mount("http://", HTTPAdapter(pool_maxsize=8 * transfer.parallel))
    if settings.ca_bundle:
        session.verify = settings.ca_bundle
    options = {"api_endpoint": settings.api_endpoint} if settings.api_endpoint else None
    return google.cloud.storage.Client(project=project, credentials=credentials, _http=session, client_options=options)


def _library() -> Any:
    try:
        import google.auth.credentials
        import google.auth.transport.requests
        import google.cloud.storage
        import google.oauth2.service_account
    except ImportError as exc:
        raise MissingLibrary(
            "google.cloud.storage", needed_for="a repository of type gcs", package="google-cloud-storage (pip)"
        ) from exc
    return google


def judge(exc: Exception, sentence: str) -> Judgement:
    import google.api_core.exceptions as google
    import google.auth.exceptions as auth
    import requests

    told = str(exc) or type(exc).__name__
    if isinstance(exc, google.PreconditionFailed):
        return Judgement(AlreadyThere(f"{sentence}: something else is there."))
    if isinstance(exc, google.NotFound):
        return trouble("no_bucket", sentence, told)  # of an object it was said before; see _absent
    if isinstance(exc, google.GoogleAPICallError):
        headers = getattr(exc.response, "headers", None) or {}
        return by_status(int(exc.code or 0), sentence, told, wait_s=seconds(headers.get("Retry-After")))
    if isinstance(exc, auth.TransportError):
        return trouble("network", sentence, told, again=True)
    if isinstance(exc, auth.GoogleAuthError):
        return trouble("credentials", sentence, told, again=bool(getattr(exc, "retryable", False)))
    if isinstance(exc, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in told:
        hint = "Set gcs.ca_bundle to the certificate of the authority that signed the server's."
        return trouble("network", sentence, told, hint=hint)
    damaged = type(exc).__name__ == "DataCorruption"
    if damaged or isinstance(exc, (OSError, google.RetryError)) or type(exc).__module__.startswith("urllib3."):
        return trouble("network", sentence, told, again=True)
    raise exc
