# SPDX-License-Identifier: GPL-3.0-or-later
"""What a script asks the running get worker, where it would else start an interpreter: is this file missing everywhere?

<ready>/<token>.ask        the question: a file's name. The token is a new one each time
<ready>/<token>.missing    that name again, and only when every repository said no after the question was put

The worker takes a question away when it is done with it. There is no other answer: what is found, damaged or not known,
and what a worker that died or hangs leaves open, the interpreter is started for, as if nobody had been asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

from ..errors import DbopsError
from ..pg.walfile import wal_name
from ..repo.archive import WalArchive
from ..settings import Settings
from .fetch import is_missing
from .log import note
from .spool import forget, write

ASK, MISSING = ".ask", ".missing"


def is_dialogue(entry: str) -> bool:
    """Whether a file of the spool is a question or an answer; a segment's name has no dash."""
    return "-" in entry


def answer(question: str, settings: Settings, archives: Sequence[WalArchive], still_true: Callable[[], bool]) -> None:
    """Deal with one question, a path. `still_true` is asked last: whether these are all the repositories there are."""
    try:
        with open(question, encoding="ascii") as stream:
            text = stream.read()
        if not text.endswith("\n"):
            return  # still being written
        name = wal_name(text.rstrip("\n"))
        if is_missing(archives, name) and still_true():
            write(question[: -len(ASK)] + MISSING, name.text)
            note(settings, "get-worker", f"{name.text} is missing.")
    except (DbopsError, OSError, ValueError):
        pass  # the interpreter will meet it too, and say what it is
    forget(question)
