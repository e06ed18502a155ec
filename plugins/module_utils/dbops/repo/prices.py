# SPDX-License-Identifier: GPL-3.0-or-later
"""What storing costs: a table that whoever pays replaces by his own, and the arithmetic over it.

The built-in numbers are list prices of one region each (us-east-1, us-central1, East US) as published in 2025. Nobody
keeps them up to date, and they know no discount: they say which class is cheaper, and not what a bill will be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from ..errors import BadInput, NotFound, Unreachable
from ..schema import build

GIB = float(1 << 30)
THAWS = {"GLACIER": "minutes to 12 hours", "DEEP_ARCHIVE": "12 to 48 hours", "Archive": "up to 15 hours"}
_BUILT_IN = {  # GiB and month; 1000 writes; 1000 reads; GiB read back; the least number of days that is billed
    "s3": {
        "STANDARD": (0.023, 0.005, 0.0004, 0.0, 0),
        "INTELLIGENT_TIERING": (0.023, 0.005, 0.0004, 0.0, 0),
        "STANDARD_IA": (0.0125, 0.01, 0.001, 0.01, 30),
        "ONEZONE_IA": (0.01, 0.01, 0.001, 0.01, 30),
        "GLACIER_IR": (0.004, 0.02, 0.01, 0.03, 90),
        "GLACIER": (0.0036, 0.03, 0.0004, 0.01, 90),
        "DEEP_ARCHIVE": (0.00099, 0.05, 0.0004, 0.02, 180),
    },
    "gcs": {
        "STANDARD": (0.02, 0.005, 0.0004, 0.0, 0),
        "NEARLINE": (0.01, 0.01, 0.001, 0.01, 30),
        "COLDLINE": (0.004, 0.02, 0.01, 0.02, 90),
        "ARCHIVE": (0.0012, 0.05, 0.05, 0.05, 365),
    },
    "azure": {
        "Hot": (0.018, 0.0055, 0.00044, 0.0, 0),
        "Cool": (0.01, 0.01, 0.001, 0.01, 30),
        "Cold": (0.0036, 0.018, 0.01, 0.03, 90),
        "Archive": (0.002, 0.011, 0.0055, 0.02, 180),
    },
}
USUAL = {"s3": "STANDARD", "gcs": "STANDARD", "azure": "Hot"}  # what a list without a class means


@dataclass(frozen=True)
class ClassPrice:
    """In the table's currency; `least_days` are billed even if the object goes earlier."""

    gib_month: float
    write_1000: float = 0.0
    read_1000: float = 0.0
    read_back_gib: float = 0.0
    least_days: int = 0

    def check(self) -> None:
        for name in ("gib_month", "write_1000", "read_1000", "read_back_gib", "least_days"):
            if not 0 <= getattr(self, name) < 1e9:
                raise BadInput(f"{name} cannot be {getattr(self, name)!r}.", hint="Write a price such as 0.023.")

    def month(self, stored_bytes: int) -> float:
        return self.gib_month * stored_bytes / GIB

    def writes(self, count: float) -> float:
        return self.write_1000 * count / 1000

    def read_back(self, stored_bytes: int) -> float:
        return self.read_back_gib * stored_bytes / GIB


@dataclass(frozen=True)
class Prices:
    """By the repository's type, then by the cloud's own word for the class; a directory's is "local"."""

    currency: str
    source: str
    local: dict[str, ClassPrice] = field(default_factory=dict)
    s3: dict[str, ClassPrice] = field(default_factory=dict)
    gcs: dict[str, ClassPrice] = field(default_factory=dict)
    azure: dict[str, ClassPrice] = field(default_factory=dict)

    def of(self, kind: str, storage_class: str) -> Optional[ClassPrice]:
        classes: Mapping[str, ClassPrice] = getattr(self, kind)
        return classes.get(storage_class)


def load(path: Optional[str]) -> Prices:
    """The operator's table, a JSON file of the shape of Prices; the built-in one without a path."""
    if path is None:
        return _built_in()
    try:
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
    except FileNotFoundError as exc:
        raise NotFound(f"There is no price table {path}.", hint="See docs/repositories.md for its shape.") from exc
    except OSError as exc:
        raise Unreachable(f"Cannot read {path}: {exc.strerror}.", hint="Let this user read it.") from exc
    except ValueError as exc:
        raise BadInput(f"{path} is not JSON: {exc}.", hint="See docs/repositories.md for its shape.") from exc
    return build(Prices, data if not isinstance(data, dict) else {"source": path, **data}, where=path)


def _built_in() -> Prices:
    tables: dict[str, Any] = {
        kind: {name: ClassPrice(*numbers) for name, numbers in classes.items()} for kind, classes in _BUILT_IN.items()
    }
    return Prices(currency="USD", source="list prices of 2025, built in", **tables)
