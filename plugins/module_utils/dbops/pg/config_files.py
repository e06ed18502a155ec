# SPDX-License-Identifier: GPL-3.0-or-later
"""postgresql.conf with all that it includes, read as the server would read it, also with files that are only planned.

Source: PostgreSQL's guc-file.l and the manual's chapter on the parameter files. The server itself can tell only what
it has read; this tells beforehand which file will win.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Optional

from ..errors import Unreachable

AUTO = "postgresql.auto.conf"
_DEEPEST = 10  # the server's own limit
_LINE = re.compile(r"\s*([A-Za-z_][\w$.]*)\s*(?:=\s*|\s+)('(?:[^'\\]|\\.|'')*'|[^\s#']+)\s*(?:#.*)?$")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True)
class Line:
    name: str
    value: str
    file: str
    number: int

    @property
    def where(self) -> str:
        return f"{self.file}:{self.number}"


def configuration(
    main: str, data_directory: str, planned: Optional[Mapping[str, Optional[str]]] = None
) -> tuple[Line, ...]:
    """Every setting in the order in which the server reads it; of each name the last one counts.

    `planned` maps files to the content that they shall have, None to those that shall go.
    """
    reader = _Reader({os.path.realpath(path): text for path, text in (planned or {}).items()})
    return (*reader.file(main, 0), *reader.file(os.path.join(data_directory, AUTO), 0))


def parse(text: str, file: str) -> Iterator[Line]:
    """The lines that set something, directives such as include_dir among them. What the server would refuse is left."""
    for number, line in enumerate(text.splitlines(), start=1):
        match = _LINE.match(line)
        if match:
            yield Line(match.group(1).lower(), _plain(match.group(2)), file, number)


def quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def beside(file: str, path: str) -> str:
    """A path in a configuration file is relative to that file's directory."""
    return os.path.join(os.path.dirname(file), path)


def read(path: str) -> Optional[str]:
    """None where there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise Unreachable(
            f"Cannot read {path}: {exc.strerror}.", hint="Run as root or as the cluster's OS user."
        ) from exc


class _Reader:
    def __init__(self, planned: Mapping[str, Optional[str]]) -> None:
        self._planned = planned

    def file(self, path: str, depth: int) -> Iterator[Line]:
        real = os.path.realpath(path)
        text = self._planned[real] if real in self._planned else read(path)
        for line in parse(text or "", path):
            if line.name in ("include", "include_if_exists", "include_dir"):
                if depth < _DEEPEST:
                    yield from self._included(line, depth + 1)
            else:
                yield line

    def _included(self, line: Line, depth: int) -> Iterator[Line]:
        target = beside(line.file, line.value)
        if line.name != "include_dir":
            yield from self.file(target, depth)
            return
        for name in self._names(target):
            yield from self.file(os.path.join(target, name), depth)

    def _names(self, directory: str) -> list[str]:
        try:
            found = set(os.listdir(directory))
        except FileNotFoundError:
            found = set()
        except OSError as exc:
            raise Unreachable(
                f"Cannot look into {directory}: {exc.strerror}.", hint="Run as root or as the cluster's OS user."
            ) from exc
        real = os.path.realpath(directory)
        for path, text in self._planned.items():
            if os.path.dirname(path) == real:
                (found.discard if text is None else found.add)(os.path.basename(path))
        return sorted(name for name in found if name.endswith(".conf") and not name.startswith("."))


def _plain(word: str) -> str:
    if not word.startswith("'"):
        return word
    inner = word[1:-1].replace("''", "'")
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match.group(1), match.group(1)), inner)
