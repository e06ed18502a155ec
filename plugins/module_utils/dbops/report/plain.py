# SPDX-License-Identifier: GPL-3.0-or-later
"""The model as JSON and back, by its own types: a key that is added to the model needs no second mention."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from typing import Any

from ..errors import BadInput, DbopsError
from ..repo.record import from_iso, iso
from .model import SCHEMA, Report

_HINT = "Make it with dbops report of this version, or pass a settings file."


def to_plain(value: Any) -> Any:
    """Dataclasses as objects, tuples as lists, instants as ISO-8601 in UTC."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    return iso(value) if isinstance(value, datetime) else value


def read_report(data: Any, *, where: str) -> Report:
    """BadInput for what is no report of this schema. Keys that are unknown here are passed over: a later minor's."""
    if not isinstance(data, Mapping) or not isinstance(data.get("clusters"), list):
        raise BadInput(f"{where} is not a report.", hint=_HINT)
    if data.get("schema") != SCHEMA:
        raise BadInput(f"{where} has the schema {data.get('schema')!r}, and {SCHEMA!r} is read here.", hint=_HINT)
    try:
        report: Report = _built(Report, data)
    except (ValueError, TypeError, KeyError, RecursionError) as exc:
        if isinstance(exc, DbopsError):
            raise
        raise BadInput(f"{where} is no whole report: {exc}.", hint=_HINT) from exc
    return report


def _built(kind: Any, value: Any) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Union:  # Optional[X]
        return None if value is None else _built(args[0], value)
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"{value!r} is no list")
        return tuple(_built(args[0], item) for item in value)
    if is_dataclass(kind):
        return _object(kind, value)
    if kind is datetime:
        return from_iso(str(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _object(kind: Any, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    hints = typing.get_type_hints(kind)
    given = {item.name: _built(hints[item.name], value[item.name]) for item in fields(kind) if item.name in value}
    missing = [item.name for item in fields(kind) if item.name not in given and item.default is MISSING]
    if missing:
        raise KeyError(f"{kind.__name__} lacks {missing[0]}")
    return kind(**given)
