# SPDX-License-Identifier: GPL-3.0-or-later
"""What a database says about the seed in it: which profile, which content, loaded or only begun."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ..pg.connection import Connection
from .functions import SCHEMA
from .plan import Plan


@dataclass(frozen=True)
class Loaded:
    profile: str
    digest: str
    scale: int
    anchor: str
    complete: bool

    def __str__(self) -> str:
        what = "Profile" if self.complete else "An unfinished load of profile"
        return f"{what} {self.profile!r} ({self.digest}), scale {self.scale}, anchor {self.anchor}"

    @property
    def is_subset(self) -> bool:
        """Rows that were copied: no profile tells them from others."""
        return self.profile.startswith("subset ")

    def is_of(self, plan: Plan) -> bool:
        """The same profile, content and scale, whatever the anchor."""
        return (self.profile, self.digest, self.scale) == (plan.profile.name, plan.profile.digest(), plan.scale)


def read(server: Connection) -> Optional[Loaded]:
    if server.value(f"select to_regclass('{SCHEMA}.loaded')") is None:
        return None
    rows = server.rows(f"select profile, digest, scale, anchor, complete from {SCHEMA}.loaded")
    return Loaded(**rows[0]) if rows else None


def begin(server: Connection, plan: Plan) -> None:
    """From here on the database says that a seed is in it, if only a part."""
    write(server, Loaded(plan.profile.name, plan.profile.digest(), plan.scale, plan.anchor, complete=False))


def write(server: Connection, it: Loaded) -> None:
    server.run(f"create schema {SCHEMA}")
    server.run(f"comment on schema {SCHEMA} is 'What dbops seed knows of the rows that it made; removed by reset'")
    server.run(
        f"create table {SCHEMA}.loaded (profile text not null, digest text not null, scale int not null, "
        "anchor text not null, complete boolean not null, loaded_at timestamptz not null default now())"
    )
    server.run(
        f"insert into {SCHEMA}.loaded values (%s, %s, %s, %s, %s)",
        (it.profile, it.digest, it.scale, it.anchor, it.complete),
    )


def complete(server: Connection) -> None:
    server.run(f"update {SCHEMA}.loaded set complete = true, loaded_at = now()")
