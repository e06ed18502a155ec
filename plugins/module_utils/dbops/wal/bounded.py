# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that may hang, such as a put on a dead file server, with a limit to our waiting for it.

It runs in a forked child: a thread or an alarm would not help, since a process inside such a call cannot end either.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from typing import Any, Callable

from ..codec.keyring import forget_keyrings
from ..errors import BadInput, Busy, Corrupt, DbopsError, MissingLibrary, NoKey, NotFound, Refused, Unreachable

_KINDS: dict[str, type[DbopsError]] = {
    kind.error_code: kind for kind in (DbopsError, BadInput, NotFound, Unreachable, Corrupt, Refused, NoKey, Busy)
}


def bounded(work: Callable[[], Any], *, timeout_s: float, what: str) -> Any:
    """What `work` returns (it must fit into JSON), or the error it raises; Unreachable when it takes too long.

    Call it before any thread is started.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _be_the_child(work, writer)
    os.close(writer)
    try:
        answer = _answer(reader, time.monotonic() + timeout_s)
    except BaseException:
        _end(child)
        raise
    finally:
        os.close(reader)
    if answer is None:
        _end(child)
        raise Unreachable(
            f"{what} has not ended within {timeout_s:g} s.", hint="A repository hangs: check its mount or its host."
        )
    os.waitpid(child, 0)
    return _result(answer, what)


def _be_the_child(work: Callable[[], Any], writer: int) -> None:
    """Never returns: what follows in our caller's caller is the parent's affair."""
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        try:
            told = {"result": work()}
        except DbopsError as exc:
            told = {"error": exc.error_code, "message": exc.message, "hint": exc.hint}
        except BaseException as exc:  # noqa: BLE001  # told to the parent, who raises it
            told = {
                "error": "error",
                "message": f"Unexpected {type(exc).__name__}: {exc}.",
                "hint": "Please report it.",
            }
        data = memoryview(json.dumps(told).encode())
        while data:
            data = data[os.write(writer, data) :]
        with contextlib.suppress(Exception):
            forget_keyrings()
    finally:
        os._exit(0)


def _answer(reader: int, deadline: float) -> bytes | None:
    """All that the child has said, or None when the time is over."""
    said = b""
    while True:
        readable = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]
        if not readable:
            return None
        part = os.read(reader, 65536)
        if not part:
            return said
        said += part


def _result(answer: bytes, what: str) -> Any:
    try:
        told = json.loads(answer)
    except ValueError:
        raise DbopsError(f"{what} was killed.", hint="See the kernel's log: was memory short?") from None
    if "error" not in told:
        return told["result"]
    if told["error"] == MissingLibrary.error_code:
        error = DbopsError(told["message"], hint=told["hint"])
        error.exit_code, error.error_code = MissingLibrary.exit_code, MissingLibrary.error_code
        raise error
    raise _KINDS.get(told["error"], DbopsError)(told["message"], hint=told["hint"])


def _end(child: int) -> None:
    """Kill it and do not wait: in an uninterruptible call it would keep us."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, os.WNOHANG)
