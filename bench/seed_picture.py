#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""How heavy's rows are distributed, drawn from the rows themselves: bench/seed_picture.py docs/seeding.svg"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "plugins" / "module_utils"), str(ROOT / "scripts")]

from dbops.progress import Silent
from dbops.seed import profile, run
from seed import ANCHOR, EXAMPLE, migrate, settings

from localpg.installations import embedded
from localpg.server import LocalServer

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
WIDTH, HEIGHT = 860, 560
DEMAND = """
    select (extract(isodow from at)::int - 1) * 24 + extract(hour from at)::int, count(*)
    from (select requested_at at time zone interval '-8 hours' as at from rides
          where status in ('completed', 'cancelled')) r group by 1
"""
DISTANCES = "select width_bucket(estimated_distance, 0, 16, 32), count(*) from rides group by 1"
BUSY = "select count(*) from rides where {0} is not null group by {0} order by 1 desc"


def main() -> None:
    base = Path(tempfile.mkdtemp(prefix="picture-", dir="/var/tmp"))
    base.chmod(0o755)
    server = LocalServer(embedded(), base / "pg")
    try:
        server.create()
        server.start()
        server.sql("create database city")
        migrate(server, "city")
        heavy = profile.load(str(EXAMPLE / "seed" / "heavy.yml"))
        run.seed(settings(server), heavy, Silent(), database="city", anchor=ANCHOR)
        picture = drawn(server)
    finally:
        server.stop("immediate")
        shutil.rmtree(base)
    Path(sys.argv[1]).write_text(picture, encoding="utf-8")


def drawn(server: LocalServer) -> str:
    def pairs(query: str) -> dict[int, int]:
        return {int(row[0]): int(row[1]) for row in server.sql(query, database="city")}

    def busy(column: str) -> list[int]:
        return [int(row[0]) for row in server.sql(BUSY.format(column), database="city")]

    distances = pairs(DISTANCES)
    parts = [
        heatmap(pairs(DEMAND)),
        bars(60, 330, "Distance of a ride, km", [distances.get(place, 0) for place in range(1, 33)], ("0", "8", "16")),
        bars(330, 330, *ranked("Rides of a rider, busiest first", busy("rider_id"))),
        bars(600, 330, *ranked("Rides of a driver, busiest first", busy("driver_id"))),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>{"".join(parts)}</svg>\n'
    )


def heatmap(demand: dict[int, int]) -> str:
    most = max(demand.values())
    cells = [text(60, 28, "Rides that are over, by hour and weekday (heavy, local time)", size=15)]
    for place in range(168):
        day, hour = divmod(place, 24)
        count = demand.get(place, 0)
        shade = 245 - round(200 * count / most)
        colour = f"rgb({shade},{shade + 5},250)"
        cells.append(
            f'<rect x="{60 + hour * 32}" y="{42 + day * 32}" width="31" height="31" fill="{colour}">'
            f"<title>{DAYS[day]} {hour}:00, {count} rides</title></rect>"
            + text(
                75.5 + hour * 32, 62 + day * 32, str(count), anchor="middle", colour="#fff" if shade < 130 else "#333"
            )
        )
    cells += [text(52, 62 + day * 32, name, anchor="end") for day, name in enumerate(DAYS)]
    cells += [text(75.5 + hour * 32, 282, str(hour), anchor="middle") for hour in range(24)]
    return "".join(cells)


def ranked(title: str, counts: Sequence[int]) -> tuple[str, Sequence[int], tuple[str, ...]]:
    """At most a hundred bars: of many, every n-th."""
    step = max(1, len(counts) // 100)
    return f"{title} ({len(counts)})", counts[::step], ("1", str(len(counts) // 2), str(len(counts)))


def bars(left: int, top: int, title: str, counts: Sequence[int], labels: Sequence[str]) -> str:
    wide, high, most = 230, 160, max(counts)
    each = wide / len(counts)
    drawn_bars = "".join(
        f'<rect x="{left + place * each:.1f}" y="{top + high - high * count / most:.1f}" width="{each * 0.85:.2f}" '
        f'height="{high * count / most:.1f}" fill="#3b6fb6"/>'
        for place, count in enumerate(counts)
    )
    ticks = "".join(
        text(left + wide * place / (len(labels) - 1), top + high + 16, label, anchor="middle")
        for place, label in enumerate(labels)
    )
    scale = text(left - 6, top + 10, str(most), anchor="end") + text(left - 6, top + high, "0", anchor="end")
    line = f'<line x1="{left}" x2="{left + wide}" y1="{top + high}" y2="{top + high}" stroke="#333"/>'
    return text(left, top - 10, title, size=14) + drawn_bars + line + ticks + scale


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 11, colour: str = "#333") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{words}</text>'


if __name__ == "__main__":
    main()
