# SPDX-License-Identifier: GPL-3.0-or-later
"""The two shell scripts that the server calls: an answer in milliseconds when a worker was ahead, else Python.

POSIX shell (dash, bash, busybox). Up to a hit they start nothing, except one ln; what the running get worker proves
missing costs a sleep or two and an rm (questions.py). Their exit codes are what PostgreSQL understands rightly even
when the interpreter is missing, crashes or is killed (PostgreSQL 18 manual, continuous archiving): archiving fails with
1 to 125 and is tried again; a segment is missing with 1, and only when that was proven; everything else is 255, on
which recovery stops and nothing is promoted.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from typing import Optional

from ..errors import BadInput

MISSING = 44  # "proven missing" between us and the script: an interpreter that cannot start ends with 1 itself
_TERM = 143

_HEAD = """\
#!/bin/sh
# {use}
# Written by dbops for cluster {cluster}; changes here are overwritten.
spool={spool}

# Equal times: neither is newer. A missing file is neither, so each is asked for by itself.
same() {{
    [ -f "$1" ] && [ -f "$2" ] && ! [ "$1" -nt "$2" ] && ! [ "$1" -ot "$2" ]
}}
worker_lives() {{
    [ -f "$1/worker.pid" ] && [ -p "$1/poke" ] && read -r pid < "$1/worker.pid" && kill -0 "$pid" 2> /dev/null
}}
"""

_PUSH = """\
path=$1
name=${{path##*/}}
case $path in
    */pg_wal/*) data=${{path%/pg_wal/*}} ;;
    *) data=. ;;
esac
hit() {{
    same "$spool/cluster" "$data/PG_VERSION" && read -r system < "$spool/cluster" &&
        same "$spool/push/$system/$name.ok" "$path"
}}
hit && exit 0
if same "$spool/cluster" "$data/PG_VERSION" && worker_lives "$spool/push"; then
    # Opened for both directions, a FIFO keeps nobody waiting for its other end.
    echo 1<> "$spool/push/poke"
    for pause in 0.05 0.05 0.05 0.05 0.1 0.1 0.1 0.1 0.1 0.1 0.1 0.1 0.1; do
        sleep "$pause" 2> /dev/null || break
        hit && exit 0
        [ -e "$spool/push/$system/$name.error" ] && break
    done
fi
{command} push "$path"
code=$?
if [ $code -gt 125 ]; then
    echo "dbops: archiving $name ended with $code: see whether memory is short and {python_shown} can be started." >&2
    exit 1
fi
exit $code
"""

_GET = """\
name=$1
to=$2
# A running worker is asked, and looks into every repository after that: only a name that it repeats is missing.
# Whatever else becomes of the question, or of the worker, is for the interpreter to find out.
proven_missing() {{
    worker_lives "$spool/get" && read -r token < /proc/sys/kernel/random/uuid && [ "$token" ] || return 1
    question=$ready/$token
    {{ echo "$name" > "$question.ask"; }} 2> /dev/null || return 1
    echo 1<> "$spool/get/poke"
    count=0
    while [ -e "$question.ask" ] && [ $count -lt 200 ] && worker_lives "$spool/get"; do
        sleep 0.01 2> /dev/null || break
        count=$((count + 1))
    done
    answer=
    {{ read -r answer < "$question.missing"; }} 2> /dev/null
    rm -f "$question.ask" "$question.missing" 2> /dev/null
    [ "$answer" = "$name" ]
}}
[ "$name" = 00000001.history ] && exit 1 # the first timeline has none, and recovery asks for it as often as it ends
if same "$spool/cluster" PG_VERSION && read -r system < "$spool/cluster" &&
    read -r boot < /proc/sys/kernel/random/boot_id; then
    ready=$spool/get/$boot/$system
    case $name in
        *.*) ;; # histories are never answered from what was fetched before
        *)
            ahead=$ready/$name
            taken=
            count=0
            while [ -e "$ahead.busy" ] && [ $count -lt 100 ] && worker_lives "$spool/get"; do
                sleep 0.01 2> /dev/null || break
                count=$((count + 1))
            done
            if same "$ahead" "$ahead.ok"; then
                if [ -e "$ready/far" ]; then
                    mv -f "$ahead" "$to.dbops" 2> /dev/null && mv -f "$to.dbops" "$to" && taken=1
                elif ln "$ahead" "$to" 2> /dev/null; then
                    # The seal is broken by another time; the worker then removes both. ln starts faster than mv.
                    {{ true > "$ahead.ok"; }} 2> /dev/null
                    taken=1
                else
                    mv -f "$ahead" "$to" 2> /dev/null && taken=1
                fi
                if [ "$taken" ]; then
                    worker_lives "$spool/get" && echo 1<> "$spool/get/poke"
                    exit 0
                fi
            fi
            ;;
    esac
    proven_missing && exit 1
fi
{command} get "$name" "$to"
code=$?
case $code in
    0)
        [ -f "$to" ] && exit 0
        echo "dbops: $name was fetched, but $to is not there: stopping." >&2
        ;;
    {missing}) exit 1 ;;
    {term}) exit {term} ;;
    255) ;;
    *)
        echo "dbops: fetching $name ended with $code: see whether {python_shown} can be started. Stopping." >&2
        ;;
esac
exit 255
"""


@dataclass(frozen=True)
class Place:
    """What the scripts hold, all absolute: they are called with whatever environment and directory."""

    cluster: str
    config: str
    spool_path: str
    python: str
    lib_paths: tuple[str, ...]  # where `dbops` is found, and any library that the interpreter does not find by itself

    def check(self) -> None:
        for path in (self.config, self.spool_path, self.python, *self.lib_paths):
            if not os.path.isabs(path) or any(not character.isprintable() for character in path):
                raise BadInput(f"{path!r} must be an absolute path.", hint="Begin it with a slash.")


def running_place(cluster: str, config: str, spool_path: str, *, python: Optional[str] = None) -> Place:
    """The engine and interpreter that run right now."""
    return Place(cluster, config, spool_path, python or sys.executable, (running_lib_path(),))


def running_lib_path() -> str:
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def push_script(place: Place) -> str:
    """For archive_command = '<script> %p'."""
    return _render(_HEAD + _PUSH, place, "archive_command = '<this file> %p'")


def get_script(place: Place) -> str:
    """For restore_command = '<script> %f %p'."""
    return _render(_HEAD + _GET, place, "restore_command = '<this file> %f %p'")


def code_of(lib_paths: tuple[str, ...]) -> str:
    """What the interpreter runs; without what argparse and the other verbs would cost at every start."""
    return (
        f"import sys; libs = {list(lib_paths)!r}; sys.path[:0] = libs; from dbops.cli.wal_command import run; run(libs)"
    )


def _render(text: str, place: Place, use: str) -> str:
    place.check()
    words = [place.python, "-I", "-c", code_of(place.lib_paths)]
    options = ["--script", "--cluster", place.cluster, "--config", place.config, "--spool", place.spool_path]
    shown = place.python if place.python.replace("/", "").replace("-", "").replace(".", "").isalnum() else "Python"
    return text.format(
        use=use,
        cluster=place.cluster,
        spool=shlex.quote(place.spool_path),
        command=shlex.join([*words, *options]),
        python_shown=shown,
        missing=MISSING,
        term=_TERM,
    )
