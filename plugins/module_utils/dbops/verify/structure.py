# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the restored files are a sound database: indexes against heaps, every row readable, every page's sum."""

from __future__ import annotations

from ..errors import ToolFailed
from ..pg.connection import conninfo
from ..pg.control import stop
from ..pg.datadir import control_data
from ..pg.tools import Tools
from .scratch import Scratch
from .verdict import Finding, failed, of_error, passed, unknown

_SHOWN = 10


def amcheck(tools: Tools, scratch: Scratch, superuser: str) -> Finding:
    """pg_amcheck over every database: each heap, each B-tree, and that every row is found in its indexes."""
    where = scratch.connection(superuser)
    arguments = [
        "--all", "--install-missing", "--heapallindexed", "--parent-check", "--no-password",
        f"--jobs={scratch.settings.verify.jobs}", f"--host={where.login_unix_socket}", f"--port={where.login_port}",
        f"--username={superuser}", "--maintenance-db=template1",
    ]  # fmt: skip
    said: list[str] = []
    try:
        for line in tools.lines("pg_amcheck", arguments):
            if line.strip():
                said.append(line.strip())
    except ToolFailed as error:
        finding = of_error(error)
        if said and finding.verdict.value == "fail":
            return failed(
                f"pg_amcheck found damage: {said[0]} {said[1] if len(said) > 1 else ''}".strip(),
                "Do not rely on this backup; look whether production has the same damage (pg_amcheck there).",
                lines=said[:_SHOWN],
                more_lines=max(0, len(said) - _SHOWN),
            )
        return finding
    return passed("pg_amcheck finds every heap and B-tree sound, and every row in its indexes.")


def read_everything(tools: Tools, scratch: Scratch, superuser: str, databases: list[str]) -> Finding:
    """Every row of every table through pg_dump, which reads what is stored out of line too."""
    for database in databases:
        where = conninfo(scratch.connection(superuser), database=database)
        try:
            tools.run("pg_dump", ["--format=plain", "--file=/dev/null", "--no-password", f"--dbname={where}"])
        except ToolFailed as error:
            finding = of_error(error)
            return Finding(
                finding.verdict, f"{database!r} cannot be read to its end: {error.message}", error.hint, finding.details
            )
    return passed(f"pg_dump reads every row of {len(databases)} databases.", databases=databases)


def page_checksums(tools: Tools, data_directory: str) -> Finding:
    """pg_checksums over the files, after the server that runs there is stopped."""
    if control_data(tools, data_directory).get("Data page checksum version") == "0":
        return passed("The cluster has no page checksums, so there are none to compare.", enabled=False)
    stop(tools, data_directory)
    try:
        tools.run("pg_checksums", ["--check", "-D", data_directory])
    except ToolFailed as error:
        if "checksum verification failed" in error.stderr_tail:
            lines = [line for line in error.stderr_tail.splitlines() if "verification failed" in line]
            return failed(
                f"pg_checksums finds damaged pages: {lines[0].split('error: ')[-1]}.",
                "Restore another backup, and look whether production has the same damage.",
                lines=lines[:_SHOWN],
            )
        return unknown(f"pg_checksums could not compare them: {error.message}", error.hint)
    return passed("Every page has the checksum that it should have.", enabled=True)
