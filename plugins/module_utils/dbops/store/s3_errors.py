# SPDX-License-Identifier: GPL-3.0-or-later
"""What an error of S3 means. Amazon's codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html;
compatible servers use some of them.
"""

from __future__ import annotations

from typing import Any

from ..errors import Corrupt, NotFound
from .bucket import Judgement
from .protocol import AlreadyThere
from .troubles import by_status, seconds, trouble

_REASONS = {
    "credentials": (
        "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException", "InvalidToken",
        "TokenRefreshRequired", "InvalidIdentityToken", "InvalidIdentityTokenException", "MissingSecurityHeader",
        "NotSignedUp", "InvalidSecurity", "UnrecognizedClientException", "MissingAuthenticationToken",
    ),
    "permission": (
        "AccessDenied", "AllAccessDisabled", "AccountProblem", "MethodNotAllowed", "KMS.AccessDeniedException",
        "AccessDeniedException",
    ),
    "clock": ("RequestTimeTooSkewed", "RequestExpired"),
    "no_bucket": ("NoSuchBucket",),
    "request": (
        "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "TemporaryRedirect",
        "InvalidRegionName", "NotImplemented",
    ),
    "busy": (
        "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "RequestThrottled",
        "ServiceUnavailable", "BandwidthLimitExceeded", "KMS.ThrottlingException", "ConditionalRequestConflict",
        "OperationAborted",
    ),
    "server": (  # or the bytes were damaged on their way, which is as good a reason to send them again
        "InternalError", "InternalServerError", "RequestTimeout", "BadDigest", "XAmzContentSHA256Mismatch",
        "IncompleteBody", "InvalidDigest", "XAmzContentChecksumMismatch",
    ),
}  # fmt: skip
_REASON_OF = {code: reason for reason, codes in _REASONS.items() for code in codes}
_PASSING = ("busy", "server")
_NO_TOKEN = ("CredentialRetrievalError", "TokenRetrievalError", "UnauthorizedSSOTokenError", "MetadataRetrievalError")
_MISWRITTEN = ("ConfigNotFound", "ConfigParseError", "InvalidRegionError")
_REGION = "Set s3.region and s3.endpoint_url to where the bucket is."
_HINTS = {
    "NotImplemented": "An older server: without checksums it needs s3.request_checksums: when_required, without "
    "If-None-Match it needs s3.conditional_writes: false.",
    "AccessDenied": "The identity in use lacks a permission: docs/repositories.md has the least policy. Without "
    "s3:ListBucket S3 denies what is merely not there.",
    **dict.fromkeys(_REASONS["request"][:5], _REGION),
}


def judge(exc: Exception, sentence: str, key: str) -> Judgement:
    """`sentence` says who cannot do what; errors that are neither S3's nor the network's are raised as they are."""
    import botocore.exceptions as aws

    told = str(exc) or type(exc).__name__
    if isinstance(exc, aws.ClientError):
        return _answered(exc.response, sentence, key)
    if isinstance(exc, (aws.NoCredentialsError, aws.PartialCredentialsError, aws.ProfileNotFound)):
        return trouble("credentials", sentence, told)
    if type(exc).__name__ == "FlexibleChecksumError":
        error = Corrupt(f"{sentence}: {told.rstrip('.')}.", hint="Use another copy; the object is damaged, or the way.")
        return Judgement(error, again=True)
    if type(exc).__name__ in _NO_TOKEN:
        return trouble("credentials", sentence, told, again=True)
    if isinstance(exc, aws.SSLError) and "CERTIFICATE_VERIFY_FAILED" in told:
        hint = "Set s3.ca_bundle to the certificate of the authority that signed the server's."
        return trouble("network", sentence, told, hint=hint)
    if isinstance(exc, (aws.ParamValidationError, aws.NoRegionError, aws.UnsupportedS3ConfigurationError)):
        return trouble("request", sentence, told)
    if type(exc).__name__ in _MISWRITTEN:
        return trouble("request", sentence, told)
    if isinstance(exc, OSError) and exc.filename:  # a web identity's token
        return trouble("credentials", sentence, told)
    if isinstance(exc, (aws.BotoCoreError, OSError)) or type(exc).__module__.startswith("urllib3."):
        return trouble("network", sentence, told, again=True)
    raise exc


def _answered(response: Any, sentence: str, key: str) -> Judgement:
    error, about = response.get("Error", {}), response.get("ResponseMetadata", {})
    code, status = str(error.get("Code", "")), int(about.get("HTTPStatusCode") or 0)
    if code == "PreconditionFailed" or status == 412:
        return Judgement(AlreadyThere(f"{sentence}: something else is there."))
    if code in ("NoSuchKey", "NoSuchUpload") or (code == "404" and key):
        return Judgement(NotFound(f"{sentence}: there is no {key}.", hint="It is proven not to be there."))
    told = f"{code or status} {error.get('Message', '')}"
    wait_s = seconds(about.get("HTTPHeaders", {}).get("retry-after"))
    reason = _REASON_OF.get(code)
    if reason is None:
        return by_status(status or int(code if code.isdigit() else 0), sentence, told, wait_s=wait_s)
    return trouble(
        reason,
        sentence,
        told,
        hint=_HINTS.get(code, ""),
        again=reason in _PASSING or status in (500, 503),
        wait_s=wait_s,
    )
