# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's architecture, read from its imports: rooms, arrows that point down, nothing that a host may lack."""

from __future__ import annotations

import ast
import pathlib
import sys
import textwrap
from collections.abc import Iterator

import pytest

ENGINE = pathlib.Path(__file__).resolve().parents[2] / "plugins" / "module_utils" / "dbops"

# A room may import from floors below its own. docs/architecture.md draws the same.
FLOORS = {
    "errors": 0, "installed": 0, "progress": 0, "severity": 0,
    "schema": 1,
    "settings_retention": 1.2,
    "settings_encryption": 1.5, "settings_migrations": 1.5, "settings_repositories": 1.5, "settings_verify": 1.5,
    "settings_environment": 1.5, "settings_environment_file": 1.6, "settings_health": 1.5,
    "settings_canary": 1.5, "settings_notifications": 1.5,
    "settings": 2,
    "pg": 3, "store": 3, "codec": 3, "notify": 3,
    "repo": 4, "migrate": 4, "seed": 4,
    "wal": 5,
    "backup": 6,
    "restore": 7,
    "verify": 8,
    "health": 9, "rehearsal": 9,
    "report": 9.5,
    "cli": 10,
}  # fmt: skip
# These need pg and the ground floor, and none of the other rooms below them.
ONLY_PG = {"migrate", "seed"}


def rooms() -> set[str]:
    """Every folder and every file that stands directly in the engine."""
    entries = (path for path in ENGINE.iterdir() if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py"))))
    return {path.stem for path in entries} - {"__init__", "__main__"}


def engine_files() -> list[pathlib.Path]:
    files = sorted(path for path in ENGINE.rglob("*.py"))
    assert len(files) > 10, f"the engine is not at {ENGINE}"
    return files


def room_of(path: pathlib.Path) -> str:
    return path.relative_to(ENGINE).parts[0].removesuffix(".py")


def imported_rooms(source: str, depth: int) -> Iterator[str]:
    """Yield the rooms that a file's relative imports name, those inside functions too.

    ``depth`` is the number of steps from the file up to the engine's folder: 1 for ``settings.py``, 2 for
    ``pg/wal.py``. A step further up than that leaves the engine, and is yielded as ``<outside>``.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        if node.level > depth:
            yield "<outside>"
        elif node.level == depth:
            yield from [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]


def wrong_arrows(room: str, imported: set[str]) -> set[str]:
    """Name the imports that do not point to a lower floor. Rooms on one floor do not know each other."""
    allowed = {other for other, floor in FLOORS.items() if floor < FLOORS[room]}
    if room in ONLY_PG:
        allowed &= {"pg", "settings", "settings_migrations", "schema", "errors", "progress"}
    return {name for name in imported if name != room and name not in allowed and not name.startswith("_")}


def absolute_imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0]


def imports_at_import_time(source: str) -> Iterator[str]:
    """Yield the absolute imports that run when the file is imported: neither in a function nor under TYPE_CHECKING."""
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting.extend(node.orelse)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from absolute_imports(ast.unparse(node))
        else:
            waiting.extend(ast.iter_child_nodes(node))


def test_every_room_has_a_floor():
    assert rooms() >= {"settings", "errors", "pg", "store", "codec", "repo"}
    assert rooms() <= set(FLOORS), "a room without a floor: say in FLOORS what it may know"


@pytest.mark.parametrize("path", engine_files(), ids=lambda path: str(path.relative_to(ENGINE)))
def test_arrows_point_down(path):
    room = room_of(path)
    if room in ("__init__", "__main__"):
        room = "cli"  # the package's own door
    imported = set(imported_rooms(path.read_text(), depth=len(path.relative_to(ENGINE).parts)))
    assert wrong_arrows(room, imported) == set()


@pytest.mark.parametrize("path", engine_files(), ids=lambda path: str(path.relative_to(ENGINE)))
def test_the_engine_knows_nothing_of_ansible(path):
    assert not {"ansible", "ansible_collections"} & set(absolute_imports(path.read_text()))


@pytest.mark.parametrize("path", engine_files(), ids=lambda path: str(path.relative_to(ENGINE)))
def test_importing_the_engine_needs_the_standard_library_alone(path):
    assert set(imports_at_import_time(path.read_text())) <= set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    ("room", "line", "wrong"),
    [
        ("pg", "from ..repo import catalog", {"repo"}),
        ("pg", "from ..store.local import LocalStore", {"store"}),
        ("codec", "from .. import pg", {"pg"}),
        ("repo", "def f():\n    from ..backup import physical", {"backup"}),
        ("seed", "from ..repo import catalog", {"repo"}),
        ("restore", "from ...postgres import x", {"<outside>"}),
        ("restore", "from ..backup import physical\nfrom . import chain\nfrom ..errors import Busy", set()),
        ("migrate", "from ..pg import connection", set()),
    ],
)
def test_an_arrow_that_points_up_or_aside_is_seen(room, line, wrong):
    assert wrong_arrows(room, set(imported_rooms(line, depth=2))) == wrong


def test_an_import_that_waits_for_its_function_is_told_from_one_that_does_not():
    source = textwrap.dedent("""
        import json
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            import boto3
        try:
            import zstandard
        except ImportError:
            pass
        class Store:
            import lz4
            def get(self):
                import psycopg2
    """)
    assert set(imports_at_import_time(source)) == {"json", "typing", "zstandard", "lz4"}
