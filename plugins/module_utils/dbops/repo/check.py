# SPDX-License-Identifier: GPL-3.0-or-later
"""What the credentials in use can do in each repository: list, write, read, decrypt, and what they cannot: delete.

A probe is a small object of its own below `probes/`; no backup is touched but to read the smallest object of the
newest one. Where deletion is denied the probe stays behind, locked for a few minutes.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Optional

from ..errors import DbopsError, NoKey, NotFound, Unreachable
from ..settings import Settings
from ..store import AlreadyThere
from ..store.cloud import CloudStore
from . import layout
from .record import StoredObject
from .repository import Repository, open_repository

PASS, FAIL, COULD_NOT_VERIFY = "pass", "fail", "could_not_verify"
_LOCKED_FOR = timedelta(minutes=3)


@dataclass(frozen=True)
class Finding:
    """One probe of one repository; `advice` is what to do about anything that is no pass."""

    repository: str
    probe: str
    verdict: str
    detail: str
    advice: str = ""


def check(settings: Settings, *, repository: Optional[str] = None, read_only: bool = False) -> dict[str, Any]:
    """Every probe in every configured repository, or in the named one. A failed probe is a finding, not an error.

    With `read_only` nothing is written, and what that leaves open could not be verified.
    """
    names = [repository] if repository is not None or not settings.repositories else None
    opened = [open_repository(settings, name) for name in names or [item.name for item in settings.repositories]]
    findings = [finding for one in opened for finding in _probed(one, read_only)]
    verdict = overall(findings)
    bad = [finding for finding in findings if finding.verdict != PASS]
    return {
        "changed": False,
        "msg": f"{len(findings) - len(bad)} of {len(findings)} probes passed: {verdict}."
        + "".join(f" {item.repository}: {item.probe}: {item.verdict}." for item in bad),
        "verdict": verdict,
        "checks": [asdict(finding) for finding in findings],
        "warnings": [caveat for one in opened for caveat in one.store.caveats()],
    }


def overall(findings: Sequence[Finding]) -> str:
    """A failure beats a doubt, a doubt beats any number of passes, and nothing looked at is a doubt."""
    verdicts = {finding.verdict for finding in findings}
    if FAIL in verdicts:
        return FAIL
    return PASS if verdicts == {PASS} else COULD_NOT_VERIFY


def _probed(repository: Repository, read_only: bool) -> Iterator[Finding]:
    def probe(name: str, call: Callable[[], Finding]) -> Finding:
        try:
            return call()
        except Unreachable as exc:  # the network says as much as a denial: which of the two, its words tell
            reason = getattr(exc, "reason", "")
            verdict = FAIL if reason in ("permission", "credentials", "no_bucket", "request") else COULD_NOT_VERIFY
            return Finding(repository.name, name, verdict, exc.message, exc.hint)
        except DbopsError as exc:
            return Finding(repository.name, name, FAIL, exc.message, exc.hint)

    key = f"{repository.cluster}/probes/{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    content = secrets.token_hex(16).encode()
    listed = probe("list", lambda: _list(repository))
    yield listed
    written = probe("write", lambda: _unwritten(repository) if read_only else _write(repository, key, content))
    yield written
    if written.verdict == PASS:
        yield probe("first writer wins", lambda: _write_again(repository, key, content))
        yield probe("read", lambda: _read(repository, key, content))
    if listed.verdict == PASS:
        yield probe("decrypt", lambda: _decrypt(repository))
    if written.verdict == PASS:
        yield probe("delete denied", lambda: _delete(repository, key, content))


def _list(repository: Repository) -> Finding:
    backups = sum(map(layout.is_label, repository.store.children(layout.backups(repository.cluster))))
    return Finding(repository.name, "list", PASS, f"{backups} backups are listed, finished or not.")


def _unwritten(repository: Repository) -> Finding:
    return Finding(repository.name, "write", COULD_NOT_VERIFY, "Nothing was written.", "Run it without check mode.")


def _write(repository: Repository, key: str, content: bytes) -> Finding:
    until = None
    if repository.settings.lock is not None:
        until = (datetime.now(timezone.utc) + _LOCKED_FOR).replace(microsecond=0)
    repository.store.put(key, [content], if_absent=True, retain_until=until)
    return Finding(repository.name, "write", PASS, f"{key} was written{', locked' if until else ''}.")


def _write_again(repository: Repository, key: str, content: bytes) -> Finding:
    name = "first writer wins"
    try:
        repository.store.put(key, [content[::-1]], if_absent=True)
    except AlreadyThere:
        return Finding(repository.name, name, PASS, "A second writer of the same name was refused.")
    return Finding(
        repository.name, name, FAIL, "A second writer of the same name was not refused.",
        "This server ignores conditional puts: two hosts could overwrite each other's WAL. Use one that honours "
        "If-None-Match, or let only one host write there.",
    )  # fmt: skip


def _read(repository: Repository, key: str, content: bytes) -> Finding:
    if b"".join(repository.store.get(key)) == content:
        return Finding(repository.name, "read", PASS, "What was written came back.")
    advice = "Do not rely on this server: it alters what it holds."
    return Finding(repository.name, "read", FAIL, f"{key} came back with other content.", advice)


def _decrypt(repository: Repository) -> Finding:
    """The smallest object of the newest backup, as a restore would read it."""
    entries = repository.catalog().entries
    if not entries:
        return Finding(
            repository.name, "decrypt", COULD_NOT_VERIFY, "There is no backup to read.", "Take one: dbops backup."
        )
    record = entries[0].record
    item: StoredObject = min(record.objects, key=lambda one: one.stored.size_bytes)
    where = f"{item.name} of {record.label}"
    try:
        for _chunk in repository.read_object(record.label, item):
            pass
    except NoKey as exc:
        return Finding(
            repository.name, "decrypt", COULD_NOT_VERIFY, f"No private key for {where} is here: {exc.message}",
            "That is as it should be on a database host. Run this check where you would restore.",
        )  # fmt: skip
    how = f"encrypted with {item.encryption}" if item.encryption else "not encrypted"
    return Finding(repository.name, "decrypt", PASS, f"{where} was read, {how}.")


def _delete(repository: Repository, key: str, content: bytes) -> Finding:
    """As somebody would who wants the backups gone: every version of the probe, for good."""
    store, name = repository.store, "delete denied"
    denial: Optional[DbopsError] = None
    try:
        if isinstance(store, CloudStore):
            store.expunge(key)
        else:
            store.delete(key)
    except DbopsError as exc:
        denial = exc
    with contextlib.suppress(NotFound):
        if b"".join(store.get(key)) == content and denial is not None:
            return Finding(repository.name, name, PASS, f"The probe is still there: {denial.message}")
    if repository.settings.lock is None:
        return Finding(
            repository.name, name, COULD_NOT_VERIFY,
            "These credentials can delete, and no lock is asked for here.",
            "Whoever takes this host can delete its backups there: keep one repository in a bucket with `lock`, "
            "see docs/repositories.md.",
        )  # fmt: skip
    return Finding(
        repository.name, name, FAIL, "These credentials could delete a locked object for good.",
        "The bucket does not enforce the lock: switch object lock on for it (it needs versioning), and take "
        "s3:BypassGovernanceRetention from this identity.",
    )  # fmt: skip
