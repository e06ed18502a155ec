# SPDX-License-Identifier: GPL-3.0-or-later
"""Up to which commit a recovery window leads: read from the last archived segments, and remembered on this host."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime

from ..errors import DbopsError
from ..pg.osuser import cluster_identity
from ..pg.tools import find_tools
from ..repo.archive import WalArchive
from ..repo.coverage import Window
from ..repo.info import Ends
from ..repo.repository import Catalog, Repository
from ..settings import Settings
from .edges import WalReader


def ends_of(settings: Settings) -> Ends:
    """For repo.info: the ends of the newest timeline. Where PostgreSQL's programs or a segment are missing, none."""

    def ends(repository: Repository, catalog: Catalog, window: Window) -> Mapping[tuple[int, int], datetime]:
        versions = [
            entry.record.postgres_version_num
            for entry in catalog.entries
            if entry.record.system_identifier == window.system_identifier
        ]
        line = window.newest
        found: dict[tuple[int, int], datetime] = {}
        if not versions or line is None:
            return found
        with contextlib.suppress(DbopsError, OSError):
            identity = cluster_identity(settings.host.os_user, settings.host.data_directory)
            tools = find_tools(versions[0] // 10000, identity, bin_dir=settings.host.bin_dir)
            archive = WalArchive(repository, window.system_identifier)
            with WalReader(archive, window, tools, cache=settings.state_path) as reader:
                for interval in line.intervals:
                    moment = reader.edge(line, interval).time
                    if moment is not None:
                        found[line.timeline, interval.end] = moment
        return found

    return ends
