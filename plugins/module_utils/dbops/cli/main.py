# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `dbops`: reads its arguments, runs one verb, says the result to a person or a machine."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, Optional

from .. import __version__
from ..errors import BadInput, DbopsError, ToolFailed, Unreachable
from . import wal_command
from .door import Answer, Door
from .progress_bar import Bar, JsonLines, Told, json_line, write
from .rooms import rooms
from .words import clean

# Not the parser's own: its options are shared with every verb's parser, which would put the default back over what
# was said before the verb.
_DEFAULTS = {"cluster": None, "config": None, "repository": None, "output": "text", "quiet": False, "confirm": None}
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asked us to stop: everything on the way out cleans up after itself."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code is 0, an error's own (see errors.py), or 128 and the signal's number."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if wal_command.is_meant(arguments):  # the server calls: its codes, its one line
        return wal_command.main(wal_command.without_wal(arguments))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to fail
    received: list[int] = []
    progress: Told = Told(sys.stderr)
    as_json = _wants_json(arguments)
    try:
        with _stopped_by_signals(received):
            args = _parser(arguments).parse_args(arguments, argparse.Namespace(**_DEFAULTS))
            as_json = args.output == "json"
            progress = _progress(args)
            try:
                answer: Answer = args.verb(Door(args, progress))
            finally:
                progress.done()
            _say(answer, args, progress)
            return answer.code
    except SystemExit as request:  # argparse, after --help and --version
        return request.code if isinstance(request.code, int) else 0
    except BaseException as problem:  # noqa: BLE001  # the outermost door: told below, or raised again
        # Whatever the unwinding raised, a signal was the cause.
        error = _stopped_error(received[0]) if received else problem
        return _fail(error, as_json=as_json, code=128 + received[0] if received else None)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message[:1].upper()}{message[1:]}.", hint=f"See {self.prog} --help.")


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("options of every verb")
    group.add_argument("--cluster", metavar="NAME", help="default: $DBOPS_CLUSTER, the only one configured, or main")
    group.add_argument("--config", metavar="FILE", help="settings file; default: /etc/dbops/<cluster>.json")
    group.add_argument("--repository", metavar="NAME", help="only this one; default: see docs/repositories.md")
    group.add_argument("--output", choices=("text", "json"), help="json: one line per event, the result last")
    group.add_argument("--quiet", action="store_true", help="no progress, and no text when all went well")
    parser = _Parser(prog="dbops", description="Backups of PostgreSQL, and getting them back.", parents=[common])
    parser.add_argument("--version", action="version", version=f"dbops {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, parser_class=_Parser)
    for room in rooms(arguments):
        room.add(verbs, common)
    return parser


def _wants_json(arguments: Sequence[str]) -> bool:
    """Before the arguments are understood, and if they never are."""
    return "--output=json" in arguments or ("--output", "json") in zip(arguments, arguments[1:])


def _progress(args: argparse.Namespace) -> Told:
    if args.output == "json":
        return JsonLines(sys.stdout, sys.stderr) if not args.quiet else _ResultOnly(sys.stdout, sys.stderr)
    if sys.stderr.isatty() and not args.quiet and os.environ.get("TERM") != "dumb":
        return Bar(sys.stderr)
    return Told(sys.stderr)


class _ResultOnly(JsonLines):
    def report(self, step: Any) -> None:
        del step


def _say(answer: Answer, args: argparse.Namespace, progress: Told) -> None:
    for warning in answer.data.get("warnings", ()):
        progress.warn(warning)
    if isinstance(progress, JsonLines):
        _put(json_line("result", {**answer.data, "warnings": progress.warnings}))
    elif answer.text and (answer.code or not args.quiet):
        _put(answer.text + "\n")


def _put(text: str) -> None:
    """The result itself. Who stops reading (`| head`) has seen enough; a full disk is a failure."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_no_broken_pipe()
    except OSError as exc:
        raise Unreachable(
            f"The work is done, but its result cannot be written: {exc.strerror or exc}.", hint="See dbops info."
        ) from exc


def _fail(error: BaseException, *, as_json: bool, code: Optional[int]) -> int:
    if not isinstance(error, DbopsError):
        if os.environ.get("DBOPS_DEBUG") == "1":
            write(sys.stderr, "".join(traceback.format_exception(type(error), error, error.__traceback__)))
        error = _unexpected(error)
    if as_json:
        result = {"failed": True, "msg": error.message, "hint": error.hint, "error_code": error.error_code}
        if isinstance(error, ToolFailed):
            result["stderr_tail"] = error.stderr_tail
        write(sys.stdout, json_line("result", result))
    else:
        lines = [f"dbops: {clean(error.message)}"]
        if isinstance(error, ToolFailed) and error.stderr_tail:
            lines += [f"  | {clean(line)}" for line in error.stderr_tail.splitlines()]
        if error.hint:
            lines.append(f"next: {clean(error.hint)}")
        write(sys.stderr, "\n".join(lines) + "\n")
    _leave_no_broken_pipe()
    return error.exit_code if code is None else code


def _unexpected(error: BaseException) -> DbopsError:
    return DbopsError(
        f"Unexpected {type(error).__name__}: {error}.", hint="Set DBOPS_DEBUG=1 to see where, and report it."
    )


def _stopped_error(number: int) -> DbopsError:
    error = DbopsError(
        f"Stopped by {signal.Signals(number).name}.", hint="What was unfinished is not listed; run again when you like."
    )
    error.error_code = "stopped"
    return error


@contextlib.contextmanager
def _stopped_by_signals(received: list[int]) -> Iterator[None]:
    """In this block SIGINT, SIGTERM and SIGHUP raise Stopped, so that every `finally` has its turn."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> NoReturn:
        del frame
        received.append(number)
        raise Stopped

    # what is ignored on purpose (nohup) stays ignored
    ours = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_no_broken_pipe() -> None:
    """`dbops info | head`: what nobody read is dropped, lest Python complain about it at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
