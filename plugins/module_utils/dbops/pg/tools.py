# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's own programs: where they are, whether they fit the server, and running them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Optional

from ..errors import BadInput, NotFound, ToolFailed
from .osuser import Identity, steady

STDERR_TAIL = 4000
# pg_basebackup receives WAL in a child of its own, which survives it and keeps its replication slot. In a session of
# their own one signal reaches both, and whatever pg_basebackup died of, nothing is left of it.
_WITH_CHILDREN = """
trap 'trap "" TERM; kill -TERM 0; wait; exit 143' TERM HUP INT
"$@" &
wait $!
code=$?
trap "" TERM
kill -TERM 0
exit $code
"""
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class Tools:
    """The programs of one major version, run as one OS user."""

    bin_dir: str
    major: int
    identity: Identity

    def path(self, program: str) -> str:
        path = os.path.join(self.bin_dir, program)
        if not os.access(path, os.X_OK):
            raise NotFound(
                f"{program} is not in {self.bin_dir}.",
                hint=f"Install PostgreSQL {self.major}'s client programs (postgresql-client-{self.major}), "
                "or set host.bin_dir.",
            )
        return path

    def run(self, program: str, arguments: Sequence[str], *, cwd: Optional[str] = None) -> str:
        """Its standard output; ToolFailed with the end of its standard error when it exits with another code than 0."""
        with self.started(program, arguments, stdout=subprocess.PIPE, cwd=cwd) as process:
            output = pipe(process.stdout).read()
        return output.decode("utf-8", "replace")

    def lines(self, program: str, arguments: Sequence[str]) -> Iterator[str]:
        """Its standard output line by line, however much there is of it; ToolFailed at the end as `run`."""
        with self.started(program, arguments, stdout=subprocess.PIPE) as process:
            for raw in pipe(process.stdout):
                yield raw.decode("utf-8", "replace").rstrip("\n")

    @contextlib.contextmanager
    def started(
        self,
        program: str,
        arguments: Sequence[str],
        *,
        stdin: Optional[int] = subprocess.DEVNULL,
        stdout: Optional[int] = subprocess.DEVNULL,
        cwd: Optional[str] = None,
        with_children: bool = False,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """The running program. Leaving normally waits for it and checks its exit code; an exception ends it.

        `with_children` is for a program that leaves its children behind when it is ended: they end with it.
        """
        words = [self.path(program), *arguments]
        if with_children:
            words = ["/bin/sh", "-c", _WITH_CHILDREN, "sh", *words]
        with tempfile.TemporaryFile() as errors:
            with steady():
                process = subprocess.Popen(  # pylint: disable=ansible-bad-function  # streamed, and no module at hand  # a program of the cluster's own bin_dir
                    words,
                    stdin=stdin,
                    stdout=stdout,
                    stderr=errors,
                    cwd=cwd or "/",
                    env=self.environment(),
                    preexec_fn=_ends_with_us,
                    start_new_session=with_children,
                    **self.identity.for_subprocess(),
                )
            try:
                yield process
                code = process.wait()
            except BrokenPipeError:
                code = process.wait()  # it left before it had read all: its own words say more than the pipe
            except BaseException:
                process.terminate()
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL) if with_children else process.kill()
                    process.wait()
                raise
            finally:
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        with contextlib.suppress(OSError):
                            pipe.close()
            tail = stderr_tail(errors)
            if with_children and code > 128:
                code = 128 - code  # as a shell tells of a signal
            if code != 0:
                raise failed(program, code, tail)

    def environment(self) -> dict[str, str]:
        """A clean one: no PG* variable of the caller's may redirect a backup, and messages come in English."""
        environment = {
            "PATH": f"{self.bin_dir}:/usr/local/bin:/usr/bin:/bin",
            "HOME": self.identity.home,
            "USER": self.identity.name,
            "LC_ALL": "C.UTF-8",
            "LC_MESSAGES": "C",
            "TZ": "UTC",
        }
        for name in ("TMPDIR", "LD_LIBRARY_PATH"):
            if name in os.environ:
                environment[name] = os.environ[name]
        return environment


