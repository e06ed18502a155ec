# SPDX-License-Identifier: GPL-3.0-or-later
"""The recovery window as a picture: one lane for each repository, all on one time axis. Pure.

Everything stands at a percentage of the width, so that it fits any screen without a script; marks keep their size.
Shape is a backup's type, fill how deeply it is proven; no meaning is in a colour alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Optional

from ..progress import duration, size
from .axis import Axis, axis_of
from .markup import Content, Markup, tag
from .model import Backup, Cluster, Reach, Repository, Span, Verification
from .words import TYPES, depth, level, minute, plural, second

_MOST = 400  # marks of a lane: more would lie on top of each other
_POINTS, _DUMPS, _MARKS, _BAR, _PROOFS, _LOCK = 32, 40, 58, 72, 102, 118  # rows of a lane, from its top
_BAR_HEIGHT = 14
_LANE = 130
_AXIS = 26
_WORD_FITS = 4  # percent of the width
_VISIBLE = 0.002  # of the width, some two pixels


def window_picture(cluster: Cluster, *, prefix: str) -> Markup:
    """`prefix` begins the ids of the entries that say what it takes, to which a click leads."""
    axis = axis_of(_moments(cluster), cluster.seen)
    height = _LANE * len(cluster.repositories) + _AXIS
    lanes = [
        tag("svg", _lane(item, axis, cluster.seen, f"{prefix}-{number}"), y=number * _LANE, width="100%", height=_LANE)
        for number, item in enumerate(cluster.repositories)
    ]
    label = f"Recovery window of {cluster.name} from {minute(axis.start)} to {minute(axis.end)} UTC"
    return tag(
        "svg",
        list(_shades(cluster, axis, height)),
        _grid(axis, height),
        lanes,
        _now(axis, cluster.seen, height),
        class_="window",
        width="100%",
        height=height,
        role="group",
        aria_label=f"{label}; the tables below say the same",
    )


def patterns() -> Markup:
    """What the pictures of a page are filled with; once for all of them."""
    lines = tag("path", d="M0 0 6 6M6 0 0 6", class_="hatch")
    pattern = tag("pattern", lines, id="gap-hatch", width=6, height=6, patternUnits="userSpaceOnUse")
    return tag("svg", tag("defs", pattern), class_="patterns", width=0, height=0, aria_hidden="true")


def shape(kind: str, *, fill: str, problem: bool = False, held: bool = False) -> Markup:
    """One backup's mark around 0,0: square, triangle or circle; hollow, half or full; crossed out when it is bad."""
    outline = {
        "full": "M-5.5-5.5h11v11h-11z",
        "incremental": "M0-6.5 6.5 5.2h-13z",
        "dump": "M0-6a6 6 0 1 1 0 12a6 6 0 1 1 0-12z",
    }.get(kind, "M0-6 6 0 0 6-6 0z")
    half = {
        "full": "M-5.5 0h11v5.5h-11z",
        "incremental": "M-3.6 0h7.2l2.9 5.2h-13z",
        "dump": "M-6 0a6 6 0 0 0 12 0z",
    }.get(kind, "M-6 0 0 6 6 0z")
    return tag(
        "g",
        tag("path", d=outline, class_="body"),
        tag("path", d=half, class_="half") if fill == "read" else None,
        tag("path", d="M-7.5-7.5 7.5 7.5M7.5-7.5-7.5 7.5", class_="cross") if problem else None,
        tag("path", d="M-4 10h8", class_="hold") if held else None,
        class_=f"shape {fill}{' problem' if problem else ''}",
    )


def verdict_shape(verdict: str) -> Markup:
    """A disc with a tick, a cross or a question mark."""
    sign = {"pass": "M-3 .3-.8 2.5 3-2.2", "fail": "M-2.6-2.6 2.6 2.6M2.6-2.6-2.6 2.6"}.get(
        verdict, "M-2-1.6a2 2 0 1 1 2.9 1.8q-.9.4-.9 1.3M0 3.2v.3"
    )
    kind = {"pass": "good", "fail": "bad"}.get(verdict, "doubt")
    return tag("g", tag("circle", r=6), tag("path", d=sign), class_=f"verdict {kind}")


# -- the whole


def _moments(cluster: Cluster) -> Iterator[datetime]:
    for item in cluster.repositories:
        yield from (backup.started for backup in item.backups[:_MOST])
        yield from (span.start for span in item.spans if span.newest_timeline)
        yield from (backup.locked_until for backup in item.backups if backup.locked_until)


def _grid(axis: Axis, height: int) -> list[Markup]:
    found = []
    for number, (moment, word) in enumerate(axis.ticks()):
        x = axis.x(moment)
        found.append(tag("line", x1=x, x2=x, y1=8, y2=height - _AXIS + 4, class_="grid"))
        found.append(tag("text", word, x=x, y=height - 8, class_="tick" if number % 2 else "tick even"))
    return found


