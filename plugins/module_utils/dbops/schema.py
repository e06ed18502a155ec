# SPDX-License-Identifier: GPL-3.0-or-later
"""A JSON object as one of our frozen dataclasses: every key known and of its type, or an error that names it."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

from .errors import BadInput

T = TypeVar("T")


def overlay(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """`top` over `base`: objects are merged key by key, everything else replaced, None ignored."""
    merged = dict(base)
    for key, value in top.items():
        if value is None:
            continue
        below = merged.get(key)
        merged[key] = overlay(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged


def build(cls: type[T], data: Any, *, where: str, path: str = "") -> T:
    """`data` as a `cls`, its own `check()` passed; `where` and `path` say in an error which file and key it was."""
    if not isinstance(data, Mapping):
        raise BadInput(
            f"{where}: {path or 'the whole'} must be an object, got {data!r}.", hint="See docs/operations.md."
        )
    hints = typing.get_type_hints(cls)
    known = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]  # T is always one of our dataclasses
    for key in data:
        if key not in known:
            raise BadInput(
                f"{where}: unknown key {_dotted(path, str(key))!r}.", hint=f"Known here: {', '.join(sorted(known))}."
            )
    values = {
        name: _convert(hints[name], data[name], where=where, path=_dotted(path, name)) for name in known if name in data
    }
    for name, item in known.items():
        if name not in values and item.default is MISSING and item.default_factory is MISSING:
            raise BadInput(f"{where}: the key {_dotted(path, name)!r} is missing.", hint="See docs/operations.md.")
    built = cls(**values)
    check = getattr(built, "check", None)
    if check is not None:
        check()
    return built


def _convert(kind: Any, value: Any, *, where: str, path: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Union:  # Optional[X]
        if value is None:
            return None
        return _convert(args[0], value, where=where, path=path)
    if is_dataclass(kind):
        return build(typing.cast(type[Any], kind), value, where=where, path=path)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_convert(args[0], item, where=where, path=f"{path}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _convert(args[1], item, where=where, path=f"{path}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind in (str, int, bool) and isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    raise BadInput(
        f"{where}: {path} must be {_expected(kind)}, got {value!r}.", hint="Mend it; docs/operations.md lists all keys."
    )


def _expected(kind: Any) -> str:
    if typing.get_origin(kind) is tuple:
        return "a list"
    if typing.get_origin(kind) is dict:
        return "an object of strings"
    return {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "another type")


def _dotted(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise BadInput(f"{name} cannot be {value!r}.", hint=f"Choose one of: {', '.join(allowed)}.")


def between(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise BadInput(f"{name} must lie between {low} and {high}, got {value}.", hint=f"Set {name} accordingly.")


def duration_s(text: str, name: str = "duration") -> int:
    """`90`, `90s`, `15m`, `24h`, `14d` or `4w` as seconds."""
    match = re.fullmatch(r"\s*(\d+)\s*([smhdw]?)\s*", str(text))
    if match is None:
        raise BadInput(f"{name} cannot be {text!r}.", hint="Write a number and a unit: 90s, 15m, 24h, 14d or 4w.")
    return int(match.group(1)) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[match.group(2)]
