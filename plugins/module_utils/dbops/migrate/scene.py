# SPDX-License-Identifier: GPL-3.0-or-later
"""What all walks of a rehearsal share: sending one file, comparing what it left, and the book of what was found."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ..errors import DbopsError
from ..pg.connection import Connection, ScriptFailed
from ..pg.fingerprint import COLUMN_ORDER, Fingerprint, Likeness, differences, likeness, told
from . import ledger as ledgers
from .bench import Bench
from .files import DOWN, UP, Migration, Migrations
from .finding import ERROR, WARNING, Budgets, Finding, basename, refused
from .ledger import Ledger, Loss
from .lint_rules import irreversible
from .shape import Script, Shape
from .snapshot import take
from .trace import Trace

_SKIPPED = re.compile(r"(already exists|does not exist), skipping")


@dataclass
class Cell:
    """What was found out about one version; None is "not tried"."""

    version: int
    name: str
    up_s: Optional[float] = None
    down_s: Optional[float] = None
    down: Optional[str] = None
    again: Optional[str] = None
    rows: Optional[str] = None
    traces: dict[str, list[Trace]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "name": self.name,
            "up_s": self.up_s,
            "down_s": self.down_s,
            "down": self.down,
            "again": self.again,
            "rows": self.rows,
            "statements": {way: [item.as_dict() for item in found] for way, found in self.traces.items()},
        }


@dataclass
class Scene:
    """Safe for several threads: each writes to cells of its own, and findings are added in turns."""

    bench: Bench
    migrations: Migrations
    scripts: dict[tuple[int, str], Script]
    data: dict[int, str]  # rows to add at a version, as SQL
    budgets: Budgets = field(default_factory=Budgets)
    chosen: Optional[frozenset[int]] = None  # versions to try; None: all
    findings: list[Finding] = field(default_factory=list)
    cells: dict[int, Cell] = field(default_factory=dict)
    schemas: dict[int, Fingerprint] = field(default_factory=dict)
    rows: dict[int, Ledger] = field(default_factory=dict)  # after a version's own rows were added
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.cells = {item.version: Cell(item.version, item.name) for item in self.migrations.all}

    def is_chosen(self, version: int) -> bool:
        return self.chosen is None or version in self.chosen

    def add(self, finding: Finding) -> None:
        with self._lock:
            if finding not in self.findings:
                self.findings.append(finding)

    def goes_back(self, item: Migration) -> bool:
        """Whether there is a down to try: not where it is missing, nor where it says that there is no way back."""
        return item.down is not None and not irreversible(self.scripts[item.version, DOWN])

    # -- one file

    def step(self, session: Connection, item: Migration, way: str, check: str) -> bool:
        """Send the file whole; what went wrong as a finding."""
        script, began = self.scripts[item.version, way], time.monotonic()
        try:
            notices = send(session, script)
        except ScriptFailed as exc:
            self.add(refused(exc, item, way, check, script))
            return False
        except DbopsError as exc:
            self.add(Finding(check, ERROR, str(exc), item.version, basename(item, way)))
            return False
        if check == "straight":
            self.cells[item.version].up_s = round(time.monotonic() - began, 3)
            for notice in notices:
                if _SKIPPED.search(notice):
                    text = f"The server skipped something: {notice.removeprefix('NOTICE:').strip()}."
                    self.add(Finding("skipped", WARNING, text, item.version, basename(item, way)))
        return True

    def add_rows(self, session: Connection, version: int, *, quiet: bool = False) -> bool:
        """A version's own rows; where they do not fit, a finding unless somebody else tells it."""
        try:
            session.send(self.data[version])
        except ScriptFailed as exc:
            if not quiet:
                text = f"The rows for version {version} cannot be added: {exc.message}"
                self.add(Finding("data", ERROR, text, version))
            return False
        return True

    # -- comparing

    def same_schema(self, session: Connection, version: int, item: Migration, way: str, check: str, other: str) -> str:
        found = differences(self.schemas[version], take(session))
        verdict = likeness(found)
        if verdict is Likeness.DIFFERENT:
            text = f"After {way} {item.version} the schema is not the one {other}."
            details = tuple(told([it for it in found if it.kind != COLUMN_ORDER], other, "now"))
            self.add(Finding(check, ERROR, text, item.version, basename(item, way), details=details))
        elif verdict is Likeness.COLUMN_ORDER:
            tables = ", ".join(sorted(it.name for it in found))
            text = f"After {way} {item.version} columns stand in another order: {tables}."
            self.add(Finding(check, WARNING, text, item.version, basename(item, way)))
        return verdict.value

    def same_rows(self, session: Connection, before: Ledger, item: Migration, way: str) -> Optional[str]:
        if not self.data:
            return None
        lost = ledgers.losses(before, ledgers.capture(session), exactly=True)
        return "lost" if self.tell_losses(lost, item, way) else "kept"

    def look_after_up(self, session: Connection, item: Migration) -> None:
        """Rows that the up changed or dropped; what went with a column or a table is looked for after the down."""
        if not self.data:
            return
        now = ledgers.capture(session)
        self.rows[item.version] = now
        lost = ledgers.losses(self.rows[self.migrations.before(item.version)], now)
        if self.goes_back(item):
            lost = [loss for loss in lost if not loss.went_along]
        self.tell_losses(lost, item, UP)

    def tell_losses(self, lost: Sequence[Loss], item: Migration, way: str) -> bool:
        said = self.declared(item)
        undeclared = [loss for loss in lost if not ledgers.is_declared(loss, said)]
        for loss in undeclared:
            text = f"{loss.what}: {loss.how}. If that is meant, say so in the file: -- data-loss: {loss.what}: why"
            self.add(Finding("rows", ERROR, text, item.version, basename(item, way)))
        return bool(undeclared)

    def declared(self, item: Migration) -> list[str]:
        halves = [self.scripts[item.version, way].text for way in (UP, DOWN)]
        return [name for text in halves for name in ledgers.declared(text)]

    def look_at_the_end(self, session: Connection) -> None:
        for row in session.rows("select indexrelid::regclass::text as name from pg_index where not indisvalid"):
            self.add(Finding("invalid index", ERROR, f"Index {row['name']} is invalid: it was not built to its end."))
        query = "select conrelid::regclass || '.' || conname as name from pg_constraint where not convalidated"
        for row in session.rows(query):
            self.add(Finding("not validated", WARNING, f"No file validates the constraint {row['name']}."))
        if session.value(
            "select count(*) from pg_locks where not granted and database = "
            "(select oid from pg_database where datname = current_database())"
        ):
            self.add(Finding("lock", ERROR, "Somebody still waits for a lock at the end."))


def send(session: Connection, script: Script) -> list[str]:
    """A file as the runner sends it: whole, or statement by statement where it asks for that. The notices."""
    if script.shape is Shape.EMPTY:
        return []
    if script.shape is Shape.MARKED:
        return [notice for item in script.statements for notice in session.send(item.text)]
    notices = session.send(script.text)
    session.abandon()
    return notices
