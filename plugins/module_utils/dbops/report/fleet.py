# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports of many clusters, made on many hosts, as one. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from .. import __version__
from .model import SCHEMA, Cluster, Report


def merged(reports: Iterable[Report], made: datetime) -> Report:
    """Clusters by name. Of one that two hosts saw: the primary's view, then what was seen last."""
    chosen: dict[str, Cluster] = {}
    for report in reports:
        for cluster in report.clusters:
            known = chosen.get(cluster.name)
            if known is None or _rank(cluster) > _rank(known):
                chosen[cluster.name] = cluster
    return Report(SCHEMA, made, __version__, tuple(chosen[name] for name in sorted(chosen)))


def _rank(cluster: Cluster) -> tuple[bool, datetime]:
    """Only the primary can tell what is not archived yet."""
    return cluster.in_recovery is False, cluster.seen
