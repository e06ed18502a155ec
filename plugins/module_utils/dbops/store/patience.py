# SPDX-License-Identifier: GPL-3.0-or-later
"""When to ask a cloud again: growing pauses with jitter, so that many hosts do not come back at once, and an end."""

from __future__ import annotations

import random
import time
from typing import Callable, TypeVar

from ..errors import Corrupt, DbopsError
from .bucket import Judgement

T = TypeVar("T")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 15.0


def pause_s(attempt: int, asked_s: float | None, draw: float) -> float:
    """How long to wait after failure number `attempt` (from 0); `draw` is a random number from 0 to 1.

    Half is fixed and half is drawn; what the server asked for is the least, up to a minute.
    """
    grown = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * float(2**attempt))
    return max(grown * (0.5 + draw / 2), min(asked_s or 0.0, 60.0))


def patiently(call: Callable[[int], T], judge: Callable[[Exception], Judgement], *, budget_s: float, what: str) -> T:
    """What `call` returns; it is told how many attempts came before. Errors that may pass are tried again."""
    until = time.monotonic() + budget_s
    attempt = 0
    while True:
        try:
            return call(attempt)
        except DbopsError:
            raise
        except Exception as exc:  # judge raises what it does not know
            verdict = judge(exc)
            pause = pause_s(min(attempt, 20), verdict.wait_s, random.random())
            damaged = isinstance(verdict.error, Corrupt) and attempt >= 2  # the way may be to blame, but not for ever
            if not verdict.again or damaged or time.monotonic() + pause > until:
                raise _told(verdict.error, attempt, what) from exc
            attempt += 1
            time.sleep(pause)


def _told(error: DbopsError, attempt: int, what: str) -> DbopsError:
    if attempt:
        error.message = f"{error.message} ({what} was tried {attempt + 1} times.)"
        error.args = (error.message,)
    return error
