# SPDX-License-Identifier: GPL-3.0-or-later
"""A program as one stage of a stream: chunks go in on its standard input, what it writes comes out as chunks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess  # the one place of this room that starts programs
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Callable, NoReturn, Optional

from ..errors import Unreachable

_READ = 1 << 20
_F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", 1031)
_LOCALE = {"LC_ALL": "C", "LANGUAGE": ""}
Failed = Callable[[str], NoReturn]  # gets what the program said on standard error, and raises


def program(name: str, package: str) -> str:
    """Its path. Unreachable when it is not installed: what it would say is not known."""
    found = shutil.which(name) or shutil.which(name, path="/usr/local/bin:/usr/bin:/bin")
    if found is None:
        raise Unreachable(
            f"The program {name} is needed for encryption and is not installed.",
            hint=f"Install the package {package}.",
        )
    return found


def through(
    argv: Sequence[str],
    chunks: Iterable[bytes],
    failed: Failed,
    *,
    pass_fds: Sequence[int] = (),
    user: Optional[tuple[int, int]] = None,
) -> Iterator[bytes]:
    """What the program makes of the chunks. `failed` is called when it ends badly, after its last chunk of output.

    An error of the chunks' own is raised as it is. Leaving early kills the program. `pass_fds` are the caller's.
    `user` are the uid and gid to run it with, where we are root.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function,consider-using-with  # no AnsibleModule here
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            pass_fds=tuple(pass_fds),
            env={**os.environ, **_LOCALE},
            bufsize=0,
            user=user[0] if user else None,
            group=user[1] if user else None,
            extra_groups=[] if user else None,
        )
        source: list[BaseException] = []
        feeder = threading.Thread(target=_feed, args=(process, chunks, source), name="dbops-feed", daemon=True)
        feeder.start()
        try:
            yield from _output(process)
            feeder.join()
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            feeder.join()
            if process.stdout is not None:
                process.stdout.close()
        if source:
            raise source[0]
        if process.returncode:
            failed(_text(said))


def asked(argv: Sequence[str], *, pass_fds: Sequence[int] = ()) -> subprocess.CompletedProcess[str]:
    """Run it to its end; the caller judges the exit code."""
    return subprocess.run(  # pylint: disable=ansible-bad-function  # no AnsibleModule here
        list(argv),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        pass_fds=tuple(pass_fds),
        env={**os.environ, **_LOCALE},
        check=False,
    )


def _output(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    pipe: Optional[IO[bytes]] = process.stdout
    if pipe is None:
        return
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe.fileno(), _F_SETPIPE_SZ, _READ)
    while True:
        chunk = os.read(pipe.fileno(), _READ)
        if not chunk:
            return
        yield chunk


def _feed(process: subprocess.Popen[bytes], chunks: Iterable[bytes], source: list[BaseException]) -> None:
    pipe = process.stdin
    if pipe is None:
        return
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe.fileno(), _F_SETPIPE_SZ, _READ)
    try:
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[os.write(pipe.fileno(), view) :]
    except BrokenPipeError:
        pass  # it has left, and its exit code says why
    except BaseException as exc:  # noqa: BLE001  # raised by the reader
        source.append(exc)
        process.kill()  # half a stream must not look like a whole one
    finally:
        with contextlib.suppress(OSError):
            pipe.close()
        close = getattr(chunks, "close", None)
        if close is not None:
            close()


def _text(said: IO[bytes]) -> str:
    said.seek(0, os.SEEK_END)
    said.seek(max(0, said.tell() - 8192))
    return said.read().decode("utf-8", "replace")
