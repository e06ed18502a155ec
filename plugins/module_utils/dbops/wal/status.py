# SPDX-License-Identifier: GPL-3.0-or-later
"""How archiving stands on this host, from files alone: neither the server nor a repository is asked."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict
from typing import Any, Optional

from ..errors import BadInput, Unreachable
from ..settings import Settings
from . import guard, optional
from .cluster import Cluster, cluster_in
from .spool import ERROR, OK, Spool
from .worker import ready_files


def status(settings: Settings) -> dict[str, Any]:
    """One object: what waits, who works on it, what went wrong last."""
    cluster = cluster_of_settings(settings)
    spool = Spool(settings.spool_path, cluster)
    worker = _read(os.path.join(spool.push.path, "status.json"))
    error_file, error_text = _newest_error(spool)
    return {
        "cluster": settings.cluster,
        "system_identifier": cluster.system_identifier,
        "timeline": cluster.timeline,
        "backlog": _backlog(cluster),
        "worker": {
            "alive": spool.push.has_worker(),
            "pushed": worker.get("pushed"),
            "last_pushed": worker.get("last_pushed"),
        },
        "last_error": f"{error_file}: {error_text}" if error_file else worker.get("last_error"),
        "spool": {"path": spool.path, "markers": _count(spool.markers, OK), "bytes": _bytes_below(spool.path)},
        "prefetch": {"alive": spool.get.has_worker(), "ready": _count(spool.ready, OK)},
        "optional": {name: asdict(optional.Book(spool, name).summary()) for name in optional.names(settings)},
        "dropped_and_not_yet_marked": guard.pending(settings, cluster.system_identifier),
    }


def cluster_of_settings(settings: Settings) -> Cluster:
    if not settings.host.data_directory:
        raise BadInput(
            f"Cluster {settings.cluster!r} has no host.data_directory.", hint="Set it to the server's data directory."
        )
    return cluster_in(settings.host.data_directory)


def _backlog(cluster: Cluster) -> dict[str, Any]:
    """Files that the server has not been told are archived, and for how long the first has waited."""
    try:
        names = ready_files(cluster.wal_directory)
    except OSError as exc:
        raise Unreachable(
            f"Cannot look into {cluster.wal_directory}: {exc.strerror}.",
            hint="Run as root or as the cluster's OS user.",
        ) from exc
    oldest: Optional[float] = None
    if names:
        with contextlib.suppress(OSError):
            path = os.path.join(cluster.wal_directory, "archive_status", f"{names[0].text}.ready")
            oldest = round(max(0.0, time.time() - os.stat(path).st_mtime), 1)
    return {"files": len(names), "first": names[0].text if names else None, "seconds": oldest}


def _newest_error(spool: Spool) -> tuple[str, str]:
    newest, found = 0.0, ("", "")
    with contextlib.suppress(OSError):
        for entry in os.listdir(spool.markers):
            if entry.endswith(ERROR):
                path = os.path.join(spool.markers, entry)
                modified = os.stat(path).st_mtime
                if modified > newest:
                    with open(path, encoding="utf-8", errors="replace") as stream:
                        newest, found = modified, (entry[: -len(ERROR)], stream.read().strip())
    return found


def _count(directory: str, suffix: str) -> int:
    with contextlib.suppress(OSError):
        return sum(name.endswith(suffix) for name in os.listdir(directory))
    return 0


def _bytes_below(directory: str) -> int:
    total = 0
    for path, _directories, files in os.walk(directory):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(path, name)).st_size
    return total


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
