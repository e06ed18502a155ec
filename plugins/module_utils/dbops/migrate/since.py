# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files of a directory differ from a git reference: the ones to look at in a change."""

from __future__ import annotations

import os
import subprocess

from ..errors import BadInput


def changed_since(directory: str, reference: str) -> set[str]:
    """Base names of the files that are new or changed since `reference`, those not yet committed included."""
    diff = _git(directory, "diff", "--name-only", "--relative", reference, "--", ".")
    new = _git(directory, "ls-files", "--others", "--exclude-standard", "--", ".")
    return {os.path.basename(line) for line in (diff + new).splitlines() if line}


def at_reference(directory: str, reference: str) -> set[str]:
    """Base names of the files that the directory had at `reference`."""
    listed = _git(directory, "ls-tree", "--name-only", reference, "./")
    return {os.path.basename(line) for line in listed.splitlines() if line}


def _git(directory: str, *words: str) -> str:
    if words and any(word.startswith("-") for word in words[3:4] if words[0] == "diff"):
        raise BadInput(f"{words[3]!r} is no git reference.", hint="Name a branch, a tag or a commit.")
    try:
        done = subprocess.run(  # pylint: disable=ansible-bad-function  # no module at hand
            ["git", "-C", directory, *words], capture_output=True, text=True, check=False
        )
    except OSError as exc:
        raise BadInput(f"Cannot run git: {exc.strerror}.", hint="Install it, or leave --since out.") from exc
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["it failed"])[0]
        raise BadInput(
            f"git {words[0]}: {said}.", hint="Is the directory in a repository, and the reference known there?"
        )
    return done.stdout
