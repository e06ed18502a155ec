# SPDX-License-Identifier: GPL-3.0-or-later
"""A GnuPG home of this process's own with the private keys of some files in it, gone when the process is.

Made once for the same files, since importing takes a tenth of a second. What a killed process left is removed by the
next one that makes a keyring: its agent is told to go, and its directory deleted.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shutil
import tempfile
import threading

from ..errors import NoKey
from .child import asked, program

_PREFIX = f"dbops-gpg-{os.getuid()}-"
_ours: dict[tuple[int, tuple[str, ...]], str] = {}
_making = threading.Lock()


def private_keyring(files: tuple[str, ...]) -> str:
    """The directory; NoKey when a file holds nothing that gpg could import."""
    with _making:
        made = _ours.get((os.getpid(), files))
        if made is None or not os.path.isdir(made):
            _sweep()
            made = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_base())  # 0700
            _ours[os.getpid(), files] = made
            if len(_ours) == 1:
                atexit.register(forget_keyrings)
            _fill(made, files)
        return made


def forget_keyrings() -> None:
    """Remove what this process made. A forked child that leaves by os._exit calls it itself."""
    for key, path in list(_ours.items()):
        if key[0] == os.getpid():
            del _ours[key]
            _remove(path)


def _fill(home: str, files: tuple[str, ...]) -> None:
    with open(os.path.join(home, "gpg-agent.conf"), "w", encoding="ascii") as stream:
        stream.write("allow-loopback-pinentry\ndefault-cache-ttl 0\nmax-cache-ttl 0\n")
        # Else the agent finds out how slow it could make every use of a key: tenths of a second for each WAL file, or
        # many seconds on a busy machine. What protects this copy is the directory's mode.
        stream.write("s2k-count 65536\n")
    for path in files:
        done = asked([program("gpg", "gnupg"), "--batch", "--no-tty", "--no-options", "--homedir", home,
                      "--pinentry-mode", "error", "--status-fd", "1", "--import", "--", path])  # fmt: skip
        if not re.search(r"^\[GNUPG:\] IMPORT_OK 1?[67]", done.stdout, re.MULTILINE) and "SECRET" not in done.stdout:
            said = [line for line in done.stderr.splitlines() if line.startswith("gpg: ")]
            raise NoKey(
                f"gpg finds no private key in {path}: {said[-1][5:] if said else 'it said nothing'}.",
                hint="Export one with gpg --export-secret-keys, or correct encryption.identity_files.",
            )


def _base() -> str:
    """The agent's socket lies in there, and its path may have 107 bytes."""
    base = tempfile.gettempdir()
    return base if len(base) < 50 else "/tmp"


def _sweep() -> None:
    base = _base()
    with contextlib.suppress(OSError):
        for name in os.listdir(base):
            found = re.match(re.escape(_PREFIX) + r"(\d+)-", name)
            path = os.path.join(base, name)
            if found and not os.path.exists(f"/proc/{found.group(1)}") and os.lstat(path).st_uid == os.getuid():
                _remove(path)


def _remove(path: str) -> None:
    with contextlib.suppress(Exception):
        asked([program("gpgconf", "gnupg"), "--homedir", path, "--kill", "gpg-agent"])
    shutil.rmtree(path, ignore_errors=True)
