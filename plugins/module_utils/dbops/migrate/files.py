# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory of migrations, read as golang-migrate reads it, and refused where that would be an accident.

Source: golang-migrate 4, source/parse.go and source/file. It skips what does not match and takes any suffix after
`.up.`, an editor's `.up.sql~` too; here such a file is an error, because sooner or later it is applied.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ..errors import BadInput, NotFound, Unreachable
from .lexer import Unterminated, place
from .shape import Script, read_script

_NAME = re.compile(r"([0-9]+)_(.*)\.(down|up)\.(.*)", re.ASCII)
HIGHEST = (1 << 63) - 1  # the column is a bigint; golang-migrate itself misbehaves above it
LARGEST_BYTES = 10 << 20
UP, DOWN = "up", "down"


@dataclass(frozen=True)
class File:
    path: str
    version: int
    name: str
    direction: str
    suffix: str

    @property
    def basename(self) -> str:
        return os.path.basename(self.path)

    def read(self) -> str:
        """The text, UTF-8, line ends as they are. BadInput names the byte that is not."""
        try:
            size = os.path.getsize(self.path)
            if size > LARGEST_BYTES:
                raise BadInput(
                    f"{self.basename} has {size} bytes, more than {LARGEST_BYTES}.",
                    hint="A migration changes a schema: load data beside it, with COPY.",
                )
            with open(self.path, "rb") as stream:
                content = stream.read()
        except OSError as exc:
            raise Unreachable(f"Cannot read {self.path}: {exc.strerror}.", hint="Mind its mode and owner.") from exc
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as exc:
            line = content[: exc.start].count(b"\n") + 1
            raise BadInput(f"{self.basename}:{line} is not UTF-8.", hint="Save the file as UTF-8.") from exc
        if "\0" in text or text.startswith("\ufeff"):
            what = "a byte order mark" if text.startswith("\ufeff") else "a NUL byte"
            raise BadInput(f"{self.basename} holds {what}.", hint="Remove it: the server would refuse the file.")
        return text

    def script(self) -> Script:
        text = self.read()
        try:
            return read_script(text)
        except Unterminated as exc:
            line, column = place(text, exc.position)
            raise BadInput(f"{self.basename}:{line}:{column}: {exc.message}", hint=exc.hint) from exc

    def checksum(self) -> str:
        return hashlib.sha256(self.read().encode()).hexdigest()


@dataclass(frozen=True)
class Migration:
    """One version; a half that is missing is None."""

    version: int
    up: Optional[File]
    down: Optional[File]

    @property
    def name(self) -> str:
        half = self.up or self.down
        return half.name if half else ""

    def half(self, direction: str) -> Optional[File]:
        return self.up if direction == UP else self.down


@dataclass(frozen=True)
class Migrations:
    directory: str
    all: tuple[Migration, ...]  # by version

    @property
    def versions(self) -> tuple[int, ...]:
        return tuple(item.version for item in self.all)

    def at(self, version: int) -> Migration:
        for item in self.all:
            if item.version == version:
                return item
        raise NotFound(
            f"There is no migration of version {version} in {self.directory}.",
            hint=f"There is: {_few(self.versions)}.",
        )

    def before(self, version: int) -> int:
        """The version below this one, or -1: what golang-migrate stores for "nothing applied"."""
        return max((known for known in self.versions if known < version), default=-1)


@dataclass(frozen=True)
class Listing:
    """A directory as it is, its accidents included."""

    directory: str
    files: tuple[File, ...]
    unparsed: tuple[str, ...]


def scan(directory: str) -> Listing:
    """Every file that looks like a migration, and every other one that ends with `.sql` or nearly so."""
    try:
        names = sorted(entry.name for entry in os.scandir(directory) if entry.is_file())
    except FileNotFoundError as exc:
        raise NotFound(f"There is no directory {directory}.", hint="Name the directory with --path.") from exc
    except OSError as exc:
        raise Unreachable(f"Cannot list {directory}: {exc.strerror}.", hint="Mind its mode and owner.") from exc
    files, unparsed = [], []
    for name in names:
        parsed = parse(os.path.join(directory, name))
        if parsed is not None:
            files.append(parsed)
        elif ".sql" in name:
            unparsed.append(name)
    return Listing(directory, tuple(sorted(files, key=lambda item: (item.version, item.basename))), tuple(unparsed))


def parse(path: str) -> Optional[File]:
    """None for a name that golang-migrate would skip."""
    match = _NAME.fullmatch(os.path.basename(path))
    if match is None:
        return None
    version, name, direction, suffix = match.groups()
    return File(path, int(version), name, direction, suffix)


def load(directory: str) -> Migrations:
    """The migrations of a directory. BadInput for what golang-migrate refuses, and for what it should."""
    listing = scan(directory)
    halves: dict[tuple[int, str], File] = {}
    for file in listing.files:
        if file.suffix != "sql":
            raise BadInput(
                f"{file.basename} ends with .{file.suffix}: golang-migrate would take it for a migration.",
                hint="Move it out of the directory.",
            )
        if file.version > HIGHEST:
            raise BadInput(f"The version of {file.basename} is above {HIGHEST}.", hint="Number it lower.")
        other = halves.setdefault((file.version, file.direction), file)
        if other is not file:
            raise BadInput(
                f"Two files are the {file.direction} of version {file.version}: {other.basename} and {file.basename}.",
                hint="Renumber the one that was never applied.",
            )
    versions = sorted({version for version, _direction in halves})
    return Migrations(directory, tuple(Migration(it, halves.get((it, UP)), halves.get((it, DOWN))) for it in versions))


def _few(numbers: Sequence[int]) -> str:
    if len(numbers) > 12:
        return f"{numbers[0]} to {numbers[-1]}, {len(numbers)} in all"
    return ", ".join(str(number) for number in numbers) or "none"
