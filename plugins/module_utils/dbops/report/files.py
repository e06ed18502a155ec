# SPDX-License-Identifier: GPL-3.0-or-later
"""A report as files: the page, the data and the test results, each there whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from ..errors import BadInput, Unreachable
from .junit import junit
from .model import Report
from .page import page
from .plain import read_report, to_plain

FILES = ("report.html", "report.json", "junit.xml")


def rendered(report: Report) -> dict[str, str]:
    """By file name."""
    data = json.dumps(to_plain(report), indent=1, ensure_ascii=False) + "\n"
    return dict(zip(FILES, (page(report), data, junit(report))))


def write(report: Report, directory: str) -> list[str]:
    """The paths. Readable by its owner alone: a report names databases and where backups lie."""
    paths = []
    try:
        os.makedirs(directory, mode=0o750, exist_ok=True)
        for name, content in rendered(report).items():
            paths.append(os.path.join(directory, name))
            _replace(paths[-1], content)
    except OSError as exc:
        raise Unreachable(
            f"Cannot write the report to {directory}: {exc.strerror}.", hint="Name a directory that is yours."
        ) from exc
    return paths


def load(path: str) -> Report:
    """A report.json of this or another host."""
    try:
        with open(path, encoding="utf-8") as stream:
            data: Any = json.load(stream)
    except OSError as exc:
        raise Unreachable(f"Cannot read {path}: {exc.strerror}.", hint="Name a report.json.") from exc
    except (ValueError, RecursionError) as exc:
        raise BadInput(f"{path} is not JSON: {exc}.", hint="Name a report.json.") from exc
    return read_report(data, where=path)


def _replace(path: str, content: str) -> None:
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "w", encoding="utf-8", errors="backslashreplace") as stream:
            os.fchmod(stream.fileno(), 0o640)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
