# SPDX-License-Identifier: GPL-3.0-or-later
"""One family of errors. A subclass says what the caller may do about it.

DbopsError                  1  something else
├── BadInput                2  what was asked for cannot be right: ask differently
├── NotFound                3  it is proven not to be there
├── Unreachable             4  cannot know: server or store did not answer, or refused us
├── Corrupt                 5  bytes are not what they were, or not what they claim to be
├── Refused                 6  a safeguard: doing it would lose something
│   └── NoKey              10  it is encrypted, and no private key here opens it
├── Busy                    7  another run holds the lock: try again later
├── ToolFailed              8  a program of PostgreSQL's ended badly; `stderr_tail` has its words
└── MissingLibrary          9  an optional Python library is needed here
"""

from __future__ import annotations


class DbopsError(Exception):
    """What failed, on which object (`message`), and what to do next (`hint`)."""

    exit_code = 1
    error_code = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class BadInput(DbopsError):
    exit_code = 2
    error_code = "bad_input"


class NotFound(DbopsError):
    exit_code = 3
    error_code = "not_found"


class Unreachable(DbopsError):
    exit_code = 4
    error_code = "unreachable"


class Corrupt(DbopsError):
    exit_code = 5
    error_code = "corrupt"


class Refused(DbopsError):
    exit_code = 6
    error_code = "refused"


class NoKey(Refused):
    exit_code = 10
    error_code = "no_key"


class Busy(DbopsError):
    exit_code = 7
    error_code = "busy"


class ToolFailed(DbopsError):
    exit_code = 8
    error_code = "tool_failed"

    def __init__(self, message: str, hint: str = "", *, stderr_tail: str = "") -> None:
        super().__init__(message, hint)
        self.stderr_tail = stderr_tail


class MissingLibrary(DbopsError):
    exit_code = 9
    error_code = "missing_library"

    def __init__(self, library: str, *, needed_for: str, package: str) -> None:
        super().__init__(
            f"The Python library {library!r} is needed for {needed_for} and is not installed.",
            hint=f"Install the package {package}.",
        )
        self.library = library
