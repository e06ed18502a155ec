# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks in an object store, which has none: claims that have to be renewed.

    <directory>/.lock-<name>/x-<token>      somebody has it alone           s-<token>      one of those who share it

Write the claim first, then list all claims: of two who come at once, at least one sees the other, and whoever sees
another's claim withdraws. A claim's age is told by the store's own clock: the time of the other's claim against that
of the one just written. Who dies without a word is overruled after LEASE_S, and at once by his own host.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import Busy, DbopsError, NotFound, Unreachable
from .protocol import ObjectInfo, Trouble

if TYPE_CHECKING:
    from .cloud import CloudStore

LEASE_S = 300.0
RENEW_S = 60.0
_HELD: set[str] = set()  # the keys of this process's claims, whichever store object they belong to
_TRIES = 4  # two who came at the same instant both withdraw, and try again a little later


@dataclass
class _Claim:
    key: str
    content: bytes
    renewed: float  # monotonic


class Leases:
    """The claims of one store object, and whether all of them are still good."""

    def __init__(self, store: CloudStore) -> None:
        self._store = store
        self._held: list[_Claim] = []

    def check(self) -> None:
        """Refuse to go on when a lock could not be renewed in time: another one may have it by now."""
        for claim in self._held:
            if time.monotonic() - claim.renewed > LEASE_S * 0.8:
                raise Unreachable(
                    f"The lock {claim.key} could not be renewed for {LEASE_S * 0.8:.0f} s: others may have it now.",
                    hint="The repository did not answer for that long. Run again when it does.",
                )

    @contextlib.contextmanager
    def hold(self, name: str, *, shared: bool) -> Iterator[None]:
        directory, _slash, leaf = name.rpartition("/")
        folder = f"{directory}/.lock-{leaf}/" if directory else f".lock-{leaf}/"
        claim = self._claimed(name, folder, shared=shared)
        if claim is None:
            yield
            return
        stop = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(claim, stop), name="dbops-lease", daemon=True)
        renewing.start()
        self._held.append(claim)
        try:
            yield
        finally:
            self._held.remove(claim)
            stop.set()
            renewing.join(1)  # one that hangs in a request is a daemon, and what it writes is withdrawn by age
            with contextlib.suppress(DbopsError):  # who cannot be told learns it by age
                self._withdraw(claim.key)

    def _claimed(self, name: str, folder: str, *, shared: bool) -> _Claim | None:
        """None for a reader who may not write there."""
        by = "" if shared else f"process {os.getpid()} on {socket.gethostname()}"
        content = {"by": by, "host": _host(), "pid": os.getpid()}
        claim = _Claim(f"{folder}{'s' if shared else 'x'}-{secrets.token_hex(8)}", json.dumps(content).encode(), 0.0)
        for attempt in range(_TRIES):
            _HELD.add(claim.key)
            try:
                self._write(claim)
            except Trouble as exc:
                _HELD.discard(claim.key)  # should it have arrived all the same, nobody has it
                if shared and exc.reason == "permission":
                    return None
                raise
            try:
                other = self._conflict(folder, claim, shared=shared)
            except BaseException:
                with contextlib.suppress(DbopsError):
                    self._withdraw(claim.key)
                raise
            if other is None:
                return claim
            self._withdraw(claim.key)
            holder, age = other
            if age > 5 or attempt == _TRIES - 1:
                raise Busy(
                    f"Repository {self._store.name!r} is in use: {name} is locked by {holder or 'another run'}.",
                    hint="Wait until it has finished, then run again; a killed run's lock ends by itself "
                    f"within {LEASE_S / 60:.0f} minutes.",
                )
            time.sleep(random.uniform(0.05, 0.4))
        raise AssertionError("the last try returns or raises")

    def _conflict(self, folder: str, claim: _Claim, *, shared: bool) -> tuple[str, float] | None:
        """Who else has it, and for how long; claims of the dead are cleared away."""
        found = {info.key: info for info in self._store.claims(folder)}
        own = found.pop(claim.key, None)
        if own is None:
            raise Unreachable(
                f"Repository {self._store.name!r} does not list what was just written there.",
                hint="Locks need a store whose lists are up to date.",
            )
        for info in found.values():
            if shared and info.key[len(folder) :].startswith("s-"):
                continue
            age = (own.modified - info.modified).total_seconds()
            holder = self._holder(info)
            if holder is None:
                continue
            if age > LEASE_S or _is_dead(holder, info.key):
                with contextlib.suppress(DbopsError):
                    self._withdraw(info.key)
                continue
            return str(holder.get("by", "")), age
        return None

    def _holder(self, info: ObjectInfo) -> dict[str, object] | None:
        try:
            data = json.loads(self._store.claim(info.key))
        except NotFound:
            return None  # released meanwhile
        except ValueError:
            return {}
        return data if isinstance(data, dict) else {}

    def _renew(self, claim: _Claim, stop: threading.Event) -> None:
        while not stop.wait(RENEW_S):
            with contextlib.suppress(DbopsError):
                self._write(claim)

    def _write(self, claim: _Claim) -> None:
        begun = time.monotonic()
        self._store.write_claim(claim.key, claim.content)
        claim.renewed = begun

    def _withdraw(self, key: str) -> None:
        _HELD.discard(key)
        self._store.withdraw_claim(key)


def _is_dead(holder: dict[str, object], key: str) -> bool:
    """Only of a process of this very host and boot can we know that it is gone, or, our own, that it has let go."""
    pid = holder.get("pid")
    if holder.get("host") != _host() or not isinstance(pid, int):
        return False
    if pid == os.getpid():
        return key not in _HELD  # it could not be withdrawn when it ended, or an earlier process had our number
    return not os.path.exists(f"/proc/{pid}")


def _host() -> str:
    """This boot of this machine and this view of its processes, so that a pid means what it says."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            parts.append(stream.read().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)
