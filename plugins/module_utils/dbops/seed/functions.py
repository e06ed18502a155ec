# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQL functions that a profile's expressions are made of: every value a hash of seed, salt and row number.

So a row is the same whoever makes it, in which order, with how many workers. `random()` cannot give that: `setseed`
does not reach parallel workers. hashint8extended and hashtextextended have given equal values since PostgreSQL 11,
which their documentation does not promise; the tests compare content hashes across major versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .profile import HOURS, Profile, Week
from .quota import cuts

SCHEMA = "dbops_seed"
# Keys that seeding makes: 5eed, four digits of the seed, four of the kind of row, the row number. The 8 says that the
# layout is our own (RFC 9562, version 8). In the order of the row numbers, so that indexes grow at their end.
FIRST_KEY = "5eed0000-0000-0000-0000-000000000000"
LAST_KEY = "5eedffff-ffff-ffff-ffff-ffffffffffff"
_WEEK_ZERO = "2001-01-01 00:00:00+00"  # a Monday


def create(profile: Profile, sizes: Mapping[str, int]) -> Iterator[str]:
    """The statements that make them, in the scratch schema."""
    seed = profile.seed
    yield _function("seed_hash(n bigint, salt text)", "bigint", f"hashint8extended(n, hashtextextended(salt, {seed}))")
    yield _function(  # 53 bits: what a double holds
        "seed_unit(n bigint, salt text)",
        "float8",
        f"(({SCHEMA}.seed_hash(n, salt) >> 11) & 9007199254740991)::float8 / 9007199254740992",
    )
    yield _function(
        "seed_int(n bigint, salt text, low bigint, high bigint)",
        "bigint",
        f"low + floor({SCHEMA}.seed_unit(n, salt) * (high - low + 1))::bigint",
    )
    yield _function(
        "seed_normal(n bigint, salt text)",
        "float8",
        f"sqrt(-2 * ln(1 - {SCHEMA}.seed_unit(n, salt))) * cos(2 * pi() * {SCHEMA}.seed_unit(n, salt || ' angle'))",
    )
    yield _function(
        "seed_pick(n bigint, salt text, words text[])",
        "text",
        f"words[1 + floor({SCHEMA}.seed_unit(n, salt) * array_length(words, 1))::int]",
    )
    yield _function(
        "seed_id(kind text, n bigint)",
        "uuid",
        f"('5eed{seed:04x}-' || substr(md5(kind), 1, 4) || '-8000-8000-' || lpad(to_hex(n), 12, '0'))::uuid",
    )
    yield _function("seed_made(key uuid)", "boolean", f"key between '{FIRST_KEY}' and '{LAST_KEY}'")
    yield from _permutation()
    for name, mix in profile.mixes.items():
        yield _mix(name, list(mix.shares), [sizes[f"{name}.{kind}"] for kind in mix.shares])
    for name, week in profile.weeks.items():
        yield from _week(name, week)


def _function(signature: str, returns: str, expression: str) -> str:
    return (
        f"create function {SCHEMA}.{signature} returns {returns} language sql immutable parallel safe "
        f"as $body$ select {expression} $body$"
    )


def _permutation() -> Iterator[str]:
    """seed_rank: 0..rows-1 onto 0..rows-1, each exactly once; the factor is found once, at planning."""
    yield (
        f"create function {SCHEMA}.seed_factor(rows bigint, salt text) returns bigint "
        "language plpgsql immutable parallel safe as $body$ declare factor bigint; begin "
        f"factor := 1 + abs({SCHEMA}.seed_hash(rows, salt) % rows); "
        "while gcd(factor, rows) > 1 loop factor := factor + 1; end loop; return factor; end $body$"
    )
    yield _function(
        "seed_rank(n bigint, rows bigint, salt text)",
        "bigint",
        f"(n * {SCHEMA}.seed_factor(rows, salt) + abs({SCHEMA}.seed_hash(rows, salt || ' offset') % rows)) % rows",
    )


def _mix(name: str, kinds: Sequence[str], counts: Sequence[int]) -> str:
    words = ", ".join(literal(kind) for kind in kinds)
    edges = ", ".join(str(edge) for edge in cuts(counts))
    bucket = f"width_bucket(rank, array[{edges}]::bigint[])" if edges else "0"
    return _function(f"seed_{name}(rank bigint)", "text", f"(array[{words}])[1 + {bucket}]")


def _week(name: str, week: Week) -> Iterator[str]:
    """seed_<name>_time and seed_<name>_place: between moments and shares of demand, in weeks since a Monday.

    Equal steps in demand are longer in the quiet hours: a place is turned into its hour by its cumulative weight.
    """
    weights = [*week.weekday * 5, *week.weekend * 2]
    cumulated = [0]
    for weight in weights:
        cumulated.append(cumulated[-1] + weight)
    whole = cumulated[-1]
    edges = "array[" + ", ".join(f"{edge / whole:.15g}" for edge in cumulated) + "]::float8[]"
    zero = f"(timestamptz '{_WEEK_ZERO}' - interval '{week.utc_offset_h} hours')"
    hours = 7 * HOURS
    yield (
        f"create function {SCHEMA}.seed_{name}_time(place float8) returns timestamptz "
        "language plpgsql immutable parallel safe as $body$ declare "
        f"edges constant float8[] := {edges}; share float8 := place - floor(place); "
        f"hour int := least(greatest(width_bucket(share, edges), 1), {hours}); begin "
        f"return date_trunc('second', {zero} + (floor(place) * {hours} + hour - 1 "
        "+ (share - edges[hour]) / (edges[hour + 1] - edges[hour])) * interval '1 hour'); end $body$"
    )
    yield (
        f"create function {SCHEMA}.seed_{name}_place(moment timestamptz) returns float8 "
        "language plpgsql immutable parallel safe as $body$ declare "
        f"edges constant float8[] := {edges}; hours float8 := extract(epoch from moment - {zero}) / 3600; "
        f"week float8 := floor(hours / {hours}); hour int; begin "
        f"hours := hours - week * {hours}; hour := least(floor(hours)::int, {hours - 1}); "
        "return week + edges[hour + 1] + (hours - hour) * (edges[hour + 2] - edges[hour + 1]); end $body$"
    )


def literal(text: str) -> str:
    """A string as SQL, whatever standard_conforming_strings says."""
    quoted = text.replace("'", "''")
    return f"E'{quoted}'".replace("\\", "\\\\") if "\\" in text else f"'{quoted}'"


def array(words: Sequence[str]) -> str:
    return "array[" + ", ".join(literal(word) for word in words) + "]::text[]"