def _shades(cluster: Cluster, axis: Axis, height: int) -> Iterator[Markup]:
    """From where on the target wants every instant, and how much of the end may be on the server alone."""
    shades = (
        ("window", "wanted", "The target wants every instant of the last"),
        ("rpo", "allowed", "The target lets be on the server alone what was committed in the last"),
    )
    for name, kind, words in shades:
        wanted = _wanted_s(cluster, name)
        if wanted is not None:
            start = max(axis.start, cluster.seen - timedelta(seconds=wanted)) if wanted < 3e9 else axis.start
            title = tag("title", f"{words} {duration(wanted)}")
            x, width = axis.x(start), axis.width(start, cluster.seen)
            yield tag("rect", title, x=x, width=width, y=4, height=height - _AXIS, class_=kind)


def _wanted_s(cluster: Cluster, name: str) -> Optional[float]:
    return next((item.wanted_s for item in cluster.targets if item.name == name), None)


def shows_allowed(cluster: Cluster) -> bool:
    """Whether the RPO's shade is wide enough to be seen: of an hour in sixty days it is not."""
    axis, wanted = axis_of(_moments(cluster), cluster.seen), _wanted_s(cluster, "rpo")
    return wanted is not None and wanted >= _VISIBLE * (axis.end - axis.start).total_seconds()


def _now(axis: Axis, now: datetime, height: int) -> list[Markup]:
    x = axis.x(now)
    title = tag("title", f"Looked at: {second(now)}")
    return [tag("line", title, x1=x, x2=x, y1=8, y2=height - _AXIS + 4, class_="now")]


# -- one lane


def _lane(item: Repository, axis: Axis, now: datetime, prefix: str) -> list[Content]:
    lane: list[Content] = [
        tag("line", x1="0", x2="100%", y1=_LANE - 1, y2=_LANE - 1, class_="rule"),
        tag("text", item.name, tag("tspan", f"  {_kind(item)}", class_="quiet"), x=0, y=14, class_="lane"),
    ]
    if item.error:
        return [*lane, tag("text", "✕ Nothing is known: it could not be read.", x=0, y=_BAR + 11, class_="alarm")]
    lane += _spans(item.spans, axis)
    lane += _gaps(item.spans, axis)
    lane += _reaches(item.reaches, axis, prefix)
    lane += _tail(item, axis, now)
    lane += _points(item, axis)
    lane += [_backup(backup, axis) for backup in reversed(item.backups[:_MOST])]
    lane += _verifications(item.verifications, axis)
    lane += _locks(item.backups, axis)
    return lane


def _kind(item: Repository) -> str:
    words = [item.type if item.type != "local" else "local disk"]
    return ", ".join(words if item.required else [*words, "optional"])


def _spans(spans: Sequence[Span], axis: Axis) -> Iterator[Markup]:
    branches = 0
    for span in spans:
        y, height, kind = _BAR, _BAR_HEIGHT, "span"
        if not span.newest_timeline:
            branches += 1
            y, height, kind = _BAR + _BAR_HEIGHT + 1 + 4 * (branches % 2), 3, "branch"
        words = (
            f"Timeline {span.timeline}: every instant from {second(span.start)} "
            f"{'to' if span.end_is_known else 'to at least'} {second(span.end)} ({span.start_lsn} to {span.end_lsn})"
        )
        x, width = axis.x(span.start), axis.width(span.start, span.end)
        yield tag("rect", tag("title", words), class_=kind, x=x, width=width, y=y, height=height)


def _gaps(spans: Sequence[Span], axis: Axis) -> Iterator[Markup]:
    """From where a missing segment stops replay to where the next base backup begins anew."""
    newest = [span for span in spans if span.newest_timeline]
    for span, after in zip(newest, [*newest[1:], None]):
        if span.broken_by is None:
            continue
        end = after.start if after else axis.end
        x, width = axis.x(span.end), axis.width(span.end, end)
        words = f"Gap: segment {span.broken_by} is missing. Nothing between {second(span.end)} and "
        words += f"{second(after.start)} can be recovered to" if after else "now can be recovered to"
        yield tag(
            "g",
            tag("title", words),
            tag("rect", x=x, width=width, y=_BAR, height=_BAR_HEIGHT, class_="gap-ground"),
            tag("rect", x=x, width=width, y=_BAR, height=_BAR_HEIGHT, class_="gap"),
            _at(axis.percent(span.end), _BAR + _BAR_HEIGHT / 2, tag("path", d="M0-11V11", class_="break")),
        )
        if axis.percent(end) - axis.percent(span.end) >= _WORD_FITS:
            middle = (axis.percent(span.end) + axis.percent(end)) / 2
            yield _at(middle, _BAR + 11, tag("text", "gap", class_="gap-word"), words)


