# SPDX-License-Identifier: GPL-3.0-or-later
"""Real keys of gpg and age, made for the tests: a pair each, its public and its private half in files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localpg.osuser import OsUser


@dataclass(frozen=True)
class KeyPair:
    """`settings` is the `encryption` section of a host that may only write, `private` of one that may read, too."""

    method: str
    public: Path
    secret: Path
    key_id: str
    passphrase: Path | None = None

    @property
    def settings(self) -> dict[str, Any]:
        return {"method": self.method, "recipient_files": [str(self.public)]}

    @property
    def private(self) -> dict[str, Any]:
        return {**self.settings, **self.opening}

    @property
    def opening(self) -> dict[str, Any]:
        """What a host has that only reads."""
        keys: dict[str, Any] = {"identity_files": [str(self.secret)]}
        return {**keys, "passphrase_file": str(self.passphrase)} if self.passphrase else keys


def both(*pairs: KeyPair) -> dict[str, Any]:
    """Write for all of them, and read with none."""
    return {"method": pairs[0].method, "recipient_files": [str(pair.public) for pair in pairs]}


def opening(*pairs: KeyPair) -> dict[str, Any]:
    found = {"identity_files": [str(pair.secret) for pair in pairs]}
    phrases = [str(pair.passphrase) for pair in pairs if pair.passphrase]
    return {**found, "passphrase_file": phrases[0]} if phrases else found


class KeyMaker:
    """Makes key pairs below a directory that the servers' OS user can read, as a restore as that user must."""

    def __init__(self, directory: Path, user: OsUser | None = None) -> None:
        self._directory = directory
        self._user = user
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)

    def gpg(self, name: str, *, passphrase: str = "", expires: str = "never") -> KeyPair:
        home = self._directory / f"{name}.home"
        home.mkdir(mode=0o700)
        (home / "gpg-agent.conf").write_text("s2k-count 65536\n")  # or the agent takes seconds to measure this machine
        common = ["gpg", "--homedir", home, "--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback",
                  "--passphrase-fd", "0"]  # fmt: skip
        _run([*common, "--quick-gen-key", f"{name} <{name}@example.org>", "ed25519", "cert", "never"], passphrase)
        listed = _run(["gpg", "--homedir", home, "--with-colons", "--list-keys"])
        fingerprint = re.search(r"^fpr:+([0-9A-F]{40}):", listed, re.MULTILINE)[1]
        _run([*common, "--quick-add-key", fingerprint, "cv25519", "encr", expires], passphrase)
        listed = _run(["gpg", "--homedir", home, "--with-colons", "--list-keys"])
        key_id = re.search(r"^sub:\w*:\d+:\d+:([0-9A-F]{16}):", listed, re.MULTILINE)[1]
        public = self._file(f"{name}.pub.asc", _run(["gpg", "--homedir", home, "--armor", "--export", fingerprint]))
        secret = self._file(f"{name}.sec.asc", _run([*common, "--armor", "--export-secret-keys"], passphrase), 0o600)
        _run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"])
        phrase = self._file(f"{name}.passphrase", passphrase + "\n", 0o600) if passphrase else None
        return KeyPair("gpg", public, secret, key_id, phrase)

    def age(self, name: str) -> KeyPair:
        secret = _run(["age-keygen"])
        private = self._file(f"{name}.identity", secret, 0o600)
        recipient = _run(["age-keygen", "-y", private]).strip()
        return KeyPair("age", self._file(f"{name}.recipient", f"# {name}\n{recipient}\n"), private, recipient)

    def make(self, method: str, name: str) -> KeyPair:
        return self.gpg(name) if method == "gpg" else self.age(name)

    def _file(self, name: str, content: str, mode: int = 0o644) -> Path:
        path = self._directory / name
        path.write_text(content)
        path.chmod(mode)
        if self._user is not None and os.geteuid() == 0:
            os.chown(path, self._user.uid, self._user.gid)
        return path


def _run(arguments: list[Any], said: str = "") -> str:
    tool = shutil.which(arguments[0])
    assert tool, f"{arguments[0]} is needed for this test: .ci/run installs it"
    done = subprocess.run([tool, *map(str, arguments[1:])], input=said, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
