# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `dbops` as a process of its own, so that it can be killed as the kernel kills."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from localpg.processes import wait_until

_MAIN = (
    "import sys; from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main; "
    "sys.exit(main(sys.argv[1:]))"
)


def settings_file(path: Path, mapping: dict[str, object]) -> Path:
    path.write_text(json.dumps(mapping))
    return path


@contextlib.contextmanager
def dbops(config: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A running `dbops --config ... <arguments>`; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", _MAIN, "--config", str(config), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def dbops_done(config: Path, *arguments: str) -> str:
    """Run it to its end, which must be a good one; what it said."""
    with dbops(config, *arguments) as process:
        said, _nothing = process.communicate(timeout=120)
        assert process.returncode == 0, said
    return said


def killed_when(process: subprocess.Popen[str], condition: Callable[[], object], what: str) -> bool:
    """SIGKILL as soon as the condition holds; False when the process had ended before."""
    wait_until(lambda: condition() or process.poll() is not None, what, limit_s=60)
    if process.poll() is not None:
        return False
    process.send_signal(signal.SIGKILL)
    process.wait()
    return True


def running_programs(name: str, mentioning: str) -> list[int]:
    """Process ids of programs of that name whose arguments mention the given text."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                words = Path("/proc", entry, "cmdline").read_bytes().decode(errors="replace").split("\0")
                if os.path.basename(words[0]) == name and any(mentioning in word for word in words):
                    found.append(int(entry))
    return found
