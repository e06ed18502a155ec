# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpacking archives while they arrive: what is read from one (tar_reader.py) becomes files below one directory."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Callable, Optional

from ..codec.stream import ahead
from ..errors import Corrupt, Unreachable
from ..pg.osuser import Identity
from ..store.writeback import Writeback
from .tar_reader import batches, read


@dataclass
class Extracted:
    """What came out; `held` are the files kept back in memory, by name."""

    files: int = 0
    size_bytes: int = 0
    held: dict[str, bytes] = field(default_factory=dict)


def extract(
    chunks: Iterable[bytes],
    root: str,
    *,
    owner: Identity,
    name: str,
    hold: Callable[[str], bool] = lambda _name: False,
    on_bytes: Optional[Callable[[int], None]] = None,
) -> Extracted:
    """Unpack below `root`, which is ours and new. Files for which `hold` says so are returned, not written.

    Reading goes on in a thread while we write: copying into the page cache is the slowest part of a restore.
    """
    done = Extracted()
    with contextlib.closing(ahead(batches(read(chunks, name)))) as arriving, _Writer(root, owner) as writer:
        for member, content, ends in itertools.chain.from_iterable(arriving):
            if member.isdir():
                writer.directory(member.name, member.mode)
                continue
            if hold(member.name):
                done.held[member.name] = done.held.get(member.name, b"") + content
            else:
                writer.write(member.name, member.mode, content, ends=ends)
            if ends:
                done.files += 1
            done.size_bytes += len(content)
            if on_bytes is not None:
                on_bytes(len(content))
    return done


def scan(chunks: Iterable[bytes], *, name: str) -> dict[str, int]:
    """Read an archive to its end without writing: its files with their sizes. Corrupt as in `extract`."""
    return {piece.member.name: piece.member.size for piece in read(chunks, name) if piece.member.isfile()}


class _Writer:
    """Makes one file after the other below `root`; the one that is open closes with it."""

    def __init__(self, root: str, owner: Identity) -> None:
        self._root = root
        self._owner = owner
        self._made = {root}
        self._descriptor = -1
        self._writeback: Optional[Writeback] = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._close()

    def directory(self, name: str, mode: int) -> None:
        self._make(os.path.join(self._root, name).rstrip("/"), mode)

    def write(self, name: str, mode: int, content: memoryview, *, ends: bool) -> None:
        """The next bytes of the file, which is made with the first of them."""
        path = os.path.join(self._root, name)
        if self._descriptor < 0:
            self._make(os.path.dirname(path), 0o700)
            self._open(path, mode)
        with _explained(path):
            size = len(content)
            while content:
                content = content[os.write(self._descriptor, content) :]
            if self._writeback is not None:
                self._writeback.wrote(size)
        if ends:
            self._close()

    def _make(self, path: str, mode: int) -> None:
        """Make the directory unless this run already did; what exists otherwise is another archive's and stays."""
        if path in self._made:
            return
        self._make(os.path.dirname(path), 0o700)
        try:
            with _explained(path):
                os.mkdir(path, mode & 0o777 | 0o700)
        except FileExistsError:
            if os.path.islink(path) or not os.path.isdir(path):
                raise Corrupt(
                    f"{path} stands where a directory must be.", hint="Restore into an empty place."
                ) from None
        else:
            self._owner.give(path)
        self._made.add(path)

    def _open(self, path: str, mode: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with _explained(path):
                self._descriptor = os.open(path, flags, mode & 0o777)
                if self._owner.needs_switch:
                    os.fchown(self._descriptor, self._owner.uid, self._owner.gid)
        except FileExistsError:
            raise Corrupt(
                f"{path} comes twice, or something was there before.",
                hint="Examine the archive; restore another backup, into an empty place.",
            ) from None
        self._writeback = Writeback(self._descriptor)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise
    except OSError as exc:
        raise Unreachable(
            f"Cannot write {path}: {exc.strerror}.", hint="Free space there or choose another target, then run again."
        ) from exc