def _ends_with_us() -> None:
    """Runs in the child: should we be killed, it is ended too. It might be waiting where nobody will ever come.

    A pg_basebackup that opens a FIFO without a reader would wait, and hold back WAL on the server, for ever.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def pipe(stream: Optional[IO[bytes]]) -> IO[bytes]:
    """A started program's standard input or output, for which PIPE was asked."""
    if stream is None:
        raise ToolFailed("A program was started without a pipe to it.", hint="This is a fault of dbops: report it.")
    return stream


def failed(program: str, code: int, tail: str) -> ToolFailed:
    lines = [line for line in tail.splitlines() if re.search(r"error|fatal|panic|could not", line, re.I)]
    said = (lines or tail.splitlines() or ["it said nothing"])[0].strip()
    said = re.sub(rf"^{re.escape(program)}: (error|fatal): ", "", said).rstrip(".")
    how = f"was ended by signal {-code}" if code < 0 else f"exited with {code}"
    return ToolFailed(f"{program} {how}: {said}.", hint=_advice(tail), stderr_tail=tail)


def _advice(tail: str) -> str:
    if "No space left" in tail:
        return "Free space on that file system, then run again."
    if "max_wal_senders" in tail or "number of requested standby connections" in tail:
        return "Raise max_wal_senders (two are needed for one backup) and restart the server, or wait for a free one."
    if "no pg_hba.conf entry for replication" in tail:
        return "Allow the role replication connections in pg_hba.conf (playbooks/setup.yml shows the line)."
    if "permission denied" in tail.lower():
        return "Grant the missing right; playbooks/setup.yml creates a role with all that is needed."
    return "See stderr_tail and the server's log."


def stderr_tail(errors: IO[bytes]) -> str:
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - STDERR_TAIL))
    return errors.read().decode("utf-8", "replace").strip()


def find_tools(
    major: int, identity: Identity, *, bin_dir: Optional[str] = None, data_directory: Optional[str] = None
) -> Tools:
    """Programs of exactly this major version, or an error that lists where it looked."""
    looked: list[str] = []
    for candidate in [bin_dir] if bin_dir else _candidates(major, data_directory):
        found = _major_of(os.path.join(candidate, "pg_basebackup"), identity)
        looked.append(f"{candidate} ({'PostgreSQL ' + str(found) if found else 'none'})")
        if found == major:
            return Tools(candidate, major, identity)
    error = BadInput if bin_dir else NotFound
    raise error(
        f"The server is PostgreSQL {major}, and no client programs of that major version were found.",
        hint=f"Install postgresql-client-{major} or set host.bin_dir. Looked in: {', '.join(looked) or 'nothing'}.",
    )


def _candidates(major: int, data_directory: Optional[str]) -> list[str]:
    places = [f"/usr/lib/postgresql/{major}/bin", f"/usr/pgsql-{major}/bin"]
    running = _running_bin_dir(data_directory)
    if running:
        places.insert(0, running)
    on_path = shutil.which("pg_basebackup")
    if on_path:
        places.append(os.path.dirname(os.path.realpath(on_path)))
    return list(dict.fromkeys(places))


def _running_bin_dir(data_directory: Optional[str]) -> Optional[str]:
    """Where the server that runs in this directory was started from: the surest sign of the right programs."""
    if not data_directory:
        return None
    try:
        with open(os.path.join(data_directory, "postmaster.pid"), encoding="utf-8") as stream:
            return os.path.dirname(os.readlink(f"/proc/{int(stream.readline())}/exe"))
    except (OSError, ValueError):
        return None


def _major_of(program: str, identity: Identity) -> Optional[int]:
    if not os.path.exists(program):
        return None
    try:
        answer = subprocess.run(  # pylint: disable=ansible-bad-function  # no module at hand
            [program, "--version"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
            cwd="/",
            **identity.for_subprocess(),
        )
    except OSError:
        return None
    match = re.search(rb"\(PostgreSQL\) (\d+)", answer.stdout)
    return int(match.group(1)) if match else None