def _reaches(found: Sequence[Reach], axis: Axis, prefix: str) -> Iterator[Markup]:
    for number, reach in enumerate(found):
        x, width = axis.x(reach.start), axis.width(reach.start, reach.end)
        box = tag("rect", x=x, width=width, y=_BAR, height=_BAR_HEIGHT, class_="reach")
        words = told(reach)
        link = tag("a", tag("title", words), box, href=f"#{prefix}-{number}", tabindex=-1, aria_label=words)
        yield link


def told(reach: Reach) -> str:
    """What a pointer is told over any instant of the slice."""
    rto = f"about {duration(reach.rto_s)}" if reach.rto_s is not None else "not measured yet"
    return (
        f"{second(reach.start)} to {second(reach.end)}\n"
        f"Base {reach.base}, {size(reach.base_bytes)} stored\n"
        f"WAL: up to {plural(reach.wal_files, 'file')}, {size(reach.wal_bytes)}\n"
        f"Copy and replay: {rto}\n"
        "Lost: what was committed after the instant that you choose\n"
        f"{reach.command}"
    )


def _tail(item: Repository, axis: Axis, now: datetime) -> Iterator[Markup]:
    tail = item.tail
    if tail is None or tail.since is None:
        return
    words = f"On the server alone since {second(tail.since)}: {size(tail.unarchived_bytes)} of WAL, not archived yet"
    x, width = axis.x(tail.since), axis.width(tail.since, now)
    yield tag("rect", tag("title", words), x=x, width=width, y=_BAR + 0.5, height=_BAR_HEIGHT - 1, class_="tail")


def _points(item: Repository, axis: Axis) -> Iterator[Markup]:
    for point in reversed(item.points[:_MOST]):
        if axis.has(point.time):
            flag = [tag("path", d="M0 0V-12", class_="pole"), tag("path", d="M0-12h8l-2.4 3 2.4 3H0z", class_="flag")]
            words = f"Restore point {point.name}: {second(point.time)}, {point.lsn}"
            yield _at(axis.percent(point.time), _POINTS, flag, words)


def _backup(backup: Backup, axis: Axis) -> Markup:
    proof = level(backup.proven_level)
    if backup.last_verdict == "fail":
        proof = "its last verification failed"
    words = [
        f"{TYPES.get(backup.type, backup.type)} {backup.label}",
        f"{second(backup.stopped)}, {size(backup.stored_bytes)} stored",
        f"Proven: {proof}" if backup.proven_level else f"{proof[:1].upper()}{proof[1:]}",
    ]
    if backup.problem:
        words.append(f"Cannot be restored: {backup.problem}")
    if backup.held is not None:
        words.append(f"Held: {backup.held or 'no reason given'}")
    bad = bool(backup.problem) or backup.last_verdict == "fail"
    drawn = shape(backup.type, fill=depth(backup.proven_level), problem=bad, held=backup.held is not None)
    row = _DUMPS if backup.type == "dump" else _MARKS  # a dump opens no window
    return _at(axis.percent(backup.stopped), row, drawn, "\n".join(words))


def _verifications(found: Sequence[Verification], axis: Axis) -> Iterator[Markup]:
    for one in reversed(found[:_MOST]):
        if not axis.has(one.finished):
            continue
        took = f"restored and checked in {duration(one.total_s)}" if one.total_s is not None else ""
        words = f"{second(one.finished)}: verification of {one.label}, {one.verdict.replace('_', ' ')}"
        words += "".join(f"\n{more}" for more in (took, one.words) if more)
        yield _at(axis.percent(one.finished), _PROOFS, verdict_shape(one.verdict), words)


def _locks(backups: Iterable[Backup], axis: Axis) -> Iterator[Markup]:
    locked = [backup for backup in backups if backup.locked_until is not None]
    if not locked:
        return
    start = min(backup.stopped for backup in locked)
    end = max(backup.locked_until for backup in locked if backup.locked_until)
    words = f"The store itself keeps {plural(len(locked), 'backup')}, the last of them until {second(end)}"
    x, width = axis.x(start), axis.width(start, end)
    yield tag("rect", tag("title", words), x=x, width=width, y=_LOCK, height=2, class_="lock")
    sign = "M-4-1h8v6h-8zM-2.5-1v-2a2.5 2.5 0 0 1 5 0v2"
    yield _at(min(98.5, axis.percent(end)), _LOCK, tag("path", d=sign, class_="padlock"), words)


def _at(percent: float, y: float, content: Content, title: str = "") -> Markup:
    """Content around 0,0 at a place that moves with the width."""
    inner = tag("g", tag("title", title), content) if title else content
    return tag("svg", inner, x=f"{percent:g}%", y=y, class_="at")
