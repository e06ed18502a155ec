# SPDX-License-Identifier: GPL-3.0-or-later
"""A seed profile: which rows, in which shares, derived how. A file that people write, checked before a server is asked.

A profile may stand on another one (`extends`): what is a mapping there is merged key by key, everything else replaced.
docs/seeding.md describes the format.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from ..errors import BadInput, MissingLibrary, NotFound, Unreachable
from ..schema import between, build, overlay
from .quota import quotas

FORMAT = 1
LARGEST_SEED = 0xFFFF  # it stands in four hexadecimal digits of every seeded key
HOURS = 24
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_NO_NAMES = re.compile(r"'(?:[^']|'')*'|\$[a-z][a-z0-9_.]*")  # strings and placeholders
_PLACEHOLDER = re.compile(r"\$([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)?)")


@dataclass(frozen=True)
class Mix:
    """Classes in exact shares of a count, by largest remainder; a tie goes to the class that is listed first."""

    of: str
    shares: dict[str, int]

    def check(self) -> None:
        if not self.shares or min(self.shares.values()) < 0 or not sum(self.shares.values()):
            raise BadInput(f"A mix of {self.of!r} has no shares.", hint="Give each class a whole number, one above 0.")


@dataclass(frozen=True)
class Week:
    """Demand by the hour, relative: 24 weights of a weekday and 24 of a weekend day, in a fixed offset from UTC."""

    weekday: tuple[int, ...]
    weekend: tuple[int, ...]
    utc_offset_h: int = 0

    def check(self) -> None:
        for name in ("weekday", "weekend"):
            weights = getattr(self, name)
            if len(weights) != HOURS or min(weights) < 1:
                raise BadInput(
                    f"weeks: {name} must be {HOURS} whole numbers above 0, got {list(weights)!r}.",
                    hint="One for each hour of the day, midnight first.",
                )
        between("weeks: utc_offset_h", self.utc_offset_h, -12, 14)


@dataclass(frozen=True)
class Fits:
    """The schema versions that a profile was written for, as a migration tool's table tells them."""

    table: str = "schema_migrations"
    column: str = "version"
    first: int = 0
    last: Optional[int] = None  # None: any later one, as far as the check against the catalog agrees


@dataclass(frozen=True)
class Part:
    """One statement's worth of rows: into `table`, or into a scratch table called `name` that other parts read."""

    name: str
    columns: dict[str, str]
    source: str = "(select) nothing"
    table: Optional[str] = None
    rows: Optional[str] = None  # counts added up, such as `riders + drivers`; checked after the load. None: it depends
    split: Optional[str] = None  # counts added up: the source runs from $lo to $hi, and this is where it ends
    key: Optional[str] = None  # scratch: a column that others join by
    seeded: str = "id"  # table: what tells the rows made here: a column with a key of seed_id, or a condition
    needs: tuple[str, ...] = ()  # parts that have to be there first, besides those that the SQL names

    def reads(self, other: Part) -> bool:
        """Whether the SQL names the other part's table, or its scratch table."""
        name = (other.table or other.name).rpartition(".")[2].strip('"')
        return name in self._words()

    def _words(self) -> set[str]:
        plain = _NO_NAMES.sub(" ", " ".join((self.source, *self.columns.values())))
        return set(re.findall(r"\w+", plain))

    def check(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadInput(f"parts: {self.name!r} cannot be a name.", hint="Use small letters, digits and underscores.")
        if self.split is not None and not ("$lo" in self.source and "$hi" in self.source):
            raise BadInput(
                f"Part {self.name!r} is split, but its source does not say where.",
                hint="Let the source use $lo and $hi, as in generate_series($lo, $hi).",
            )


@dataclass(frozen=True)
class Invariant:
    """What must hold after each load: `violations` selects the rows that break it, and finds none."""

    name: str
    violations: str


@dataclass(frozen=True)
class Profile:
    format: int
    name: str
    version: int
    counts: dict[str, int]  # these grow with the scale
    parts: tuple[Part, ...]
    description: str = ""
    seed: int = 1
    fits: Fits = field(default_factory=Fits)
    parameters: dict[str, str] = field(default_factory=dict)  # these do not
    mixes: dict[str, Mix] = field(default_factory=dict)
    weeks: dict[str, Week] = field(default_factory=dict)
    words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    invariants: tuple[Invariant, ...] = ()
    after: tuple[str, ...] = ()  # statements for what follows from the rows: REFRESH MATERIALIZED VIEW

    def check(self) -> None:
        if self.format != FORMAT:
            raise BadInput(f"Profile {self.name!r} has format {self.format}.", hint=f"This version reads {FORMAT}.")
        between("seed", self.seed, 0, LARGEST_SEED)
        if min(self.counts.values(), default=0) < 0:
            raise BadInput(f"Profile {self.name!r} has a count below 0.", hint="Zero leaves a part out.")
        seen: set[str] = set()
        for part in self.parts:
            if part.name in seen:
                raise BadInput(f"Two parts are called {part.name!r}.", hint="Give each part its own name.")
            missing = [name for name in part.needs if name not in seen]
            if missing:
                raise BadInput(
                    f"Part {part.name!r} needs {missing[0]!r}, which does not come before it.", hint="Mind the order."
                )
            seen.add(part.name)
        if not any(part.table for part in self.parts):
            raise BadInput(f"Profile {self.name!r} fills no table.", hint="Give a part a `table`.")
        for name, mix in self.mixes.items():
            if mix.of not in self.counts:
                raise BadInput(f"Mix {name!r} divides {mix.of!r}, which is no count.", hint=_known(self.counts))

    def tables(self) -> list[str]:
        """The tables that it fills, in the order in which they can be loaded."""
        return list(dict.fromkeys(part.table for part in self.parts if part.table))

    def sized(self, scale: int) -> dict[str, int]:
        """Every count at this scale; a mix's classes as `mix.class`. They always add up."""
        between("scale", scale, 1, 100_000)
        sizes = {name: count * scale for name, count in self.counts.items()}
        for name, mix in self.mixes.items():
            total = sizes[mix.of]
            for kind, count in zip(mix.shares, quotas(list(mix.shares.values()), total)):
                sizes[f"{name}.{kind}"] = count
        return sizes

    def digest(self) -> str:
        """The same for the same content, whatever the layout of its files."""
        plain = json.dumps(self, default=vars, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(plain.encode()).hexdigest()[:16]


def total(expression: str, sizes: Mapping[str, int]) -> int:
    """Counts, added up and multiplied: `riders + drivers`, `2 * drivers`."""
    result = 0
    for term in expression.split("+"):
        product = 1
        for factor in (it.strip() for it in term.split("*")):
            if factor.isdigit():
                product *= int(factor)
            elif factor in sizes:
                product *= sizes[factor]
            else:
                raise BadInput(f"{expression!r}: {factor!r} is no count.", hint=_known(sizes))
        result += product
    return result


def filled(text: str, values: Mapping[str, str], where: str) -> str:
    """SQL with each `$name` replaced by its value, which is SQL too."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in values:
            raise BadInput(f"{where}: there is no ${name}.", hint=_known(values))
        return values[name]

    return _PLACEHOLDER.sub(value, text)


def load(path: str) -> Profile:
    """The profile in this file, YAML or JSON, with what it extends."""
    return from_mapping(mapping_in(path), where=path)


def given(profile: Any) -> Profile:
    """A profile as a module gets it: a file's path, or the content itself."""
    data, where = content_given(profile, "profile")
    return from_mapping(data, where=where)


def content_given(content: Any, what: str) -> tuple[Mapping[str, Any], str]:
    """A mapping, or what is in the file at this path; and what to call it in an error."""
    if isinstance(content, Mapping):
        return content, what
    if isinstance(content, str) and content:
        path = os.path.expanduser(content)
        return mapping_in(path), path
    raise BadInput(f"{content!r} is no {what}.", hint=f"Give a file's path, or the {what} as a mapping.")


def mapping_in(path: str) -> dict[str, Any]:
    """A YAML or JSON file's content, laid over what it extends."""
    return _read(path, ())


def from_mapping(data: Mapping[str, Any], *, where: str = "profile") -> Profile:
    return build(Profile, _worded(data), where=where)


def _read(path: str, below: tuple[str, ...]) -> dict[str, Any]:
    path = os.path.realpath(path)
    if path in below:
        raise BadInput(f"{path} extends itself.", hint="Take one `extends` out.")
    try:
        with open(path, encoding="utf-8") as stream:
            data = _parsed(stream.read(), path)
    except FileNotFoundError as exc:
        raise NotFound(f"There is no profile {path}.", hint="Name a file that is there.") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise Unreachable(f"Cannot read {path}: {exc}.", hint="It must be a text file that you may read.") from exc
    if not isinstance(data, dict):
        raise BadInput(f"{path} must hold one mapping.", hint="See docs/seeding.md for its shape.")
    base = data.pop("extends", None)
    if base is None:
        return data
    return overlay(_read(os.path.join(os.path.dirname(path), str(base)), (*below, path)), data)


def _parsed(text: str, path: str) -> Any:
    if path.endswith(".json"):
        try:
            return json.loads(text)
        except ValueError as exc:
            raise BadInput(f"{path} is not JSON: {exc}.", hint="Mend the file.") from exc
    try:
        import yaml  # type: ignore[import-untyped]  # its stubs are not needed for one call
    except ImportError as exc:
        raise MissingLibrary("yaml", needed_for="reading a profile in YAML", package="python3-yaml") from exc
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise BadInput(f"{path} is not YAML: {' '.join(str(exc).split())}.", hint="Mend the file.") from exc


def _worded(data: Mapping[str, Any]) -> dict[str, Any]:
    """SQL is text: `rating: 5` and `is_active: true` may be written without quotes."""
    worded = dict(data)
    if isinstance(worded.get("parameters"), Mapping):
        worded["parameters"] = {name: _text(value) for name, value in worded["parameters"].items()}
    if isinstance(worded.get("parts"), list):
        worded["parts"] = [_part(part) for part in worded["parts"]]
    return worded


def _part(part: Any) -> Any:
    if isinstance(part, Mapping) and isinstance(part.get("columns"), Mapping):
        return {**part, "columns": {name: _text(value) for name, value in part["columns"].items()}}
    return part


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value) if isinstance(value, (int, float)) else value


def _known(names: Mapping[str, Any]) -> str:
    return f"There is: {', '.join(sorted(names))}."
